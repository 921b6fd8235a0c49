"""What are digits worth that are drawn in few network evaluations?

    python benchmarks/few_calls.py --checkpoint runs/digits --calls 5,10,18 \\
        --few runs/digits_ect runs/digits_meanflow --out docs/few_calls.png [--num 1000]

A diffusion model draws by its default solver in each of the numbers of calls, and each model of few
calls (configs/digits_ect.py) in one and in two, the ten classes in turn, a seed for each image. The
table, a mean over ranges of seeds: how many a 3-nearest-neighbour classifier of the 1,797 real
digits recognises as the class that was asked for; squared Fréchet distance in pixels, with its
least and its greatest over the ranges, precision and recall against them. The picture: a row for
each. Needs scikit-learn.
"""

import argparse
import pathlib

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import edm_jax
from edm_jax import evaluation
from edm_jax.data import archive
from edm_jax.runtime import pictures


def drawn(model, calls, seeds):
    """The classes asked for, and the images."""
    sampler, asked = edm_jax.sampler_for(model, calls), np.asarray(seeds) % 10
    parts = edm_jax.generate(model, sampler, seeds, labels=asked, batch_size=100)
    return asked, np.concatenate([part.images for part in parts])


def pixels(images):
    """[n, d] in [0, 1]."""
    return images.reshape(len(images), -1) / 255


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--calls", default="5,10,18")
    parser.add_argument("--few", nargs="*", default=[], help="runs of models of few calls")
    parser.add_argument("--num", type=int, default=1000, help="images, of a range of seeds")
    parser.add_argument("--ranges", type=int, default=3, help="of seeds")
    parser.add_argument("--out", help="the picture")
    args = parser.parse_args()

    data = archive.load("digits")
    real = pixels(data.images)
    classifier = KNeighborsClassifier(n_neighbors=3).fit(real, data.targets)
    statistics = evaluation.Statistics.of(real)
    named = {pathlib.Path(path).name.removeprefix("digits_"): path for path in args.few}
    runs = [(name, edm_jax.load(path), calls) for name, path in named.items() for calls in (1, 2)]
    diffusion = edm_jax.load(args.checkpoint)
    runs = [("diffusion", diffusion, int(n)) for n in args.calls.split(",") if n] + runs
    rows, names = [], []
    print(f"{'':12}calls  recognised  Fréchet                precision  recall")
    for name, model, calls in runs:
        scores = []
        for first in range(0, args.ranges * args.num, args.num):
            asked, images = drawn(model, calls, range(first, first + args.num))
            fake = pixels(images)
            share = 100 * (classifier.predict(fake) == asked).mean()
            distance = evaluation.frechet(evaluation.Statistics.of(fake), statistics)
            near = evaluation.precision_recall(real, fake)
            scores.append((share, distance, near.precision, near.recall))
            if not first:  # two of each class, the same seeds in every row
                rows += [images[asked == c][i] for c in range(10) for i in range(2)]
        mean, least, most = (of(scores, axis=0) for of in (np.mean, np.min, np.max))
        print(
            f"{name:12}{calls:5}{mean[0]:10.1f} %{mean[1]:9.3f} ({least[1]:.3f}-{most[1]:.3f})"
            f"{mean[2]:11.3f}{mean[3]:8.3f}",
            flush=True,
        )
        names.append(f"{name} {calls}")
    if args.out:
        pictures.write(pictures.grid(np.stack(rows), 20, row_labels=names), args.out)


if __name__ == "__main__":
    main()

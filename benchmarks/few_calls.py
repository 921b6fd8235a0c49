"""What are digits worth that are drawn in few network evaluations?

    python benchmarks/few_calls.py --checkpoint runs/digits --calls 5,10,18 \\
        --tuned runs/digits_ect --out docs/few_calls.png [--num 100]

A diffusion model draws by its default solver in each of the numbers of calls, and the same model
tuned to consistency (configs/digits_ect.py) in one and in two, ten classes of the same seeds. The
table: how many a 3-nearest-neighbour classifier of the 1,797 real digits recognises as the class
that was asked for; squared Fréchet distance in pixels, precision and recall against them. The
picture: a row for each. Needs scikit-learn.
"""

import argparse

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import edm_jax
from edm_jax import evaluation
from edm_jax.data import archive
from edm_jax.runtime import pictures


def drawn(model, calls, count):
    """The classes asked for, and the images."""
    sampler = edm_jax.sampler_for(model, calls)
    parts = edm_jax.generate(model, sampler, range(count), classes="all", batch_size=100)
    return map(np.concatenate, zip(*((part.labels, part.images) for part in parts)))


def pixels(images):
    """[n, d] in [0, 1]."""
    return images.reshape(len(images), -1) / 255


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--calls", default="5,10,18")
    parser.add_argument("--tuned")
    parser.add_argument("--num", type=int, default=100, help="of each class")
    parser.add_argument("--out", help="the picture")
    args = parser.parse_args()

    data = archive.load("digits")
    real = pixels(data.images)
    classifier = KNeighborsClassifier(n_neighbors=3).fit(real, data.targets)
    statistics = evaluation.Statistics.of(real)
    runs = [
        ("diffusion", edm_jax.load(args.checkpoint), int(n)) for n in args.calls.split(",") if n
    ]
    if args.tuned:
        tuned = edm_jax.load(args.tuned)
        runs += [("tuned", tuned, calls) for calls in (1, 2)]
    rows, names = [], []
    print(f"{'':12}calls  recognised  Fréchet  precision  recall")
    for name, model, calls in runs:
        asked, images = drawn(model, calls, args.num)
        fake = pixels(images)
        share = 100 * (classifier.predict(fake) == asked).mean()
        distance = evaluation.frechet(evaluation.Statistics.of(fake), statistics)
        near = evaluation.precision_recall(real, fake)
        print(
            f"{name:12}{calls:5}{share:10.1f} %{distance:9.3f}{near.precision:11.3f}"
            f"{near.recall:8.3f}",
            flush=True,
        )
        # Two of each class, the same seeds in every row.
        rows += [images[asked == c][i] for c in range(10) for i in range(2)]
        names.append(f"{name} {calls}")
    if args.out:
        pictures.write(pictures.grid(np.stack(rows), 20, row_labels=names), args.out)


if __name__ == "__main__":
    main()

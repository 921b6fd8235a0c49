"""How guidance trades diversity for digits that are what was asked for.

    python benchmarks/guidance.py --checkpoint runs/digits --out docs
    python benchmarks/guidance.py --checkpoint runs/digits --classifier runs/digits_classifier
    python benchmarks/guidance.py --checkpoint runs/digits_edm2 --guide runs/of_a_tenth \
        --out docs --name autoguidance

For each scale: a hundred digits of each class, seeds 0 to 999; the share of them that a
3-nearest-neighbour classifier of the real digits recognises, and precision and recall against the
real digits (k = 3, distances of pixels, Kynkaanniemi et al. 2019). Writes the curve and a row of
images for each scale. Needs scikit-learn and matplotlib.
"""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

import edm_jax
from edm_jax.cli.sampler import load_model
from edm_jax.data import archive
from edm_jax.runtime import pictures

SCALES = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
SHOWN = (0.0, 1.0, 2.0, 3.0, 4.0)


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """The share of fakes inside the manifold of the real, and of the real inside that of the fakes.

    A manifold is the union of balls around its points, each up to its k-th neighbour.
    """

    def covered(points, centres):
        radii = np.sort(cdist(centres, centres), axis=1)[:, k]  # its nearest is itself
        return float((cdist(points, centres) <= radii).any(axis=1).mean())

    return covered(fake, real), covered(real, fake)


def main() -> None:
    """Prints a line for each scale, and draws the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--interval", help="LOW,HIGH of sigma; everywhere without it")
    parser.add_argument("--guide", help="another model; the model without its label otherwise")
    parser.add_argument("--classifier", help="guide by it, not by the model without its label")
    parser.add_argument("--ema", help="of the checkpoint, a run: its average of this width")
    parser.add_argument("--out", type=pathlib.Path, help="a folder for the two pictures")
    parser.add_argument("--name", default="guidance", help="of the pictures")
    args = parser.parse_args()
    interval = tuple(map(float, args.interval.split(","))) if args.interval else None

    real = archive.load("digits")
    pixels = real.images.reshape(len(real.images), -1).astype(float)
    judge = KNeighborsClassifier(n_neighbors=3).fit(pixels, real.targets)
    model, _ = load_model(args.checkpoint, args.ema)
    guide = edm_jax.load(args.guide) if args.guide else None
    classifier = edm_jax.load(args.classifier) if args.classifier else None
    sampler = edm_jax.sampler_for(model)

    # What `edm_jax.guided` does, with the scale a number of the program: compiled once.
    def rule(labels, model, guide, scale):
        second = guide.denoiser(jnp.zeros_like(labels) if args.guide is None else labels)
        main = model.denoiser(labels)
        return edm_jax.guidance.classifier_free(main, second, scale, interval=interval)

    asked = np.repeat(np.arange(10), 100)
    rows, shown = [], []
    print("scale  recognised  precision  recall")
    for scale in SCALES:
        if classifier is None:
            guided = edm_jax.Guided(rule, (model, guide or model, np.float32(scale)))
        else:
            guided = edm_jax.guided_by_classifier(model, classifier, scale)
        parts = edm_jax.generate(guided, sampler, range(1000), labels=asked, batch_size=500)
        drawn = np.concatenate([part.images for part in parts])
        fake = drawn.reshape(len(drawn), -1).astype(float)
        row = float((judge.predict(fake) == asked).mean()), *precision_recall(pixels, fake)
        rows.append(row)
        print(f"{scale:5.2f}  {row[0]:10.3f}  {row[1]:9.3f}  {row[2]:6.3f}", flush=True)
        if scale in SHOWN:  # two of each class
            shown.append(drawn.reshape(10, 100, *model.image_shape)[:, :2].reshape(20, 8, 8, 1))
    if args.out:
        names = [f"{scale:g}" for scale in SHOWN]
        grid = pictures.grid(np.concatenate(shown), 20, row_labels=names)
        pictures.write(grid, args.out / f"{args.name}.png")
        _curve(np.array(rows), args.out / f"{args.name}_curve.png")


def _curve(rows: np.ndarray, file: pathlib.Path) -> None:
    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for values, name in zip(rows.T, ("recognised", "precision", "recall")):
        axes.plot(SCALES, values, "o-", label=name, markersize=4)
    axes.set(xlabel="guidance scale", ylabel="share", ylim=(0, 1.02))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main()

"""Are the digits that a model draws the digits it was asked for?

    python benchmarks/digits.py --checkpoint runs/digits

Draws ten classes with seeds 0 to 99 and asks a 3-nearest-neighbour classifier, fitted on the
1,797 real digits, which digit each one is. Real digits under ten-fold cross-validation are
recognised 97.7 times in 100. Needs scikit-learn.
"""

import argparse

import numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import edm_jax
from edm_jax.data import archive
from edm_jax.samplers import DEFAULT_SOLVER, DEFAULT_STEPS


def main() -> None:
    """Prints the share that is recognised, in all and by class."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--solver", default=DEFAULT_SOLVER)
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    args = parser.parse_args()

    real = archive.load("digits")
    pixels, classes = real.images.reshape(len(real.images), -1).astype(float), real.targets
    classifier = KNeighborsClassifier(n_neighbors=3)
    folds = cross_val_score(classifier, pixels, classes, cv=10)
    classifier.fit(pixels, classes)

    model = edm_jax.load(args.checkpoint)
    sampler = edm_jax.sampler_for(model, args.steps, solver=args.solver)
    parts = list(edm_jax.generate(model, sampler, range(100), classes="all", batch_size=100))
    asked, drawn = (np.concatenate([getattr(p, n) for p in parts]) for n in ("labels", "images"))
    right = classifier.predict(drawn.reshape(len(drawn), -1).astype(float)) == asked
    nearest = classifier.kneighbors(drawn.reshape(len(drawn), -1).astype(float), 1)[0]

    print(f"real digits, cross-validated   {100 * folds.mean():5.1f} %")
    print(f"drawn digits, {args.solver}, {sampler.nfe} evaluations  {100 * right.mean():5.1f} %")
    print("by class  " + "  ".join(f"{c}: {100 * right[asked == c].mean():.0f}" for c in range(10)))
    print(f"copies of a real digit: {(nearest == 0).sum()} of {len(drawn)}")


if __name__ == "__main__":
    main()

"""How far from the data are a model's images, by solver, at one number of network evaluations?

    python benchmarks/distances.py --checkpoint runs/digits --data digits [--nfe 18] [--num 1000]

Every solver of the registry that needs noise and a denoiser alone, with its default options and
the largest grid within the budget, draws from the same seeds; a loop that chooses its own steps
takes as many as it wants. In pixels: the squared Fréchet
distance to all the data, the unbiased kernel distance (times 1000), precision and recall. The last
line is the data itself: two halves of it, and so no floor but a scale.
"""

import argparse

import numpy as np

import edm_jax
from edm_jax import evaluation, samplers
from edm_jax.data import archive
from edm_jax.evaluation.features import pixels
from edm_jax.samplers import SOLVERS, Tableau

REGISTERS = 5  # all tableaux are padded to it: one program for each number of evaluations


def largest(model, solver, budget):
    """The sampler of the most steps within the budget; None if there is none."""
    best = None
    for steps in range(2, budget + 1):
        try:
            sampler = edm_jax.sampler_for(model, steps, solver=solver)
        except ValueError:
            continue  # too few steps for it, or not for this model
        if sampler.nfe is None:
            return sampler
        if sampler.nfe > budget:
            break
        best = sampler
    return best


def scores(fake, real):
    """(Fréchet distance, 1000 times the kernel distance, precision, recall)."""
    of = evaluation.Statistics.of
    near = evaluation.precision_recall(real, fake)
    return (
        evaluation.frechet(of(fake), of(real)),
        1000 * evaluation.squared_mmd(fake, real),
        near.precision,
        near.recall,
    )


def show(name, nfe, found):
    print(f"{name:22}{nfe:>4}" + "".join(f"{score:11.4f}" for score in found), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--nfe", type=int, default=18)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=250)
    args = parser.parse_args()

    model, features = edm_jax.load(args.checkpoint), pixels()
    real = features(archive.load(args.data).images[:])
    print(f"{'solver':22}{'nfe':>4}" + "".join(f"{c:>11}" for c in
          ("fréchet", "1000 kid", "precision", "recall")))  # fmt: skip
    for solver in SOLVERS:
        sampler = largest(model, solver, args.nfe)
        if sampler is None:
            continue
        if isinstance(sampler, Tableau):
            sampler = samplers.pad(sampler, REGISTERS)
        parts = edm_jax.generate(model, sampler, range(args.num), batch_size=args.batch)
        fake = np.concatenate([features(part.images) for part in parts])
        show(solver, sampler.nfe or "", scores(fake, real))
    order = np.random.default_rng(0).permutation(len(real))
    show("data, two halves", "", scores(real[order[::2]], real[order[1::2]]))


if __name__ == "__main__":
    main()

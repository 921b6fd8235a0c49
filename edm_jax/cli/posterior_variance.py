"""Measure a model's posterior variance on data, in one pass: what the solver analytic_dpm needs.

Examples:
    edm-jax posterior-variance --checkpoint runs/digits --data digits --out variance.npz
    edm-jax sample --checkpoint runs/digits --solver analytic_dpm --out samples/analytic \\
        --option posterior_variance=variance.npz
"""

import argparse
from collections.abc import Iterator

import jax
import numpy as np

from edm_jax import timesteps
from edm_jax.cli import images
from edm_jax.cli.options import add_quiet
from edm_jax.cli.sampler import add_model_arguments, load_model
from edm_jax.data import archive
from edm_jax.generation.choice import check_denoises
from edm_jax.generation.fitting import load_fitting
from edm_jax.model import Model
from edm_jax.runtime import files
from edm_jax.runtime.progress import Progress
from edm_jax.samplers import analytic
from edm_jax.weights import posterior_variance

LESS_MEMORY = "a smaller --batch"
Batch = tuple[np.ndarray, Model, np.ndarray | None]  # images in [-1, 1], the model, labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = "%(prog)s --checkpoint PATH --data DATA --out X.npz [option …]"
    add_model_arguments(parser)
    add = parser.add_argument
    add("--data", help="the data set: digits, a zip or a folder")
    add("--out", metavar="X.npz", help="the file to write")
    add("--num", type=int, default=1024, help="how many images, evenly spread over the data (1024)")
    add("--levels", type=int, default=40, help="noise levels, in equal ratios (40)")
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add("--seed", type=int, default=0, help="seed of the noise (0)")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, writes, and says on how much; returns the exit code."""
    for name in ("checkpoint", "data", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    for name, least in (("num", 1), ("levels", 2), ("batch", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    out = files.located(args.out)
    files.made(out.parent)
    model, _ = load_model(args.checkpoint, args.ema)
    check_denoises(model, "have a posterior variance", name="--checkpoint")
    dataset = load_fitting(args.data, model)
    chosen = images.evenly_spread(dataset, args.num)
    size = min(args.batch, len(chosen))
    count = len(chosen) // size
    about = {"desc": "compiling", "unit": "batches", "quiet": args.quiet}
    with Progress(total=count, **about) as report:
        measured = analytic.estimate(
            lambda x, sigma, model, labels: model.denoiser(labels)(x, sigma),
            _at_work(report, batches(model, dataset, chosen, size)),
            levels(model, args.levels),
            jax.random.key(args.seed),
        )
    posterior_variance.save(measured, out)
    if not args.quiet:
        print(f"{out}: {len(measured.sigma)} noise levels on {count * size} images")
    return 0


def _at_work(report: Progress, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; says when the first has been measured, and counts them."""
    for index, batch in enumerate(report.counted(batches)):
        if index == 1:
            report.at("measuring")
        yield batch


def levels(model: Model, count: int) -> np.ndarray:
    """Noise levels from the highest to the lowest that the model samples with, in equal ratios."""
    known = model.preconditioner
    bounds = known.sigma_min, known.sigma_max
    grid = timesteps.build("exponential", count - 1, bounds=bounds, final="sigma_min")
    return np.unique(np.asarray(known.round_sigma(grid), np.float64))[::-1]


def batches(
    model: Model, dataset: archive.Dataset, chosen: np.ndarray, size: int
) -> Iterator[Batch]:
    """Batches of one size, so that one program serves all."""
    for first in range(0, len(chosen) - size + 1, size):
        rows = chosen[first : first + size]
        labels = dataset.label_rows(rows) if model.config.label_dim else None
        yield images.inputs(dataset, rows), model, labels

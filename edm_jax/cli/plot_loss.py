"""Draw the loss of runs against images seen and by noise level, from their stats.jsonl.

The loss is the weighted one that is trained; by noise level it is over the last part of each run
(Karras et al. 2022, Fig. 5a). Needs matplotlib, the extra `plot`.

Examples:
    edm-jax plot-loss runs/cifar10 runs/other --out loss.png
"""

import argparse

import numpy as np

from edm_jax.cli.options import add_quiet
from edm_jax.runtime import files
from edm_jax.training import bins, metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a training run")
    parser.add_argument("--out", required=True, metavar="PNG", help="the picture to make")
    parser.add_argument(
        "--last", type=float, default=0.25, help="which share of the run to average over (0.25)"
    )
    add_quiet(parser)


def curve(run: str, last: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss of a run by noise level.

    Args:
      run: its folder.
      last: the share of its images, from the end, to average over.

    Returns:
      Noise levels and losses of the bins that were drawn from.

    Raises:
      ValueError: a share out of range, or a run without such numbers.
    """
    if not 0 < last <= 1:
        raise ValueError(f"--last must be in (0, 1], got {last}")
    records = [r for r in metrics.read(run) if bins.SUMS in r]
    if not records:
        raise ValueError(f"{run} must hold losses by noise level in its {metrics.STATS}, got none")
    records = [r for r in records if r["kimg"] >= (1 - last) * records[-1]["kimg"]]
    counts = np.array([r[bins.COUNTS] for r in records], np.float64)
    means = np.array([[m or 0.0 for m in r[bins.SUMS]] for r in records])
    total = counts.sum(0)
    drawn = total > 0
    return bins.centers()[drawn], (counts * means).sum(0)[drawn] / total[drawn]


def history(run: str) -> tuple[np.ndarray, np.ndarray]:
    """The loss of a run on its way.

    Args:
      run: its folder.

    Returns:
      Thousands of images seen, and the mean loss of each interval.
    """
    records = [r for r in metrics.read(run) if r.get("loss") is not None]
    return np.array([r["kimg"] for r in records]), np.array([r["loss"] for r in records])


def run(args: argparse.Namespace) -> int:
    """Draws a line for each run; returns the exit code."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("plot-loss needs matplotlib: pip install 'edm_jax[plot]'") from None

    files.made(files.located(args.out).parent)
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in args.runs:
        left.plot(*history(name), label=name)
        right.plot(*curve(name, args.last), marker=".", label=name)
    left.set(yscale="log", xlabel="thousands of images", ylabel="loss")
    right.set(xscale="log", yscale="log", xlabel="noise level σ", ylabel="weighted loss")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    with files.whole(args.out) as file:
        figure.savefig(file, format="png", dpi=120)
    if not args.quiet:
        print(args.out)
    return 0

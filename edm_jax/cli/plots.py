"""What commands that draw a plot have in common. Needs matplotlib, the extra `plot`."""

import argparse
import importlib.util
import os
from collections.abc import Callable
from typing import Any

from edm_jax.runtime import files


def add_plot_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """--plot.

    Args:
      parser: it is added to.
      what: is drawn.
    """
    parser.add_argument(
        "--plot", metavar="X.png", help=f"also draw a plot ({what}; needs matplotlib)"
    )


def check() -> None:
    """Raises ValueError where there is no matplotlib, before anything is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'edm_jax[plot]'")


def write(draw: Callable[[Any], None], path: str | os.PathLike) -> None:
    """Draws into a PNG.

    Args:
      draw: takes matplotlib's axes.
      path: the file to make; one that exists is replaced.

    Raises:
      OSError: the path cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    draw(figure.subplots())
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=120)

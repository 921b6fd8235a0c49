"""Draws what each noise level adds to a variational bound. Needs matplotlib, the extra `plot`."""

import importlib.util
import os
from typing import Any

import numpy as np

from edm_jax.runtime import files


def check() -> None:
    """Raises ValueError where there is no matplotlib, before anything is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'edm_jax[plot]'")


def write(terms: dict[str, Any], path: str | os.PathLike) -> None:
    """Draws a bound's terms into a PNG.

    Args:
      terms: "elbo_terms" of a record of `evaluate bpd`.
      path: the file to make; one that exists is replaced.

    Raises:
      OSError: the path cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    draw(figure.subplots(), terms)
    with files.whole(path) as file:
        figure.savefig(file, format="png", dpi=120)


def draw(axes: Any, terms: dict[str, Any]) -> None:
    """Draws a bound's terms by noise level, beside those of a network that leaves x as it is.

    Args:
      axes: of matplotlib.
      terms: "elbo_terms" of a record of `evaluate bpd`.
    """
    sigma, bits = np.array(terms["sigma"]), np.array(terms["intervals"])
    middle, width = np.sqrt(sigma[1:] * sigma[:-1]), np.log(sigma[:-1] / sigma[1:])
    axes.plot(middle, bits / width, color="C0")
    axes.axhline(1 / np.log(2), color="C7", linestyle="--", label="D = x")
    axes.set(xscale="log", xlabel="noise level σ", ylabel="bits/dim per unit of log σ")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    text = (
        f"prior {terms['prior']:.4f}, decoder {terms['decoder']:.2f}, sum {bits.sum():.2f} between"
    )
    axes.set_title(text, fontsize=9)

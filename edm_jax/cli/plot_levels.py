"""Draws what each noise level adds to a variational bound. Needs matplotlib, the extra `plot`."""

from typing import Any

import numpy as np


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

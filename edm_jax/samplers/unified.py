"""UniPC: a predictor-corrector whose corrector costs no evaluation."""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers.numerics import phi
from edm_jax.samplers.tableau import Tableau, symbols


def unipc(
    sigmas: ArrayLike,
    *,
    order: Literal[1, 2, 3] = 2,
    variant: Literal["bh1", "bh2"] = "bh2",
    corrector: bool = True,
    first_corrected: int = 1,
) -> Tableau:
    """UniPC (Zhao, Bai, Rao, Zhou, Lu 2023) for data prediction.

        x' = (sigma'/sigma) x + (1 - e^-h) D_i - B sum_k rho_k (D_(i-k) - D_i) / r_k
        r_k = (lambda_(i-k) - lambda_i) / h,   sum_k r_k^(j-1) rho_k = j! (-h) phi_(j+1)(-h) / B
        bh1:  B = -h;   bh2:  B = e^-h - 1

    The corrector does the same step again with D at its end as one more node (r = 1), when the
    next step has evaluated it. Order `order` + 1 with it, `order` without. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      order: p, the number of denoised images in the predictor: 1, 2 or 3.
      variant: B, "bh1" or "bh2".
      corrector: whether to correct.
      first_corrected: the first step to correct, from 1; under strong guidance the first few are
        better left alone.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    checks.one_of("order", order, (1, 2, 3))
    checks.one_of("variant", variant, ("bh1", "bh2"))
    checks.between("first_corrected", first_corrected, 1)
    size = order + 1 if corrector else order
    Y, D, z = symbols(size)
    history = [D, *Y[size - order + 1 :]]
    with np.errstate(divide="ignore"):
        lambdas = -np.log(sigmas)
    correction = 0.0
    rows = []
    for i, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
        x = Y[1] + correction * D if corrector and i >= first_corrected else Y[0]
        if t == 0:
            rows.append((s, [D, *[0 * z] * (size - 1)]))
            break
        p, h = min(order, i + 1), lambdas[i + 1] - lambdas[i]
        ratios = [(lambdas[i - k] - lambdas[i]) / h for k in range(1, p)]
        b = -h if variant == "bh1" else math.expm1(-h)
        base = (t / s) * x - math.expm1(-h) * D
        slopes = [(history[k] - D) / ratios[k - 1] for k in range(1, p)]
        # With one past image the authors take rho = 1/2 instead of solving, also in the corrector
        # of order 1.
        weights = [0.5] if p == 2 else _solve(ratios, h, b)
        predicted = base - b * sum(w * d for w, d in zip(weights, slopes))
        registers = [predicted]
        if corrector:
            *weights, last = [0.5] if p == 1 else _solve([*ratios, 1.0], h, b)
            correction = -b * last
            known = base - b * sum(w * d for w, d in zip(weights, slopes)) - correction * D
            registers.append(known)
        rows.append((s, [*registers, *history[: order - 1]]))
    return Tableau.from_rows([[sigmas[0], 0.0]] + [[0.0, 0.0]] * (size - 1), rows)


def _solve(ratios, h: float, b: float) -> np.ndarray:
    """rho of sum_k r_k^(j-1) rho_k = j! (-h) phi_(j+1)(-h) / B, j = 1 .. len(ratios)."""
    count = len(ratios)
    if not count:
        return np.zeros(0)
    right = [math.factorial(j) * -h * phi(j + 1, -h) / b for j in range(1, count + 1)]
    return np.linalg.solve(np.vander(ratios, increasing=True).T, right)

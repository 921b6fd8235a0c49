"""Linear multistep methods on eps = (x - D) / sigma: Adams-Bashforth in its many names.

    x' = x + sum_j c_j eps_(i-j),    c_j = int_sigma^sigma' L_j(u(sigma)) dsigma

with L_j the Lagrange polynomial on the last `order` levels in a variable u. LMS takes u = sigma,
DEIS log sigma or t, iPNDM and PLMS the fixed weights of equal steps in sigma.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, schedules
from edm_jax.samplers.numerics import lagrange
from edm_jax.samplers.tableau import Tableau, symbols

FIXED = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def lms(sigmas: ArrayLike, *, order: Literal[1, 2, 3, 4] = 4) -> Tableau:
    """Linear multistep: Adams-Bashforth with variable steps (k-diffusion's `sample_lms`).

        c_j = int_sigma^sigma' L_j(s) ds,  L_j on the last `order` levels; lower orders at first

    Also called DEIS-rhoAB and iPNDM_v; the published weights of iPNDM_v differ from these from
    order 3 on and lose the order. Order `order` (after a start of its order). NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      order: 1 to 4; the number of denoised images a step uses.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, order out of range.
    """
    sigmas = checks.descending(sigmas)
    return _adams(sigmas, order, lambda i, k: lagrange(sigmas[_last(i, k)], *sigmas[i : i + 2]))


def ipndm(sigmas: ArrayLike, *, order: Literal[1, 2, 3, 4] = 4) -> Tableau:
    """iPNDM (Zhang and Chen 2023): Adams-Bashforth with the weights of equal steps.

        x' = x + (sigma' - sigma) (55 eps_i - 59 eps_(i-1) + 37 eps_(i-2) - 9 eps_(i-3)) / 24

    and 1, (3, -1)/2, (23, -16, 5)/12 in the first steps. Order 2 for `order` >= 2 on any grid not
    uniform in sigma, where it would be `order`. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      order: 1 to 4; the number of denoised images a step uses.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, order out of range.
    """
    sigmas = checks.descending(sigmas)
    steps = np.diff(sigmas)
    return _adams(sigmas, order, lambda i, k: steps[i] * np.array(FIXED[k - 1]))


def deis(
    sigmas: ArrayLike,
    *,
    order: Literal[1, 2, 3, 4] = 3,
    variable: Literal["log_sigma", "t", "sigma"] = "log_sigma",
    schedule: schedules.Schedule | None = None,
) -> Tableau:
    """DEIS (Zhang and Chen 2023): eps extrapolated as a polynomial in another variable.

        c_j = int_sigma^sigma' L_j(u(s)) ds;   u = log s (diffusers' "logrho") or t(s) ("tAB")

    u = s ("rhoAB") is `lms`. With u = log s the step to 0 is Euler's. Order `order` (after a
    start of its order). NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      order: 1 to 4.
      variable: "log_sigma", "t" or "sigma".
      schedule: whose time t is, for variable "t"; None is `schedules.vp()`.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    checks.one_of("variable", variable, ("log_sigma", "t", "sigma"))
    if variable == "sigma":
        return lms(sigmas, order=order)
    of_sigma = np.log if variable == "log_sigma" else (schedule or schedules.vp()).sigma_inv

    def weights(i, k):
        s, t = sigmas[i : i + 2]
        if t == 0 and variable == "log_sigma":
            return np.array([t - s] + [0.0] * (k - 1))
        nodes = of_sigma(sigmas[_last(i, k)])
        if t == 0:
            return lagrange(nodes, s, t, variable=of_sigma)
        variable_of_log = lambda u: of_sigma(np.exp(u))
        return lagrange(nodes, math.log(s), math.log(t), weight=np.exp, variable=variable_of_log)

    return _adams(sigmas, order, weights)


def plms(sigmas: ArrayLike) -> Tableau:
    """PLMS: PNDM without its Runge-Kutta start (diffusers' `skip_prk_steps`, Stable Diffusion).

    The first step is a pseudo improved Euler step, sigma' evaluated once more; then
    Adams-Bashforth of orders 2, 3, 4 with the weights of equal steps. Order 2 on any grid not
    uniform in sigma. NFE N + 1.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0; N >= 2.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, or of a single step.
    """
    sigmas = checks.descending(sigmas)
    if sigmas.size < 3:
        raise ValueError(f"sigmas must make at least 2 steps for plms, got {sigmas}")
    Y, D, z = symbols(4)
    x, *memory = Y
    s, t = sigmas[:2]
    e = (x - D) / s
    rows = [(s, [x + (t - s) * e, x + 0.5 * (t - s) * e, e, 0 * z])]
    rows.append((t, [Y[1] + 0.5 * (t - s) * (x - D) / t, Y[2], 0 * z, 0 * z]))
    for i in range(1, sigmas.size - 1):
        s, t = sigmas[i : i + 2]
        history = [(x - D) / s, *memory]
        after = x + (t - s) * sum(c * e for c, e in zip(FIXED[min(i, 3)], history))
        rows.append((s, [after, *history[:3]]))
    return Tableau.from_rows([[sigmas[0], 0.0]] + [[0.0, 0.0]] * 3, rows)


def pndm(sigmas: ArrayLike, *, midpoints: Sequence[float] | None = None) -> Tableau:
    """F-PNDM (Liu, Ren, Lin, Zhao 2022): three pseudo Runge-Kutta steps, then PLMS.

        e1 = eps(x; s), e2 = eps(x + (m-s) e1; m), e3 = eps(x + (m-s) e2; m),
        e4 = eps(x + (t-s) e3; t),   x' = x + (t-s) (e1 + 2 e2 + 2 e3 + e4) / 6

    Then Adams-Bashforth 4 with the weights of equal steps on the e1 of each step. Order 2 on any
    grid not uniform in sigma, as the paper says; 4 on a uniform one. NFE N + 9.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0; N >= 4.
      midpoints: `[3]` levels in the middle of the first three steps, by index; None interpolates
        log sigma as a cubic in the index. (Reference code rounds them to the training table.)

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend or makes fewer than 4 steps; midpoints outside of
        their steps.
    """
    sigmas = checks.descending(sigmas)
    if sigmas.size < 5:
        raise ValueError(f"sigmas must make at least 4 steps for pndm, got {sigmas}")
    if midpoints is None:
        midpoints = np.exp(_cubic(np.log(sigmas[:4])))
    middle = np.asarray(midpoints, np.float64)
    if middle.shape != (3,) or not ((sigmas[1:4] < middle) & (middle < sigmas[:3])).all():
        raise ValueError(
            f"midpoints must be 3 levels inside of the steps {sigmas[:4]}, got {middle}"
        )
    Y, D, z = symbols(5)
    x, base, e1, old, older = Y
    rows = []
    for s, m, t in zip(sigmas, middle, sigmas[1:]):
        e = (x - D) / s
        rows.append((s, [x + (m - s) * e, x, e, e1, old]))
        # Registers: where to evaluate, start of the step, its e1, the e1 of the two before.
        rows.append((m, [base + (m - s) * (x - D) / m, base, e1, old, older]))
        e2, e3 = (x - base) / (m - s), (x - D) / m
        partial = base + (t - s) * (e1 + 2 * e2 + 2 * e3) / 6
        rows.append((m, [base + (t - s) * e3, partial, e1, old, older]))
        rows.append((t, [base + (t - s) * (x - D) / t / 6, 0 * z, e1, old, older]))
    memory = [e1, old, older]
    for s, t in zip(sigmas[3:], sigmas[4:]):
        history = [(x - D) / s, *memory]
        after = x + (t - s) * sum(c * e for c, e in zip(FIXED[3], history))
        rows.append((s, [after, 0 * z, *history[:3]]))
    return Tableau.from_rows([[sigmas[0], 0.0]] + [[0.0, 0.0]] * 4, rows)


def _cubic(values: np.ndarray) -> np.ndarray:
    """Values at 1/2, 3/2, 5/2 of the cubic through `values` at 0, 1, 2, 3."""
    return np.polyval(np.polyfit(np.arange(4.0), values, 3), [0.5, 1.5, 2.5])


def _last(i: int, k: int) -> list[int]:
    """Indices of the last k levels at step i, newest first."""
    return [i - j for j in range(k)]


def _adams(sigmas: np.ndarray, order: int, weights: Callable) -> Tableau:
    """Steps with memory of eps: weights(i, k) are those of step i on the last k levels."""
    checks.one_of("order", order, (1, 2, 3, 4))
    Y, D, _ = symbols(order)
    x, memory = Y[0], list(Y[1:])
    rows = []
    for i, sigma in enumerate(sigmas[:-1]):
        history = [(x - D) / sigma, *memory]
        after = x + sum(c * e for c, e in zip(weights(i, min(order, i + 1)), history))
        rows.append((sigma, [after, *history[: order - 1]]))
    return Tableau.from_rows([[sigmas[0], 0.0]] + [[0.0, 0.0]] * (order - 1), rows)

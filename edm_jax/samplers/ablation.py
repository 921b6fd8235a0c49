"""The paper's ablation sampler: any grid, schedule, scaling and solver, from their names."""

import math
from collections.abc import Callable

import numpy as np

from edm_jax import schedules, timesteps
from edm_jax.checks import one_of
from edm_jax.samplers.numerics import rounded
from edm_jax.samplers.runge_kutta import Churn, ode
from edm_jax.samplers.tableau import Tableau

RANGED = ("edm", "vp", "ve", "iddpm", "exponential", "polyexponential", "tangent")
TABLES = ("ddpm", "align_your_steps")  # their levels are given
DISCRETIZATIONS = (*RANGED, *TABLES)
SCHEDULES = ("linear", "vp", "ve")
SCALINGS = ("none", "vp")


def noise_range(
    discretization: str,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    bounds: tuple[float, float] = (0.0, math.inf),
) -> tuple[float, float]:
    """(sigma_min, sigma_max): each grid's own range, narrowed to what a network was trained on.

    >>> noise_range("edm", bounds=(0.02, 100.0))
    (0.02, 80.0)

    Args:
      discretization: one of `DISCRETIZATIONS`.
      sigma_min, sigma_max: the range asked for; None is the default of the paper's Table 1.
      bounds: (sigma_min, sigma_max) of the network.
    """
    one_of("discretization", discretization, DISCRETIZATIONS)
    vp = schedules.vp().sigma
    low, high = {
        "vp": (float(vp(1e-3)), float(vp(1.0))),
        "ve": (0.02, 100.0),
        "iddpm": (0.002, 81.0),
    }.get(discretization, (0.002, 80.0))
    if discretization in TABLES and not (sigma_min is None and sigma_max is None):
        raise ValueError(f"the levels of {discretization!r} take no sigma_min or sigma_max")
    low = low if sigma_min is None else sigma_min
    high = high if sigma_max is None else sigma_max
    return max(low, bounds[0]), min(high, bounds[1])


def noise_levels(
    num_steps: int, discretization: str, sigma_min: float, sigma_max: float, rho: float = 7.0
) -> np.ndarray:
    """The grid of that name over a range; `rho` is the exponent of the edm grid (paper, eq. 5).

    Of a table's levels those outside the range are left out.

    Returns:
      float64 `[num_steps + 1]`, descending, the last 0.
    """
    one_of("discretization", discretization, DISCRETIZATIONS)
    if discretization == "edm":
        return timesteps.edm(num_steps, sigma_min, sigma_max, rho)
    if discretization in TABLES:
        levels = timesteps.GRIDS[discretization](num_steps)
        return levels[(levels == 0) | ((levels >= sigma_min) & (levels <= sigma_max))]
    return timesteps.GRIDS[discretization](num_steps, sigma_min, sigma_max)


def ablation(
    num_steps: int,
    *,
    solver: str = "heun",
    discretization: str = "edm",
    schedule: str = "linear",
    scaling: str = "none",
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    alpha: float = 1.0,
    churn: Churn | None = None,
    round_sigma: Callable | None = None,
    bounds: tuple[float, float] = (0.0, math.inf),
) -> Tableau:
    """Algorithm 1 and its stochastic form for the named choices of Table 1.

    >>> ablation(18).nfe
    35

    Args:
      num_steps: N; Heun takes 2N - 1 evaluations, Euler N.
      solver: "heun" or "euler".
      discretization: the grid, one of `DISCRETIZATIONS`.
      schedule: sigma(t): "linear", "vp" (fitted to the grid's range) or "ve".
      scaling: s(t): "none" or "vp", 1 / sqrt(1 + sigma(t)^2).
      sigma_min, sigma_max, bounds, rho: see `noise_range` and `noise_levels`.
      alpha: of the second-order family; 1 is Heun, 1/2 midpoint, 2/3 Ralston.
      churn: noise on the way (Algorithm 2), or None.
      round_sigma: to the levels that a network knows, or None.

    Raises:
      ValueError: a name that is not known, or a number out of its range.
    """
    one_of("schedule", schedule, SCHEDULES)
    one_of("scaling", scaling, SCALINGS)
    low, high = noise_range(discretization, sigma_min, sigma_max, bounds)
    sigmas = rounded(noise_levels(num_steps, discretization, low, high, rho), round_sigma)
    law = {
        "linear": schedules.edm,
        "ve": schedules.ve,
        "vp": lambda: schedules.vp_from_range(low, high),
    }[schedule]()
    law = (schedules.with_vp_scaling if scaling == "vp" else schedules.without_scaling)(law)
    # t = 0 by definition: a refit schedule with beta_min < 0 has a second zero above it.
    times = np.append(law.sigma_inv(sigmas[:-1]), 0.0)
    return ode(times, law, solver, alpha, churn, round_sigma)

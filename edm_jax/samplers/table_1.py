"""The samplers of the paper's Table 1, from the names of its columns."""

import math
from collections.abc import Callable
from typing import Literal

from edm_jax import checks, schedules
from edm_jax.samplers.churn import Churn
from edm_jax.samplers.runge_kutta import euler, heun
from edm_jax.samplers.tableau import Tableau
from edm_jax.timesteps import build, noise_range


def ablation(
    num_steps: int,
    *,
    solver: Literal["heun", "euler"] = "heun",
    timesteps: str = "edm",
    schedule: Literal["edm", "vp", "ve"] = "edm",
    scaling: Literal["none", "vp"] = "none",
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float | None = None,
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
      timesteps: the grid, a key of `timesteps.GRIDS`.
      schedule: sigma(t): "edm" (sigma = t), "vp" (fitted to the range of a grid that has one) or
        "ve".
      scaling: s(t): "none" or "vp", 1 / sqrt(1 + sigma(t)^2).
      sigma_min: lowest positive noise level; None is the grid's own.
      sigma_max: highest noise level; None is the grid's own.
      rho: exponent of the grid, where it has one; None is the grid's own.
      alpha: of the second-order family; 1 is Heun, 1/2 midpoint, 2/3 Ralston.
      churn: noise on the way (Algorithm 2), or None.
      round_sigma: to the levels that a network knows, or None.
      bounds: (sigma_min, sigma_max) that a network was trained on.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a name that is not known, or a number out of its range.
    """
    checks.one_of("solver", solver, ("heun", "euler"))
    checks.one_of("schedule", schedule, ("edm", "vp", "ve"))
    checks.one_of("scaling", scaling, ("none", "vp"))  # None is not offered here
    asked = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}
    given = {name: value for name, value in asked.items() if value is not None}
    sigmas = build(timesteps, num_steps, bounds=bounds, **given)
    ends = noise_range(timesteps, bounds=bounds, **given)
    law = schedules.process(schedule, scaling=scaling, ends=ends)
    if solver == "euler":
        return euler(sigmas, schedule=law, churn=churn, round_sigma=round_sigma)
    return heun(sigmas, alpha=alpha, schedule=law, churn=churn, round_sigma=round_sigma)

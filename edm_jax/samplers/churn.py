"""Noise before a step: how far each level of a grid is raised, and what is added for it."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from edm_jax import checks, timesteps
from edm_jax.samplers import numerics


class Churn(NamedTuple):
    """The noise of algorithm 2: each step first goes up from sigma to sigma + gamma sigma.

        gamma = min(s_churn / N, sqrt(2) - 1)  where  s_min <= sigma <= s_max,  else 0

    (Karras et al. 2022.) AlphaFold 3's is `Churn(gamma=0.8, s_min=1.0, s_noise=1.003,
    decides="next")`.

    Attributes:
      s_churn: the amount, spread over the N steps; 0 is the deterministic sampler.
      s_min: lowest noise level, inclusive, at which noise is added.
      s_max: highest noise level, inclusive, at which noise is added.
      s_noise: the standard deviation of the added noise, relative to what the level asks for.
      gamma: in place of s_churn, and not capped: one number, or `[N]`, one for each step.
      decides: which level of a step is held to s_min and s_max: "current", where it begins, or
        "next", where it leads.
    """

    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    gamma: float | Sequence[float] | None = None
    decides: Literal["current", "next"] = "current"


def raised(
    sigmas: np.ndarray, churn: Churn | None, *, round_sigma: Callable | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where the steps of a grid begin once noise is added.

    Args:
      sigmas: `[N + 1]` levels that do not ascend.
      churn: the noise; None is none.
      round_sigma: sigma -> the nearest level that the network knows, where it has a table.

    Returns:
      The raised levels `[N]`, sigma where there is no noise, and the deviation `[N]` of the noise
      that leads to them.

    Raises:
      ValueError: options out of range.
    """
    churn = _checked(churn)
    steps = sigmas.size - 1
    levels, deciding = sigmas[:-1], sigmas[1:] if churn.decides == "next" else sigmas[:-1]
    gamma = _gamma(churn, steps)
    inside = (churn.s_min <= deciding) & (deciding <= churn.s_max)
    above = np.where(inside & (gamma > 0), levels * (1.0 + gamma), levels)
    above = timesteps.rounded(above, round_sigma, keep_repeated=True)
    return above, churn.s_noise * numerics.difference_of_squares(above, levels)


def _gamma(churn: Churn, steps: int) -> np.ndarray:
    if churn.gamma is None:
        return np.full(steps, min(churn.s_churn / steps, math.sqrt(2.0) - 1.0))
    if churn.s_churn:
        raise ValueError(f"s_churn must be left out where gamma is given, got {churn.s_churn}")
    gamma = np.asarray(churn.gamma, np.float64)
    if gamma.shape not in ((), (steps,)) or not ((gamma >= 0) & (gamma < math.inf)).all():
        raise ValueError(
            f"gamma must be a number or [N] = [{steps}] of them, not negative, got {churn.gamma!r}"
        )
    return np.broadcast_to(gamma, steps)


def _checked(churn: Churn | None) -> Churn:
    churn = Churn() if churn is None else churn
    if not isinstance(churn, Churn):
        raise ValueError(f"churn must be a Churn, such as Churn(s_churn=40), got {churn!r}")
    checks.between("s_churn", churn.s_churn, 0.0)
    checks.between("s_noise", churn.s_noise, 0.0)
    checks.between("s_min", churn.s_min, 0.0)
    checks.between("s_max", churn.s_max, churn.s_min)
    checks.one_of("decides", churn.decides, ("current", "next"))
    return churn

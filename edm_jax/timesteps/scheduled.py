"""Grids in the time of a process, and their shift to another resolution."""

import numpy as np

from edm_jax import schedules
from edm_jax.checks import check_positive
from edm_jax.schedules import Schedule
from edm_jax.timesteps.spacing import Final, between, count_levels, fractions, with_end


def from_schedule(
    num_steps: int,
    schedule: Schedule,
    *,
    t_max: float = 1.0,
    t_min: float = 1e-3,
    power: float = 1.0,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of any process: uniform in t, or in t^(1/power).

        t_i = (t_max^(1/power) + i/(N-1) (t_min^(1/power) - t_max^(1/power)))^power

    Args:
      num_steps: The number of steps.
      schedule: sigma(t), increasing.
      t_max: The first time, with sigma(t_max) finite.
      t_min: The last time. With sigma(t_min) = 0 it is the end itself.
      power: 1 is uniform in t; 2 is the quadratic spacing of DDIM and DEIS.
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range, or times where sigma does not decrease to t_min.

    >>> from_schedule(2, schedules.ve_geometric(sigma_max=1.0), t_min=0.0).round(3)
    array([1.  , 0.01, 0.  ])
    """
    check_positive(power=power, t_max=t_max)
    if not 0.0 <= t_min < t_max:
        raise ValueError(f"t_min must lie in [0, t_max = {t_max}), got {t_min}")
    count, end = count_levels(num_steps, final)
    if end and schedule.sigma(t_min) == 0.0:
        count, end = count + 1, False
    first, last = t_max ** (1.0 / power), t_min ** (1.0 / power)
    sigmas = schedule.sigma((first + fractions(count) * (last - first)) ** power)
    if not (np.isfinite(sigmas).all() and (np.diff(sigmas) < 0.0).all() and sigmas[-1] >= 0.0):
        raise ValueError(
            f"t_max and t_min must give finite descending levels, got {t_max} and {t_min}"
        )
    return with_end(sigmas, end)


def vp(
    num_steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    epsilon_s: float = 1e-3,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of the VP process: uniform in t from 1 to epsilon_s (Karras et al. 2022, table 1).

    The betas are refit to the range (`schedules.vp_betas`), so that the grid ends at `sigma_min`.

    Args:
      num_steps: The number of steps.
      sigma_min: The last positive noise level; None is sigma(epsilon_s) of the betas given.
      sigma_max: The first noise level; None is sigma(1) of the betas given.
      beta_d: The slope of beta(t), for the default range.
      beta_min: beta(0), for the default range.
      epsilon_s: The last positive time.
      final: "zero" or "sigma_min".

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    default = vp_range(beta_d=beta_d, beta_min=beta_min, epsilon_s=epsilon_s)
    low = default[0] if sigma_min is None else sigma_min
    high = default[1] if sigma_max is None else sigma_max
    refit = schedules.vp_from_range(low, high, epsilon_s=epsilon_s)
    count, end = count_levels(num_steps, final)
    return with_end(refit.sigma(1.0 + fractions(count) * (epsilon_s - 1.0)), end)


def vp_range(
    beta_d: float = 19.9, beta_min: float = 0.1, *, epsilon_s: float = 1e-3
) -> tuple[float, float]:
    """(sigma_min, sigma_max) of the VP process: sigma(epsilon_s) and sigma(1)."""
    sigma = schedules.vp(beta_d=beta_d, beta_min=beta_min).sigma
    return float(sigma(epsilon_s)), float(sigma(1.0))


def tangent(
    num_steps: int,
    *,
    sigma_min: float = 0.0,
    sigma_max: float = 80.0,
    sigma_data: float = 0.5,
    final: Final = "zero",
) -> np.ndarray:
    """Uniform in the angle theta = atan(sigma / sigma_data), TrigFlow's time.

    For Gaussian data of standard deviation sigma_data no grid is better for Euler steps, whose
    output then is cos(Theta/N)^N of the true deviation, Theta the whole angle. For images the
    best sigma_data is far above the pixels' (large structures carry the variance).

    Args:
      num_steps: N, the number of steps.
      sigma_min: The last positive noise level; at 0 the steps are uniform down to zero.
      sigma_max: The first noise level.
      sigma_data: The scale of the angle, positive.
      final: "zero" or "sigma_min", the level that the last step reaches.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    check_positive(sigma_data=sigma_data)
    if sigma_min == 0.0:
        check_positive(sigma_max=sigma_max)
        angle = np.arctan(sigma_max / sigma_data)
        return from_schedule(
            num_steps,
            schedules.trigflow(sigma_data=sigma_data),
            t_max=angle,
            t_min=0.0,
            final=final,
        )
    to = lambda sigma: np.arctan(sigma / sigma_data)
    return between(to, lambda u: sigma_data * np.tan(u), num_steps, sigma_min, sigma_max, final)


def flow(
    num_steps: int,
    *,
    t_max: float = 0.999,
    t_min: float = 0.0,
    factor: float = 1.0,
    final: Final = "zero",
) -> np.ndarray:
    """The grid of rectified flow: uniform in t from t_max to t_min, sigma = factor t / (1 - t).

    At t = 1 x is pure noise and sigma infinite, so the grid starts just below. `factor` is the
    resolution shift of Stable Diffusion 3: t' = factor t / (1 + (factor - 1) t) is exactly
    sigma' = factor sigma (Esser et al. 2024, eq. 23).

    Args:
      num_steps: The number of steps.
      t_max: The first time, in (0, 1).
      t_min: The last time. At 0, where sigma is 0, it is the end itself.
      factor: The shift, positive.
      final: "zero" or "sigma_min", the level of t_min.

    Returns:
      [num_steps + 1] descending noise levels.

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < t_max < 1.0:
        raise ValueError(f"t_max must lie in (0, 1), got {t_max}")
    levels = from_schedule(num_steps, schedules.flow(), t_max=t_max, t_min=t_min, final=final)
    return shift(levels, factor)


def shift(sigmas: np.ndarray, factor: float) -> np.ndarray:
    """Shifts a grid to another resolution: sigma' = factor sigma.

    In flow matching's time this is t' = factor t / (1 + (factor - 1) t). For an image enlarged by
    m on each side, factor = m keeps the signal-to-noise ratio of its large structures.

    Args:
      sigmas: [N] noise levels.
      factor: Positive.

    Returns:
      [N] noise levels.

    Raises:
      ValueError: factor <= 0.
    """
    check_positive(factor=factor)
    return factor * np.asarray(sigmas, dtype=np.float64)

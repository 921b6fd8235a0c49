"""What a schedule is, and what follows from any: other scalings, times, the forward process."""

from typing import NamedTuple

import numpy as np

from edm_jax.schedules.functions import Function, host_or_device, one, zero


class Schedule(NamedTuple):
    """The process x_t = s(t) (y + sigma(t) n), n standard normal.

    sigma: t -> the standard deviation of the noise, before scaling.
    sigma_dot: t -> d sigma / dt.
    sigma_inv: sigma -> t.
    scale: t -> s(t).
    scale_dot: t -> ds / dt.
    """

    sigma: Function
    sigma_dot: Function
    sigma_inv: Function
    scale: Function
    scale_dot: Function


def with_vp_scaling(schedule: Schedule) -> Schedule:
    """Gives any sigma(t) the variance-preserving scaling s = 1 / sqrt(1 + sigma^2).

    Its derivative is -sigma sigma' s^3 (Karras et al. 2022, table 1, for any sigma).

    Args:
      schedule: Whose sigma(t) is kept.

    Returns:
      The schedule with that s(t).
    """
    sigma, sigma_dot = schedule.sigma, schedule.sigma_dot

    def scale(xp, t):
        return 1.0 / xp.sqrt(1.0 + sigma(t) ** 2)

    return schedule._replace(
        scale=host_or_device(scale),
        scale_dot=host_or_device(lambda xp, t: -sigma(t) * sigma_dot(t) * scale(xp, t) ** 3),
    )


def without_scaling(schedule: Schedule) -> Schedule:
    """Gives any sigma(t) the scaling s = 1.

    Args:
      schedule: Whose sigma(t) is kept.

    Returns:
      The schedule with s(t) = 1.
    """
    return schedule._replace(scale=one, scale_dot=zero)


def times(schedule: Schedule, sigmas: np.ndarray) -> np.ndarray:
    """The times of a grid of noise levels, by `sigma_inv`; the time of a last level 0 is 0.

    (By definition, not by the inverse: sigma of a refit with beta_min < 0 has a second zero.)

    Args:
      schedule: Whose time.
      sigmas: [N + 1] noise levels, the last may be 0.

    Returns:
      [N + 1] float64.
    """
    found, positive = np.zeros(len(sigmas)), np.asarray(sigmas) > 0
    found[positive] = schedule.sigma_inv(sigmas[positive])
    return found


def drift_and_diffusion(schedule: Schedule) -> tuple[Function, Function]:
    """The forward process dx = f(t) x dt + g(t) dw of a schedule.

    f = s'/s and g = s sqrt(2 sigma sigma') (Karras et al. 2022, appendix B.1).

    Args:
      schedule: sigma must increase.

    Returns:
      (f, g), functions of t > 0 (at t = 0 some schedules have sigma' = inf).

    >>> from edm_jax import schedules
    >>> f, g = drift_and_diffusion(schedules.edm())
    >>> float(f(3.0)), float(g(2.0))
    (0.0, 2.0)
    """

    def g(xp, t):
        return schedule.scale(t) * xp.sqrt(2.0 * schedule.sigma(t) * schedule.sigma_dot(t))

    f = host_or_device(lambda xp, t: schedule.scale_dot(t) / schedule.scale(t))
    return f, host_or_device(g)

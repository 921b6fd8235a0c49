"""The schedules whose sigma(t) is an elementary function: EDM, VE, cosine, flow and TrigFlow."""

import numpy as np

from edm_jax.checks import check_positive, check_range
from edm_jax.schedules.functions import host_or_device, identity, one, zero
from edm_jax.schedules.record import Schedule


def edm() -> Schedule:
    """The schedule of EDM: sigma(t) = t, s(t) = 1 (Karras et al. 2022, table 1)."""
    return Schedule(identity, one, identity, one, zero)


def ve() -> Schedule:
    """The variance-exploding schedule in EDM's time: sigma(t) = sqrt(t), s(t) = 1.

    Karras et al. 2022, table 1; the process dx = dw of Song et al. 2021.
    """
    return Schedule(
        sigma=host_or_device(lambda xp, t: xp.sqrt(t)),
        sigma_dot=host_or_device(lambda xp, t: 0.5 / xp.sqrt(t)),
        sigma_inv=host_or_device(lambda xp, sigma: sigma * sigma),
        scale=one,
        scale_dot=zero,
    )


def ve_geometric(*, sigma_min: float = 0.01, sigma_max: float = 50.0) -> Schedule:
    """Song's variance-exploding schedule: sigma(t) = sigma_min (sigma_max / sigma_min)^t, s = 1.

    Song et al. 2021, appendix C. Song et al. use 0.01 to 50 for CIFAR-10, t in [1e-5, 1].

    Args:
      sigma_min: The noise level at t = 0, positive.
      sigma_max: The noise level at t = 1, above `sigma_min`.

    Returns:
      The schedule.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max.
    """
    check_range(sigma_min, sigma_max)
    rate = float(np.log(sigma_max / sigma_min))
    return Schedule(
        sigma=host_or_device(lambda xp, t: sigma_min * xp.exp(rate * t)),
        sigma_dot=host_or_device(lambda xp, t: rate * sigma_min * xp.exp(rate * t)),
        sigma_inv=host_or_device(lambda xp, sigma: xp.log(sigma / sigma_min) / rate),
        scale=one,
        scale_dot=zero,
    )


def cosine(*, offset: float = 0.008) -> Schedule:
    """The cosine schedule: s(t) = cos(a) / cos(a_0), sigma(t) = sqrt(s^-2 - 1), t in [0, 1].

    a(t) = (pi/2) (t + offset) / (1 + offset), a_0 = a(0) (Nichol and Dhariwal 2021, eq. 17);
    sigma^2 is computed as sin(a - a_0) sin(a + a_0) / cos^2(a), which cancels nowhere.
    offset = 0 is s = cos(pi t/2), sigma = tan(pi t/2) (Salimans and Ho 2022). sigma(1) = inf.

    Args:
      offset: Nichol and Dhariwal's s, not negative.

    Returns:
      The schedule.

    Raises:
      ValueError: offset < 0.
    """
    if not offset >= 0.0:
        raise ValueError(f"offset must not be negative, got {offset}")
    rate = 0.5 * np.pi / (1.0 + offset)
    cos_0, tan_0 = float(np.cos(rate * offset)), float(np.tan(rate * offset))

    def cos_a(xp, t):
        return xp.sin(rate * (1.0 - t))  # a = pi/2 - rate (1 - t): exactly 0 at t = 1

    def sin_a(xp, t):
        return xp.sin(rate * (t + offset))

    def sigma(xp, t):
        return xp.sqrt(xp.sin(rate * t) * xp.sin(rate * (t + 2.0 * offset))) / cos_a(xp, t)

    def sigma_dot(xp, t):
        tan_over_sigma = 1.0  # of the schedule without offset, where both vanish at t = 0
        if offset:
            tan_over_sigma = sin_a(xp, t) / (cos_a(xp, t) * sigma(xp, t))
        return rate * (cos_0 / cos_a(xp, t)) ** 2 * tan_over_sigma

    def sigma_inv(xp, level):
        # tan(a - a_0) from tan^2 a = tan^2 a_0 + q^2 without subtracting nearly equal angles.
        q = level / cos_0
        tan_a = xp.hypot(q, tan_0 + 0.0 * q)
        return xp.arctan2(q * q, (1.0 + tan_a * tan_0) * (tan_a + tan_0)) / rate

    return Schedule(
        sigma=host_or_device(sigma),
        sigma_dot=host_or_device(sigma_dot),
        sigma_inv=host_or_device(sigma_inv),
        scale=host_or_device(lambda xp, t: cos_a(xp, t) / cos_0),
        scale_dot=host_or_device(lambda xp, t: -rate * sin_a(xp, t) / cos_0),
    )


def flow() -> Schedule:
    """Rectified flow: x_t = (1 - t) y + t n, so s(t) = 1 - t and sigma(t) = t / (1 - t).

    Liu et al. 2023, Lipman et al. 2023, in the convention where t = 1 is noise: sigma(1) = inf.
    """
    return Schedule(
        sigma=host_or_device(lambda xp, t: t / (1.0 - t)),
        sigma_dot=host_or_device(lambda xp, t: 1.0 / (1.0 - t) ** 2),
        sigma_inv=host_or_device(lambda xp, sigma: sigma / (1.0 + sigma)),
        scale=host_or_device(lambda xp, t: 1.0 - t),
        scale_dot=host_or_device(lambda xp, t: -xp.ones_like(t)),
    )


def trigflow(*, sigma_data: float = 0.5) -> Schedule:
    """TrigFlow: x_t = cos(t) y + sin(t) sigma_data n, so sigma(t) = sigma_data tan(t), t < pi/2.

    Lu and Song 2024 ("Simplifying, stabilizing and scaling continuous-time consistency models").

    Args:
      sigma_data: The standard deviation of the data, positive.

    Returns:
      The schedule.

    Raises:
      ValueError: sigma_data <= 0.
    """
    check_positive(sigma_data=sigma_data)
    return Schedule(
        sigma=host_or_device(lambda xp, t: sigma_data * xp.tan(t)),
        sigma_dot=host_or_device(lambda xp, t: sigma_data / xp.cos(t) ** 2),
        sigma_inv=host_or_device(lambda xp, sigma: xp.arctan(sigma / sigma_data)),
        scale=host_or_device(lambda xp, t: xp.cos(t)),
        scale_dot=host_or_device(lambda xp, t: -xp.sin(t)),
    )

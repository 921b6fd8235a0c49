"""The processes of a beta(t) linear in time: variance preserving and sub-variance preserving."""

import numpy as np

from edm_jax.checks import check_range
from edm_jax.schedules.functions import host_or_device
from edm_jax.schedules.record import Schedule


def vp(*, beta_d: float = 19.9, beta_min: float = 0.1) -> Schedule:
    """The variance-preserving schedule: sigma(t) = sqrt(e^B(t) - 1), s(t) = e^(-B(t)/2).

    B(t) = beta_d t^2 / 2 + beta_min t (Karras et al. 2022, table 1; Song et al. 2021), so that
    s^2 (1 + sigma^2) = 1. DDPM is its discretisation.

    Args:
      beta_d: The slope of beta(t) = beta_min + beta_d t.
      beta_min: beta(0). A refit (`vp_from_range`) may make it slightly negative.

    Returns:
      The schedule.

    Raises:
      ValueError: B(1) <= 0, which leaves no noise at t = 1.

    >>> schedule = vp()
    >>> round(float(schedule.sigma(1.0)), 4), round(float(schedule.sigma_inv(80.0)), 4)
    (152.167, 0.9335)
    """
    integral, rate, inverse = _quadratic(beta_d, beta_min)

    def sigma_dot(xp, t):
        sigma = xp.sqrt(xp.expm1(integral(t)))
        return 0.5 * rate(t) * (sigma + 1.0 / sigma)

    return Schedule(
        sigma=host_or_device(lambda xp, t: xp.sqrt(xp.expm1(integral(t)))),
        sigma_dot=host_or_device(sigma_dot),
        sigma_inv=host_or_device(lambda xp, sigma: inverse(xp, xp.log1p(sigma * sigma))),
        scale=host_or_device(lambda xp, t: xp.exp(-0.5 * integral(t))),
        scale_dot=host_or_device(lambda xp, t: -0.5 * rate(t) * xp.exp(-0.5 * integral(t))),
    )


def vp_betas(sigma_min: float, sigma_max: float, *, epsilon_s: float = 1e-3) -> tuple[float, float]:
    """Fits the variance-preserving schedule to a range of noise levels.

    Solves sigma(epsilon_s) = sigma_min and sigma(1) = sigma_max; with L = ln(1 + sigma^2),
        beta_d = 2 (L_min / epsilon_s - L_max) / (epsilon_s - 1),  beta_min = L_max - beta_d / 2.

    Args:
      sigma_min: The noise level at t = epsilon_s, positive.
      sigma_max: The noise level at t = 1, above `sigma_min`.
      epsilon_s: The last time of the grid, in (0, 1).

    Returns:
      (beta_d, beta_min).

    Raises:
      ValueError: a bad range, or one that no increasing schedule of this form passes through.

    >>> [round(beta, 6) for beta in vp_betas(0.002, 80.0)]
    [17.537957, -0.004769]
    """
    check_range(sigma_min, sigma_max)
    if not 0.0 < epsilon_s < 1.0:
        raise ValueError(f"epsilon_s must lie in (0, 1), got {epsilon_s}")
    low, high = float(np.log1p(sigma_min**2)), float(np.log1p(sigma_max**2))
    beta_d = 2.0 * (low / epsilon_s - high) / (epsilon_s - 1.0)
    beta_min = high - 0.5 * beta_d
    if min(beta_min + beta_d * epsilon_s, beta_min + beta_d) <= 0.0:
        raise ValueError(
            f"sigma_min = {sigma_min} and sigma_max = {sigma_max} fit no increasing "
            f"variance-preserving schedule with epsilon_s = {epsilon_s}: change epsilon_s"
        )
    return beta_d, beta_min


def vp_from_range(sigma_min: float, sigma_max: float, *, epsilon_s: float = 1e-3) -> Schedule:
    """The variance-preserving schedule through (epsilon_s, sigma_min) and (1, sigma_max).

    Below epsilon_s sigma may be undefined (beta_min < 0).

    Args:
      sigma_min: The noise level at t = epsilon_s, positive.
      sigma_max: The noise level at t = 1, above `sigma_min`.
      epsilon_s: The last time of the grid, in (0, 1).

    Returns:
      The schedule.

    Raises:
      ValueError: a bad range, or one that no increasing schedule of this form passes through.
    """
    beta_d, beta_min = vp_betas(sigma_min, sigma_max, epsilon_s=epsilon_s)
    return vp(beta_d=beta_d, beta_min=beta_min)


def sub_vp(*, beta_d: float = 19.9, beta_min: float = 0.1) -> Schedule:
    """The sub-variance-preserving schedule: sigma(t) = 2 sinh(B(t)/2), s(t) = e^(-B(t)/2).

    B as in `vp`; the standard deviation of the noise in x_t is s sigma = 1 - e^(-B)
    (Song et al. 2021, eq. 29).

    Args:
      beta_d: The slope of beta(t) = beta_min + beta_d t.
      beta_min: beta(0).

    Returns:
      The schedule.

    Raises:
      ValueError: B(1) <= 0, which leaves no noise at t = 1.
    """
    integral, rate, inverse = _quadratic(beta_d, beta_min)
    return Schedule(
        sigma=host_or_device(lambda xp, t: 2.0 * xp.sinh(0.5 * integral(t))),
        sigma_dot=host_or_device(lambda xp, t: rate(t) * xp.cosh(0.5 * integral(t))),
        sigma_inv=host_or_device(lambda xp, sigma: inverse(xp, 2.0 * xp.arcsinh(0.5 * sigma))),
        scale=host_or_device(lambda xp, t: xp.exp(-0.5 * integral(t))),
        scale_dot=host_or_device(lambda xp, t: -0.5 * rate(t) * xp.exp(-0.5 * integral(t))),
    )


def _quadratic(beta_d: float, beta_min: float):
    """B(t), B'(t) and the inverse of B(t) = beta_d t^2 / 2 + beta_min t."""
    if not 0.5 * beta_d + beta_min > 0.0:
        raise ValueError(
            f"beta_d / 2 + beta_min must be positive, got beta_d = {beta_d}, beta_min = {beta_min}"
        )

    def inverse(xp, level):
        root = xp.sqrt(beta_min**2 + 2.0 * beta_d * level)
        # The two forms of one root of a quadratic: each is free of cancellation for its sign.
        return 2.0 * level / (root + beta_min) if beta_min > 0.0 else (root - beta_min) / beta_d

    integral = lambda t: t * (0.5 * beta_d * t + beta_min)
    rate = lambda t: beta_d * t + beta_min
    return integral, rate, inverse

"""Noise schedules sigma(t) and scalings s(t): x_t = s(t) (y + sigma(t) n).

A schedule is five closures of one signature, and any sigma(t) goes with any s(t). The same
formulas serve numpy on the host, in float64, and jax on the device, in the dtype given: what
comes in as a `jax.Array` leaves as one. They are written without cancellation (expm1, log1p,
products instead of differences), so that float32 is accurate to its rounding at every t.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.checks import check_positive, check_range, one_of
from edm_jax.options import check_options, find, options_of

Array = jax.Array | np.ndarray
Function = Callable[[Any], Any]


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


def host_or_device(function: Callable[[Any, Any], Any]) -> Function:
    """Turns `function(xp, x)` into a function of x alone, on the host or on the device.

    Args:
      function: Receives the array library, numpy or jax.numpy, and the argument.

    Returns:
      x -> function(jnp, x) for a `jax.Array` in a floating dtype; else function(np, x) with x in
      float64, where a division by zero is infinity (sigma at the end of a schedule) in silence.
    """

    @functools.wraps(function)
    def call(x):
        if isinstance(x, jax.Array):
            return function(jnp, x if jnp.issubdtype(x.dtype, jnp.floating) else x + 0.0)
        with np.errstate(divide="ignore"):
            return function(np, np.asarray(x, dtype=np.float64)[()])

    return call


_one = host_or_device(lambda xp, t: xp.ones_like(t))
_zero = host_or_device(lambda xp, t: xp.zeros_like(t))
_identity = host_or_device(lambda xp, t: t)


def edm() -> Schedule:
    """The schedule of EDM: sigma(t) = t, s(t) = 1 (Karras et al. 2022, table 1)."""
    return Schedule(_identity, _one, _identity, _one, _zero)


def ve() -> Schedule:
    """The variance-exploding schedule in EDM's time: sigma(t) = sqrt(t), s(t) = 1.

    Karras et al. 2022, table 1; the process dx = dw of Song et al. 2021.
    """
    return Schedule(
        sigma=host_or_device(lambda xp, t: xp.sqrt(t)),
        sigma_dot=host_or_device(lambda xp, t: 0.5 / xp.sqrt(t)),
        sigma_inv=host_or_device(lambda xp, sigma: sigma * sigma),
        scale=_one,
        scale_dot=_zero,
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
        scale=_one,
        scale_dot=_zero,
    )


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
    return schedule._replace(scale=_one, scale_dot=_zero)


# What the command line and the documentation choose from: name -> (**options) -> schedule.
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "edm": edm,
    "vp": vp,
    "ve": ve,
    "ve_geometric": ve_geometric,
    "sub_vp": sub_vp,
    "cosine": cosine,
    "flow": flow,
    "trigflow": trigflow,
}
# Of these the ones that are fitted to a grid's (sigma_min, sigma_max), as in EDM's table 1.
FROM_RANGE: dict[str, Callable[[float, float], Schedule]] = {"vp": vp_from_range}


def build(name: str, **options: Any) -> Schedule:
    """Builds a schedule of the registry by its name.

    >>> round(float(build("ve_geometric", sigma_max=1.0).sigma(1.0)), 6)
    1.0

    Args:
      name: A key of `SCHEDULES`.
      **options: What the schedule takes.

    Returns:
      The schedule.

    Raises:
      ValueError: an unknown name, with the nearest one; an option that the schedule does not have.
    """
    make = find("schedule", name, SCHEDULES)
    check_options(f"the schedule {name!r}", options_of(make), options)
    return make(**options)


def process(
    name: str,
    *,
    scaling: Literal["none", "vp"] | None = None,
    ends: tuple[float, float] | None = None,
) -> Schedule:
    """The process that a sampler goes through: a schedule of the registry, its scaling, its range.

    >>> process("vp", scaling="none", ends=(0.002, 80.0)).sigma(np.array([1e-3, 1.0])).round(6)
    array([2.e-03, 8.e+01])

    Args:
      name: A key of `SCHEDULES`.
      scaling: s(t): "none", or "vp", 1 / sqrt(1 + sigma(t)^2). None is the schedule's own.
      ends: (sigma_min, sigma_max) of a grid, which a schedule of `FROM_RANGE` is fitted to; None,
        or another schedule: its own constants.

    Returns:
      The schedule.

    Raises:
      ValueError: an unknown name, with the nearest one; a scaling that is none of these; a range
        that the schedule cannot pass through.
    """
    fit = FROM_RANGE.get(name)
    law = build(name) if ends is None or fit is None else fit(*ends)
    if scaling is None:
        return law
    one_of("scaling", scaling, ("none", "vp"))
    return with_vp_scaling(law) if scaling == "vp" else without_scaling(law)


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

    >>> f, g = drift_and_diffusion(edm())
    >>> float(f(3.0)), float(g(2.0))
    (0.0, 2.0)
    """

    def g(xp, t):
        return schedule.scale(t) * xp.sqrt(2.0 * schedule.sigma(t) * schedule.sigma_dot(t))

    f = host_or_device(lambda xp, t: schedule.scale_dot(t) / schedule.scale(t))
    return f, host_or_device(g)


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

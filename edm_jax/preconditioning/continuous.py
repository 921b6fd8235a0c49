"""Preconditioners of networks that know every noise level of a range."""

from collections.abc import Sequence
from functools import partial

from edm_jax import schedules
from edm_jax.checks import between, check_positive, check_range
from edm_jax.preconditioning.coefficients import EPSILON, per_channel, rsqrt, spread_over_channels
from edm_jax.preconditioning.record import Preconditioner
from edm_jax.schedules.functions import host_or_device, one


def edm(
    sigma_data: float | Sequence[float] = 0.5,
    *,
    sigma_min: float = 0.0,
    sigma_max: float = float("inf"),
) -> Preconditioner:
    """EDM: input and training target of the network have unit variance at every sigma.

        c_skip = sd^2 / (sigma^2 + sd^2)         c_in = 1 / sqrt(sigma^2 + sd^2)
        c_out = sigma sd / sqrt(sigma^2 + sd^2)  c_noise = ln(sigma) / 4

    Karras et al. 2022, table 1. With F = 0 this is the ideal denoiser of N(0, sd^2).

    Args:
      sigma_data: sd, the standard deviation of the data, positive; or `[C]`, one for each channel
        of the last axis.
      sigma_min: The lowest noise level the network is used at.
      sigma_max: The highest.

    Returns:
      The preconditioner.

    Raises:
      ValueError: sigma_data <= 0, or not 0 <= sigma_min < sigma_max.
    """
    sigma_data = per_channel(sigma_data)
    if not 0.0 <= sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min and sigma_max must satisfy 0 <= sigma_min < sigma_max, got {sigma_min} "
            f"and {sigma_max}"
        )
    sd = partial(spread_over_channels, sigma_data)
    return Preconditioner(
        sigma_min=float(sigma_min),
        sigma_max=float(sigma_max),
        c_skip=host_or_device(lambda xp, s: sd(xp, s) ** 2 / (s**2 + sd(xp, s) ** 2)),
        c_out=host_or_device(lambda xp, s: s * sd(xp, s) * rsqrt(xp, s**2 + sd(xp, s) ** 2)),
        c_in=host_or_device(lambda xp, s: rsqrt(xp, s**2 + sd(xp, s) ** 2)),
        c_noise=host_or_device(lambda xp, s: xp.log(s) / 4.0),
        sigma_data=sigma_data,
    )


def vp(
    *,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    num_train_steps: int = 1000,
    epsilon_t: float = 1e-5,
) -> Preconditioner:
    """VP: the network of score-SDE's DDPM++ predicts the noise (Karras et al. 2022, table 1).

        c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(1 + sigma^2),  c_noise = (M - 1) t(sigma)

    t(sigma) is the inverse of `schedules.vp`, by log1p: the original's float32 ln(1 + sigma^2)
    is off by 1.3 % at sigma = 0.002, which moves D by less than its rounding.

    Args:
      beta_d: The slope of beta(t).
      beta_min: beta(0).
      num_train_steps: M.
      epsilon_t: The least time seen in training, in (0, 1): sigma_min = sigma(epsilon_t).

    Returns:
      The preconditioner.

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < epsilon_t < 1.0:
        raise ValueError(f"epsilon_t must lie in (0, 1), got {epsilon_t}")
    schedule = schedules.vp(beta_d=beta_d, beta_min=beta_min)
    return Preconditioner(
        *EPSILON,
        c_noise=host_or_device(lambda xp, s: (num_train_steps - 1) * schedule.sigma_inv(s)),
        sigma_min=float(schedule.sigma(epsilon_t)),
        sigma_max=float(schedule.sigma(1.0)),
    )


def ve(*, sigma_min: float = 0.02, sigma_max: float = 100.0) -> Preconditioner:
    """VE: the network of score-SDE's NCSN++ (Karras et al. 2022, table 1).

        c_skip = 1,  c_out = sigma,  c_in = 1,  c_noise = ln(sigma / 2)

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.

    Returns:
      The preconditioner.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max.
    """
    check_range(sigma_min, sigma_max)
    return Preconditioner(
        c_skip=one,
        c_out=host_or_device(lambda xp, s: s),
        c_in=one,
        c_noise=host_or_device(lambda xp, s: xp.log(0.5 * s)),
        sigma_min=float(sigma_min),
        sigma_max=float(sigma_max),
    )


def flow(time_scale: float = 1.0) -> Preconditioner:
    """The network predicts the velocity n - y of rectified flow at x_t = (1 - t) y + t n.

        c_skip = c_in = 1 / (1 + sigma) = 1 - t,  c_out = -t,  c_noise = time_scale t

    Args:
      time_scale: The conditioning at t = 1; 1000 for Stable Diffusion 3 and its kin.

    Returns:
      The preconditioner.

    Raises:
      ValueError: time_scale <= 0.
    """
    check_positive(time_scale=time_scale)
    kept = host_or_device(lambda xp, s: 1.0 / (1.0 + s))
    return Preconditioner(
        c_skip=kept,
        c_out=host_or_device(lambda xp, s: -s / (1.0 + s)),
        c_in=kept,
        c_noise=host_or_device(lambda xp, s: time_scale * s / (1.0 + s)),
    )


def trigflow(sigma_data: float = 0.5) -> Preconditioner:
    """TrigFlow: EDM by the angle t = atan(sigma / sd), with the sign of F turned.

        c_skip = cos^2 t,  c_out = -sd sin t,  c_in = cos t / sd,  c_noise = t

    Lu and Song 2024.

    Args:
      sigma_data: sd, positive.

    Returns:
      The preconditioner.

    Raises:
      ValueError: sigma_data <= 0.
    """
    row, sd = edm(sigma_data), float(sigma_data)
    return row._replace(
        c_out=host_or_device(lambda xp, s: -row.c_out(s)),
        c_noise=host_or_device(lambda xp, s: xp.arctan(s / sd)),
    )


def consistency(
    sigma_data: float = 0.5, *, sigma_min: float = 0.002, noise_scale: float = 250.0
) -> Preconditioner:
    """A consistency function: the identity at sigma_min (Song et al. 2023, appendix C).

        c_skip = sd^2 / ((sigma - sigma_min)^2 + sd^2)     c_in = 1 / sqrt(sigma^2 + sd^2)
        c_out = (sigma - sigma_min) sd / sqrt(sigma^2 + sd^2)     c_noise = noise_scale ln sigma

    With sigma_min 0 and noise_scale 1/4 it is `edm`: a network made for that can go on as this
    (Geng et al. 2024, ECT, who train so, and draw with the same noise_scale and sigma_min 0.003).

    Args:
      sigma_data: sd, positive.
      sigma_min: The boundary, not negative.
      noise_scale: Of the conditioning, positive.

    Returns:
      The preconditioner.

    Raises:
      ValueError: an argument out of range.
    """
    check_positive(sigma_data=sigma_data, noise_scale=noise_scale)
    sd, low = float(sigma_data), between("sigma_min", sigma_min, 0.0)
    return edm(sd)._replace(
        c_skip=host_or_device(lambda xp, s: sd**2 / ((s - low) ** 2 + sd**2)),
        c_out=host_or_device(lambda xp, s: (s - low) * sd * rsqrt(xp, s**2 + sd**2)),
        c_noise=host_or_device(lambda xp, s: noise_scale * xp.log(s)),
        sigma_min=low,
    )

"""Distributions of training noise levels.

A distribution is its quantile function, so a draw is one uniform number pushed through it, and
moments, stratified draws and tests come from the same function.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import schedules, tables
from edm_jax.checks import check_positive, check_range
from edm_jax.schedules import Function, host_or_device


class NoiseDistribution(NamedTuple):
    """A distribution of noise levels, as (key, shape) -> sigma.

    quantile: (0, 1) -> sigma, increasing: the inverse of the cumulative distribution.
    """

    quantile: Function

    def __call__(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        """Draws noise levels: shape [*shape], float32. The key is consumed."""
        # Centred between the 2^23 values that float32 offers: never 0, where log sigma = -inf.
        return self.quantile(jax.random.uniform(key, tuple(shape)) + 2.0**-24)


def log_normal(p_mean: float = -1.2, p_std: float = 1.2) -> NoiseDistribution:
    """EDM's: ln sigma ~ N(p_mean, p_std^2) (Karras et al. 2022, table 1).

    In rectified flow's time t = sigma / (1 + sigma) this is the logit-normal distribution of
    Stable Diffusion 3; p_mean = 0, p_std = 1 are its defaults.

    Args:
      p_mean: The mean of ln sigma.
      p_std: The standard deviation of ln sigma, positive.

    Raises:
      ValueError: p_std <= 0.

    >>> round(float(log_normal().quantile(jnp.float32(0.5))), 4)  # exp(-1.2)
    0.3012
    """
    check_positive(p_std=p_std)
    normal_quantile = lambda u: jax.scipy.special.ndtri(jnp.asarray(u))
    return NoiseDistribution(lambda u: jnp.exp(p_mean + p_std * normal_quantile(u)))


def vp(
    beta_d: float = 19.9, beta_min: float = 0.1, *, epsilon_t: float = 1e-5
) -> NoiseDistribution:
    """VP's: sigma = sigma(t) of `schedules.vp`, t uniform in (epsilon_t, 1).

    Args:
      beta_d: The slope of beta(t).
      beta_min: beta(0).
      epsilon_t: The least time, in (0, 1).

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < epsilon_t < 1.0:
        raise ValueError(f"epsilon_t must lie in (0, 1), got {epsilon_t}")
    sigma = schedules.vp(beta_d=beta_d, beta_min=beta_min).sigma
    return NoiseDistribution(host_or_device(lambda xp, u: sigma(epsilon_t + (1.0 - epsilon_t) * u)))


def ve(sigma_min: float = 0.02, sigma_max: float = 100.0) -> NoiseDistribution:
    """VE's: ln sigma uniform between ln sigma_min and ln sigma_max.

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max.
    """
    return NoiseDistribution(schedules.ve_geometric(sigma_min=sigma_min, sigma_max=sigma_max).sigma)


def karras(
    *, sigma_min: float = 0.02, sigma_max: float = 88.0, rho: float = 7.0
) -> NoiseDistribution:
    """That of EDM's own grid of levels: sigma = (a + u (b - a))^rho, u uniform in (0, 1).

    With a = sigma_min^(1/rho), b = sigma_max^(1/rho) (Karras et al. 2022, eq. 5), training looks
    as often at a level as `timesteps.edm` does. GenCast's (Price et al. 2023) are the defaults.

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.
      rho: How much the low levels are favoured, positive.

    Raises:
      ValueError: an argument out of range.

    >>> round(float(karras().quantile(0.5)), 4)
    4.3525
    """
    check_range(sigma_min, sigma_max)
    check_positive(rho=rho)
    low, high = (float(s) ** (1.0 / rho) for s in (sigma_min, sigma_max))
    return NoiseDistribution(host_or_device(lambda xp, u: (low + u * (high - low)) ** rho))


def discrete(levels: np.ndarray) -> NoiseDistribution:
    """Uniform over the levels of a table (DDPM: `tables.sigmas(tables.alphas_cumprod())`).

    Args:
      levels: [T] positive noise levels, in any order.

    Raises:
      ValueError: no table of positive levels.
    """
    levels = np.sort(np.asarray(levels, dtype=np.float64))
    if levels.ndim != 1 or not levels.size or not (levels[0] > 0 and np.isfinite(levels[-1])):
        raise ValueError(f"levels must be [T] positive noise levels, got {levels}")

    def quantile(xp, u):
        index = xp.clip((u * len(levels)).astype(int), 0, len(levels) - 1)
        return xp.asarray(levels, dtype=u.dtype)[index]

    return NoiseDistribution(host_or_device(quantile))


def iddpm(
    u: np.ndarray | None = None,
    *,
    c_1: float = 0.001,
    c_2: float = 0.008,
    num_train_steps: int = 1000,
) -> NoiseDistribution:
    """iDDPM's: sigma = u_j, j uniform in 0 .. M-1 (Karras et al. 2022, table 1).

    Args:
      u: [M + 1] the levels, descending to 0; None computes them (`tables.iddpm`).
      c_1: C_1 of the table, where u is None.
      c_2: C_2 of the table, where u is None.
      num_train_steps: M, where u is None.

    Raises:
      ValueError: u is no such table.
    """
    if u is None:
        u = tables.iddpm(num_train_steps, c_1=c_1, c_2=c_2, variant="network")
    u = np.asarray(u, dtype=np.float64)
    if u.ndim != 1 or len(u) < 2 or u[-1] != 0.0:
        raise ValueError(f"u must be [M + 1] noise levels descending to 0, got {u}")
    return discrete(u[:-1])


def cosine(
    sigma_min: float = 0.002, sigma_max: float = 80.0, *, sigma_data: float = 1.0
) -> NoiseDistribution:
    """The angle atan(sigma / sigma_data) uniform: the cosine schedule, and TrigFlow's time.

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.
      sigma_data: The scale of the angle, positive.

    Raises:
      ValueError: an argument out of range.
    """
    check_range(sigma_min, sigma_max)
    check_positive(sigma_data=sigma_data)
    low, high = (float(np.arctan(s / sigma_data)) for s in (sigma_min, sigma_max))
    return NoiseDistribution(
        host_or_device(lambda xp, u: sigma_data * xp.tan(low + (high - low) * u))
    )

"""The denoising loss, lambda(sigma) |D(y + sigma n; sigma) - y|^2, and its weights lambda."""

import jax
import jax.numpy as jnp

from edm_jax.checks import Denoiser, check_positive, column
from edm_jax.schedules import Function, host_or_device


def loss(
    denoise: Denoiser, y: jax.Array, sigma: jax.Array, noise: jax.Array, weight: Function
) -> jax.Array:
    """The weighted squared error of every element: lambda(sigma) (D(y + sigma n; sigma) - y)^2.

    Karras et al. 2022, eq. 2. Nothing is averaged; the expectation over n and sigma is the
    caller's mean.

    Args:
      denoise: (x [B, ...], sigma [B]) -> x0 of x's shape.
      y: [B, ...] clean data, in [-1, 1] for images.
      sigma: [] or [B] noise levels, positive.
      noise: [B, ...] standard normal n.
      weight: lambda, sigma -> weight of its shape.

    Returns:
      The shape of y, float32 (float64 for float64 data).

    Raises:
      ValueError: shapes that do not fit.
    """
    x, sigma, level, y = perturbed(y, sigma, noise)
    x0 = denoise(x, sigma).astype(y.dtype)
    return weight(level) * (x0 - y) ** 2


def perturbed(
    y: jax.Array, sigma: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What every loss begins with: x = y + sigma n, after a look at the shapes.

    Args:
      y: [B, ...] clean data.
      sigma: [] or [B] noise levels.
      noise: [B, ...] standard normal n.

    Returns:
      x, sigma, sigma as a column that multiplies x, and y; float32 (float64 for float64 data).

    Raises:
      ValueError: shapes that do not fit.
    """
    dtype = jnp.promote_types(jnp.result_type(y), jnp.float32)
    y, sigma, noise = (jnp.asarray(a, dtype) for a in (y, sigma, noise))
    if noise.shape != y.shape:
        raise ValueError(f"noise must have the shape of y, {y.shape}, got {noise.shape}")
    level = column(sigma, y)
    return y + level * noise, sigma, level, y


def edm_weight(sigma_data: float = 0.5) -> Function:
    """lambda = (sigma^2 + sd^2) / (sigma sd)^2 = 1 / c_out^2 of `preconditioning.edm`.

    It gives the network's own output unit weight at every noise level (Karras et al. 2022, eq. 8).

    Args:
      sigma_data: sd, positive.

    Raises:
      ValueError: sigma_data <= 0.

    >>> float(edm_weight(0.5)(1.0))
    5.0
    """
    check_positive(sigma_data=sigma_data)
    # As a sum: (sigma sd)^2 would leave float32's range where 1/sigma^2 does not.
    return host_or_device(lambda xp, sigma: 1.0 / sigma**2 + 1.0 / sigma_data**2)


def inverse_square_weight() -> Function:
    """lambda = 1 / sigma^2: the squared error of the predicted noise (VP, VE, DDPM)."""
    return host_or_device(lambda xp, sigma: 1.0 / sigma**2)


def unit_weight() -> Function:
    """lambda = 1: the squared error of the predicted data."""
    return host_or_device(lambda xp, sigma: xp.ones_like(sigma))


def min_snr_weight(gamma: float = 5.0) -> Function:
    """lambda = min(1 / sigma^2, gamma) (Hang et al. 2023).

    Args:
      gamma: The largest weight, positive.

    Raises:
      ValueError: gamma <= 0.
    """
    check_positive(gamma=gamma)
    return host_or_device(lambda xp, sigma: xp.minimum(1.0 / sigma**2, gamma))


def flow_weight() -> Function:
    """lambda = ((1 + sigma) / sigma)^2: the squared error of rectified flow's velocity n - y."""
    return host_or_device(lambda xp, sigma: (1.0 / sigma + 1.0) ** 2)


def v_weight() -> Function:
    """lambda = (1 + sigma^2) / sigma^2: the squared error of v (Salimans and Ho 2022)."""
    return edm_weight(1.0)

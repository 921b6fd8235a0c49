"""Thresholds on what a denoiser returns: data has a range, and guidance leaves it."""

import jax.numpy as jnp

from edm_jax import checks
from edm_jax.checks import Denoiser


def clip(denoise: Denoiser, *, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """Clips D to the range of the data: static thresholding, `clip_denoised`.

    Where D is clipped its gradient is 0.

    Args:
      denoise: (x, sigma) -> D.
      low: the least value.
      high: the greatest value.

    Returns:
      The clipped denoiser.

    Raises:
      ValueError: low not below high.
    """
    if not low < high:
        raise ValueError(f"low must be below high = {high}, got {low}")
    return lambda x, sigma: jnp.clip(denoise(x, sigma), low, high)


def dynamic_threshold(
    denoise: Denoiser, percentile: float = 0.995, *, max_value: float = float("inf")
) -> Denoiser:
    """Clips D to a quantile of its own size, then scales to [-1, 1] (Imagen, Saharia et al. 2022).

        t = min(max(quantile(|D|), 1), max_value)   of each sample;   D <- clip(D, -t, t) / t

    Args:
      denoise: (x, sigma) -> D of data in [-1, 1].
      percentile: of |D| over a sample's elements, in [0, 1]; linear between two elements.
      max_value: a limit of t, at least 1. 1 is `clip` (and the default of diffusers).

    Returns:
      The denoiser.

    Raises:
      ValueError: a percentile out of range, a limit below 1.
    """
    checks.between("percentile", percentile, 0.0, 1.0)
    checks.between("max_value", max_value, 1.0)

    def thresholded(x, sigma):
        denoised = denoise(x, sigma)
        axes = tuple(range(1, denoised.ndim))
        size = jnp.quantile(jnp.abs(denoised), percentile, axis=axes, keepdims=True)
        limit = jnp.clip(size, 1.0, max_value)
        return jnp.clip(denoised, -limit, limit) / limit

    return thresholded

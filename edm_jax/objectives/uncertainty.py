"""Learned uncertainty: a loss that weighs every noise level by how well it can be denoised.

    L / e^u(sigma) + u(sigma),    whose least value over u is at u = ln E[L | sigma]

(Kendall et al. 2018; Karras et al. 2024, EDM2, eq. 14 and 15.) u is linear in Fourier features of
ln(sigma) / 4.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

FEATURES = 128


def initial() -> jax.Array:
    """[FEATURES] weights: u = 0 at every noise level, which is the loss without it."""
    return jnp.zeros(FEATURES)


def log_variance(weights: jax.Array, sigma: jax.Array) -> jax.Array:
    """u(sigma) = w . sqrt(2) cos(f ln(sigma) / 4 + p) / sqrt(FEATURES).

    The frequencies f are the quantiles of N(0, (2 pi)^2), the phases p spread by the golden ratio:
    EDM2 draws both.

    Args:
      weights: [FEATURES].
      sigma: [B] noise levels.

    Returns:
      [B].
    """
    index = np.arange(FEATURES)
    frequency = 2 * jnp.pi * ndtri((jnp.asarray(index, jnp.float32) + 0.5) / FEATURES)
    phase = 2 * np.pi * (index * 0.6180339887498949 % 1.0)
    angle = jnp.log(sigma)[:, None] / 4 * frequency + phase
    return (jnp.cos(angle) * weights).sum(1) * np.sqrt(2.0 / FEATURES)


def loss(weights: jax.Array, sigma: jax.Array, each: jax.Array) -> jax.Array:
    """L / e^u + u for every example.

    Args:
      weights: [FEATURES].
      sigma: [B] noise levels.
      each: [B] the losses L there, each a mean over the example's elements.

    Returns:
      [B].
    """
    u = log_variance(weights, sigma)
    return each * jnp.exp(-u) + u

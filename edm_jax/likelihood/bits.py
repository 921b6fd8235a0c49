"""Pixels and densities: dequantisation, bits per dimension."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from edm_jax import randomness

PIXEL = 1.0 / 127.5  # how far two neighbouring values of uint8 are apart in [-1, 1]


def dequantize(images: jax.Array, keys: jax.Array, *, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Spreads the values of pixels over their cells, uniformly (Theis et al. 2016).

        y = (k + u) / 127.5 - 1,   u uniform in [-1/2, 1/2)

    A density of y then bounds the probability of the image from below, on average over u:
    log P(k) >= E log p(y) + d log(1 / 127.5). The cells are centred at the values that a model
    was trained on. Variational dequantisation (Ho et al. 2019) learns u's distribution and so
    comes nearer; it is another bound, and this is not it.

    Args:
      images: [B, ...] values k in 0..255.
      keys: [B] typed keys; consumed.
      dtype: of the result.

    Returns:
      [B, ...] in [-1 - 1/255, 1 + 1/255).
    """
    spread = randomness.uniform(keys, images.shape[1:], dtype=dtype, minval=-0.5, maxval=0.5)
    return (jnp.asarray(images, dtype) + spread) * PIXEL - 1.0


def bits_per_dim(nats: ArrayLike, dimensions: int, *, cell: float = PIXEL) -> jax.Array:
    """-log2 of the probability of a cell, over its dimensions.

        bits = -nats / (d log 2) - log2(cell)

    >>> round(float(bits_per_dim(-64 * math.log(2.0), 64)), 4)  # 1 + log2(127.5)
    7.9944

    Args:
      nats: log-likelihoods; of a density in [-1, 1], or of probabilities.
      dimensions: d, of a sample.
      cell: the side of a cell that is one value: 1/127.5 for densities of uint8 pixels in
        [-1, 1] (255 values apart by that: log2 127.5 = 6.994 bits, not 7), 1 for probabilities.

    Returns:
      Of the shape of `nats`.
    """
    return -jnp.asarray(nats) / (dimensions * math.log(2.0)) - math.log2(cell)

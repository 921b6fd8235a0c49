"""Latents of images: how data sets hold them, how a model sees them, how a decoder takes them.

A data set has the mean and the deviation of every latent that an encoder gives, and each time one
is used it is drawn anew. The numbers are those of EDM2 for `stabilityai/sd-vae-ft-mse`, whose
encoder was given pixels in [0, 1] (Karras et al. 2024).
"""

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness

CHANNELS = 4
MOMENTS = 2 * CHANNELS  # of a data set: the means, then the deviations
MEAN = (5.81, 3.25, 0.12, -2.15)  # of each channel of ImageNet-512's latents
STD = (4.17, 4.62, 3.71, 3.28)
SIGMA_DATA = 0.5

SCALE = np.float32(SIGMA_DATA / np.array(STD))
BIAS = np.float32(-np.array(MEAN) * SIGMA_DATA / np.array(STD))


def draw(keys: jax.Array, moments: jax.Array) -> jax.Array:
    """Latents drawn from their means and deviations, as a model sees them.

        x = (mean + deviation n) scale + bias,    n ~ N(0, 1)

    Args:
      keys: [B] typed keys, one for each latent; consumed.
      moments: [B, H, W, 8], four channels of means and four of deviations.

    Returns:
      [B, H, W, 4] float32, of standard deviation 0.5 over a data set.
    """
    mean, deviation = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
    return (mean + deviation * randomness.normal(keys, mean.shape[1:])) * SCALE + BIAS


def raw(x: np.ndarray) -> np.ndarray:
    """What a decoder takes: (x - bias) / scale, for latents x [..., 4] as a model sees them."""
    return (np.asarray(x, np.float32) - BIAS) / SCALE


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1], as a decoder gives them, to 0..255: clipped and truncated."""
    return (np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)

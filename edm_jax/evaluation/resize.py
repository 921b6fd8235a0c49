"""Bytes to the size that a feature network takes, by the rule that its numbers were made with."""

import jax
import jax.numpy as jnp
import numpy as np


def tf1_bilinear(images: jax.Array, size: int) -> jax.Array:
    """Resizes as TensorFlow 1 does: bilinear, pixel i at i n / size, nothing averaged away.

        p = i n / size,  lo = ⌊p⌋,  out = a_lo + (a_lo+1 - a_lo) (p - lo);   columns, then rows

    Coordinates are float32, as there. The last pixel is repeated.

    Args:
      images: [B, H, W, C] of any type; one channel becomes three.
      size: of the result, in pixels; that of the images changes nothing.

    Returns:
      float32 [B, size, size, 3].
    """
    x = jnp.asarray(images, jnp.float32)
    for axis in (2, 1):
        low, high, t = _places(x.shape[axis], size)
        t = t.reshape(-1, 1) if axis == 2 else t.reshape(-1, 1, 1)
        a = jnp.take(x, low, axis)
        x = a + (jnp.take(x, high, axis) - a) * t
    return jnp.broadcast_to(x, (*x.shape[:3], 3)) if x.shape[3] == 1 else x


def _places(pixels: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both neighbours of each pixel of the result, and how far it is from the first."""
    step = np.float32(pixels / size)
    place = (np.arange(size) * step).astype(np.float32)
    low = np.floor(place).astype(np.int32)
    return low, np.minimum(low + 1, pixels - 1), place - low.astype(np.float32)

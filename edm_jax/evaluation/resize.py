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


def bicubic(images: jax.Array, size: int) -> jax.Array:
    """Resizes by Keys' cubic with antialiasing, as PyTorch does; neither rounded nor clipped.

    Args:
      images: [B, H, W, C] of any type; one channel becomes three.
      size: of the result, in pixels; that of the images changes nothing.

    Returns:
      float32 [B, size, size, 3].
    """
    x = jnp.asarray(images, jnp.float32)
    rows, columns = (np.float32(bicubic_matrix(n, size)) for n in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    x = jnp.einsum("jw,bhwc->bhjc", columns, x, precision=highest)
    x = jnp.einsum("ih,bhjc->bijc", rows, x, precision=highest)
    return jnp.broadcast_to(x, (*x.shape[:3], 3)) if x.shape[3] == 1 else x


def bicubic_matrix(
    pixels: int, size: int, *, scale: float | None = None, a: float = -0.5, antialias: bool = True
) -> np.ndarray:
    """The weights of a cubic resize along one axis.

        w(|t| ≤ 1) = (a + 2) t³ - (a + 3) t² + 1,    w(|t| < 2) = a t³ - 5a t² + 8a t - 4a

    Args:
      pixels: of the axis.
      size: of the result.
      scale: pixels to a pixel of the result; None is pixels / size.
      a: of the cubic (Keys 1981).
      antialias: whether the cubic is as wide as a pixel of the result where that is wider, and
        ends at the border; else the border's pixel is repeated.

    Returns:
      float64 [size, pixels]; each row's sum is 1.
    """
    scale = pixels / size if scale is None else scale
    wide = max(scale, 1.0) if antialias else 1.0
    centre = (np.arange(size)[:, None] + 0.5) * scale - 0.5
    reach = int(np.ceil(2 * wide)) + 1
    place = np.floor(centre).astype(int) + np.arange(-reach, reach + 1)
    t = np.abs(place - centre) / wide
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    weights = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
    if antialias:
        weights *= (place >= 0) & (place < pixels)
    matrix = np.zeros((size, pixels))
    rows = np.broadcast_to(np.arange(size)[:, None], place.shape)
    np.add.at(matrix, (rows, np.clip(place, 0, pixels - 1)), weights)
    return matrix / matrix.sum(1, keepdims=True)

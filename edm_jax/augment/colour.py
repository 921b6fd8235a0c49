"""Affine maps of RGB colour: brightness, contrast, luma flip, hue and saturation as one matrix.

Karras et al. 2020 (arXiv 2006.06676), appendix B. With v = (1, 1, 1) / sqrt(3) the grey axis, a
flip of luma is I - 2 v v^T, hue a rotation about v, saturation v v^T + (I - v v^T) * factor.
"""

import jax
import jax.numpy as jnp
import numpy as np


def affine_map(
    *,
    brightness: jax.Array | None = None,
    contrast: jax.Array | None = None,
    luma_flip: jax.Array | None = None,
    hue: jax.Array | None = None,
    saturation: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Composes the transforms given, in this order: colour -> linear @ colour + offset.

    Args:
      brightness: [B], added to all channels.
      contrast: [B], factor of all channels.
      luma_flip: [B], 1 to mirror brightness and keep colour, else 0.
      hue: [B], radians about the grey axis.
      saturation: [B], factor of the distance to grey.

    Returns:
      linear [B, 3, 3] and offset [B, 3], float32.

    Raises:
      ValueError: if none is given.

    >>> linear, offset = affine_map(luma_flip=jnp.ones(1), brightness=jnp.array([0.5]))
    >>> bool(jnp.allclose(linear[0] @ jnp.full(3, 0.3) + offset[0], -(0.3 + 0.5)))
    True
    """
    given = [a for a in (brightness, contrast, luma_flip, hue, saturation) if a is not None]
    if not given:
        raise ValueError(
            "one of brightness, contrast, luma_flip, hue, saturation must be given, got None"
        )
    eye = np.eye(3, dtype=np.float32)
    grey = np.full((3, 3), 1 / 3, np.float32)  # v v^T
    turn = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.float32(
        np.sqrt(3)
    )  # v x .
    linear = jnp.broadcast_to(eye, (len(given[0]), 3, 3))
    offset = jnp.zeros((len(given[0]), 3), jnp.float32)

    def then(matrix):
        # Elementwise, not a dot: a dot of float32 runs in bfloat16 or TF32 on accelerators.
        product = jnp.sum(matrix[:, :, :, None] * linear[:, None, :, :], axis=2)
        return product, jnp.sum(matrix * offset[:, None, :], axis=-1)

    if brightness is not None:
        offset = offset + brightness[:, None]
    if contrast is not None:
        linear, offset = linear * contrast[:, None, None], offset * contrast[:, None]
    if luma_flip is not None:
        linear, offset = then(eye - 2 * luma_flip[:, None, None] * grey)
    if hue is not None:
        cos, sin = jnp.cos(hue)[:, None, None], jnp.sin(hue)[:, None, None]
        linear, offset = then(eye - (1 - cos) * (eye - grey) + sin * turn)
    if saturation is not None:
        linear, offset = then(eye - (1 - saturation[:, None, None]) * (eye - grey))
    return linear, offset


def recolour(images: jax.Array, linear: jax.Array, offset: jax.Array) -> jax.Array:
    """Maps each pixel's colour; grey images get the mean of the three channels of grey's image.

    Args:
      images: [B, H, W, 3] RGB or [B, H, W, 1] grey, float32.
      linear: [B, 3, 3].
      offset: [B, 3].

    Returns:
      The shape of images, float32.

    Raises:
      ValueError: for any other number of channels.
    """
    channels = images.shape[-1]
    if channels == 3:
        mapped = jnp.sum(images[..., None, :] * linear[:, None, None], axis=-1)
        return mapped + offset[:, None, None]
    if channels == 1:
        factor, constant = jnp.sum(jnp.mean(linear, 1), -1), jnp.mean(offset, -1)
        return images * factor[:, None, None, None] + constant[:, None, None, None]
    raise ValueError(f"images must have 1 or 3 channels for colour transforms, got {channels}")

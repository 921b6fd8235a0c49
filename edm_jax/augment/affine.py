"""Affine resampling of images, band-limited by a wavelet filter on both sides of the lookup.

Karras et al. 2020 (arXiv 2006.06676), appendix B: reflect by size - 1, double the resolution with
the sym6 low-pass filter, look up bilinearly on a doubled output grid, halve the resolution with
the same filter.

Reflecting and doubling together are one small matrix per axis, and so is halving, so that no
padded image and no convolution is left: only the lookup in between depends on the map. It has two
forms, the same to rounding: a gather of the four neighbours, and, where gathers are slow (TPU),
matrix products with the hat functions of the positions.
"""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
BORDER = len(SYM6) // 4  # output pixels beyond each edge that the halving filter reads


def resample(images: jax.Array, linear: jax.Array, shift: jax.Array) -> jax.Array:
    """Resamples each image under its own affine map; zero beyond the reflected surroundings.

    output(z) = input(linear @ z + shift), z = (x right, y down) in pixels from the image centre.
    The identity changes an image by less than 2e-6.

    Args:
      images: [B, H, W, C] float32.
      linear: [B, 2, 2].
      shift: [B, 2], pixels.

    Returns:
      [B, H, W, C] float32.

    Raises:
      ValueError: if the shapes are not these.

    >>> image = jnp.eye(4)[None, :, :, None]
    >>> one_pixel = jnp.array([[1.0, 0.0]])
    >>> moved = jax.jit(resample)(image, jnp.eye(2)[None], one_pixel)  # leftwards
    >>> bool(jnp.allclose(moved[0, :, :3, 0], image[0, :, 1:, 0], atol=1e-5))
    True
    """
    batch = images.shape[0]
    if images.ndim != 4 or linear.shape != (batch, 2, 2) or shift.shape != (batch, 2):
        raise ValueError(
            "images, linear, shift must be [B, H, W, C], [B, 2, 2], [B, 2], got shapes "
            f"{images.shape}, {linear.shape}, {shift.shape}"
        )
    x, y = _positions(linear, shift, *images.shape[1:3])
    looked_up = jax.lax.platform_dependent(
        images, x, y, tpu=lookup_by_products, default=lookup_by_gather
    )
    return _across(_down(_halving(images.shape[1]), looked_up), _halving(images.shape[2]))


def lookup_by_gather(images: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Doubles the reflected images and interpolates them between four neighbours.

    Args:
      images: [B, H, W, C].
      x, y: [B, h, w], places on the doubled grid, inside it.

    Returns:
      [B, h, w, C].
    """
    # Of the two orders, the one that transposes the small side: twice as fast.
    doubled = _down(_doubling(images.shape[1]), _across(images, _doubling(images.shape[2])))
    batch, _, width, channels = doubled.shape
    left, top = jnp.floor(x), jnp.floor(y)
    right_share, bottom_share = (x - left)[..., None], (y - top)[..., None]
    index = top.astype(jnp.int32) * width + left.astype(jnp.int32)
    index = index.reshape(batch, -1, 1)
    flat = doubled.reshape(batch, -1, channels)

    def neighbour(offset):
        values = jnp.take_along_axis(flat, index + offset, axis=1, mode="promise_in_bounds")
        return values.reshape(*x.shape, channels)

    def between(start, end, share):
        return start + (end - start) * share

    above = between(neighbour(0), neighbour(1), right_share)
    below = between(neighbour(width), neighbour(width + 1), right_share)
    return between(above, below, bottom_share)


def lookup_by_products(images: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """The result of `lookup_by_gather` from matrix products alone.

    A point's interpolation weights are a hat function of its position, and hat @ doubling are its
    weights over the pixels of the given image. Row by row, so that the weights stay small.

    Args:
      images: [B, H, W, C].
      x, y: [B, h, w], places on the doubled grid, inside it.

    Returns:
      [B, h, w, C].
    """
    precision = jax.lax.Precision.HIGHEST

    def weights(position, doubling):
        hats = jnp.maximum(0, 1 - abs(position[..., None] - jnp.arange(doubling.shape[0])))
        return jnp.einsum("bpd,di->bpi", hats, doubling, precision=precision)

    def one_row(places):
        x, y = places
        across = weights(x, _doubling(images.shape[2]))
        down = weights(y, _doubling(images.shape[1]))
        columns = jnp.einsum("bpi,bijc->bpjc", down, images, precision=precision)
        return jnp.sum(columns * across[..., None], axis=2)

    return jax.lax.map(one_row, (x.swapaxes(0, 1), y.swapaxes(0, 1))).swapaxes(0, 1)


def reflect(index: Array, size: int) -> Array:
    """Folds indices into [0, size) by reflection at the first and last pixel, not repeated.

    Args:
      index: integers, a NumPy or JAX array.
      size: the number of pixels.

    Returns:
      Integers of the same shape.

    >>> reflect(np.arange(-3, 6), 3)
    array([1, 2, 1, 0, 1, 2, 1, 0, 1])
    """
    if size == 1:
        return index * 0
    return size - 1 - abs(size - 1 - index % (2 * size - 2))


def _positions(linear, shift, height, width):
    """(x, y), each [B, h, w]: where each point of the doubled output lies on the doubled input."""
    columns = jnp.arange(2 * (width + 2 * BORDER), dtype=jnp.float32) + 1 - (width + 2 * BORDER)
    rows = jnp.arange(2 * (height + 2 * BORDER), dtype=jnp.float32) + 1 - (height + 2 * BORDER)
    columns, rows = columns[None, None, :], rows[None, :, None]
    linear, shift = linear[..., None, None], shift[..., None, None]
    # One product to each sum leaves a compiler one way of fusing them, in batches of any size.
    x = linear[:, 0, 0] * columns + (linear[:, 0, 1] * rows + 2 * shift[:, 0])
    y = linear[:, 1, 0] * columns + (linear[:, 1, 1] * rows + 2 * shift[:, 1])

    # The reflected, doubled image has 2 (3 size - 2) rows; index 0 is the zero row before them,
    # so that every place outside is clamped onto a zero row.
    def from_centre(position, size):
        return jnp.clip(position + (3 * size - 2), 0, 2 * (3 * size - 2) + 1)

    return from_centre(x, width), from_centre(y, height)


def _down(matrix, images):
    """matrix @ image, channel by channel."""
    # One product per sample, not one for the batch: how a CPU sums a product depends on its size,
    # and a sample's result is not to depend on the batch's.
    matrix = jnp.broadcast_to(matrix, (images.shape[0], *matrix.shape))
    return jnp.einsum("bij,bjkc->bikc", matrix, images, precision=jax.lax.Precision.HIGHEST)


def _across(images, matrix):
    """image @ matrix.T, channel by channel."""
    return _down(matrix, images.swapaxes(1, 2)).swapaxes(1, 2)


@functools.cache
def _doubling(size):
    """[2 (3 size - 2) + 3, size]: reflection by size - 1 on both sides, then upsampling by two.

    One zero row before and two after. Upsampling correlates the pixels, with zeros between them,
    with the reversed filter.
    """
    padded = 3 * size - 2
    filtered = np.zeros((2 * padded + 3, padded))
    for pixel in range(padded):
        for tap, weight in enumerate(SYM6):
            row = 2 * pixel - 5 + tap
            if 0 <= row < 2 * padded:
                filtered[row + 1, pixel] = weight
    return np.float32(filtered @ np.eye(size)[reflect(np.arange(padded) - (size - 1), size)])


@functools.cache
def _halving(size):
    """[size, 2 (size + 2 BORDER)]: downsampling by two, the border dropped."""
    matrix = np.zeros((size, 2 * (size + 2 * BORDER)))
    for row in range(size):
        start = 2 * (row + BORDER) - 5
        matrix[row, start : start + len(SYM6)] = SYM6
    return np.float32(matrix)

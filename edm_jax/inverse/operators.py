"""Measurements y = A(x) of images: any function of x [B, ...], and its adjoint.

An operator is a function. Its adjoint is `adjoint`, of a nonlinear one that of its derivative at
the image. Those that also know their singular values are in `spectral`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

# x [B, ...] -> the measurement [B, ...], of each sample from that sample alone.
Operator = Callable[[jax.Array], jax.Array]
Map = Callable[[jax.Array], jax.Array]


def adjoint(operator: Operator, x: Any) -> Map:
    """A^T of a linear operator, by `jax.linear_transpose`.

    >>> pair_sums = lambda x: x[:, 0::2] + x[:, 1::2]
    >>> adjoint(pair_sums, jnp.ones((1, 4)))(jnp.array([[1.0, 2.0]])).tolist()
    [[1.0, 1.0, 2.0, 2.0]]

    Args:
      operator: x -> y, linear.
      x: [B, ...] an image, or its `jax.ShapeDtypeStruct`: its shape and dtype alone matter.

    Returns:
      y -> A^T y, of x's shape.
    """
    transpose = jax.linear_transpose(operator, jax.ShapeDtypeStruct(x.shape, x.dtype))
    return jax.jit(lambda y: transpose(y)[0])


def blur(kernel: ArrayLike) -> Operator:
    """Correlation with any kernel, with reflected borders (the edge not repeated).

    Args:
      kernel: [h, w], both odd, such as a `motion_kernel`.

    Returns:
      x [B, H, W, C] -> the same shape; linear.

    Raises:
      ValueError: a kernel of another kind.
    """
    table = np.asarray(kernel, np.float64)
    if table.ndim != 2 or table.shape[0] % 2 == 0 or table.shape[1] % 2 == 0:
        raise ValueError(f"kernel must be [h, w] with both odd, got shape {table.shape}")
    top, left = table.shape[0] // 2, table.shape[1] // 2

    @jax.jit
    def blurred(x):
        padded = jnp.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), mode="reflect")
        channels = x.shape[-1]
        weights = jnp.tile(jnp.asarray(table, x.dtype)[:, :, None, None], (1, 1, 1, channels))
        return jax.lax.conv_general_dilated(
            padded,
            weights,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
            precision="highest",
        )

    return blurred


def motion_kernel(length: int, *, angle: float = 0.0) -> np.ndarray:
    """The kernel of a camera that moves along a line.

    Args:
      length: in pixels, odd: the size of the kernel.
      angle: of the line, in degrees from the horizontal, counter-clockwise.

    Returns:
      [length, length], which sums to 1: each point of the line shared by its nearest four pixels.

    Raises:
      ValueError: a length that is not odd and positive.
    """
    if length < 1 or length % 2 == 0:
        raise ValueError(f"length must be odd and positive, got {length}")
    kernel = np.zeros((length + 1, length + 1))
    along = np.linspace(-1.0, 1.0, 16 * length + 1) * (length // 2)
    rows = length // 2 - along * math.sin(math.radians(angle))
    columns = length // 2 + along * math.cos(math.radians(angle))
    # Exact where they are whole, so that no weight falls outside.
    rows, columns = np.round(rows, 9), np.round(columns, 9)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
            np.add.at(kernel, (top + down, left + right), share)
    return kernel[:length, :length] / kernel.sum()


def fourier_mask(keep: ArrayLike) -> Operator:
    """Some frequencies of an image: magnetic resonance, compressed sensing.

    Args:
      keep: booleans [H, W]: whether a frequency is known, the zero frequency first (`fft2`).

    Returns:
      x [B, H, W, C] -> [B, k, C, 2], real and imaginary parts of the orthonormal transform.

    Raises:
      ValueError: nothing is known, or no booleans [H, W].
    """
    known = np.asarray(keep)
    if known.dtype != bool or known.ndim != 2 or not known.any():
        raise ValueError(
            f"keep must be booleans [H, W] with some True, got {known.dtype} {known.shape}"
        )
    rows, columns = np.nonzero(known)

    @jax.jit
    def measured(x):
        spectrum = jnp.fft.fft2(x, axes=(1, 2), norm="ortho")[:, rows, columns]
        return jnp.stack([spectrum.real, spectrum.imag], axis=-1)

    return measured


def phase_retrieval(pad: int) -> Operator:
    """The modulus of the Fourier transform of a padded image: not linear.

    Args:
      pad: zeros on each side, in pixels; DPS pads 256 pixels by 64, oversampling by 2.

    Returns:
      x [B, H, W, C] -> [B, H + 2 pad, W + 2 pad, C]: of the centred orthonormal transform.

    Raises:
      ValueError: a negative pad.
    """
    if pad < 0:
        raise ValueError(f"pad must not be negative, got {pad}")

    @jax.jit
    def modulus(x):
        padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        moved = jnp.fft.ifftshift(padded, axes=(1, 2))
        spectrum = jnp.fft.fft2(moved, axes=(1, 2), norm="ortho")
        return jnp.abs(jnp.fft.fftshift(spectrum, axes=(1, 2)))

    return modulus

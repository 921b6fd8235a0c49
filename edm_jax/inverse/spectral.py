"""Linear operators that know their singular values: they invert exactly.

They are what DDRM and DDNM+ ask for; the other methods use them where they are given one.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edm_jax import checks
from edm_jax.inverse.operators import Map


@dataclasses.dataclass(frozen=True, eq=False)  # compared by identity, so that it can be jitted
class Spectral:
    """A linear operator by its singular values, A = U S V^T.

    Coordinates are those of V: an array as large as the image, with the singular value of each. A
    value of 0 is a coordinate that the measurement does not see.

    Attributes:
      shape: of one image.
      values: singular values, float64, of the coordinates' shape; not negative.
      from_image: x [B, ...] -> V^T x.
      to_image: coordinates -> x, the inverse.
      from_measurement: y [B, ...] -> U^T y, in the same coordinates; 0 where there is none.
      to_measurement: coordinates -> y.
    """

    shape: tuple[int, ...]
    values: np.ndarray
    from_image: Map
    to_image: Map
    from_measurement: Map
    to_measurement: Map

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.shape[1:] != self.shape:
            raise ValueError(f"x must be a batch of images {self.shape}, got {x.shape}")
        return self.to_measurement(jnp.asarray(self.values, x.dtype) * self.from_image(x))


def mask(keep: ArrayLike) -> Spectral:
    """The known elements of an image: inpainting.

    >>> mask([True, False, True])(jnp.array([[1.0, 2.0, 3.0]])).tolist()
    [[1.0, 3.0]]

    Args:
      keep: booleans of one image's shape: whether an element is known.

    Returns:
      x [B, ...] -> [B, k], the k known elements in the order of the image.

    Raises:
      ValueError: nothing is known, or no booleans.
    """
    known = np.asarray(keep)
    if known.dtype != bool or not known.any():
        raise ValueError(f"keep must be booleans with some True, got {known.dtype} {known.shape}")
    places = np.flatnonzero(known)
    flat = lambda x: x.reshape(len(x), -1)

    def scatter(y):
        nothing = jnp.zeros((len(y), known.size), y.dtype)
        return nothing.at[:, places].set(y).reshape(-1, *known.shape)

    same = lambda x: x
    values = known.astype(np.float64)
    return Spectral(known.shape, values, same, same, scatter, lambda c: flat(c)[:, places])


def separable(shape: Sequence[int], *matrices: ArrayLike | None) -> Spectral:
    """One matrix for each axis of an image; a flat image and one matrix are any linear operator.

        A = M_1 (x) M_2 (x) ...,   whose singular values are the products of theirs

    Args:
      shape: [n_1, n_2, ...] of one image.
      *matrices: [m_i, n_i] for each axis, or None for the identity.

    Returns:
      x [B, n_1, n_2, ...] -> [B, m_1, m_2, ...].

    Raises:
      ValueError: matrices that do not fit the shape.
    """
    shape = tuple(int(n) for n in shape)
    sizes = [n if m is None else np.shape(m)[-1] if np.ndim(m) == 2 else None
             for m, n in zip(matrices, shape)]  # fmt: skip
    if len(matrices) != len(shape) or sizes != list(shape):
        got = [None if m is None else np.shape(m) for m in matrices]
        raise ValueError(f"matrices must be one [m, n] for each axis of {shape}, got {got}")
    lefts: list[np.ndarray | None] = []
    rights: list[np.ndarray | None] = []
    values = np.ones(())
    for matrix, n in zip(matrices, shape):
        if matrix is None:
            lefts.append(None)
            rights.append(None)
            values = np.multiply.outer(values, np.ones(n))
            continue
        u, s, vt = np.linalg.svd(np.asarray(matrix, np.float64))
        count = len(s)
        s = np.where(s > 1e-12 * s[0], s, 0.0)
        # U^T y in the coordinates of V: columns of U in the first places, zeros after them.
        left = np.zeros((n, len(u)))
        left[:count] = u[:, :count].T
        lefts.append(left)
        rights.append(vt)
        values = np.multiply.outer(values, np.concatenate([s, np.zeros(n - count)]))
    transposed = lambda parts: [None if part is None else part.T for part in parts]
    return Spectral(
        shape,
        values,
        from_image=lambda x: _along(rights, x),
        to_image=lambda c: _along(transposed(rights), c),
        from_measurement=lambda y: _along(lefts, y),
        to_measurement=lambda c: _along(transposed(lefts), c),
    )


def _along(matrices: Sequence[np.ndarray | None], x: jax.Array) -> jax.Array:
    """Applies a matrix to each axis after the batch, in full precision."""
    return _products([None if m is None else np.asarray(m, x.dtype) for m in matrices], x)


@jax.jit
def _products(matrices: Sequence[jax.Array | None], x: jax.Array) -> jax.Array:
    for axis, matrix in enumerate(matrices, start=1):
        if matrix is not None:
            moved = jnp.tensordot(x, matrix, axes=(axis, 1), precision="highest")
            x = jnp.moveaxis(moved, -1, axis)
    return x


def from_matrix(matrix: ArrayLike, shape: Sequence[int]) -> Spectral:
    """Any linear operator, from its matrix.

    Args:
      matrix: [m, n] over the elements of an image.
      shape: of one image, n elements.

    Returns:
      x [B, *shape] -> [B, m].

    Raises:
      ValueError: a matrix that does not fit the shape.
    """
    shape = tuple(shape)
    flat = separable((math.prod(shape),), matrix)
    return dataclasses.replace(
        flat,
        shape=shape,
        from_image=lambda x: flat.from_image(x.reshape(len(x), -1)),
        to_image=lambda c: flat.to_image(c).reshape(-1, *shape),
    )


def box_downsample(shape: Sequence[int], factor: int) -> Spectral:
    """Means of factor x factor pixels: super-resolution in its simplest form.

    Args:
      shape: [H, W, C].
      factor: divides H and W.

    Returns:
      x [B, H, W, C] -> [B, H / factor, W / factor, C].

    Raises:
      ValueError: a factor that does not divide.
    """
    height, width = _divided(shape, factor)
    means = lambda n: np.kron(np.eye(n), np.full((1, factor), 1.0 / factor))
    return separable(shape, means(height), means(width), None)


def bicubic_downsample(shape: Sequence[int], factor: int) -> Spectral:
    """Antialiased bicubic down-sampling (a = -1/2): super-resolution as in DPS and DDRM.

    The kernel is stretched by the factor, borders are mirrored (the edge repeated), rows sum to 1.

    Args:
      shape: [H, W, C].
      factor: divides H and W.

    Returns:
      x [B, H, W, C] -> [B, H / factor, W / factor, C].

    Raises:
      ValueError: a factor that does not divide.
    """
    height, width = _divided(shape, factor)
    return separable(shape, _bicubic(height, factor), _bicubic(width, factor), None)


def _divided(shape: Sequence[int], factor: int) -> tuple[int, int]:
    if len(shape) != 3 or factor < 1 or shape[0] % factor or shape[1] % factor:
        raise ValueError(f"factor must divide the height and width of {tuple(shape)}, got {factor}")
    return shape[0] // factor, shape[1] // factor


def _bicubic(size: int, factor: int) -> np.ndarray:
    """[size, size * factor] weights of Keys' cubic, stretched by the factor."""
    matrix, width = np.zeros((size, size * factor)), size * factor
    for i in range(size):
        centre = (i + 0.5) * factor - 0.5
        reach = np.arange(math.floor(centre - 2 * factor), math.ceil(centre + 2 * factor) + 1)
        t = np.abs(reach - centre) / factor
        near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weights = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
        place = reach % (2 * width)  # mirrored, so that the edge pixel is there twice
        place = np.minimum(place, 2 * width - 1 - place)
        np.add.at(matrix[i], place, weights / weights.sum())
    return matrix


def gaussian_blur(shape: Sequence[int], std: float) -> Spectral:
    """Blur by a Gaussian cut at 4 deviations, with reflected borders (the edge not repeated).

    Args:
      shape: [H, W, C].
      std: deviation in pixels, positive. DPS: 3.

    Returns:
      x [B, H, W, C] -> the same shape.

    Raises:
      ValueError: a deviation not positive, another number of axes.
    """
    checks.check_positive(std=std)
    if len(shape) != 3:
        raise ValueError(f"shape must be [H, W, C], got {tuple(shape)}")
    reach = np.arange(-math.floor(4 * std + 0.5), math.floor(4 * std + 0.5) + 1)
    kernel = np.exp(-0.5 * (reach / std) ** 2)
    kernel /= kernel.sum()

    def matrix(n):
        blur = np.zeros((n, n))
        period = max(2 * (n - 1), 1)
        for i in range(n):
            place = np.abs((i + reach + n - 1) % period - (n - 1))
            np.add.at(blur[i], place, kernel)
        return blur

    return separable(shape, matrix(shape[0]), matrix(shape[1]), None)


def gray(shape: Sequence[int], *, weights: Sequence[float] = (1 / 3, 1 / 3, 1 / 3)) -> Spectral:
    """A weighted mean of the channels: colourisation.

    Args:
      shape: [H, W, C].
      weights: [C]; DDNM and DDRM take the mean.

    Returns:
      x [B, H, W, C] -> [B, H, W, 1].

    Raises:
      ValueError: weights that are not one for each channel.
    """
    return separable(shape, None, None, np.asarray(weights, np.float64)[None])

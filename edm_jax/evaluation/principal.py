"""Principal components of pixels: features that are fitted on the data which images are compared
with.
"""

import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.evaluation.statistics import Statistics, check_features

COUNT = 32  # components, unless another number is asked for
WIDEST = 64 * 64 * 3  # pixels, whose covariance has as many rows and columns


class Components(NamedTuple):
    """Where features of pixels come from.

    Attributes:
      mean: float32 [d] of the data's pixels, in [0, 1].
      axes: float32 [d, k] orthonormal, of the largest variance first.
    """

    mean: np.ndarray
    axes: np.ndarray

    @property
    def sha256(self) -> str:
        """The hash of both arrays, in hexadecimal digits."""
        found = hashlib.sha256(repr(self.axes.shape).encode())
        for array in self:
            found.update(np.ascontiguousarray(array, "<f4").data)
        return found.hexdigest()


def fit(pixels: ArrayLike, *, count: int = COUNT) -> Components:
    """Finds the directions in which data vary most.

    Eigenvectors of the covariance, in float64. Each points to where its largest entry is positive,
    so the same data give the same features.

    Args:
      pixels: [n, d] of the data, in [0, 1]: features by `features.pixels`.
      count: how many directions.

    Returns:
      The components.

    Raises:
      ValueError: more directions than pixels, or too many pixels for a covariance.
    """
    rows = check_features(pixels, name="pixels")
    width = rows.shape[1]
    if width > WIDEST:
        raise ValueError(
            f"pca must be of images of at most {WIDEST} numbers, whose covariance is held in "
            f"memory, got {width}"
        )
    checks.between("components", count, 1, width)
    found = Statistics.of(rows)
    vectors = np.linalg.eigh(found.covariance).eigenvectors[:, ::-1][:, :count]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(count)]
    axes = vectors * np.sign(largest)
    return Components(found.mean.astype(np.float32), axes.astype(np.float32))


def features(params: Components, images: jax.Array) -> jax.Array:
    """Images along the directions of a fit: (x / 255 - mean) @ axes.

    Args:
      params: by `fit`.
      images: uint8 [B, H, W, C] of the size of the data.

    Returns:
      float32 [B, k].

    Raises:
      ValueError: images of another size.
    """
    width, _ = params.axes.shape
    rows = images.reshape(len(images), -1).astype(jnp.float32) / 255
    if rows.shape[1] != width:
        raise ValueError(
            f"images must have {width} numbers, as those that pca is fitted on, got "
            f"{list(images.shape[1:])}"
        )
    return jnp.matmul(rows - params.mean, params.axes, precision=jax.lax.Precision.HIGHEST)

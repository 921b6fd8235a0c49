"""A measured posterior variance as a file: an .npz of its two arrays, `sigma` and `value`."""

import io
import os
import zipfile
import zlib

import numpy as np

from edm_jax.runtime import files
from edm_jax.samplers.analytic import PosteriorVariance

MAGIC = b"PK\x03\x04"


def save(variance: PosteriorVariance, path: str | os.PathLike) -> None:
    """Writes an .npz file, whole or not at all.

    Args:
      variance: what `samplers.analytic.estimate` measured.
      path: the file; one that exists is replaced. Its folder must exist.

    Raises:
      OSError: the path cannot be written.
    """
    with files.whole(path) as file:
        np.savez(file, sigma=variance.sigma, value=variance.value)


def load(path: str | os.PathLike) -> PosteriorVariance:
    """Reads what `save` wrote.

    Args:
      path: the file.

    Returns:
      The posterior variance, as it was measured.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is something else.
    """
    content = files.located(path).read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError(f"{path} must be an .npz file of a posterior variance, got another kind")
    try:
        with np.load(io.BytesIO(content)) as arrays:
            if not {"sigma", "value"} <= set(arrays.files):
                raise ValueError(f"{path} must hold sigma and value, got {arrays.files}")
            sigma, value = (np.asarray(arrays[name], np.float64) for name in ("sigma", "value"))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} must be a whole .npz file, got a damaged one: {error}") from None
    if sigma.ndim != 1 or not sigma.size or sigma.shape != value.shape:
        raise ValueError(
            f"{path} must hold sigma and value of one shape [M], got {sigma.shape}, {value.shape}"
        )
    if not ((sigma > 0).all() and (np.diff(sigma) < 0).all() and np.isfinite(value).all()):
        raise ValueError(
            f"{path} must hold descending positive levels and finite values, got others"
        )
    return PosteriorVariance(sigma, value)

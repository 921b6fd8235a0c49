"""Mean and covariance of features, in float64 and in one pass, merged from any parts."""

import functools
import os
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.runtime import files
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official import numpy_records
from edm_jax.weights.official.pickle_records import parse

ROWS = 1024  # at once
# What the statistics of each kind of features are called in EDM2's files.
EDM2 = {"inception": "fid", "dinov2": "fd_dinov2"}


class Statistics(NamedTuple):
    """What a Fréchet distance needs of a set of features.

    >>> Statistics.of([[0.0], [2.0]])
    Statistics(mean=array([1.]), covariance=array([[2.]]), num=2)

    Attributes:
      mean: float64 [d].
      covariance: float64 [d, d], divided by num - 1.
      num: how many features there were; None where a file does not say.
    """

    mean: np.ndarray
    covariance: np.ndarray
    num: int | None = None

    @classmethod
    def of(cls, features: ArrayLike) -> "Statistics":
        """Computes them of features, in blocks of rows: the same features give the same bits.

        Args:
          features: [n, d], n at least 2; read block by block, so it may be a mapped file.

        Returns:
          Their statistics.

        Raises:
          ValueError: another shape, fewer than two rows, NaN or infinity.
        """
        rows = check_features(features)
        if len(rows) < 2:
            raise ValueError(f"features must have at least 2 rows, got {len(rows)}")
        blocks = (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))
        return functools.reduce(cls.merge, map(_of_block, blocks))

    def merge(self, other: "Statistics") -> "Statistics":
        """The statistics of both sets together (Chan, Golub, LeVeque 1983, eq. 2.1).

        Args:
          other: of other features, of the same width.

        Returns:
          Those of all.

        Raises:
          ValueError: a count that is not known, or another width.
        """
        if self.num is None or other.num is None:
            raise ValueError("num must be known of both statistics to be merged, got None")
        check_widths(self, other)
        count = self.num + other.num
        step = other.mean - self.mean
        scatter = (self.num - 1) * self.covariance + (other.num - 1) * other.covariance
        scatter += np.outer(step, step) * (self.num * other.num / count)
        mean = self.mean + step * (other.num / count)
        return Statistics(mean, scatter / (count - 1), count)

    @property
    def rank(self) -> int:
        """How many directions the features vary in, to rounding; d where nothing is lacking."""
        return factor(self.covariance).shape[1]


def _of_block(rows: np.ndarray) -> Statistics:
    rows = rows.astype(np.float64)
    mean = rows.mean(0)
    centred = rows - mean
    return Statistics(mean, centred.T @ centred / max(1, len(rows) - 1), len(rows))


def factor(covariance: np.ndarray) -> np.ndarray:
    """F with F Fᵀ = covariance, without columns for eigenvalues that are rounding alone.

    Args:
      covariance: symmetric [d, d]; what is not symmetric of it is left out.

    Returns:
      [d, rank]; an eigenvalue counts above d ε times the largest, where ε = 2.2e-16.
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


def check_features(features: ArrayLike, *, name: str = "features") -> np.ndarray:
    """Features [n, d] as an array; raises ValueError for another shape, NaN or infinity."""
    rows = np.asarray(features)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"{name} must have shape [n, d], got {rows.shape}")
    for start in range(0, len(rows), ROWS):
        if not np.isfinite(rows[start : start + ROWS]).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    return rows


def check_widths(a: Statistics, b: Statistics) -> None:
    """Raises ValueError unless both are of features of one width."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"both statistics must be of features of one width, got {len(a.mean)} and {len(b.mean)}"
        )


def load_statistics(path: str | os.PathLike, *, features: str = "inception") -> Statistics:
    """Reads a reference file in the field's layout, `mu` [d] and `sigma` [d, d].

    Args:
      path: an .npz, of ours, EDM's or ADM's, or a .pkl of EDM2's, in which nothing is executed.
      features: which statistics to take of EDM2's, "inception" or "dinov2".

    Returns:
      The statistics; how many images they are of, where the file says so.

    Raises:
      ValueError: no such arrays in it, or of other shapes, or NaN or infinity.
      OSError: it cannot be read.
    """
    with files.located(path).open("rb") as file:
        return read_statistics(file, name=os.fspath(path), features=features)


def read_statistics(file: BinaryIO, *, name: str, features: str = "inception") -> Statistics:
    """Reads an open reference file; `load_statistics` says of which kind.

    Args:
      file: the file.
      name: what messages call it.
      features: which statistics to take of EDM2's.

    Raises:
      ValueError: it is none.
    """
    arrays = read_arrays(file, ("mu", "sigma", "count"), name=name, features=features)
    mean, covariance = (arrays.get(part, np.zeros(())) for part in ("mu", "sigma"))
    width = mean.size
    if mean.shape != (width,) or covariance.shape != (width, width) or not width:
        raise ValueError(
            f"{name}: must hold mu [d] and sigma [d, d], got the shapes "
            f"{mean.shape} and {covariance.shape}"
        )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{name}: mu and sigma must be finite, got NaN or infinity")
    return Statistics(mean, covariance, int(arrays["count"]) if "count" in arrays else None)


def read_arrays(
    file: BinaryIO, parts: Sequence[str], *, name: str, features: str = "inception"
) -> dict[str, np.ndarray]:
    """Reads those arrays of an open reference file that are there, and executes nothing.

    Args:
      file: the file.
      parts: the arrays to read.
      name: what messages call the file.
      features: which statistics to take of EDM2's; "mu", "sigma" and "count" are there.

    Raises:
      ValueError: it is no .npz and no .pkl of EDM2's, or is damaged.
    """
    head = file.read(1)
    file.seek(0)
    if head == b"\x80":
        with naming(name):
            found = _of_edm2(file.read(), features)
        return {part: value for part, value in found.items() if part in parts}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {part: arrays[part] for part in parts if part in arrays.files}
    except Exception as error:  # damaged zips fail in many ways
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{name}: is no readable .npz ({words})") from None


def _of_edm2(content: bytes, features: str) -> dict[str, np.ndarray]:
    """What a pickle {num_images, fid: {mu, sigma}, fd_dinov2: …} says of some features."""
    whole = parse(content, numpy_records.GLOBALS).value
    part = EDM2.get(features)
    found = whole.get(part) if isinstance(whole, dict) else None
    if not isinstance(found, dict) or not {"mu", "sigma"} <= set(found):
        raise WeightsError(
            f"must hold mu and sigma of {features} features, {part or 'which EDM2 has none of'}, "
            "got a pickle without"
        )
    arrays = {name: numpy_records.array(found[name]) for name in ("mu", "sigma")}
    count = whole.get("num_images")
    return arrays | ({"count": np.array(count)} if type(count) is int else {})

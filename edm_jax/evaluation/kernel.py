"""Distances by a kernel: KID, of any features, and CMMD, of embeddings by CLIP."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.evaluation.statistics import check_features


class Estimate(NamedTuple):
    """A mean over parts.

    Attributes:
      mean: of the parts' values.
      std: their standard deviation, that of a population.
    """

    mean: float
    std: float


def kernel_distance(
    fake: ArrayLike, real: ArrayLike, *, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> Estimate:
    """The kernel distance of subsets (Bińkowski et al. 2018): KID, where features are Inception's.

    Args:
      fake: [n, d] features of generated images.
      real: [m, d] of data.
      subsets: how many pairs of subsets.
      size: of each, drawn without replacement.
      seed: of the draws, made in the order of torch-fidelity (whose seed is 2020).

    Returns:
      The mean and the standard deviation over the subsets.

    Raises:
      ValueError: another width, NaN or infinity, or a size that is not in [2, min(n, m)].
    """
    a, b = _both(fake, real)
    if not 2 <= size <= min(len(a), len(b)):
        raise ValueError(
            f"size must lie in [2, {min(len(a), len(b))}], the smaller set, got {size}"
        )
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, got {subsets}")
    draws = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x = a[draws.choice(len(a), size, replace=False)]
        y = b[draws.choice(len(b), size, replace=False)]
        values.append(squared_mmd(x, y))
    return Estimate(float(np.mean(values)), float(np.std(values)))


def squared_mmd(x: ArrayLike, y: ArrayLike) -> float:
    """The unbiased squared maximum mean discrepancy under k(x, y) = (x·y / d + 1)³.

    >>> squared_mmd([[0.0], [0.0]], [[1.0], [1.0]])
    7.0

    Args:
      x: [m, d], m at least 2.
      y: [n, d], n at least 2.

    Returns:
      The estimate; below 0 where two sets are alike.

    Raises:
      ValueError: other shapes, NaN or infinity.
    """
    a, b = (rows.astype(np.float64) for rows in _both(x, y))
    if min(len(a), len(b)) < 2:
        raise ValueError(f"x and y must have at least 2 rows, got {len(a)} and {len(b)}")
    within = 0.0
    for rows in (a, b):
        kernel = _cubic(rows, rows)
        within += (kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1))
    return float(within - 2 * _cubic(a, b).mean())


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def cmmd(x: ArrayLike, y: ArrayLike, *, width: float = 10.0, scale: float = 1000.0) -> float:
    """CMMD (Jayasumana et al. 2024): a Gaussian kernel on embeddings of norm 1, in float64.

        scale (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)),    k = exp(-|x - y|² / (2 width²))

    Args:
      x: [m, d] embeddings, by CLIP in the paper; any norm.
      y: [n, d].
      width: of the kernel.
      scale: the factor.

    Returns:
      The distance; the diagonals are in the means, so it is at least 0 to rounding.

    Raises:
      ValueError: other shapes, NaN or infinity.
    """
    a, b = (rows.astype(np.float64) for rows in _both(x, y))
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
    mean = lambda p, q: float(np.exp((p @ q.T - 1) / width**2).mean())
    return scale * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


def _both(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = check_features(x), check_features(y)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both sets must have features of one width, got {a.shape} and {b.shape}")
    return a, b

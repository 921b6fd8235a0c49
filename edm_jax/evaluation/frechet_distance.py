"""The Fréchet distance of two sets of features, and its limit for infinitely many images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.evaluation.statistics import Statistics, check_features, check_widths, factor


def frechet(a: Statistics, b: Statistics) -> float:
    """The squared Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6).

        d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 ‖F₁ᵀ F₂‖_*,    Σ = F Fᵀ

    The sum of singular values ‖·‖_* is tr (Σ₁ Σ₂)^½, with rounding of ε where a matrix root of a
    singular product has √ε. So it is exact of fewer images than features too, and never NaN.

    >>> a = Statistics.of([[0.0], [2.0]])
    >>> round(frechet(a, a._replace(mean=a.mean + 3)), 12)
    9.0

    Args:
      a: statistics of one set of features.
      b: of the other; either order.

    Returns:
      The distance, FID where the features are the Inception's. Not clipped at 0: equal sets
      differ by rounding, of either sign.

    Raises:
      ValueError: features of another width.
    """
    check_widths(a, b)
    return _distance(a, factor(a.covariance), b, factor(b.covariance))


def _distance(a: Statistics, factor_a: np.ndarray, b: Statistics, factor_b: np.ndarray) -> float:
    step = a.mean - b.mean
    root = np.linalg.svd(factor_a.T @ factor_b, compute_uv=False).sum()
    return float(step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root)


class Limit(NamedTuple):
    """A line through distances by 1/n.

    Attributes:
      value: at infinitely many images.
      slope: by 1/n.
    """

    value: float
    slope: float


def frechet_infinity(
    features: ArrayLike,
    reference: Statistics,
    *,
    smallest: int = 5000,
    sizes: int = 15,
    seed: int = 0,
) -> Limit:
    """The distance at infinitely many images, FID∞ (Chong and Forsyth 2020).

    The distance is biased by about 1/n. It is measured on subsets of evenly spaced sizes, each
    drawn anew, and a line through it by 1/n is read at 0.

    Args:
      features: [n, d] of generated images.
      reference: statistics of the data.
      smallest: size of the smallest subset; the largest has all.
      sizes: how many subsets.
      seed: of the draws.

    Returns:
      The limit.

    Raises:
      ValueError: sizes below 2, or a smallest one that is not in [2, n).
    """
    rows = check_features(features)
    if sizes < 2:
        raise ValueError(f"sizes must be at least 2, got {sizes}")
    if not 2 <= smallest < len(rows):
        raise ValueError(f"smallest must lie in [2, {len(rows)}), below n, got {smallest}")
    counts = np.linspace(smallest, len(rows), sizes).astype(int)
    rng, root = np.random.default_rng(seed), factor(reference.covariance)
    distances = []
    for count in counts:
        part = Statistics.of(rows[np.sort(rng.permutation(len(rows))[:count])])
        check_widths(part, reference)
        distances.append(_distance(part, factor(part.covariance), reference, root))
    return extrapolated(counts, distances)


def extrapolated(counts: Sequence[int] | np.ndarray, distances: ArrayLike) -> Limit:
    """The line through distances by 1/n, in the sense of least squares.

    >>> round(extrapolated([1, 2, 4], [3.0, 2.0, 1.5]).value, 12)
    1.0

    Args:
      counts: [m] numbers of images n.
      distances: [m].

    Returns:
      Its value at 1/n = 0, and its slope.
    """
    x, y = 1 / np.asarray(counts, np.float64), np.asarray(distances, np.float64)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return Limit(float(y.mean()) - slope * float(x.mean()), slope)

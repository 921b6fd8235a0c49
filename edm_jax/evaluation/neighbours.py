"""Precision and recall, density and coverage: sets of features compared by neighbourhoods."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.evaluation.statistics import ROWS, check_features


class PrecisionRecall(NamedTuple):
    """Shares of points that lie in the other set's neighbourhoods.

    Attributes:
      precision: of generated points that lie near the data: how good images are.
      recall: of the data that lie near generated points: how much of it is drawn.
      density: in how many neighbourhoods of data a generated point lies, by k; may exceed 1.
      coverage: of the data that have a generated point in their own neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: ArrayLike, fake: ArrayLike, *, k: int = 3) -> PrecisionRecall:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A point's neighbourhood reaches to its k-th neighbour in its own set, itself not counted.
    Precision and recall count a point on its rim, as their paper does; density and coverage do
    not, as their authors' code does.

    >>> precision_recall([[0.0], [1.0], [2.0]], [[0.0], [1.0], [9.0]], k=1)
    PrecisionRecall(precision=0.6666666666666666, recall=1.0, density=0.6666666666666666, \
coverage=0.6666666666666666)

    Args:
      real: [m, d] features of data.
      fake: [n, d] features of generated images.
      k: which neighbour; below m and n.

    Returns:
      The four shares.

    Raises:
      ValueError: another width, NaN or infinity, or k out of range.
    """
    a, b = (check_features(x, name=name) for x, name in ((real, "real"), (fake, "fake")))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"real and fake must have one width, got {a.shape} and {b.shape}")
    if not 1 <= k < min(len(a), len(b)):
        raise ValueError(f"k must lie in [1, {min(len(a), len(b))}), below both sets, got {k}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    radii_a, radii_b = radii(a, k=k), radii(b, k=k)
    precise, inside = 0, 0
    recalled, nearest = np.zeros(len(a), bool), np.full(len(a), np.inf)
    for start in range(0, len(b), ROWS):
        part = slice(start, start + ROWS)
        distance = _squared(b[part], a)
        precise += int((distance <= radii_a).any(1).sum())
        inside += int((distance < radii_a).sum())
        recalled |= (distance <= radii_b[part, None]).any(0)
        nearest = np.minimum(nearest, distance.min(0))
    return PrecisionRecall(
        precise / len(b),
        float(recalled.mean()),
        inside / (k * len(b)),
        float((nearest < radii_a).mean()),
    )


def radii(points: np.ndarray, *, k: int) -> np.ndarray:
    """Squared distances of points [n, d] to their k-th neighbours, themselves not counted: [n]."""
    found = np.empty(len(points))
    for start in range(0, len(points), ROWS):
        distance = _squared(points[start : start + ROWS], points)
        rows = np.arange(len(distance))
        distance[rows, start + rows] = np.inf
        found[start : start + ROWS] = np.partition(distance, k - 1)[:, k - 1]
    return found


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    norms = (x * x).sum(1)[:, None] + (y * y).sum(1)
    return np.maximum(norms - 2 * x @ y.T, 0.0)

"""The inception score: how sure a classifier is of each image, and how different images are."""

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.evaluation.kernel import Estimate
from edm_jax.evaluation.statistics import check_features


def inception_score(logits: ArrayLike, *, splits: int = 10) -> Estimate:
    """The inception score (Salimans et al. 2016): exp of the mean KL(p(y|x) ‖ p(y)), by parts.

    >>> inception_score(np.eye(4) * 1000, splits=1).mean
    4.0

    Args:
      logits: [n, classes], without the last bias where they are the Inception's. Images in the
        order in which they were made; the parts follow it.
      splits: how many parts of equal size, to one image.

    Returns:
      The mean and the standard deviation of the parts' scores.

    Raises:
      ValueError: another shape, NaN or infinity, or more parts than images.
    """
    rows = check_features(logits, name="logits")
    count = len(rows)
    if not 1 <= splits <= count:
        raise ValueError(f"splits must lie in [1, {count}], the number of images, got {splits}")
    bounds = [i * count // splits for i in range(splits + 1)]
    scores = [_score(rows[low:high]) for low, high in zip(bounds, bounds[1:])]
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: np.ndarray) -> float:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    p = np.exp(log_p)
    mean = p.mean(0)
    # A class that no image has adds nothing; its logarithm is never asked for.
    entropy = -(mean[mean > 0] * np.log(mean[mean > 0])).sum()
    return float(np.exp((p * log_p).sum(1).mean() + entropy))

"""Noise levels moved freely: Gauss-Newton on the distance to the flow's end.

Levels are written as shares of the way from the highest to the lowest in log sigma,

    log(s_i / s_(i+1)) = softmax(v)_i log(s_0 / s_low),    i = 0 ... n - 1,

so that any v is a descending grid. The last share is the gap between the last level and s_low.
Derivatives are taken level by level all the same: a sampler that goes on from a level has been the
same before it, so a denoiser that keeps what it said is asked for half of the calls.
"""

from collections.abc import Callable

import numpy as np

LEAST_SHARE = 1e-3
# Of the differences for the derivative: the share of the nearer gap, in log sigma, that a level is
# moved by. Float32 denoisers are smooth at this scale.
STEP = 0.02
FURTHEST = 1.0  # that a share's logarithm moves at once
LEAST_GAIN = 5e-3  # of an iteration that is followed by another

# levels [n] -> what the samples miss the flow by, [B, d]; None where they make no grid.
Residuals = Callable[[np.ndarray], np.ndarray | None]


def to_shares(levels: np.ndarray, low: float) -> np.ndarray:
    """v `[n]` of positive descending levels `[n]`; a share of nothing becomes a small one.

    >>> np.exp(to_shares(np.array([8.0, 4.0]), 1.0)).round(3).tolist()
    [0.333, 0.667]

    Args:
      levels: `[n]`, none below `low`.
      low: the end of the last share.
    """
    gaps = -np.diff(np.log(np.append(levels, low))) / np.log(levels[0] / low)
    gaps = np.maximum(gaps, LEAST_SHARE)
    return np.log(gaps / gaps.sum())


def to_levels(shares: np.ndarray, high: float, low: float) -> np.ndarray:
    """The levels `[n]` of v `[n]`: the inverse of `to_shares`.

    Args:
      shares: v.
      high: the first level.
      low: the end of the last share.
    """
    gaps = np.exp(shares - shares.max())
    gaps *= np.log(high / low) / gaps.sum()
    return high * np.exp(-np.append(0.0, np.cumsum(gaps)[:-1]))


def mean_distance(residuals: np.ndarray | None) -> float:
    """The mean over samples of the root mean square of `[B, d]`; infinite where there are none."""
    if residuals is None or not np.isfinite(residuals).all():
        return float("inf")
    return float(np.sqrt((residuals**2).mean(axis=1)).mean())


def refine(
    residuals: Residuals, levels: np.ndarray, low: float, *, iterations: int = 4
) -> tuple[np.ndarray, float]:
    """Moves the levels of a grid so that the mean distance falls (Levenberg-Marquardt).

    In each iteration the residuals of a sample are divided by the root of their length, so that
    their squares sum to distances. Derivatives are differences: n - 1 calls of `residuals` an
    iteration, and a few more.

    Args:
      residuals: levels -> `[B, d]`.
      levels: to begin with, `[n]`; the first stays.
      low: the end of the last share; no level goes below it.
      iterations: at most so many.

    Returns:
      (the best levels, their `mean_distance`), never worse than the first.
    """
    high, shares = float(levels[0]), to_shares(levels, low)
    levels = to_levels(shares, high, low)
    now = residuals(levels)
    error, damping = mean_distance(now), 0.1
    for _ in range(iterations):
        if now is None or not 0.0 < error < np.inf or len(shares) < 2:
            break
        lengths = np.linalg.norm(now, axis=1, keepdims=True)
        weights = 1.0 / np.sqrt(np.maximum(lengths, 1e-3 * np.max(lengths)))
        jacobian = _derivatives(residuals, now, weights, levels, low) @ _of_shares(levels, low)
        square, slope = jacobian.T @ jacobian, jacobian.T @ (weights * now).ravel()
        if not np.isfinite(square).all() or not square.any():
            break
        for _ in range(4):
            # A little of the largest entry: to move all shares alike changes nothing.
            extra = damping * np.diag(square) + 1e-6 * np.max(np.diag(square))
            move = -np.linalg.solve(square + np.diag(extra), slope)
            move *= min(1.0, FURTHEST / np.max(np.abs(move)))
            moved = to_levels(shares + move, high, low)
            there = residuals(moved)
            if (found := mean_distance(there)) < error:
                break
            damping *= 6.0
        else:
            break
        gain = 1.0 - found / error
        shares, levels, now = shares + move, moved, there
        error, damping = found, damping / 4.0
        if gain < LEAST_GAIN:
            break
    return levels, error


def _derivatives(
    residuals: Residuals, now: np.ndarray, weights: np.ndarray, levels: np.ndarray, low: float
) -> np.ndarray:
    """`[B d, n - 1]`: how weighted residuals change with the log of each level but the first."""
    gaps = -np.diff(np.log(np.append(levels, low)))
    columns = []
    for i, step in enumerate(STEP * np.minimum(gaps[:-1], gaps[1:]), start=1):
        nearby = levels.copy()
        nearby[i] *= np.exp(-step)
        moved = residuals(nearby)
        change = np.zeros_like(now) if moved is None else (now - moved) / step
        columns.append((weights * change).ravel())
    return np.stack(columns, axis=1)


def _of_shares(levels: np.ndarray, low: float) -> np.ndarray:
    """`[n - 1, n]`: how the log of each level but the first changes with v."""
    way = np.log(levels[0] / low)
    gaps = -np.diff(np.log(np.append(levels, low))) / way
    before = np.tri(len(gaps))[:-1]
    return -way * gaps * (before - (before @ gaps)[:, None])

"""What every solver asks of its grid of noise levels, and of its scalar options."""

import math
from collections.abc import Callable

import numpy as np


def descending(sigmas, *, name: str = "sigmas", zero: bool = True) -> np.ndarray:
    """Checks a grid of noise levels.

    >>> descending([2, 1, 0]).tolist()
    [2.0, 1.0, 0.0]

    Args:
      sigmas: `[N + 1]`, strictly descending, positive; the last may be 0.
      name: what the message calls it.
      zero: whether the last may be 0.

    Returns:
      float64 `[N + 1]`.

    Raises:
      ValueError: anything else.
    """
    levels = np.asarray(sigmas, np.float64)
    if levels.ndim != 1 or levels.size < 2:
        raise ValueError(f"{name} must be a list of at least two levels, got shape {levels.shape}")
    if not np.isfinite(levels).all():
        raise ValueError(f"{name} must be finite, got {levels}")
    if not (np.diff(levels) < 0).all():
        raise ValueError(f"{name} must descend strictly, got {levels}")
    if levels[-1] < 0 or (levels[-1] == 0 and not zero):
        allowed = "positive or 0" if zero else "positive"
        raise ValueError(f"the last of {name} must be {allowed}, got {levels[-1]}")
    return levels


def rounded(sigmas: np.ndarray, round_sigma: Callable | None) -> np.ndarray:
    """Rounds positive levels to those a network knows; the final 0 stays."""
    if round_sigma is None:
        return sigmas
    levels = np.asarray(round_sigma(sigmas), np.float64)
    return np.where(sigmas > 0, levels, 0.0)


def between(name: str, value, low, high=math.inf, *, open_low: bool = False) -> float:
    """Checks that low <= value <= high (low < value if `open_low`), naming the argument."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not (low < number if open_low else low <= number) or not number <= high:
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} must lie in {bracket}{low}, {high}], got {value}")
    return number


def one_of(name: str, value, allowed):
    """Checks that value is one of `allowed`, naming the argument."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    return value


def difference_of_squares(high, low):
    """sqrt(high^2 - low^2) without the cancellation; 0 where high <= low."""
    return np.sqrt(np.maximum((high - low) * (high + low), 0.0))

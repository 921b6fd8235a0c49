"""How many levels a grid has, how they are spread, and how it ends."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from edm_jax.checks import check_positive, check_range

Final = Literal["zero", "sigma_min"]


def count_levels(num_steps: int, final: str) -> tuple[int, bool]:
    """The number of positive levels, and whether a zero follows them."""
    if not (isinstance(num_steps, (int, np.integer)) and num_steps >= 1):
        raise ValueError(f"num_steps must be a positive integer, got {num_steps!r}")
    if final not in ("zero", "sigma_min"):
        raise ValueError(f"final must be 'zero' or 'sigma_min', got {final!r}")
    return num_steps + (final == "sigma_min"), final == "zero"


def fractions(count: int) -> np.ndarray:
    """i / (count - 1), and 0 for a single level: one step starts at sigma_max."""
    return np.arange(count) / max(count - 1, 1)


def with_end(sigmas: np.ndarray, zero: bool) -> np.ndarray:
    """The levels, with a zero behind them or without."""
    return np.append(sigmas, 0.0) if zero else sigmas


def between(
    to: Callable[[Any], Any],
    back: Callable[[Any], Any],
    num_steps: int,
    sigma_min: float,
    sigma_max: float,
    final: Final,
    *,
    from_zero: bool = False,
) -> np.ndarray:
    """The grid uniform in to(sigma), whose inverse is `back`, from sigma_max to sigma_min.

    With `from_zero`, to(0) is a number, and a grid that ends at sigma_min may end at 0.
    """
    if from_zero and sigma_min == 0 and final == "sigma_min":
        check_positive(sigma_max=sigma_max)
    else:
        check_range(sigma_min, sigma_max)
    count, end = count_levels(num_steps, final)
    first, last = to(np.float64(sigma_max)), to(np.float64(sigma_min))
    return with_end(back(first + fractions(count) * (last - first)), end)

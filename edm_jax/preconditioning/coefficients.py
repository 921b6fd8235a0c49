"""Coefficients that several preconditioners share."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from edm_jax.schedules.functions import host_or_device, one


def rsqrt(xp: Any, x: Any) -> Any:
    """1 / sqrt(x). Spelled with a division, the compiler rewrites it in one program and not in
    another, and the same image comes out differently on one device and on two."""
    return 1.0 / np.sqrt(x) if xp is np else jax.lax.rsqrt(x)


def per_channel(sigma_data: float | Sequence[float]) -> float | tuple[float, ...]:
    """A sigma_data that is one number, or `[C]`, one for each channel, checked.

    Raises:
      ValueError: not positive and finite, or neither a number nor a list.
    """
    numbers = np.asarray(sigma_data, np.float64)
    if numbers.ndim > 1 or not numbers.size or not ((numbers > 0) & np.isfinite(numbers)).all():
        raise ValueError(
            f"sigma_data must be positive and finite, or [C] of such, got {sigma_data}"
        )
    return tuple(numbers.tolist()) if numbers.ndim else float(numbers)


def spread_over_channels(sigma_data: float | tuple[float, ...], xp: Any, sigma: Any) -> Any:
    """sigma_data as it meets levels of the precision of sigma: along the last axis."""
    return sigma_data if isinstance(sigma_data, float) else xp.asarray(sigma_data, sigma.dtype)


unit_c_in = host_or_device(lambda xp, s: rsqrt(xp, 1.0 + s**2))
EPSILON = (one, host_or_device(lambda xp, s: -s), unit_c_in)  # c_skip, c_out, c_in

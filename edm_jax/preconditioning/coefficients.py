"""Coefficients that several preconditioners share."""

from typing import Any

import jax
import numpy as np

from edm_jax.schedules.functions import host_or_device, one


def rsqrt(xp: Any, x: Any) -> Any:
    """1 / sqrt(x). Spelled with a division, the compiler rewrites it in one program and not in
    another, and the same image comes out differently on one device and on two."""
    return 1.0 / np.sqrt(x) if xp is np else jax.lax.rsqrt(x)


unit_c_in = host_or_device(lambda xp, s: rsqrt(xp, 1.0 + s**2))
EPSILON = (one, host_or_device(lambda xp, s: -s), unit_c_in)  # c_skip, c_out, c_in

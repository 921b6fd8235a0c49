"""Functions that serve numpy on the host and jax on the device, from one formula.

On the host they compute in float64, on the device in the dtype given: what comes in as a
`jax.Array` leaves as one. Formulas are written without cancellation (expm1, log1p, products
instead of differences), so that float32 is accurate to its rounding everywhere.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[[Any], Any]


def host_or_device(function: Callable[[Any, Any], Any]) -> Function:
    """Turns `function(xp, x)` into a function of x alone, on the host or on the device.

    Args:
      function: Receives the array library, numpy or jax.numpy, and the argument.

    Returns:
      x -> function(jnp, x) for a `jax.Array` in a floating dtype; else function(np, x) with x in
      float64, where a division by zero is infinity (sigma at the end of a schedule) in silence.
    """

    @functools.wraps(function)
    def call(x):
        if isinstance(x, jax.Array):
            return function(jnp, x if jnp.issubdtype(x.dtype, jnp.floating) else x + 0.0)
        with np.errstate(divide="ignore"):
            return function(np, np.asarray(x, dtype=np.float64)[()])

    return call


one = host_or_device(lambda xp, x: xp.ones_like(x))
zero = host_or_device(lambda xp, x: xp.zeros_like(x))
identity = host_or_device(lambda xp, x: x)

"""What every method asks of a denoiser and a measurement: the residual, and its way back to x."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks
from edm_jax.checks import Denoiser
from edm_jax.inverse import linear
from edm_jax.inverse.operators import Map, Operator
from edm_jax.inverse.spectral import Spectral


class Residual(NamedTuple):
    """r = y - A(D), and the derivatives that lead from it to an image.

    Attributes:
      denoised: D [B, ...].
      value: r [B, ...], of the measurement's shape.
      push: A, of the derivative at D where A is not linear.
      pull: A^T, of the same.
      invert: (noise, prior) -> A^T (noise I + prior A A^T)^-1 r.
    """

    denoised: jax.Array
    value: jax.Array
    push: Map
    pull: Map
    invert: Callable[[Any, Any], jax.Array]


def residual(
    denoised: jax.Array, operator: Operator, y: jax.Array, *, iterations: int = 30
) -> Residual:
    """Compares a denoised image with a measurement.

    Args:
      denoised: D [B, ...].
      operator: A.
      y: [B, ...], the measurement of each sample.
      iterations: of conjugate gradients in `invert`, where A is not `Spectral`.

    Returns:
      The residual and its derivatives.

    Raises:
      ValueError: a measurement of another shape than the operator's output.
    """
    y = check_measurement(operator, denoised, y)
    measured, push = jax.linearize(operator, denoised)
    transposed = jax.linear_transpose(push, denoised)
    pull = lambda v: transposed(v)[0]
    value = y - measured

    def invert(noise, prior):
        return linear.pull_back(operator, value, push, pull, noise, prior, iterations)

    return Residual(denoised, value, push, pull, invert)


def denoised_and_pull(denoise: Denoiser, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, Map]:
    """D at x, and v -> J^T v with J = dD / dx: a forward pass, and a backward pass a call."""
    denoised, vjp = jax.vjp(lambda x: jnp.asarray(denoise(x, sigma), x.dtype), x)
    return denoised, lambda v: vjp(v)[0]


def check_measurement(operator: Operator, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns a measurement in x's dtype.

    Args:
      operator: A.
      x: [B, ...] an image.
      y: [B, ...], the measurement.

    Raises:
      ValueError: another shape than the operator's output, or an output that is no array.
    """
    made = jax.eval_shape(operator, x)
    if not isinstance(made, jax.ShapeDtypeStruct):
        raise ValueError(f"operator must return one array, got {type(made).__name__}")
    if made.shape != jnp.shape(y):
        raise ValueError(f"y must have the shape of operator(x), {made.shape}, got {jnp.shape(y)}")
    return jnp.asarray(y, x.dtype)


def check_noise(sigma_y: Any, *, positive: bool = False) -> Any:
    """Returns the deviation of a measurement's noise, where its number is known not negative.

    Args:
      sigma_y: a number, or [B] of them.
      positive: whether 0 is refused too.

    Raises:
      ValueError: NaN, infinity, a negative deviation, more than one dimension.
    """
    if isinstance(sigma_y, jax.core.Tracer):
        return sigma_y
    known = np.asarray(sigma_y, np.float64)
    fine = known.ndim <= 1 and np.isfinite(known).all()
    if not fine or not ((known > 0) if positive else (known >= 0)).all():
        allowed = "positive" if positive else "not negative"
        raise ValueError(f"sigma_y must be finite and {allowed}, got {sigma_y}")
    return sigma_y


def check_iterations(iterations: int) -> int:
    """Returns a number of iterations that is a positive integer."""
    if not isinstance(iterations, (int, np.integer)) or iterations < 1:
        raise ValueError(f"iterations must be a positive integer, got {iterations!r}")
    return int(iterations)


def check_spectral(operator: Operator) -> Spectral:
    """Returns an operator that knows its singular values.

    Raises:
      ValueError: any other.
    """
    if not isinstance(operator, Spectral):
        raise ValueError(f"operator must be an inverse.Spectral, got {type(operator).__name__}")
    return operator


def check_prior(prior_variance: float) -> float:
    """Returns a variance of the data that is positive and finite."""
    checks.check_positive(prior_variance=prior_variance)
    return prior_variance

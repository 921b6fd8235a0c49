"""Exponential moving average of the parameters, with its half-life counted in images."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def decay(
    images: jax.Array, batch_size: int, halflife: float, rampup_ratio: float | None
) -> jax.Array:
    """One minus beta for a step: `beta = 0.5 ** (batch_size / min(halflife, ratio * images))`.

    The complement is returned because it keeps seven digits where beta itself keeps five.

    Args:
        images: [] images seen before this step.
        batch_size: images of this step.
        halflife: half-life of the average, in images.
        rampup_ratio: the half-life is at most this share of `images`; None turns the ramp off.

    Returns:
        [] float32, 1 - beta: 1 at the first step with a ramp, so that the average starts as a copy.
    """
    if rampup_ratio is not None:
        halflife = jnp.minimum(halflife, images * rampup_ratio)
    return -jnp.expm1(-jnp.log(2.0) * batch_size / jnp.maximum(halflife, 1e-8))


def update(average: Any, params: Any, one_minus_beta: jax.Array) -> Any:
    """`average + (1 - beta) * (params - average)`, leaf by leaf."""
    return optax.incremental_update(params, average, one_minus_beta)

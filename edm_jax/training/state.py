"""What changes from step to step: one immutable pytree."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from edm_jax.model import ModelConfig, init_params


@flax.struct.dataclass
class TrainState:
    """The state of a run. No key is kept: every draw is a function of (seed, step, example).

    Attributes:
        step: [] int32, optimizer steps taken.
        params: parameters of the network.
        ema: their moving average, which is what samples are drawn from.
        opt_state: optax's own state.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any


def create(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, with the average a copy of `params`."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy, not an alias: the state is donated to the step, and a buffer only once.
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
    )


def init(
    key: jax.Array, config: ModelConfig, optimizer: optax.GradientTransformation
) -> TrainState:
    """A fresh state; call it under jit, or `jax.eval_shape` for the abstract one."""
    return create(init_params(key, config), optimizer)

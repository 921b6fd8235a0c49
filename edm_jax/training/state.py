"""What changes from step to step: one immutable pytree."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from edm_jax.objectives import Objective, State
from edm_jax.training.optimizer import Optimizer


class TrainState(struct.PyTreeNode):
    """The state of a run. No key is kept: every draw is a function of (seed, step, example).

    Attributes:
      step: [] int32, optimizer steps taken.
      params: parameters of the network.
      ema: their moving average, which is what samples are drawn from.
      opt_state: optax's own state, of the pair of `params` and what the objective trains.
      averages: further moving averages, by name (`averages.shares`).
      objective: what the objective remembers.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    averages: dict[str, Any] = struct.field(default_factory=dict)
    objective: State = State()


def create(
    params: Any, objective: Objective, optimizer: Optimizer, *, averages: Iterable[str] = ()
) -> TrainState:
    """The state before the first step, with every average a copy of `params`.

    Call it under jit, so that all is made where it lives; or under `jax.eval_shape`.

    Args:
      params: the network's parameters.
      objective: what is to be learned.
      optimizer: what moves them.
      averages: names of further moving averages.
    """
    # Copies, not aliases: the state is donated to the step, and a buffer only once.
    copy = lambda: jax.tree.map(jnp.copy, params)
    memory = objective.init()
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=copy(),
        opt_state=optimizer.init((params, memory.trained)),
        averages={name: copy() for name in averages},
        objective=memory,
    )

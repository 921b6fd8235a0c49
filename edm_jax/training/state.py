"""What changes from step to step: one immutable pytree."""

from collections.abc import Iterable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from edm_jax.model import init_params
from edm_jax.networks.config import ModelConfig
from edm_jax.objectives import importance, uncertainty


@flax.struct.dataclass
class TrainState:
    """The state of a run. No key is kept: every draw is a function of (seed, step, example).

    Attributes:
      step: [] int32, optimizer steps taken.
      params: parameters of the network.
      ema: their moving average, which is what samples are drawn from.
      opt_state: optax's own state.
      averages: further moving averages, by name (`ema.shares`).
      uncertainty: weights of the learned uncertainty, or None.
      history: losses by level, for importance sampling, or None.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    averages: dict[str, Any] = flax.struct.field(default_factory=dict)
    uncertainty: jax.Array | None = None
    history: importance.History | None = None

    def trained(self) -> Any:
        """What the optimizer moves: the parameters, with those of the objective if it has any."""
        return self.params if self.uncertainty is None else (self.params, self.uncertainty)

    def with_trained(self, trained: Any) -> "TrainState":
        """The state with what `trained` returns replaced."""
        if self.uncertainty is None:
            return self.replace(params=trained)
        return self.replace(params=trained[0], uncertainty=trained[1])


def create(
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    averages: Iterable[str] = (),
    learn_uncertainty: bool = False,
    num_levels: int = 0,
) -> TrainState:
    """The state before the first step, with every average a copy of `params`.

    Args:
      params: the network's parameters.
      optimizer: an optax transformation.
      averages: names of further moving averages.
      learn_uncertainty: whether the loss learns its own weights.
      num_levels: noise levels that are importance-sampled; 0 for none.
    """
    # Copies, not aliases: the state is donated to the step, and a buffer only once.
    copy = lambda: jax.tree.map(jnp.copy, params)
    fresh = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=copy(),
        opt_state=None,
        averages={name: copy() for name in averages},
        uncertainty=uncertainty.initial() if learn_uncertainty else None,
        history=importance.empty(num_levels) if num_levels else None,
    )
    return fresh.replace(opt_state=optimizer.init(fresh.trained()))


def init(
    key: jax.Array, config: ModelConfig, optimizer: optax.GradientTransformation, **options: Any
) -> TrainState:
    """A fresh state; call it under jit, or `jax.eval_shape` for the abstract one.

    Args:
      key: a typed key; consumed.
      config: of the model.
      optimizer: an optax transformation.
      **options: see `create`.
    """
    return create(init_params(key, config), optimizer, **options)

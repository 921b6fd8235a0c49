"""The checkpoints of a run as the training loop knows them: whole states, and what they are of."""

import dataclasses
import json
from typing import Any

from edm_jax.networks.config import ModelConfig
from edm_jax.training.config import Config
from edm_jax.training.state import TrainState
from edm_jax.weights.checkpoint import Checkpoints, placed


def save(checkpoints: Checkpoints, step: int, state: TrainState, about: dict[str, Any]) -> None:
    """Starts writing a state; it may be donated as soon as this returns.

    Args:
      checkpoints: of the run's folder.
      step: optimizer steps taken.
      state: in arrays that span all processes.
      about: see `record`.
    """
    checkpoints.save(step, _items(state), about)


def restore(
    checkpoints: Checkpoints, step: int, abstract: TrainState, shardings: TrainState
) -> TrainState:
    """The whole state of a step.

    Args:
      checkpoints: of the run's folder.
      step: a complete step.
      abstract: the state's shapes and types.
      shardings: where each leaf goes.

    Raises:
      ValueError: the checkpoint holds other arrays than `abstract`.
    """
    found = checkpoints.restore(step, _items(placed(abstract, shardings)))
    rest = {name: tree for name, tree in found.items() if name != "state"}
    return abstract.replace(**rest, **found["state"])


def record(config: Config, model: ModelConfig, dataset: str) -> dict[str, Any]:
    """The JSON item: what a later run or a sampler must know.

    Args:
      config: the run's settings.
      model: what was built from them and the data.
      dataset: the data set's name.
    """
    return {
        "config": json.loads(config.to_json()),
        "model": dataclasses.asdict(model),
        "dataset": dataset,
    }


def _items(state: TrainState) -> dict[str, Any]:
    """The state by item; what a run does not have is in none."""
    rest = ("step", "params", "opt_state", "uncertainty", "history")
    values = {name: getattr(state, name) for name in rest}
    return {
        "state": {name: value for name, value in values.items() if value is not None},
        "ema": state.ema,
        "averages": state.averages,
    }

"""The checkpoints of a run as the training loop knows them: whole states, and what they are of."""

import dataclasses
import json
from typing import Any

import jax

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
    target = placed(abstract, shardings)
    items = _items(target)
    if checkpoints.record(step).get("layout", 1) == 1:
        items["state"] = _first_layout(target)
    found = checkpoints.restore(step, items)
    # In whatever order the names of a layout come, its leaves are those of the state.
    return abstract.replace(
        **{
            name: jax.tree.unflatten(
                jax.tree.structure(getattr(abstract, name)), jax.tree.leaves(tree)
            )
            for name, tree in _fields(found).items()
        }
    )


def record(config: Config, model: ModelConfig, dataset: str) -> dict[str, Any]:
    """The JSON item: what a later run or a sampler must know.

    Args:
      config: the run's settings.
      model: what was built from them and the data.
      dataset: the data set's name.
    """
    return {
        "layout": 2,  # of the state's items: see `restore`
        "config": json.loads(config.to_json()),
        "model": dataclasses.asdict(model),
        "dataset": dataset,
    }


def _items(state: TrainState) -> dict[str, Any]:
    names = ("step", "params", "opt_state", "objective")
    return {
        "state": {name: getattr(state, name) for name in names},
        "ema": state.ema,
        "averages": state.averages,
    }


def _first_layout(state: TrainState) -> dict[str, Any]:
    """The `state` item as it was before objectives had a state of their own."""
    trained, kept = state.objective
    both = jax.tree.structure((state.params, trained))
    is_pair = lambda node: jax.tree.structure(node) == both
    # The optimizer knew of a pair only where the objective trained something.
    alone = lambda node: node[0] if is_pair(node) and not jax.tree.leaves(trained) else node
    items = {
        "step": state.step,
        "params": state.params,
        "opt_state": jax.tree.map(alone, state.opt_state, is_leaf=is_pair),
        "uncertainty": trained,
        "history": kept,
    }
    return {name: tree for name, tree in items.items() if jax.tree.leaves(tree)}


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    """The fields of a state out of the items of either layout."""
    fields = {**found, **found["state"]}
    del fields["state"]
    memory = (fields.pop("uncertainty", ()), fields.pop("history", ()))
    return {"objective": memory, **fields}

"""The checkpoints of a run as the training loop knows them: whole states, and what they are of."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax

from edm_jax.data.archive import Dataset
from edm_jax.networks.config import ModelConfig
from edm_jax.runtime import processes
from edm_jax.training.config import Config
from edm_jax.training.resume import fingerprint
from edm_jax.training.state import TrainState
from edm_jax.weights.checkpoint import Checkpoints, placed


def starting_step(checkpoints: Checkpoints, asked: int | None, warn: Callable[[str], None]) -> int:
    """Where a run goes on: from its newest whole checkpoint, or the one that is asked for.

    Checkpoints that are damaged or later are moved aside. Every process must call it.

    Args:
      checkpoints: of the run's folder.
      asked: a step of them, 0 for the beginning; None is the newest that is whole.
      warn: is told what was moved, and where to.

    Returns:
      The step; 0 where there is no checkpoint.

    Raises:
      ValueError: no such step, or it is damaged, or all are.
    """
    step = 0
    if processes.is_main():
        step = _choose(checkpoints, asked, warn)
    step = processes.from_main(step)
    checkpoints.reload()
    return step


def _choose(checkpoints: Checkpoints, asked: int | None, warn: Callable[[str], None]) -> int:
    steps = checkpoints.steps()
    if asked is not None and asked not in (0, *steps):
        raise ValueError(
            f"from_step must be one of {', '.join(map(str, [0, *steps]))}, got {asked}"
        )
    aside = {}
    for step in reversed(steps):
        if asked is not None and step > asked:
            aside[step] = f"is later than step {asked}"
        elif wrong := checkpoints.damage(step):
            aside[step] = f"is damaged ({wrong})"
            if step == asked:
                raise ValueError(f"{checkpoints.folder(step)} {aside[step]}")
        else:
            break
    else:
        step = 0
        if asked is None and aside:
            newest = max(aside)
            raise ValueError(
                f"{checkpoints.folder(newest)} {aside[newest]}, and there is no whole checkpoint; "
                "--from-step 0 begins anew"
            )
    for late, why in aside.items():
        warn(f"{checkpoints.folder(late)} {why}; moved to {checkpoints.set_aside(late)}")
    return step


def save(checkpoints: Checkpoints, step: int, state: TrainState, about: dict[str, Any]) -> None:
    """Starts writing a state; it may be donated as soon as this returns.

    Args:
      checkpoints: of the run's folder.
      step: optimizer steps taken.
      state: in arrays that span all processes.
      about: the JSON item, made by `record`.
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


def record(config: Config, model: ModelConfig, dataset: Dataset) -> dict[str, Any]:
    """The JSON item: what a later run or a sampler must know.

    Args:
      config: the run's settings.
      model: what was built from them and the data.
      dataset: what it is trained on.
    """
    return {
        "layout": 2,  # of the state's items: see `restore`
        "config": json.loads(config.to_json()),
        "model": dataclasses.asdict(model),
        "dataset": dataset.name,
        "data": fingerprint(dataset),
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
    both: object = jax.tree.structure((state.params, trained))
    is_pair = lambda node: both == jax.tree.structure(node)
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

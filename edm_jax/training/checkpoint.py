"""Checkpoints of a run: written whole or not at all, restored onto whatever devices there are.

One step is three items: `state` (step, parameters, optimizer), `ema` (what a sampler needs) and
`config` (JSON: the run's settings, the model's configuration, the data set's name).
"""

import dataclasses
import json
import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from edm_jax.model import Model, init_params
from edm_jax.networks.config import ModelConfig
from edm_jax.runtime import files, processes
from edm_jax.training.state import TrainState

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one run's folder. Use as a context manager: leaving waits for writing."""

    def __init__(self, workdir: str, *, keep: int | None = None, read_only: bool = False):
        logging.get_absl_logger().setLevel("ERROR")  # orbax narrates every call
        self._manager = ocp.CheckpointManager(
            folder(workdir),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, read_only=read_only, create=not read_only
            ),
            item_handlers={
                "state": _tree_handler(),
                "ema": _tree_handler(),
                "averages": _tree_handler(),
                "config": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """All complete steps, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, config: dict[str, Any]) -> None:
        """Starts writing; the state may be donated as soon as this returns."""
        items = {name: ocp.args.PyTreeSave(tree) for name, tree in _items(state).items()}
        saved = self._manager.save(
            step,
            args=ocp.args.Composite(config=ocp.args.JsonSave(config), **items),
            force=True,
        )
        if not saved:
            raise RuntimeError(f"the checkpoint of step {step} was not written")

    def wait(self) -> None:
        """Returns when everything that was saved is on disk."""
        self._manager.wait_until_finished()

    def config(self, step: int) -> dict[str, Any]:
        """The JSON item of a step."""
        args = ocp.args.Composite(config=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["config"]

    def restore(self, step: int, abstract: TrainState, shardings: TrainState) -> TrainState:
        """The whole state of a step, placed as `shardings` says.

        Raises:
          ValueError: the checkpoint holds other arrays than `abstract`.
        """
        items = _items(_target(abstract, shardings))
        for name, target in items.items():
            if name != "state":
                self._compare(step, name, target)
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(**{name: _restore(target) for name, target in items.items()}),
        )
        rest = {name: tree for name, tree in found.items() if name in ("ema", "averages")}
        return abstract.replace(**rest, **found["state"])

    def restore_ema(self, step: int, abstract: Any, shardings: Any, name: str | None = None) -> Any:
        """The averaged parameters alone; `name` is one of `averages`, None the main one."""
        target = _target(abstract, shardings)
        if name is None:
            self._compare(step, "ema", target)
            args = ocp.args.Composite(ema=_restore(target))
            return self._manager.restore(step, args=args)["ema"]
        known = self.averages(step)
        if name not in known:
            raise ValueError(
                f"ema is {name!r}; the run has, beside its main average, {', '.join(known) or 'none'}"
            )
        targets = dict.fromkeys(known, target)
        args = ocp.args.Composite(averages=_restore(targets))
        return self._manager.restore(step, args=args)["averages"][name]

    def averages(self, step: int) -> list[str]:
        """The names of a step's further averages."""
        found = self._manager.item_metadata(step)["averages"]
        return sorted(getattr(found, "tree", found) or ())

    def _compare(self, step: int, item: str, target: Any) -> None:
        # Orbax finds a wrong shape deep in its threads; say it here, in one line.
        found = self._manager.item_metadata(step)[item]
        found = {
            jax.tree_util.keystr(p, simple=True, separator="/"): tuple(a.shape)
            for p, a in jax.tree_util.tree_leaves_with_path(getattr(found, "tree", found))
        }
        asked = {
            jax.tree_util.keystr(p, simple=True, separator="/"): tuple(a.shape)
            for p, a in jax.tree_util.tree_leaves_with_path(target)
        }
        for name in sorted(asked.keys() | found.keys()):
            if asked.get(name) != found.get(name):
                raise ValueError(
                    f"the checkpoint of step {step} is of another network: {name} has shape "
                    f"{found.get(name, 'none')} there, {asked.get(name, 'none')} here"
                )


def _tree_handler() -> ocp.PyTreeCheckpointHandler:
    # By default the devices share the writing of every array, slice by slice; for small ones
    # cutting them costs five times the writing, while the next step waits.
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=1 << 20)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _restore(target: Any) -> ocp.args.PyTreeRestore:
    arguments = ocp.checkpoint_utils.construct_restore_args(target)
    return ocp.args.PyTreeRestore(target, restore_args=arguments)


def _items(state: TrainState) -> dict[str, Any]:
    """The state by item; what a run does not have is in none."""
    rest = ("step", "params", "opt_state", "uncertainty", "history")
    values = {name: getattr(state, name) for name in rest}
    items = {"state": {name: value for name, value in values.items() if value is not None}}
    return items | {"ema": state.ema} | ({"averages": state.averages} if state.averages else {})


def _target(abstract: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, shardings
    )


def folder(workdir: str | os.PathLike) -> epath.Path:
    """Where a run's checkpoints are: orbax needs it from the root, or as a URL."""
    return files.absolute(workdir) / FOLDER


def describe(config: Any, model: ModelConfig, dataset: str) -> dict[str, Any]:
    """The JSON item: what a later run or a sampler must know."""
    return {
        "config": json.loads(config.to_json()),
        "model": dataclasses.asdict(model),
        "dataset": dataset,
    }


def restore_model(workdir: str, step: int | None = None, ema: str | None = None) -> Model:
    """The model of a run's averaged parameters, on every device of this process.

    Args:
      workdir: the folder that `train.py --workdir` was given.
      step: which checkpoint; None is the newest.
      ema: which of the run's further averages; None is the main one.

    Raises:
      FileNotFoundError: there is no such checkpoint.
      ValueError: there is no such average.
    """
    if not folder(workdir).is_dir():
        raise FileNotFoundError(f"{workdir} holds no checkpoint of a training run")
    with Checkpoints(workdir, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if not steps or (step is not None and step not in steps):
            known = ", ".join(map(str, steps)) or "none"
            which = "" if step is None else f" of step {step}"
            raise FileNotFoundError(f"{workdir} holds no checkpoint{which} (complete: {known})")
        step = steps[-1] if step is None else step
        config = ModelConfig.from_dict(checkpoints.config(step)["model"])
        abstract = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
        shardings = processes.local_shardings(abstract)
        return Model.build(config, checkpoints.restore_ema(step, abstract, shardings, ema))

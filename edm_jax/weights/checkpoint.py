"""The checkpoints of a run's folder: written whole or not at all, restored onto any devices.

A step is a few items, each a tree of arrays in a folder of its own, and one of JSON:

    state       what the run goes on from
    ema         averaged parameters: all that a sampler needs
    averages    further averages of them, by name; not in every run
    config      JSON: settings, the model's configuration, the data set's name

and `hashes.json`, of all these files, which is written before the step has its name.
"""

import contextlib
import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from edm_jax.model import Model, params_like
from edm_jax.networks.config import ModelConfig
from edm_jax.quoting import quoted
from edm_jax.runtime import files, processes
from edm_jax.weights import hashes, orbax_errors
from edm_jax.weights.directory import CHECKPOINTS

SET_ASIDE = "set_aside"  # checkpoints that the run does not go on from
_REMOVED = ".removed.tmp"  # where steps go that are not kept: what is half removed has no name
_TIMES = "_CHECKPOINT_METADATA"  # orbax adds to it when the step has its name
_COMMITTED = "commit_success.txt"  # in gs://, where nothing is renamed: without it a step is none
_BESIDE = 4_000_000  # bytes of a step that are no arrays: names, shapes, hashes, and some more
_TREES, _RECORD = ("state", "ema", "averages"), "config"


class Checkpoints:
    """The checkpoints of one run's folder. Use as a context manager: leaving waits for writing."""

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        keep: int | None = None,
        read_only: bool = False,
        items: Collection[str] = _TREES,
    ):
        """Opens the folder.

        Args:
          workdir: the run's folder, on a disk or a URL.
          keep: how many of the newest steps stay, and while a run goes on one more; None is all.
          read_only: make no folder, and write nothing. Else what a killed process left unfinished
            is removed; nobody else may write here.
          items: trees that are asked for; of each that is, orbax reads what all arrays are.
        """
        orbax_errors.silence()
        handlers = {name: _tree_handler() for name in items}
        self._saving: int | None = None
        self._known: tuple[int | None, Any] = None, {}
        self._keep = keep
        # Orbax needs it from the root, or as a URL.
        self._folder = files.absolute(workdir) / CHECKPOINTS
        with orbax_errors.reading(self._folder):
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(
                    read_only=read_only,
                    create=not read_only,
                    cleanup_tmp_directories=not read_only,
                    todelete_subdir=None if read_only else _REMOVED,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                ),
                item_handlers={**handlers, _RECORD: ocp.JsonCheckpointHandler()},
            )
        if not read_only:
            self._remove_moved()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._manager.close()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return orbax_errors.writing(self._folder / str(self._saving))

    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """All complete steps, ascending."""
        return sorted(self._manager.all_steps())

    def folder(self, step: int) -> epath.Path:
        """Where a step is."""
        return self._folder / str(step)

    def damage(self, step: int, *, items: Collection[str] = ()) -> str | None:
        """What is wrong with a complete step, in a few words; None where nothing is known to be.

        Args:
          step: a complete step. One without hashes, of an earlier version, is only looked into.
          items: which of its items to look at; all by default.
        """
        if not (self.folder(step) / _RECORD).exists():  # orbax takes any numbered folder for a step
            return f"{_RECORD} is missing"
        try:
            wrong = hashes.damage(self.folder(step), parts={*items, _RECORD} if items else ())
            if wrong is None:  # not by orbax, which waits for all processes where one asks
                found = json.loads((self.folder(step) / _RECORD / "metadata").read_text())
                wrong = _no_settings(found)
        except (OSError, ValueError, RecursionError) as error:
            return f"{_RECORD} cannot be read: {' '.join(str(error).split())[:200]}"
        return wrong

    def set_aside(self, step: int) -> epath.Path:
        """Moves a step out of the way, to where nothing looks for checkpoints.

        To be called by one process; the others call `reload` after it.

        Args:
          step: a complete step.

        Returns:
          Its new folder.
        """
        place = self._folder.parent / SET_ASIDE
        place.mkdir(exist_ok=True)
        taken = {path.name for path in place.iterdir()}
        names = (f"{step}" + (f"-{n}" if n else "") for n in range(len(taken) + 1))
        target = place / next(name for name in names if name not in taken)
        self.folder(step).rename(target)
        self.reload()
        return target

    def reload(self) -> None:
        """Looks again which steps there are."""
        self._manager.reload()

    def save(self, step: int, items: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Starts writing; the arrays may be donated as soon as this returns.

        Args:
          step: optimizer steps taken.
          items: trees of arrays by item; empty ones are left out.
          record: the JSON item.

        Raises:
          RuntimeError: nothing was written, as the step is there already.
          OSError: the disk has not the space; nothing was written.
        """
        self.wait()
        # Beforehand: what orbax's threads say of a full disk is hundreds of lines.
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(dict(items)))
        files.check_space(self._folder, int(1.1 * size) + _BESIDE)
        trees = {k: ocp.args.PyTreeSave(tree) for k, tree in items.items() if tree}
        args = ocp.args.Composite(**{_RECORD: ocp.args.JsonSave(dict(record))}, **trees)
        self._saving = step
        if not self._manager.save(step, args=args, force=True):
            raise RuntimeError(f"the checkpoint of step {step} was not written")

    def wait(self) -> None:
        """Returns when everything that was saved is on disk, and what is not kept is gone.

        Raises:
          OSError: it could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()
        for step in self.steps()[: -self._keep] if self._keep else ():
            if processes.is_main():
                (self.folder(step) / _COMMITTED).unlink(missing_ok=True)
            self._manager.delete(step)  # on a disk, a move to `_REMOVED`
        self._remove_moved()

    def record(self, step: int) -> dict[str, Any]:
        """The JSON item of a step.

        Raises:
          ValueError: it is damaged.
        """
        args = ocp.args.Composite(**{_RECORD: ocp.args.JsonRestore()})
        with orbax_errors.reading(self.folder(step)):
            found = self._manager.restore(step, args=args)[_RECORD]
            if wrong := _no_settings(found):
                raise ValueError(wrong)
            return {"config": {}, "model": {}} | found

    def model(self, step: int, item: str) -> Model:
        """The model that a step is of, with shapes in place of its parameters.

        Args:
          step: a complete step.
          item: "ema", or another item that holds parameters like the model's.

        Raises:
          ValueError: the record is damaged, or describes no network of the arrays that are there.
        """
        config = self.record(step)["model"]
        with orbax_errors.reading(self.folder(step)):
            config = ModelConfig.from_dict(config)
            tensors = len(jax.tree.leaves(self._stored(step, item)))
            return Model.build(config, params_like(config, tensors=tensors))

    def names(self, step: int, item: str) -> list[str]:
        """The names at the top of an item's tree; none where the step has no such item.

        Raises:
          ValueError: the step is damaged.
        """
        with orbax_errors.reading(self.folder(step)):
            return sorted(self._stored(step, item) or ())

    def restore(self, step: int, targets: Mapping[str, Any]) -> dict[str, Any]:
        """Trees of a step, onto the devices that the targets name.

        Args:
          step: a complete step.
          targets: by item, trees of `jax.ShapeDtypeStruct` with shardings (`placed`).

        Returns:
          The arrays by item.

        Raises:
          ValueError: the checkpoint holds arrays of other names or shapes, or is damaged.
        """
        targets = {name: target for name, target in targets.items() if target}
        with orbax_errors.reading(self.folder(step)):
            for name, target in targets.items():
                if name != "state":  # as large as the others, and it follows from them
                    self._compare(step, name, target)
            trees = {name: _restore(target) for name, target in targets.items()}
            return dict(self._manager.restore(step, args=ocp.args.Composite(**trees)).items())

    def _remove_moved(self) -> None:
        if processes.is_main():
            (self._folder / _REMOVED).rmtree(missing_ok=True)

    def _seal(self) -> None:
        # Called by orbax's thread when all is written, before the step has its name; in a bucket
        # it has it from the start, and a file beside its items says that it is complete.
        if processes.is_main():
            names = (f"{self._saving}.orbax-checkpoint-tmp*", f"{self._saving}")
            folder = next(path for name in names for path in self._folder.glob(name))
            hashes.write(folder, leaving_out=[_TIMES])

    def _stored(self, step: int, item: str) -> Any:
        if self._known[0] != step:  # orbax reads all of them anew each time
            self._known = step, self._manager.item_metadata(step)
        found = self._known[1].get(item)
        return getattr(found, "tree", found)

    def _compare(self, step: int, item: str, target: Any) -> None:
        # Orbax finds a wrong shape deep in its threads; say it here, in one line.
        found, asked = _shapes(self._stored(step, item)), _shapes(target)
        for name in sorted(asked.keys() | found.keys()):
            if asked.get(name) != found.get(name):
                raise ValueError(
                    f"the checkpoint of step {step} is of another network: {name} has shape "
                    f"{found.get(name, 'none')} there, {asked.get(name, 'none')} here"
                )


def placed(abstract: Any, shardings: Any) -> Any:
    """What `Checkpoints.restore` is to make.

    Args:
      abstract: tree of anything with a shape and a dtype.
      shardings: tree of shardings, of the same structure.

    Returns:
      A tree of `jax.ShapeDtypeStruct`.
    """
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, shardings
    )


def _no_settings(record: Any) -> str | None:
    """What keeps a JSON item from being one that was saved, or None."""
    if not isinstance(record, dict):
        return f"{_RECORD} must be settings by name, got {quoted(record)}"
    for name in ("config", "model"):
        if not isinstance(found := record.get(name, {}), dict):
            return f"{_RECORD}: {name} must be settings by name, got {quoted(found)}"
    return None


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): tuple(leaf.shape) for path, leaf in leaves}


def _tree_handler() -> ocp.PyTreeCheckpointHandler:
    # By default the devices share the writing of every array, slice by slice; for small ones
    # cutting them costs five times the writing, while the next step waits.
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=1 << 20)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _restore(target: Any) -> ocp.args.PyTreeRestore:
    arguments = ocp.checkpoint_utils.construct_restore_args(target)
    return ocp.args.PyTreeRestore(target, restore_args=arguments)

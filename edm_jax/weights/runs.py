"""The model of a training run: the newest of its checkpoints, or any, and any of its averages."""

import os

from edm_jax.model import Model
from edm_jax.runtime import files, processes
from edm_jax.weights.checkpoint import Checkpoints, placed
from edm_jax.weights.directory import CHECKPOINTS


def newest_step(workdir: str | os.PathLike) -> int | None:
    """The newest complete step of a run's folder, or None."""
    if not (files.absolute(workdir) / CHECKPOINTS).is_dir():
        return None
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.latest()


def restore_model(
    workdir: str | os.PathLike, *, step: int | None = None, ema: str | None = None
) -> Model:
    """The model of a run's averaged parameters, on every device of this process.

    Args:
      workdir: the folder that `train.py --workdir` was given.
      step: which checkpoint; None is the newest.
      ema: which of the run's further averages; None is the main one.

    Returns:
      The model.

    Raises:
      FileNotFoundError: there is no such checkpoint.
      ValueError: there is no such average, or the checkpoint is damaged.
    """
    if not (files.absolute(workdir) / CHECKPOINTS).is_dir():
        raise FileNotFoundError(f"{workdir} holds no checkpoint of a training run")
    item = "ema" if ema is None else "averages"
    with Checkpoints(workdir, read_only=True, items=[item]) as checkpoints:
        steps = checkpoints.steps()
        if not steps or (step is not None and step not in steps):
            known = ", ".join(map(str, steps)) or "none"
            which = "" if step is None else f" of step {step}"
            raise FileNotFoundError(f"{workdir} holds no checkpoint{which} (complete: {known})")
        step = steps[-1] if step is None else step
        folder = checkpoints.folder(step)
        if wrong := checkpoints.damage(step, items=[item]):
            others = ", ".join(str(folder.parent / str(s)) for s in steps if s != step)
            raise ValueError(
                f"{folder} is damaged: {wrong}"
                + (f"; beside it there is {others}" if others else "; there is no other")
            )
        names = checkpoints.names(step, item) if ema is not None else []
        if ema is not None and ema not in names:
            raise ValueError(
                f"ema must be one of the run's averages ({', '.join(names) or 'it has none'}), "
                f"got {ema!r}"
            )
        model = checkpoints.model(step, item)
        target = placed(model.params, processes.local_shardings(model.params))
        tree = target if ema is None else dict.fromkeys(names, target)
        found = checkpoints.restore(step, {item: tree})[item]
        return model.replace(params=found if ema is None else found[ema])

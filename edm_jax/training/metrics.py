"""A run's numbers: one JSON line per interval, and TensorBoard events where it is installed."""

import contextlib
import importlib.util
import json
import math
import os
from typing import Any

from etils import epath

from edm_jax.runtime import files

STATS = "stats.jsonl"


def rewind(path: epath.Path, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that was torn; atomically.

    A run that goes on from an older checkpoint writes them again.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    files.write(path, "".join(kept))


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a run's stats.jsonl; a torn last line is left out."""
    records = []
    for line in (files.located(workdir) / STATS).read_text().splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


class Metrics:
    """Writes a run's records. Use as a context manager."""

    def __init__(self, workdir: epath.Path, step: int, silent: bool = False):
        """Opens the files in `workdir`, which a run continues after `step`; none if `silent`.

        TensorBoard's events are written to disks only.
        """
        self._stats = self._events = None
        if silent:
            return
        self._stats = workdir / STATS
        rewind(self._stats, step)
        if files.is_local(workdir) and importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(workdir / "events"), purge_step=step or None)

    def write(self, record: dict[str, float]) -> None:
        """Adds one record; `step` is its place on TensorBoard's axis."""
        if self._stats is not None:
            _append(self._stats, json.dumps(_finite(record), allow_nan=False) + "\n")
        if self._events is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._events.add_scalar(name, value, record["step"])

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()


def _finite(value: Any) -> Any:
    """Null where a number is NaN or infinite, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(path: epath.Path, line: str) -> None:
    if files.is_local(path):
        with path.open("a") as file:
            file.write(line)
    else:  # buckets hold whole objects
        files.write(path, (path.read_text() if path.exists() else "") + line)

"""A run's numbers: one JSON line per interval, and TensorBoard events where it is installed."""

import contextlib
import importlib.util
import json
import os
import pathlib
from typing import Any

STATS = "stats.jsonl"


def rewind(path: pathlib.Path, step: int) -> None:
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
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, path)


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a run's stats.jsonl; a torn last line is left out."""
    records = []
    for line in (pathlib.Path(workdir) / STATS).read_text().splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


class Metrics:
    """Writes a run's records. Use as a context manager."""

    def __init__(self, workdir: pathlib.Path, step: int, silent: bool = False):
        """Opens the files in `workdir`, which a run continues after `step`; none if `silent`."""
        self._lines = self._events = None
        if silent:
            return
        rewind(workdir / STATS, step)
        self._lines = open(workdir / STATS, "a", buffering=1)  # noqa: SIM115
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(workdir / "events"), purge_step=step or None)

    def write(self, record: dict[str, float]) -> None:
        """Adds one record; `step` is its place on TensorBoard's axis."""
        if self._lines is not None:
            self._lines.write(json.dumps(record) + "\n")
        if self._events is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._events.add_scalar(name, value, record["step"])

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._lines, self._events):
            if file is not None:
                file.close()

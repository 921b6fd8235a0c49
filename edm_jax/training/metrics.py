"""A run's numbers: one JSON line per interval, and TensorBoard events where it is installed."""

import contextlib
import importlib.util
import json
import math
import os
import socket
import time
from typing import Any

from etils import epath

from edm_jax.runtime import files

STATS = "stats.jsonl"
FLUSH_EVERY = 10.0  # seconds between two writings of TensorBoard's file to the disk


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
        self._stats: epath.Path | None = None
        self._events: _Events | None = None
        if silent:
            return
        self._stats = workdir / STATS
        rewind(self._stats, step)
        if files.is_local(workdir) and importlib.util.find_spec("tensorboardX"):
            self._events = _Events(workdir / "events", step)

    def write(self, record: dict[str, float]) -> None:
        """Adds one record; `step` is its place on TensorBoard's axis."""
        if self._stats is None:
            return
        try:
            _append(self._stats, json.dumps(_finite(record), allow_nan=False) + "\n")
            if self._events is not None:
                self._events.write(record)
        except OSError as error:  # a full disk does not say where
            error.add_note(f"{self._stats.parent}: the numbers of step {record['step']}")
            raise

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._events is not None:
            # What went wrong first is what is told.
            with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
                self._events.close()


class _Events:
    """TensorBoard's file, written where it is called.

    The package's own writer does it in a thread, which prints pages when the disk is full.
    """

    def __init__(self, folder: epath.Path, step: int):
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(exist_ok=True)
        # The package's EventsWriter leaves its file open where the last bytes find no place.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._file = RecordWriter(str(folder / name))
        self._flushed = time.monotonic()
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if step:  # what an earlier attempt has of later steps is hidden
            begins = SessionLog(status=SessionLog.START)
            self._write(Event(step=step + 1, session_log=begins))

    def write(self, record: dict[str, Any]) -> None:
        numbers = {
            name: value
            for name, value in record.items()
            if name != "step" and isinstance(value, (int, float))
        }
        values = [self._summary.Value(tag=n, simple_value=v) for n, v in numbers.items()]
        event = self._event(step=record["step"], wall_time=time.time())
        event.summary.CopyFrom(self._summary(value=values))
        self._write(event)
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Any) -> None:
        self._file.write(event.SerializeToString())


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

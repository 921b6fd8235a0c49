"""Signals that ask a run to stop, noted and read between steps."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from edm_jax.runtime import processes

# What Python's `signal` takes and gives back; None is a handler that Python did not set.
_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class Interrupt:
    """Turns SIGTERM and SIGINT into a flag. Use as a context manager.

    With several processes the notice of SIGTERM has to reach all of them, and all have to stop
    after the same step: JAX's own handler does that. Beside the main thread signals are left alone:
    Python hands them to that one.

    Attributes:
      signal: the first signal that came, or None. A second one raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._shared = processes.process_count() > 1
        self._previous: dict[int, _Handler] = {}

    def after(self, step: int) -> bool:
        """Whether to stop after this step; to be asked once a step."""
        if self._shared and processes.stop_was_asked(step):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def __enter__(self) -> "Interrupt":
        ours = not self._shared and threading.current_thread() is threading.main_thread()
        for number in (signal.SIGTERM, signal.SIGINT) if ours else ():
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

"""What a command is at: a bar in a terminal, a line now and then in a log, or nothing."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Thing = TypeVar("Thing")
EVERY = 10.0  # seconds between two lines of a log


class Progress:
    """Messages on standard error. Use as a context manager: leaving ends the bar."""

    def __init__(self, total: int, *, done: int = 0, unit: str = "img", quiet: bool = False):
        """Begins at `done` of `total`; says nothing at all where `quiet`."""
        self._quiet, self._total, self._unit = quiet, total, unit
        self._done, self._said = done, time.monotonic()
        self._terminal = sys.stderr.isatty()
        hidden = quiet or not self._terminal
        self._bar = tqdm(
            total=total, initial=done, unit=unit, disable=hidden, dynamic_ncols=True, leave=True
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Prints a line."""
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def at(self, stage: str) -> None:
        """What happens from now on: before the bar, or a line in a log."""
        if self._terminal:
            self._bar.set_description(stage)
        else:
            self.say(stage)

    def counted(self, things: Iterable[Thing]) -> Iterator[Thing]:
        """The same things; moves on by one after each."""
        for thing in things:
            yield thing
            self.step(1)

    def step(self, count: int) -> None:
        """Moves on by `count`."""
        self._bar.update(count)
        self._done += count
        now = time.monotonic()
        if not self._terminal and (now - self._said > EVERY or self._done == self._total):
            self._said = now
            self.say(f"{self._done}/{self._total} {self._unit}")

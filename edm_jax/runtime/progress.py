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

    def __init__(
        self,
        *,
        total: int,
        initial: int = 0,
        desc: str = "",
        unit: str = "img",
        quiet: bool = False,
        counts: bool = True,
    ):
        """Begins; says nothing at all where `quiet`.

        Args:
          total: how many things there are.
          initial: how many of them are done.
          desc: what happens first.
          unit: what one thing is called.
          quiet: no bar and no lines.
          counts: in a log, a line of how many are done every ten seconds and at the end.
        """
        self._quiet, self._total, self._unit = quiet, total, unit
        self._done, self._said, self._counts = initial, time.monotonic(), counts
        self._terminal = sys.stderr.isatty()
        hidden = quiet or not self._terminal
        self._bar = tqdm(
            total=total,
            initial=initial,
            unit=unit,
            unit_scale=total > 10**5,
            disable=hidden,
            dynamic_ncols=True,
        )
        if desc:
            self.at(desc)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar."""
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
            self.say(f"{stage} …")

    def note(self, text: str) -> None:
        """Puts a few words behind the bar, such as a loss; they are not for logs."""
        self._bar.set_postfix_str(text, refresh=False)

    def counted(self, things: Iterable[Thing]) -> Iterator[Thing]:
        """The same things; moves on by one after each."""
        for thing in things:
            yield thing
            self.update(1)

    def update(self, count: int) -> None:
        """Moves on by `count`."""
        self._bar.update(count)
        self._done += count
        now = time.monotonic()
        if self._terminal or not self._counts:
            return
        if now - self._said > EVERY or self._done == self._total:
            self._said = now
            self.say(f"{self._done:,}/{self._total:,} {self._unit}")

"""What orbax and its threads say when something goes wrong, in one line and once."""

import contextlib
import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath


def silence() -> None:
    """Silences orbax, which narrates every call, and its threads, which tell what is raised too."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel("CRITICAL")
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


class _Unraisable:
    """Leaves to another hook what an error in a thread is told to, all but one kind of them.

    After one array could not be read or written, the end of every other one is told to an event
    loop that is closed, even when the checkpoints are closed: five lines an array, of an error that
    is raised here too. So this stays where it was put.
    """

    def __init__(self, hook: Callable[[Any], Any]):
        self.hook = hook

    def __call__(self, given: Any) -> None:
        if str(given.exc_value) != "Event loop is closed":
            self.hook(given)


@contextlib.contextmanager
def writing(folder: epath.Path) -> Iterator[None]:
    """Makes one short line of what the threads say of a full disk.

    Args:
      folder: of the step that is written.

    Raises:
      OSError: in place of an error that speaks of a full disk.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        number = next((n for n in known if os.strerror(n) in str(error)), None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(folder)) from error


@contextlib.contextmanager
def reading(folder: epath.Path) -> Iterator[None]:
    """Makes one line of whatever orbax and its threads say of a damaged step.

    Args:
      folder: of the step.

    Raises:
      ValueError: in place of any error but of memory and permissions.
    """
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        if "RESOURCE_EXHAUSTED: Out of memory" in str(error):
            raise MemoryError(str(error)) from error
        _end(error)
        words = " ".join(str(error).split())
        if isinstance(error, ValueError) and words.startswith(str(folder)):
            raise
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{folder}: {name}{words[:480]}") from error


def _end(error: Exception) -> None:
    """Ends the calls that an error broke off: Python tells of those never awaited, lines later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        traceback.clear_frames(error.__traceback__)

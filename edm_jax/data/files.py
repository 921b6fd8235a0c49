"""A lock between processes, freed when its holder dies."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock file. Where there is no `flock` (Windows), locks nothing.

    Args:
      path: the file; made if missing, and left there.
      wait: for another holder to end; otherwise that is an error.

    Raises:
      BlockingIOError: another process holds the lock.
    """
    path = pathlib.Path(path)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(f"{path}: another process is at work on this file") from None
        yield

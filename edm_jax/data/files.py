"""A lock between processes, freed when its holder dies."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file.

    Args:
      path: the file; made if missing, and left there.
      wait: for another holder to end; otherwise that is an error.

    Yields:
      Whether it is held: where there is no `flock` (Windows, some network file systems), it is not.

    Raises:
      BlockingIOError: another process holds the lock.
    """
    path = pathlib.Path(path)
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(f"{path}: another process is at work here") from None
        except OSError:
            held = False
        else:
            held = True
        yield held

"""A measurement under way: in a folder of its own, shared by processes, to go on after a stop."""

import contextlib
from collections.abc import Iterator

from etils import epath

from edm_jax.cli import made_with
from edm_jax.runtime import files, processes
from edm_jax.runtime.progress import Progress


@contextlib.contextmanager
def under_way(folder: epath.Path, total: int, *, quiet: bool) -> Iterator[Progress]:
    """Keeps other commands out of a folder, whose measurement all processes begin together.

    Args:
      folder: made if it is not there.
      total: images to measure.
      quiet: no progress bar; only the main process has one.

    Yields:
      The progress bar.

    Raises:
      BlockingIOError: another command is at work there.
    """
    main = processes.is_main()
    alone = made_with.alone(folder) if main else contextlib.nullcontext()
    with alone, Progress(total=total, desc="compiling", quiet=quiet or not main) as report:
        processes.barrier("alone")
        files.made(folder)  # by another host, on a disk that is slow to show it
        yield report

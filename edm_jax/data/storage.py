"""Where a run's images wait for their step: in memory, in a mapped file, or still in the archive.

The batches are the same bits from each of them, so a run may go on from another one.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from edm_jax import checks
from edm_jax.data import archive, loader, streaming

KINDS = ("auto", "memory", "mapped", "stream")


class Feed(NamedTuple):
    """A data set, and how to make its batches.

    dataset: its images are indexed alike, wherever they are.
    stream: (seed, batch_size, *, start_step, stop_step, …) -> `loader.Stream`, with the options of
      `loader.stream`.
    """

    dataset: archive.Dataset
    stream: Callable[..., loader.Stream]


def load(
    path: str | os.PathLike,
    *,
    kind: str = "auto",
    labels: bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: Callable | None = None,
) -> Feed:
    """Opens a data set for training.

    Args:
      path: "digits" for the embedded set, else the zip file or folder.
      kind: "memory": decode the archive once, to an array. "mapped": decode it once, to a file in
        `cache_dir`. "auto": the one or the other, by its size. "stream": decode each batch anew,
        in grain's processes, for what fits neither. The embedded digits are always in memory.
      labels: True: there must be labels. False: leave them out. None: take them if there are any.
      cache_dir: where the decoded images of a large archive go; by default edm_jax in
        $XDG_CACHE_HOME or ~/.cache.
      workers: processes that decode; by default as many as pay off, 0 for none.
      progress: makes a progress bar, with the arguments of `tqdm.tqdm`; by default none.

    Returns:
      The data set with its `stream`.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: an unknown kind, a negative number of workers, no grain for "stream", or what is
        wrong with the archive.

    >>> feed = load("digits", kind="memory")
    >>> with feed.stream(seed=0, batch_size=4, stop_step=3) as batches:
    ...     print([rows["images"].shape[0] for rows in batches])
    [4, 4, 4]
    """
    checks.one_of("data.loader", kind, KINDS)
    if workers is not None and workers < 0:
        raise ValueError(f"data.workers must be at least 0, got {workers}")
    if kind == "stream":
        streaming.require_grain()
        dataset = streaming.load(path, labels=labels)
        return Feed(dataset, functools.partial(streaming.stream, dataset, workers=workers))
    limits = {"auto": archive.MEMORY_LIMIT, "memory": sys.maxsize, "mapped": 0}
    dataset = archive.load(
        path,
        labels=labels,
        cache_dir=cache_dir,
        memory_limit=limits[kind],
        workers=workers,
        progress=progress,
    )
    return Feed(dataset, functools.partial(loader.stream, dataset))

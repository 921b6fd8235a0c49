"""Batches as a pure function of (seed, step, process), and a stream that keeps one ahead.

The data set is visited in epochs, each in its own random order; a batch takes the next images of
that endless sequence, across the end of an epoch where need be. Nothing but the step has to be
restored to resume.
"""

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edm_jax.data.archive import Dataset


@functools.lru_cache(maxsize=4)
def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """Makes the order in which an epoch visits the images.

    The sorting order of Philox's raw output, keyed by (seed, epoch): numpy guarantees that
    stream for ever, while `Generator.permutation` may change with a version.

    Args:
      size: N, the number of images.
      seed: of the run, in [0, 2**64).
      epoch: from 0.

    Returns:
      int64 [N], read-only.

    >>> permutation(5, seed=0, epoch=0)
    array([0, 2, 1, 4, 3])
    """
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    order = np.argsort(bits, kind="stable")
    order.flags.writeable = False
    return order


def positions(start: int, stop: int, size: int, seed: int) -> np.ndarray:
    """Looks up which images stand at [start, stop) of the endless sequence.

    Args:
      start, stop: positions, counted in images since the start of the run.
      size: N, the number of images.
      seed: of the run.

    Returns:
      int64 [stop - start] image indices.
    """
    parts = []
    while start < stop:
        epoch, offset = divmod(start, size)
        end = min(stop, (epoch + 1) * size)
        parts.append(permutation(size, seed, epoch)[offset : offset + end - start])
        start = end
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def batch(
    dataset: Dataset,
    seed: int,
    step: int,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    xflip: bool = False,
) -> dict[str, np.ndarray]:
    """Makes this process's rows of the global batch of a step.

    Row r of the global batch is image number step * batch_size + r of the run's sequence; process
    p holds the contiguous rows from p * batch_size / process_count, so that the order of the rows
    is the order of the devices, however many processes there are.

    Args:
      dataset: N images.
      seed: of the run, in [0, 2**64).
      step: from 0.
      batch_size: of all processes together; may exceed N.
      process_index, process_count: which part of the batch to make.
      xflip: double the data set by a mirrored copy of each image.

    Returns:
      {"images": uint8 [b, H, W, C] (float32 of latents), "labels": float32 [b, L]},
      b = batch_size / process_count.

    Raises:
      ValueError: a number is out of range, or the batch does not divide among the processes.

    >>> from edm_jax.data import archive
    >>> rows = batch(archive.load("digits"), seed=0, step=0, batch_size=4)
    >>> rows["images"].shape, rows["labels"].argmax(axis=1)
    ((4, 8, 8, 1), array([2, 4, 5, 4]))
    """
    check_arguments(dataset, seed, step, batch_size, process_index, process_count)
    rows = batch_size // process_count
    start = step * batch_size + process_index * rows
    count = len(dataset.images)
    indices = positions(start, start + rows, count * (1 + xflip), seed)
    mirrored, indices = np.divmod(indices, count)
    images = np.asarray(dataset.images[indices])
    if xflip:
        images = np.where(mirrored[:, None, None, None] == 1, images[:, :, ::-1], images)
    return {"images": images, "labels": dataset.label_rows(indices)}


def check_arguments(
    dataset: Dataset,
    seed: int,
    step: int,
    batch_size: int,
    process_index: int,
    process_count: int,
) -> None:
    """Raises ValueError where `batch` cannot serve its arguments."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be in [0, {process_count}), got {process_index}")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size must be a positive multiple of the {process_count} processes, "
            f"got {batch_size}"
        )
    if not len(dataset.images):
        raise ValueError(f"dataset must hold images, got none in {dataset.name!r}")


class Stream:
    """The batches from a step on, made ahead in a thread. Made by `stream`.

    An iterator and a context manager; leaving it, or `close`, ends the thread.

    waited: seconds that `next` has spent waiting, all in all. The share of the step time that a
      run waits for data is the growth of `waited` over the time that passed.
    """

    def __init__(
        self, make: Callable[[int], Any], start_step: int, stop_step: int | None, ahead: int
    ):
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, got {ahead}")
        self.waited = 0.0
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(make, start_step, stop_step), daemon=True, name="data"
        )
        self._thread.start()

    def _work(self, make, step, stop_step) -> None:
        try:
            while stop_step is None or step < stop_step:
                if not self._put((make(step), None)):
                    return
                step += 1
            self._put((None, StopIteration()))
        except BaseException as error:  # whatever it is, the consumer has to see it
            self._put((None, error))

    def _put(self, item) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        if self._closed.is_set():
            raise StopIteration
        began = time.perf_counter()
        value, error = self._queue.get()
        self.waited += time.perf_counter() - began
        if error is not None:
            self.close()
            raise error
        return value

    def close(self) -> None:
        """Ends the thread; later calls of `next` raise StopIteration."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def stream(
    dataset: Dataset,
    seed: int,
    batch_size: int,
    *,
    start_step: int = 0,
    stop_step: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    xflip: bool = False,
    place: Callable[[dict[str, np.ndarray]], Any] | None = None,
    ahead: int = 2,
) -> Stream:
    """Starts making the batches of consecutive steps in a background thread.

    Args:
      dataset: N images.
      seed: of the run, in [0, 2**64).
      batch_size: of all processes together; may exceed N.
      start_step: the first step; a resumed run gives the step that it has restored.
      stop_step: the step after the last one; by default there is none.
      process_index, process_count: which part of each batch to make.
      xflip: double the data set by a mirrored copy of each image.
      place: called in the thread on each batch, to put it on the devices while a step runs.
      ahead: how many finished batches wait at most.

    Returns:
      An iterator of batches (of what `place` returns).

    Raises:
      ValueError: a number is out of range, or the batch does not divide among the processes.

    >>> from edm_jax.data import archive
    >>> with stream(archive.load("digits"), seed=0, batch_size=4, stop_step=3) as batches:
    ...     print([rows["images"].shape[0] for rows in batches])
    [4, 4, 4]
    """
    check_arguments(dataset, seed, start_step, batch_size, process_index, process_count)
    part = {"process_index": process_index, "process_count": process_count}

    def make(step: int):
        rows = batch(dataset, seed, step, batch_size, **part, xflip=xflip)
        return rows if place is None else place(rows)

    return Stream(make, start_step, stop_step, ahead)

"""Data sets that fit neither memory nor a cached file: decoded batch by batch, with grain.

The batches are those of `loader.batch`, bit for bit, so a run may change between the two. The
position to restore is the step; grain's own iterator state works too. Needs the extra `grain`.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from edm_jax.data import archive, decode, loader, pool

if TYPE_CHECKING:
    import grain


class Members:
    """The images of an archive as an array that decodes what is asked for.

    shape: (N, H, W, C). Indexed by an integer, a slice, or integers [B].
    dtype: uint8, or float32 of latents.
    """

    def __init__(self, path: str | os.PathLike, names: list[str], shape: tuple[int, int, int]):
        self.path = pathlib.Path(path)
        self.names = np.array(names)
        self.shape = (len(names), *shape)
        self.dtype = decode.dtype_of(shape)
        # The process, what closes the archive, and the reader.
        self._opened: tuple[int, AbstractContextManager, Callable[[str], bytes]] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices) -> np.ndarray:
        names = np.atleast_1d(self.names[indices])
        with archive.naming(self.path):
            if not len(names):
                return np.empty((0, *self.shape[1:]), self.dtype)
            images = decode.decode_members(self._read, names.tolist(), shape=self.shape[1:])
        return images[0] if np.ndim(self.names[indices]) == 0 else images

    def _read(self, name: str) -> bytes:
        # Opened anew in each process: a forked one would share the position in the file.
        if self._opened is None or self._opened[0] != os.getpid():
            context = decode.opened(self.path)
            self._opened = os.getpid(), context, context.__enter__()
        return self._opened[2](name)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}

    def __del__(self):
        opened = getattr(self, "_opened", None)
        if opened is not None and opened[0] == os.getpid():
            opened[1].__exit__(None, None, None)


def load(path: str | os.PathLike, *, labels: bool | None = None) -> archive.Dataset:
    """Opens an archive without decoding it.

    Args:
      path: "digits" for the embedded set, else the zip file or folder.
      labels: True: there must be labels. False: leave them out. None: take them if there are any.

    Returns:
      A data set whose `images` are `Members`; an array where it is "digits".

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: what is wrong, in one line, with the name of the file; a damaged image is found
        when it is read.
    """
    if os.fspath(path) == "digits":
        return archive.load(path, labels=labels)
    found = archive.survey(path, labels=labels)
    images = Members(path, found.names, found.shape)
    return archive.Dataset(images, found.targets, found.title, found.classes)


def require_grain() -> None:
    """Raises ValueError where grain is not installed."""
    try:
        import grain  # noqa: F401
    except ImportError:
        raise ValueError("streaming needs grain: pip install 'edm_jax[grain]'") from None


class _Batches:
    """What grain calls a random-access source: the batch of each step."""

    def __init__(self, make: Callable[[int], Any], start: int, stop: int):
        self._make, self._start, self._stop = make, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        return self._make(self._start + int(index))


def batches(
    dataset: archive.Dataset,
    seed: int,
    batch_size: int,
    *,
    start_step: int = 0,
    stop_step: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    xflip: bool = False,
    workers: int | None = None,
) -> "grain.IterDataset[dict[str, np.ndarray]]":
    """Makes a `grain.IterDataset` of the batches that `loader.batch` makes.

    Args:
      dataset: N images, best of `load`.
      seed: of the run, in [0, 2**64).
      batch_size: of all processes together; may exceed N.
      start_step: the first step; a resumed run gives the step that it has restored.
      stop_step: the step after the last one; by default there is none.
      process_index, process_count: which part of each batch to make.
      xflip: double the data set by a mirrored copy of each image.
      workers: grain's worker processes, each at work on its own step; by default the cores, at
        most 8; 0 decodes in threads. They import the caller's `__main__`, which therefore needs
        its `if __name__ == "__main__"`.

    Returns:
      The data set; `iter` of it has grain's `get_state` and `set_state`.

    Raises:
      ValueError: grain is not installed, a number is out of range, or the batch does not divide
        among the processes.
    """
    require_grain()
    import grain

    loader.check_arguments(dataset, seed, start_step, batch_size, process_index, process_count)
    make = functools.partial(
        loader.batch,
        dataset,
        seed,
        batch_size=batch_size,
        process_index=process_index,
        process_count=process_count,
        xflip=xflip,
    )
    stop = 2**40 if stop_step is None else stop_step
    source = grain.MapDataset.source(_Batches(make, start_step, stop))
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    steps = source.to_iter_dataset(options)
    workers = min(pool.cores(), 8) if workers is None else workers
    if workers:
        _allow_workers()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        steps = steps.mp_prefetch(options)
    return steps


def _allow_workers() -> None:
    """Grain hands absl's flags to its workers, and fails where the program has not read any."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def stream(
    dataset: archive.Dataset,
    seed: int,
    batch_size: int,
    *,
    start_step: int = 0,
    place: Callable[[dict[str, np.ndarray]], Any] | None = None,
    ahead: int = 2,
    **settings: Any,
) -> loader.Stream:
    """Is to `batches` what `loader.stream` is to `loader.batch`: it has a thread put them in place.

    Args:
      dataset: N images, best of `load`.
      seed: of the run, in [0, 2**64).
      batch_size: of all processes together; may exceed N.
      start_step: the first step; a resumed run gives the step that it has restored.
      place: called in the thread on each batch, to put it on the devices while a step runs.
      ahead: how many finished batches wait at most.
      **settings: further ones of `batches`: `stop_step`, `process_index`, `process_count`,
        `xflip`, `workers`.

    Returns:
      An iterator of batches that knows how long it was waited for.

    Raises:
      ValueError: grain is not installed, a number is out of range, or the batch does not divide
        among the processes.
    """
    steps = iter(batches(dataset, seed, batch_size, start_step=start_step, **settings))

    def make(step: int):
        rows = next(steps)
        return rows if place is None else place(rows)

    return loader.Stream(make, start_step, settings.get("stop_step"), ahead)

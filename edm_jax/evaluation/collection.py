"""Numbers of images kept in files as they come: what was killed goes on where it was.

The numbers of an image are a row: its features, or its likelihoods.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from etils import epath

from edm_jax.runtime import files


def collect(
    folder: epath.Path,
    count: int,
    rows: int,
    compute: Callable[[np.ndarray], Iterable[np.ndarray]],
    *,
    part: tuple[int, int] = (0, 1),
) -> Iterator[int]:
    """Computes the rows that are not there yet, and writes a file for every `rows` of them.

    Where `rows` is a multiple of the batch, an image has the same place in its batch whatever was
    there before: its numbers are the same to the last bit.

    Args:
      folder: of the files, which is there. It must be of this measurement alone.
      count: how many images there are, 0 … count - 1.
      rows: images in a file.
      compute: ascending indices of images -> their rows, in that order and in parts.
      part: (which, of how many): the files that this process computes.

    Yields:
      How many images have been dealt with since the last time; those that were there, at once.
    """
    mine = range(part[0] * rows, count, part[1] * rows)
    missing = [start for start in mine if not _file(folder, start).exists()]
    yield sum(min(rows, count - start) for start in mine if start not in set(missing))
    if not missing:
        return
    starts = iter(missing)
    start = next(starts)
    held: list[np.ndarray] = []
    indices = np.concatenate([np.arange(s, min(s + rows, count)) for s in missing])
    for found in compute(indices):
        yield len(found)
        held.append(found)
        while sum(map(len, held)) >= (length := min(rows, count - start)):
            whole = np.concatenate(held)
            with files.whole(_file(folder, start)) as file:
                np.save(file, whole[:length])
            held = [whole[length:]]
            start = next(starts, count)
            if start == count:
                break


def gather(folder: epath.Path, count: int, rows: int) -> np.ndarray:
    """All rows [count, d]; `collect` must have ended in every process.

    Args:
      folder: of the files.
      count: how many images there are.
      rows: images in a file.

    Raises:
      ValueError: a file is damaged.
      OSError: it cannot be read.
    """
    found = []
    for start in range(0, count, rows):
        path = _file(folder, start)
        with path.open("rb") as file:
            try:
                part = np.load(file, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{path}: is damaged ({error}); remove it") from None
        if len(part) != min(rows, count - start):
            raise ValueError(f"{path}: must hold {min(rows, count - start)} rows, got {len(part)}")
        found.append(part)
    return np.concatenate(found)


def _file(folder: epath.Path, start: int) -> epath.Path:
    return folder / f"rows-{start:09d}.npy"

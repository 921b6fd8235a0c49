"""Data sets: the embedded digits, and zip files or folders in the field's format.

An archive holds images (PNG, JPEG, WebP ...; square, all of one size) in any folders, and at its
root `dataset.json`, {"labels": [[name, label], ...]}, whose labels are class indices or vectors;
"left_out" there lists pictures that are beside the images, such as a contact sheet.
Where there are no images, but .npy files, those are latents (`moments`), with labels likewise.
It is decoded once, in parallel, to one uint8 array: in memory, or in a cached memory-mapped file
when it is large.
"""

import contextlib
import glob
import hashlib
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from edm_jax.data import dataset_json, decode, digits, moments
from edm_jax.quoting import quoted
from edm_jax.runtime import files

MEMORY_LIMIT = 4 << 30  # bytes


class Images(Protocol):
    """What is indexed like an array [N, H, W, C], wherever the images are.

    uint8 of images; float32 of latents, whose channels are means and deviations.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


class Dataset(NamedTuple):
    """Images and what is known of each.

    images: uint8 [N, H, W, C], or latents: float32 [N, H, W, 8]; in memory, memory-mapped, or
      decoded when they are asked for.
    targets: int32 [N] class indices, or float32 [N, L] label vectors, or None.
    name: of the archive, without its suffix.
    classes: the names of the classes, one for each of `label_dim`, or ().

    >>> dataset = load("digits")
    >>> len(dataset.images), dataset.resolution, dataset.channels, dataset.label_dim
    (1797, 8, 1, 10)
    """

    images: Images
    targets: np.ndarray | None
    name: str
    classes: tuple[str, ...] = ()

    @property
    def resolution(self) -> int:
        """The height and width of the images, in pixels."""
        return self.images.shape[1]

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB, 4 for latents."""
        return self.images.shape[3] // (2 if self.latents else 1)

    @property
    def latents(self) -> bool:
        """Whether there are means and deviations of latents in place of images."""
        return self.images.shape[3] == moments.CHANNELS

    @property
    def label_dim(self) -> int:
        """The width L of a label: the largest class index + 1, or the length of the vectors."""
        return dataset_json.label_dim(self.targets)

    @property
    def labels(self) -> np.ndarray:
        """All labels, float32 [N, L]; 5 GB for ImageNet, so a batch uses `label_rows`."""
        return self.label_rows(np.arange(len(self.images)))

    def label_rows(self, indices: np.ndarray) -> np.ndarray:
        """Makes the labels of some images: one-hot for classes, vectors as they are.

        Args:
          indices: int [B] which images.

        Returns:
          float32 [B, L], L = 0 where there are no labels.

        >>> load("digits").label_rows(np.array([3]))
        array([[0., 0., 0., 1., 0., 0., 0., 0., 0., 0.]], dtype=float32)
        """
        rows = np.zeros((len(indices), self.label_dim), np.float32)
        if self.targets is not None:
            if self.targets.ndim == 1:
                rows[np.arange(len(indices)), self.targets[indices]] = 1
            else:
                rows[:] = self.targets[indices]
        return rows


def load(
    path: str | os.PathLike,
    *,
    labels: bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    memory_limit: int = MEMORY_LIMIT,
    workers: int | None = None,
    progress: Callable | None = None,
) -> Dataset:
    """Reads a data set: "digits", or a zip file or folder in the field's format.

    Args:
      path: "digits" for the embedded set, else the archive. Images are ordered by name.
      labels: True: there must be labels. False: leave them out. None: take them if there are any.
      cache_dir: where the decoded images of a large archive go; by default edm_jax in the user's
        cache directory ($XDG_CACHE_HOME or ~/.cache on Linux).
      memory_limit: bytes of decoded images above which they go to a file in `cache_dir`, keyed by
        the archive's content: the checksums of a zip's members; names, sizes and times of the
        last change (ctime) of a folder's files.
      workers: processes that decode; by default as many as pay off.
      progress: makes a progress bar, with the arguments of `tqdm.tqdm`; by default none.

    Returns:
      The data set.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: what is wrong, in one line, with the name of the file.
    """
    if os.fspath(path) == "digits":
        images, known = digits.read()
        if labels is False:
            return Dataset(images, None, "digits")
        return Dataset(images, known, "digits", tuple(str(digit) for digit in range(10)))
    path = pathlib.Path(path)
    found = survey(path, labels=labels)
    size = (len(found.names), *found.shape)
    with naming(path):
        dtype = decode.dtype_of(size)
        if np.prod(size, dtype=np.int64) * dtype.itemsize <= memory_limit:
            images = np.empty(size, dtype)
            _decode_into(images, path, found.names, workers, progress)
        else:
            images = _cached(path, found, size, cache_dir, workers, progress)
    return Dataset(images, found.targets, found.title, found.classes)


class Description(NamedTuple):
    """What is known of an archive before it is decoded.

    names: [N] of the images, in order.
    shape: (H, W, C) of each.
    targets: int32 [N] class indices, or float32 [N, L] label vectors, or None.
    classes: the names of the classes, one for each of `label_dim`, or ().
    title: the name of the data set.
    fingerprint: changes when the content does.
    """

    names: list[str]
    shape: tuple[int, int, int]
    targets: np.ndarray | None
    classes: tuple[str, ...]
    title: str
    fingerprint: str


def survey(path: str | os.PathLike, *, labels: bool | None = None) -> Description:
    """Reads the names, the labels and the first image of an archive.

    Args:
      path: the zip file or folder. Images are ordered by name.
      labels: True: there must be labels. False: leave them out. None: take them if there are any.

    Returns:
      What is known of it.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: what is wrong, in one line, with the name of the file.
    """
    path = pathlib.Path(path)
    names, fingerprint = members(path)
    with naming(path), decode.opened(path) as read:
        shape = decode.decode_members(read, names[:1]).shape[1:]
        if shape[0] != shape[1]:
            raise ValueError(f"{names[0]}: images must be square, got {shape[1]}x{shape[0]}")
        table, classes = (None, ()) if labels is False else dataset_json.label_table(read)[:2]
        known = None if table is None else dataset_json.targets_of(table, names)
        if labels and known is None:
            raise ValueError("dataset.json must hold labels, got none")
        classes = dataset_json.one_each(classes, known)
    title = path.stem if path.is_file() else path.name
    return Description(names, shape, known, classes, title, fingerprint)


def members(path: pathlib.Path) -> tuple[list[str], str]:
    """Lists the images of an archive by name, and makes a fingerprint of their content."""
    if path.is_dir():
        listing = ((file, file.stat()) for file in _files_below(path))
        found = [
            # The time of the last change of any kind: no tool that copies can set it.
            (file.relative_to(path).as_posix(), f"{stat.st_size} {stat.st_ctime_ns}")
            for file, stat in listing
        ]
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as file:
                # Of two members of one name the later is the one that is read.
                infos = {info.filename: info for info in file.infolist()}
            found = [(name, f"{info.file_size} {info.CRC}") for name, info in infos.items()]
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise ValueError(
                f"{path}: not a readable zip file ({decode.one_line(error)})"
            ) from None
    else:
        raise FileNotFoundError(f"{path}: no such file or folder")
    with naming(path), decode.opened(path) as read:
        left_out = (dataset_json.about(read) or {}).get("left_out") or []
        if not isinstance(left_out, list):
            raise ValueError(
                f"dataset.json: left_out must be a list of names, got {quoted(left_out)}"
            )
    beside = {name for name in left_out if isinstance(name, str)}
    kept = [item for item in found if item[0] not in beside]
    images, latents = (
        sorted(item for item in kept if _ends(item[0], suffixes))
        for suffixes in (decode.SUFFIXES, (moments.SUFFIX,))
    )
    found = images or latents
    if not found:
        raise ValueError(
            f"{path}: holds no images ({', '.join(decode.SUFFIXES)}; {moments.SUFFIX} of latents)"
        )
    digest = hashlib.sha256("\n".join(f"{name} {key}" for name, key in found).encode())
    return [name for name, _ in found], digest.hexdigest()[:20]


def _files_below(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files in a folder and those below it, through links too, but in no circle."""
    # `rglob` follows links to folders in some versions of Python and not in others.
    for folder, folders, names in os.walk(path, followlinks=True):
        above = pathlib.Path(folder).parents
        if os.path.islink(folder) and os.path.realpath(folder) in map(os.path.realpath, above):
            folders.clear()
            continue
        for file in (pathlib.Path(folder, name) for name in names):
            if file.is_file():
                yield file


def _ends(name: str, suffixes: tuple[str, ...]) -> bool:
    """Tells images from other files, and from what macOS and editors leave in hidden ones."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return name.lower().endswith(suffixes) and not hidden


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Puts the archive's path before what a ValueError says."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {decode.one_line(error)}") from None


def _decode_into(images, path, names, workers, progress) -> None:
    """Fills [N, H, W, C] with the decoded members."""
    bar = progress(total=len(names), desc=f"reading {path.name}", unit="img") if progress else None
    try:
        start = 0
        for block in decode.decode_all(path, names, images.shape[1:], workers=workers):
            images[start : start + len(block)] = block
            start += len(block)
            if bar is not None:
                bar.update(len(block))
    finally:
        if bar is not None:
            bar.close()


def _cached(path, found, size, cache_dir, workers, progress) -> np.ndarray:
    """Memory-maps the decoded images, which are written first where they are not yet there."""
    folder = files.user_cache() if cache_dir is None else pathlib.Path(cache_dir)
    target = folder / f"{found.title}-{found.fingerprint}.npy"
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(target.with_suffix(".lock")) as held:
        if not target.is_file():
            if held:  # then what lies here unfinished was left by a killed process
                for left in target.parent.glob(f"{glob.escape(target.name)}.*.partial"):
                    left.unlink()
            handle, temporary = tempfile.mkstemp(".partial", f"{target.name}.", target.parent)
            os.close(handle)
            try:
                images = np.lib.format.open_memmap(temporary, "w+", decode.dtype_of(size), size)
                files.reserve(temporary)
                _decode_into(images, path, found.names, workers, progress)
                images.flush()
                del images
                os.replace(temporary, target)
            finally:
                pathlib.Path(temporary).unlink(missing_ok=True)
    images = np.load(target, mmap_mode="r")
    if images.shape != size:
        raise ValueError(
            f"the cached {target} must have shape {size}, got {images.shape}: delete it"
        )
    return images

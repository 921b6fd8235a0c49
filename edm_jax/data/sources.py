"""Where images come from when an archive is made: folders, zips, CIFAR, MNIST, LSUN, arrays."""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, ImageOps

from edm_jax.data import archive, arrays, cifar, compressed, dataset_json, decode, moments

KINDS = (
    "a folder or .zip of images or of latents (.npy), a folder of an LSUN lmdb, "
    "cifar-10-python.tar.gz, cifar-100-python.tar.gz, an MNIST-style ...-idx3-ubyte[.gz], .npy, "
    ".npz"
)
Reader = Callable[[Any], tuple[np.ndarray, tuple[str, ...]]]


class Source(NamedTuple):
    """Images to convert.

    items: [N] what `opened` reads: the names of files, or the pixels themselves.
    opened: makes a context manager giving the function from an item to uint8 [H, W, C] (float32
      [H, W, 8] of latents) and, in words, what of the image is not in them.
    targets: [N] a class index, a vector, or None for each image; or None.
    classes: the names of the classes, or ().
    fingerprint: changes when the content does.
    """

    items: Sequence | np.ndarray
    opened: Callable[[], AbstractContextManager[Reader]]
    targets: Sequence | None
    classes: tuple[str, ...]
    fingerprint: str

    def title(self, index: int) -> str:
        """Names an image in messages."""
        item = self.items[index]
        return item if isinstance(item, str) else f"image {index}"


def open_source(path: str | os.PathLike, *, split: str = "train", pad: bool = True) -> Source:
    """Opens whatever holds images.

    Args:
      path: one of `KINDS`.
      split: "train" or "test", where a file has both: CIFAR, and .npz with names like `x_test`.
      pad: give MNIST a black border, from 28 to 32 pixels.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: it is of no known kind, or damaged; in one line.
    """
    path = pathlib.Path(path)
    name = path.name.lower()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir() and (name.endswith("_lmdb") or (path / "data.mdb").is_file()):
        return _lmdb(path)
    if path.is_dir() or name.endswith(".zip"):
        return _files(path)
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return _cifar(path, split)
    if "idx3-ubyte" in name or "idx3.ubyte" in name:
        return _idx(path, pad)
    if name.endswith((".npz", ".npy")):
        return _arrays(path, split)
    raise ValueError(f"{path}: not a known kind of source ({KINDS})")


def _files(path: pathlib.Path) -> Source:
    """A folder or a zip; labels from dataset.json, else from the sub-folders."""
    names, fingerprint = archive.members(path)
    with archive.naming(path), decode.opened(path) as read:
        table, classes, has_table = dataset_json.label_table(read)
    targets = None if table is None else [table.get(name) for name in names]
    if not has_table:
        tops = [name.split("/")[0] if "/" in name else None for name in names]
        folders = sorted({top for top in tops if top is not None})
        if len(folders) > 1:
            index = {folder: i for i, folder in enumerate(folders)}
            targets, classes = [index.get(top or "") for top in tops], tuple(folders)
    key = hashlib.sha256(json.dumps([fingerprint, targets]).encode()).hexdigest()
    return Source(names, functools.partial(_opened_files, path), targets, classes, key)


@contextlib.contextmanager
def _opened_files(path: pathlib.Path) -> Iterator[Reader]:
    with decode.opened(path) as read:
        yield lambda name: _upright(read(name))


def _upright(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes an image file, turned as its EXIF orientation says; and says what is lost."""
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        return moments.read(data), ()
    with decode.opened_image(data) as image:
        lost = decode.losses(image)
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return decode.to_array(ImageOps.exif_transpose(image) if turned else image), lost


@contextlib.contextmanager
def _opened_pixels() -> Iterator[Reader]:
    yield lambda item: (np.asarray(item), ())


def _pixels(
    images: np.ndarray, targets: np.ndarray | None, classes: Sequence[str], key: bytes
) -> Source:
    """Arrays that are in memory or memory-mapped."""
    labels = None if targets is None else targets.tolist()
    fingerprint = hashlib.sha256(key).hexdigest()
    return Source(images, _opened_pixels, labels, tuple(classes), fingerprint)


def _cifar(path: pathlib.Path, split: str) -> Source:
    images, targets, classes = cifar.read(path, split=split)
    return _pixels(images, targets, classes, images.tobytes() + targets.tobytes())


def _read_idx(path: pathlib.Path, dimensions: int) -> np.ndarray:
    """Reads one file of the idx format (http://yann.lecun.com/exdb/mnist): uint8, any shape."""
    data = compressed.read(path)
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{path}: not an idx file of {dimensions}-dimensional uint8")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != np.prod(shape, dtype=np.int64):
        raise ValueError(
            f"{path}: images must have the bytes of shape {shape}, got {len(data) - start}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _idx(path: pathlib.Path, pad: bool) -> Source:
    """MNIST and its relatives, with the labels of the file beside, where there is one."""
    images = _read_idx(path, 3)[..., None]
    if pad and images.shape[1:3] == (28, 28):
        images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    targets = None
    label_name = path.name.replace("images", "labels").replace("idx3", "idx1")
    for candidate in (label_name, label_name.removesuffix(".gz"), label_name + ".gz"):
        if candidate != path.name and path.with_name(candidate).is_file():
            targets = _read_idx(path.with_name(candidate), 1)
            if len(targets) != len(images):
                raise ValueError(
                    f"{candidate}: labels must be {len(images)}, one an image, got {len(targets)}"
                )
            break
    return _pixels(images, targets, (), images.tobytes())


def _arrays(path: pathlib.Path, split: str) -> Source:
    """.npy of images, or .npz with images and, where it has them, labels."""
    try:
        if zipfile.is_zipfile(path):
            names, images, targets, key = arrays.read(path, split)
        else:
            names, targets = [], None
            images = np.load(path, mmap_mode="r", allow_pickle=False)
            with path.open("rb") as file:
                key = hashlib.file_digest(file, "sha256").hexdigest()
    except MemoryError:
        raise
    except Exception as error:  # zip, header and pickle faults come as many kinds
        raise ValueError(f"{path}: cannot be read ({decode.one_line(error)})") from None
    if images is None:
        among = decode.one_line(", ".join(names))
        raise ValueError(f"{path}: must hold an array 'images', got {among}")
    if images.dtype != np.uint8:
        raise ValueError(f"{path}: images must be uint8, got {images.dtype}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        wanted = "[N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels"
        raise ValueError(f"{path}: images must be {wanted}, got the shape {images.shape}")
    if targets is not None:
        targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
        if len(targets) != len(images) or targets.ndim not in (1, 2):
            wanted = f"[{len(images)}] or [{len(images)}, L], one an image"
            raise ValueError(f"{path}: labels must be {wanted}, got the shape {targets.shape}")
        if targets.ndim == 1 and (targets.dtype.kind not in "iu" or targets.min(initial=0) < 0):
            raise ValueError(f"{path}: class labels must be integers from 0, got {targets.dtype}")
    return _pixels(images, targets, (), key.encode())


def _lmdb(path: pathlib.Path) -> Source:
    """An LSUN database: each value is an image file."""
    keys = []
    try:
        with _environment(path) as environment, environment.begin(buffers=True) as transaction:
            # Beside the keys, which in LSUN are hashes of the images, what changes with a value.
            stat = (path / "data.mdb").stat()
            whole = hashlib.sha256(f"{stat.st_size} {stat.st_ctime_ns}".encode())
            for key, value in transaction.cursor():
                keys.append(bytes(key).decode("latin-1"))
                whole.update(f"\n{keys[-1]} {len(value)}".encode())
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # lmdb's own kinds are known only where it is installed
        raise ValueError(f"{path}: not a readable lmdb ({decode.one_line(error)})") from None
    if not keys:
        raise ValueError(f"{path}: the database is empty")
    return Source(keys, functools.partial(_opened_lmdb, path), None, (), whole.hexdigest())


def _environment(path: pathlib.Path):
    try:
        import lmdb
    except ImportError:
        raise ValueError(f"{path}: reading an lmdb needs `pip install lmdb`") from None
    try:
        return lmdb.open(os.fspath(path), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ValueError(f"{path}: not a readable lmdb ({decode.one_line(error)})") from None


@contextlib.contextmanager
def _opened_lmdb(path: pathlib.Path) -> Iterator[Reader]:
    with _environment(path) as environment, environment.begin(buffers=False) as transaction:
        yield lambda key: _upright(transaction.get(key.encode("latin-1")))

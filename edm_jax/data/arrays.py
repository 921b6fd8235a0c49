"""Arrays of an .npz, whose headers and packing are not believed."""

import math
import pathlib
import zipfile

import numpy as np

from edm_jax.data import compressed

RATIO = 256  # published arrays shrink to a 116th (dSprites: masks of 64x64)


def read(
    path: pathlib.Path, split: str
) -> tuple[list[str], np.ndarray | None, np.ndarray | None, str]:
    """Reads the images and labels of an .npz, and nothing else in it.

    Args:
      path: the file.
      split: "train" or "test", for names like `x_test`.

    Returns:
      The names of its members; the images and the labels, or None; what changes with their content.

    Raises:
      ValueError: they would be larger than their bytes are good for, or are damaged; zip files
        raise other kinds too.
    """
    images = ("images", f"x_{split}", f"{split}_images", "x", "data", "arr_0")
    labels = ("labels", f"y_{split}", f"{split}_labels", "y", "arr_1")
    with zipfile.ZipFile(path) as file:
        infos = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        chosen = [next((name for name in each if name in infos), None) for each in (images, labels)]
        found = [None if name is None else _array(file, infos[name]) for name in chosen]
    parts = [f"{name} {infos[name].file_size} {infos[name].CRC}" for name in chosen if name]
    return list(infos), found[0], found[1], " ".join(parts)


def _array(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray | None:
    """An array of an .npz, or None for what is no array; as large as its bytes, or not at all."""
    formats = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    compressed.check_member(info, ratio=RATIO)
    with file.open(info) as member:
        head = member.read(len(np.lib.format.MAGIC_PREFIX) + 2)
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        return None
    with file.open(info) as member:  # numpy makes room for what the header says, before it reads
        version = np.lib.format.read_magic(member)
        shape, _, kind = formats[version](member)
        if math.prod(shape) * kind.itemsize > info.file_size:
            raise ValueError(
                f"{info.filename}: must have the bytes of shape {shape}, got {info.file_size:,}"
            )
    with file.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)

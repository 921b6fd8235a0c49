"""CIFAR-10 and CIFAR-100 from their archives of Python pickles, without executing anything.

A pickle can call any function. This reader lets it build numbers, strings, lists, dicts and byte
arrays, and refuses every other name, before anything of that name is looked up.
"""

import io
import os
import pathlib
import pickle
import tarfile
from collections.abc import Callable

import numpy as np

from edm_jax import checks
from edm_jax.data import compressed

_FILES = {  # split -> files, names of the labels and of the classes
    "cifar-10": (
        {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
        ("labels", "batches.meta", "label_names"),
    ),
    "cifar-100": (
        {"train": ["train"], "test": ["test"]},
        ("fine_labels", "meta", "fine_label_names"),
    ),
}


def read(
    path: str | os.PathLike, *, split: str = "train"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Reads cifar-10-python.tar.gz or cifar-100-python.tar.gz.

    Args:
      path: the archive, as published (https://www.cs.toronto.edu/~kriz/cifar.html).
      split: "train" or "test".

    Returns:
      uint8 [N, 32, 32, 3] images in the order of the files, int32 [N] classes (the fine ones of
      CIFAR-100), and the names of the classes.

    Raises:
      ValueError: it is another archive, or damaged, or a pickle asks for more than data.
    """
    path = pathlib.Path(path)
    checks.one_of("split", split, ("train", "test"))
    try:
        # Unpacked first: what a header announces is then no more than what is there.
        with tarfile.open(fileobj=io.BytesIO(compressed.read(path)), mode="r:") as tar:
            # A sparse member has zeros without end in no bytes.
            whole = (member for member in tar if member.isfile() and not member.issparse())
            files = {pathlib.PurePosixPath(member.name).name: member for member in whole}
            kind = "cifar-10" if "batches.meta" in files else "cifar-100"
            members, (label_key, meta, class_key) = _FILES[kind]

            def content(name: str) -> dict:
                if name not in files:
                    raise ValueError(f"{path}: a CIFAR archive must hold {name}, got none")
                member = tar.extractfile(files[name])
                return _read_pickle(f"{path}: {name}", member.read() if member else b"")

            parts = [_batch(f"{path}: {n}", content(n), label_key) for n in members[split]]
            classes = tuple(_text(name) for name in content(meta).get(class_key, ()))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable tar file ({error})") from None
    images, targets = (np.concatenate(arrays) for arrays in zip(*parts))
    return images, targets, classes


def _batch(title: str, content: dict, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Makes NHWC images and classes from the content of one file."""
    data, labels = content.get("data"), content.get(label_key)
    if not isinstance(data, _Array) or not isinstance(labels, list):
        found = ", ".join(content)[:80] or "nothing"
        raise ValueError(f"{title}: must hold the array data and the list {label_key}, got {found}")
    pixels = data.uint8(title)
    if pixels.ndim != 2 or pixels.shape != (len(labels), 3072):
        wanted = f"({len(labels)}, 3072), a row a label"
        raise ValueError(f"{title}: data must have the shape {wanted}, got {pixels.shape}")
    if not all(type(label) is int and 0 <= label < 1000 for label in labels):
        raise ValueError(f"{title}: {label_key} must be integers from 0, got {str(labels)[:80]}")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.int32)


class _Array:
    """Takes the state of a pickled numpy array; numpy itself never sees it."""

    def __setstate__(self, state) -> None:
        self.state = state

    def uint8(self, title: str) -> np.ndarray:
        """Makes the array, if it is one of bytes in C order."""
        try:
            _, shape, dtype, fortran, data = self.state
            data = data.encode("latin-1") if isinstance(data, str) else data
            if dtype.name not in ("u1", "|u1") or fortran:
                raise TypeError
            return np.frombuffer(data, np.uint8).reshape(shape)
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"{title}: data must be a uint8 array") from None


class _Dtype:
    """Takes the name of a pickled numpy dtype."""

    def __init__(self, name="", *_):
        self.name = _text(name)

    def __setstate__(self, state) -> None:
        pass


def _new_array(*_) -> _Array:
    return _Array()


class _Marker:
    """Stands for `numpy.ndarray`, which a pickle names as an argument only."""


_ALLOWED: dict[tuple[str, str], Callable] = {
    ("numpy", "ndarray"): _Marker,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
}


# In Python: the one in C makes a memo as long as the largest number that a file names.
class _Unpickler(pickle._Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin-1")
        self.left = len(data)

    def _encode(self, text: str, _encoding: str = "latin1") -> bytes:
        """How Python 3 writes bytes in the old protocols: a text, which many may share."""
        self.left -= len(text)
        if self.left < 0:
            raise ValueError("the bytes written as texts must be no more than the file has")
        return text.encode("latin-1")

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _ALLOWED:
            raise ValueError(f"the pickle asks for {module}.{name}, which is not data")
        return _ALLOWED[module, name]


def _read_pickle(title: str, data: bytes) -> dict:
    try:
        content = _Unpickler(data).load()
    except Exception as error:  # damaged pickles fail in many ways
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{title}: cannot be read ({message})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{title}: must hold a dict, got a {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

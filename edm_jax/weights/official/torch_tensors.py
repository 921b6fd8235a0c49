"""Tensors and files as PyTorch pickles them, read without PyTorch and without executing anything.

Two containers exist: the older stream (five pickles, then the raw storages) and, since version
1.6, an uncompressed zip archive. A tensor is a view (offset, sizes, strides, in elements) of a
storage, which is a flat array of one type.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official.pickle_records import ORDERED_DICT, Call, Global, Persistent, parse

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_RANK = 16
_MAX_SIZE = 2**48  # elements: keeps a damaged number from becoming a huge one

_TYPES = {
    Global("torch", name): np.dtype(dtype)
    for name, dtype in {
        "DoubleStorage": "<f8",
        "FloatStorage": "<f4",
        "HalfStorage": "<f2",
        "BFloat16Storage": ml_dtypes.bfloat16,
        "LongStorage": "<i8",
        "IntStorage": "<i4",
        "ShortStorage": "<i2",
        "CharStorage": "i1",
        "ByteStorage": "u1",
        "BoolStorage": "?",
    }.items()
}
PARAMETER = Global("torch._utils", "_rebuild_parameter")
TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
FROM_BYTES = Global("torch.storage", "_load_from_bytes")

STORAGE_GLOBALS = frozenset(_TYPES)
TENSOR_GLOBALS = frozenset({PARAMETER, TENSOR, FROM_BYTES, ORDERED_DICT})


class _StorageId(NamedTuple):
    key: str
    dtype: np.dtype
    size: int  # in elements


class TorchFile(NamedTuple):
    """value: what was saved, as records; storages: by key, flat arrays; size: bytes of the file."""

    value: Any
    storages: dict[str, np.ndarray]
    size: int


class Budget:
    """What the tensors of a file may take together: as many bytes as the file has.

    Many tensors may be views of one storage, so that a small file could describe any amount.
    """

    def __init__(self, size: int):
        self.left = size

    def take(self, size: int) -> None:
        """Counts a copy of `size` stored bytes, before it is made."""
        self.left -= size
        if self.left < 0:
            raise WeightsError("is damaged: the tensors together are larger than the file")


def read_any(data: bytes, allowed: frozenset[Global]) -> TorchFile:
    """Reads a plain pickle, or either container of PyTorch; the content decides.

    Args:
      data: the bytes of the file.
      allowed: globals that the object may name; in a container the storage types too.

    Returns:
      The object and its storages, none for a plain pickle (whose tensors hold their own).

    Raises:
      WeightsError: damaged, or something else.
    """
    if data[:4] == b"PK\x03\x04":
        return read_zip(data, allowed)
    stream = parse(data, allowed)
    if stream.value == _MAGIC:
        return read_legacy(data, allowed)
    if stream.end != len(data):
        raise WeightsError(f"damaged: {len(data) - stream.end} bytes after the pickle")
    return TorchFile(stream.value, {}, len(data))


def read_legacy(data: bytes | memoryview, allowed: frozenset[Global]) -> TorchFile:
    """Reads the older container: magic number, version, system, object, keys, raw storages.

    Args:
      data: the bytes of the stream.
      allowed: globals that the object may name, beside the storage types.

    Returns:
      The object and its storages.

    Raises:
      WeightsError: truncated, foreign, big-endian, or sizes that do not fit the bytes.
    """
    data = memoryview(data).cast("B")
    nothing: frozenset[Global] = frozenset()
    magic = parse(data, nothing, max_opcodes=100)
    if magic.value != _MAGIC:
        raise WeightsError("not a PyTorch stream: the magic number differs")
    version = parse(data, nothing, start=magic.end, max_opcodes=100)
    if version.value != _PROTOCOL:
        raise WeightsError("a PyTorch stream of a version other than 1001")
    system = parse(data, nothing, start=version.end, max_opcodes=1000)
    if type(system.value) is not dict or system.value.get("little_endian") is not True:
        raise WeightsError("a PyTorch stream not marked as little-endian")
    saved = parse(data, allowed | STORAGE_GLOBALS, start=system.end)
    keys = parse(data, nothing, start=saved.end)
    ids = _storage_ids(saved.persistent)
    if type(keys.value) is not list or any(type(key) is not str for key in keys.value):
        raise WeightsError("damaged: the list of storages is not one of names")
    if sorted(keys.value) != sorted(ids):
        raise WeightsError("damaged: the storages listed are not those that tensors use")
    storages, position = {}, keys.end
    for key in keys.value:
        size = int.from_bytes(data[position : position + 8], "little")
        start, end = position + 8, position + 8 + ids[key].size * ids[key].dtype.itemsize
        if end > len(data):
            raise WeightsError(
                f"truncated: a storage of {ids[key].size} elements needs {end - start} bytes, "
                f"{max(0, len(data) - start)} are there"
            )
        if size != ids[key].size:
            raise WeightsError(f"damaged: a storage has {ids[key].size} elements and {size}")
        storages[key] = np.frombuffer(data[start:end], ids[key].dtype)
        position = end
    if position != len(data):
        raise WeightsError(f"damaged: {len(data) - position} bytes after the last storage")
    return TorchFile(saved.value, storages, len(data))


def read_zip(data: bytes, allowed: frozenset[Global]) -> TorchFile:
    """Reads the newer container: a zip archive of data.pkl and one file a storage.

    Args:
      data: the bytes of the archive.
      allowed: globals that the object may name, beside the storage types.

    Returns:
      The object and its storages.

    Raises:
      WeightsError: a damaged archive, a compressed member, sizes that do not fit.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise WeightsError(f"not a PyTorch archive: {error}") from None
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise WeightsError("not a PyTorch archive: no data.pkl in it")

    # Members may overlap: together they must not be larger than the file that holds them. Those
    # that are compressed, the program of a script, are not read.
    stored = [info for info in members.values() if info.compress_type == zipfile.ZIP_STORED]
    if sum(info.file_size for info in stored) > len(data):
        raise WeightsError("not a PyTorch archive: it holds more than it is long")

    def member(name: str) -> bytes:
        info = members.get(roots[0] + name)
        if info is None:
            raise WeightsError(f"not a whole PyTorch archive: {name} is missing")
        if info.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f"not a PyTorch archive: {name} is compressed")
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OSError) as error:
            raise WeightsError(f"damaged archive: {name}: {error}") from None

    if roots[0] + "byteorder" in members and member("byteorder") != b"little":
        raise WeightsError("a PyTorch archive that is not little-endian")
    saved = parse(member("data.pkl"), allowed | STORAGE_GLOBALS)
    storages = {}
    for key, (_, dtype, size) in _storage_ids(saved.persistent).items():
        raw = member(f"data/{key}")
        if len(raw) != size * dtype.itemsize:
            raise WeightsError(
                f"damaged archive: storage {key!r} has {len(raw)} bytes, "
                f"{size * dtype.itemsize} are announced"
            )
        storages[key] = np.frombuffer(raw, dtype)
    return TorchFile(saved.value, storages, len(data))


def array(record: Any, storages: Mapping[str, np.ndarray], budget: Budget) -> np.ndarray:
    """Copies a pickled tensor or parameter out of its storage.

    Args:
      record: the record of a tensor or of a parameter around one.
      storages: those of the file, for tensors that refer to them by key.
      budget: what the copies of the file's tensors may still take.

    Returns:
      A C-contiguous array; bfloat16 becomes float32.

    Raises:
      WeightsError: no tensor, a view that leaves its storage or is larger than it, or more than
        the budget has left.
    """
    if type(record) is Call and record.function == PARAMETER and record.arguments:
        record = record.arguments[0]
    if type(record) is not Call or record.function != TENSOR or len(record.arguments) < 4:
        raise WeightsError("is not a tensor")
    storage, offset, sizes, strides = record.arguments[:4]
    flat = _storage(storage, storages)
    _check_view(flat.size, offset, sizes, strides)
    budget.take(math.prod(sizes) * flat.itemsize)
    view = (
        np.ndarray(
            sizes,
            flat.dtype,
            flat,
            offset * flat.itemsize,
            tuple(stride * flat.itemsize for stride in strides),
        )
        if math.prod(sizes)
        else np.empty(sizes, flat.dtype)
    )
    return np.array(view, np.float32 if flat.dtype == ml_dtypes.bfloat16 else None, order="C")


def _storage(record: Any, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    if type(record) is Persistent:
        key = _storage_id(record).key
        if key in storages:
            return storages[key]
    if type(record) is Call and record.function == FROM_BYTES and len(record.arguments) == 1:
        data = record.arguments[0]
        if type(data) is memoryview:
            inner = read_legacy(data, frozenset())
            if type(inner.value) is not Persistent:
                raise WeightsError("has no storage")
            return inner.storages[_storage_id(inner.value).key]
    raise WeightsError("has no storage")


def _check_view(available: int, offset: Any, sizes: Any, strides: Any) -> None:
    if type(sizes) is not tuple or type(strides) is not tuple or len(sizes) != len(strides):
        raise WeightsError("has sizes and strides that do not belong together")
    if len(sizes) > _MAX_RANK:
        raise WeightsError(f"has {len(sizes)} dimensions")
    if any(type(n) is not int or not 0 <= n < _MAX_SIZE for n in (offset, *sizes, *strides)):
        raise WeightsError("has a negative or otherwise impossible size, stride or offset")
    count = math.prod(sizes)
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    # A stride of zero would make any size fit: no tensor may be larger than what it is stored in.
    if count > available or (count and last >= available):
        raise WeightsError(f"leaves its storage: {count} elements of {available}, last at {last}")


def _storage_ids(records: list[Persistent]) -> dict[str, _StorageId]:
    ids: dict[str, _StorageId] = {}
    for record in records:
        found = _storage_id(record)
        if ids.setdefault(found.key, found) != found:
            raise WeightsError("damaged: two descriptions of one storage")
    return ids


def _storage_id(record: Persistent) -> _StorageId:
    match record.id:
        case ("storage", Global() as kind, str() as key, str(), int() as size, *rest) if (
            type(record.id) is tuple
            and kind in _TYPES
            and type(size) is int
            and 0 <= size < _MAX_SIZE
            and (not rest or (len(rest) == 1 and rest[0] is None))
        ):
            return _StorageId(key, _TYPES[kind], size)
    raise WeightsError("damaged or foreign: a storage reference of another form")

"""The safetensors file format: named arrays, and nothing that could be executed.

A file is eight bytes (the length of the header, little-endian), a JSON header, and the raw arrays
one after the other: https://huggingface.co/docs/safetensors. It is simple enough to need no
dependency, and every claim in the header is checked against the bytes that are there.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from edm_jax.runtime import files
from edm_jax.weights.errors import WeightsError, naming

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_HEADER = 100_000_000  # bytes, the limit of the format
_METADATA = "__metadata__"


def write_safetensors(
    path: str | os.PathLike,
    weights: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays by name; the file appears whole or not at all.

    Args:
      path: the file to make; one that exists is replaced.
      weights: name -> array; their order is kept.
      metadata: texts by name, kept in the header.

    Raises:
      WeightsError: an array of a type that the format does not have, or an unwritable path.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    arrays, end = [], 0
    for name, value in weights.items():
        value = np.asarray(value)
        value = value.astype(value.dtype.newbyteorder("<"), copy=False)
        if value.dtype not in _NAMES or name == _METADATA:
            raise WeightsError(f"{path}: tensor {name!r} of type {value.dtype} cannot be written")
        begin, end = end, end + value.nbytes
        header[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [begin, end],
        }
        arrays.append(value)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # readers map the arrays in place: keep them aligned
    with naming(path), files.whole(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in arrays:
            file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a safetensors file.

    Args:
      path: the file.

    Returns:
      The arrays in the file's order (read-only views of its bytes), and its metadata.

    Raises:
      WeightsError: missing, truncated, or a header that does not describe the bytes.
    """
    with naming(path):
        return parse_safetensors(files.located(path).read_bytes())


def parse_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Takes the arrays out of the bytes of a safetensors file.

    Args:
      data: of the whole file.

    Returns:
      The arrays in the file's order (read-only views of `data`), and its metadata.

    Raises:
      WeightsError: truncated, or a header that does not describe the bytes.
    """
    if len(data) < 8:
        raise WeightsError("truncated: no safetensors header")
    length = struct.unpack("<Q", data[:8])[0]
    if length > min(len(data) - 8, _MAX_HEADER):
        raise WeightsError(f"truncated or no safetensors file: a header of {length} bytes")
    header = _header(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    metadata = header.pop(_METADATA, {})
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise WeightsError("damaged: the metadata is not made of texts")
    entries = []
    for name, entry in header.items():
        match entry:
            case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [begin, end]}:
                if dtype not in _DTYPES:
                    raise WeightsError(f"tensor {name!r} has the unknown type {dtype!r}")
                if any(type(n) is not int or not 0 <= n < 2**48 for n in (*shape, begin, end)):
                    raise WeightsError(f"damaged: tensor {name!r} has an impossible size")
                if len(shape) > 16 or math.prod(shape) * _DTYPES[dtype].itemsize != end - begin:
                    raise WeightsError(f"damaged: tensor {name!r} has not the size of its shape")
                entries.append((begin, end, name, _DTYPES[dtype], shape))
            case _:
                raise WeightsError(f"damaged: tensor {name!r} is not described")
    entries.sort(key=lambda entry: entry[:2])
    weights, position = {}, 0
    for begin, end, name, dtype, shape in entries:
        if begin != position or end > len(body):
            raise WeightsError(f"truncated or damaged: tensor {name!r} is not where it should be")
        weights[name] = np.frombuffer(body[begin:end], dtype).reshape(shape)
        position = end
    if position != len(body):
        raise WeightsError(f"damaged: {len(body) - position} bytes after the last tensor")
    return weights, metadata


def _header(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise WeightsError("damaged: a name occurs twice in the header")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except WeightsError:
        raise
    except (ValueError, RecursionError):
        raise WeightsError("no safetensors file: its header is not JSON") from None
    if type(header) is not dict:
        raise WeightsError("no safetensors file: its header is not an object")
    return header

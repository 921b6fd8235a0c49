"""NumPy's arrays and scalars as they are pickled, read from inert records of the pickle."""

import math
from typing import Any

import numpy as np

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official.pickle_records import Call, Global

_DTYPE = Global("numpy", "dtype")
_NDARRAY = Global("numpy", "ndarray")


def _of_any_version(module: str, name: str) -> frozenset[Global]:
    """A function of NumPy 1 and of NumPy 2, which has it in another place."""
    return frozenset(Global(f"numpy.{core}.{module}", name) for core in ("core", "_core"))


_SCALARS = _of_any_version("multiarray", "scalar")
_RECONSTRUCT = _of_any_version("multiarray", "_reconstruct")  # protocols 2 to 4
_FROM_BUFFER = _of_any_version("numeric", "_frombuffer")  # protocol 5

SCALAR_GLOBALS = _SCALARS | {_DTYPE, Global("_codecs", "encode")}
ARRAY_GLOBALS = _RECONSTRUCT | {_NDARRAY}
GLOBALS = SCALAR_GLOBALS | ARRAY_GLOBALS | _FROM_BUFFER
_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def number(record: Any) -> int | float | bool:
    """The value of a pickled scalar.

    Args:
      record: of numpy's scalar(dtype, bytes), of NumPy 1 or 2.

    Raises:
      WeightsError: no such scalar, or not a number.
    """
    if type(record) is not Call or record.function not in _SCALARS or len(record.arguments) != 2:
        raise WeightsError("is not a number")
    dtype, raw = record.arguments
    kind = _dtype(dtype, "is not a number")
    if type(raw) is not memoryview or len(raw) != kind.itemsize:
        raise WeightsError("is a damaged NumPy scalar")
    return np.frombuffer(raw, kind)[0].item()


def array(record: Any) -> np.ndarray:
    """A pickled array; its numbers are those of the file, and are not copied.

    Args:
      record: of an array, of NumPy 1 or 2 and of any protocol.

    Raises:
      WeightsError: no array of numbers, or a damaged one.
    """
    if type(record) is Call and record.function in _RECONSTRUCT and type(record.state) is tuple:
        match record.state:
            case (1, shape, dtype, bool() as by_columns, raw):
                return _shaped(raw, dtype, shape, "F" if by_columns else "C")
    if type(record) is Call and record.function in _FROM_BUFFER and len(record.arguments) == 4:
        return _shaped(*record.arguments)
    raise WeightsError("is not a NumPy array")


def _shaped(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    kind = _dtype(dtype, "is a NumPy array without a type")
    if (
        type(raw) is not memoryview
        or type(shape) is not tuple
        or any(type(n) is not int or n < 0 for n in shape)
        or order not in ("C", "F")
        or math.prod(shape) * kind.itemsize != len(raw)
    ):
        raise WeightsError("is a damaged NumPy array")
    return np.frombuffer(raw, kind).reshape(shape, order=order)


def _dtype(record: Any, otherwise: str) -> np.dtype:
    if type(record) is not Call or record.function != _DTYPE or not record.arguments:
        raise WeightsError(otherwise)
    code = record.arguments[0]
    if code not in _CODES:
        raise WeightsError("is a NumPy scalar of no plain type")
    order = record.state[1] if type(record.state) is tuple and len(record.state) > 1 else "<"
    return np.dtype(code).newbyteorder(">" if order == ">" else "<")

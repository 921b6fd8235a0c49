"""Tensors out of storages: every layout bit for bit, and every size checked against the bytes."""

import ml_dtypes
import numpy as np
import official_pickles as official
import pytest

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import numpy_records, torch_tensors
from edm_jax.weights.official.pickle_records import parse

ALLOWED = torch_tensors.TENSOR_GLOBALS | numpy_records.SCALAR_GLOBALS
VALUES = np.random.default_rng(0).normal(size=(3, 4, 2, 5)).astype(np.float32)


def read(record, protocol=4):
    return torch_tensors.array(
        parse(official.dumps(record, protocol), ALLOWED).value, {}, torch_tensors.Budget(1 << 30)
    )


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "<i8"])
@pytest.mark.parametrize("layout", [{}, {"order": "F"}, {"step": 3}, {"before": 7, "order": "F"}])
def test_any_layout_bit_for_bit(protocol, dtype, layout):
    values = (VALUES * 100).astype(dtype)
    found = read(official.parameter(official.tensor(values, **layout)), protocol)
    assert found.dtype == dtype
    assert found.flags.c_contiguous and found.flags.writeable
    np.testing.assert_array_equal(found, values)


def test_overlapping_rows_and_empty_and_scalar_tensors():
    flat = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(read(official.view(flat, 1, (2, 2), (1, 2))), [[1, 3], [2, 4]])
    assert read(official.view(flat, 0, (0, 3), (3, 1))).shape == (0, 3)
    assert read(official.view(flat, 5, (), ())) == 5
    assert read(official.tensor(np.zeros((0,), np.float32))).shape == (0,)


def test_bfloat16_becomes_float32():
    values = VALUES.astype(ml_dtypes.bfloat16)
    kind = official.Named("torch", "BFloat16Storage")
    found = read(official.tensor(values.view("<i2"), kind=kind))
    np.testing.assert_array_equal(found, values.astype(np.float32))


FLAT = np.arange(12, dtype=np.float32)
WRONG_VIEWS = {
    "one too many": (0, (13,), (1,)),
    "offset beyond": (12, (1,), (1,)),
    "strides leave": (0, (3, 4), (5, 1)),
    "stride zero, any size": (0, (2**40,), (0,)),
    "several zero strides": (0, (2**20, 2**20), (0, 0)),
    "negative stride": (11, (12,), (-1,)),
    "negative size": (0, (-1,), (1,)),
    "negative offset": (-1, (2,), (1,)),
    "true for one": (0, (True,), (1,)),
    "float size": (0, (2.0,), (1,)),
    "more strides than sizes": (0, (2,), (1, 1)),
    "sizes in a list": (0, [2], (1,)),
    "huge numbers": (0, (2**2000,) * 16, (1,) * 16),
    "40 dimensions": (0, (1,) * 40, (1,) * 40),
}


@pytest.mark.parametrize("parts", WRONG_VIEWS.values(), ids=WRONG_VIEWS.keys())
def test_a_view_stays_in_its_storage(parts):
    with pytest.raises(WeightsError, match="leaves its storage|sizes|size, stride|dimensions"):
        read(official.view(FLAT, *parts))


WRONG_STORAGES = {
    "fewer bytes than announced": ({"size": 13}, "truncated"),
    "petabytes announced": ({"size": 2**50}, "reference of another form"),
    "gigabytes announced": ({"size": 2**40}, "truncated"),
    "more bytes than announced": ({"size": 11}, "elements"),
    "big-endian": ({"little_endian": False}, "little-endian"),
    "unknown type": (
        {"kind": official.Named("torch", "ComplexFloatStorage")},
        "torch.ComplexFloatStorage",
    ),
    "hostile type": ({"kind": official.Named("os", "system")}, "os.system"),
    "type as a text": (
        {"saved": official.Stored(("storage", "FloatStorage", "94742022348768", "cpu", 12, None))},
        "reference of another form",
    ),
    "no reference": ({"saved": ("storage",)}, "storages listed"),
    "another key": (
        {
            "saved": official.Stored(
                ("storage", official.Named("torch", "FloatStorage"), "1", "cpu", 12, None)
            )
        },
        "storages listed",
    ),
}


@pytest.mark.parametrize("change, message", WRONG_STORAGES.values(), ids=WRONG_STORAGES.keys())
def test_a_storage_is_what_it_says(change, message):
    with pytest.raises(WeightsError, match=message):
        read(official.view(FLAT, 0, (12,), (1,), **change))


def test_every_truncation_of_a_storage_is_noticed():
    data = official.legacy(FLAT)
    torch_tensors.read_legacy(data, frozenset())
    for length in range(len(data)):
        with pytest.raises(WeightsError):
            torch_tensors.read_legacy(data[:length], frozenset())
    with pytest.raises(WeightsError, match="after the last storage"):
        torch_tensors.read_legacy(data + b"\0", frozenset())

"""NumPy's arrays and scalars read from pickles of every version, without NumPy's own reader."""

import pickle

import numpy as np
import official_pickles as official
import pytest

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import numpy_records
from edm_jax.weights.official.pickle_records import parse

ALLOWED = numpy_records.GLOBALS


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("numpy", [1, 2])
def test_numpy_scalars_of_both_versions(protocol, numpy):
    record = official.dumps(official.scalar(0.7071067811865476, numpy), protocol)
    assert numpy_records.number(parse(record, ALLOWED).value) == 0.7071067811865476
    real = parse(official.dumps(np.float64(-1.25), protocol), ALLOWED).value
    assert numpy_records.number(real) == -1.25


def test_what_is_no_number():
    short = official.Made(official.SCALARS[2], (official.Made(official.DTYPE, ("f8",)), b"1234"))
    kind = official.Made(official.SCALARS[2], (official.Made(official.DTYPE, ("O8",)), b"12345678"))
    for record in (short, kind, "1"):
        with pytest.raises(WeightsError, match="number|scalar"):
            numpy_records.number(parse(official.dumps(record), ALLOWED).value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i8", "|b1"])
def test_arrays_of_every_protocol(protocol, dtype):
    values = (np.random.default_rng(0).standard_normal((3, 2, 4)) * 9).astype(dtype)
    read_only = values.copy()
    read_only.flags.writeable = False
    for whole in (values, np.asfortranarray(values), values[0, 0, 0, None], read_only):
        found = numpy_records.array(parse(pickle.dumps(whole, protocol), ALLOWED).value)
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, whole)


def test_arrays_of_numpy_1():
    values = np.float32([[1, 2], [3, 4]])
    record = parse(official.dumps(official.ndarray(values, 1)), ALLOWED).value
    np.testing.assert_array_equal(numpy_records.array(record), values)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_arrays(protocol):
    data = pickle.dumps(np.arange(3.0), protocol)
    record = parse(data, ALLOWED).value
    if protocol == 5:
        raw, dtype, shape, order = record.arguments
        for changed in ((raw[:-1], dtype, shape, order), (raw, dtype, (4,), order),
                        (raw, dtype, (-3,), order), (raw, None, shape, order),
                        (raw, dtype, shape, "K")):  # fmt: skip
            record.arguments = changed
            with pytest.raises(WeightsError, match="NumPy array"):
                numpy_records.array(record)
    else:
        for state in (None, (2, *record.state[1:]), (*record.state[:4], b"")):
            record.state = state
            with pytest.raises(WeightsError, match="NumPy array"):
                numpy_records.array(record)
    with pytest.raises(WeightsError, match="no plain type"):
        numpy_records.array(parse(pickle.dumps(np.array(["a"]), protocol), ALLOWED).value)
    with pytest.raises(WeightsError, match="is not a NumPy array"):
        numpy_records.array([1.0])

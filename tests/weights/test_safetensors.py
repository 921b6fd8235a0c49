"""The safetensors format: equal to what its own library writes and reads, and checked."""

import json
import os
import random
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.safetensors import parse_safetensors, read_safetensors, write_safetensors

RNG = np.random.default_rng(0)
WEIGHTS = {
    "b.weight": RNG.normal(size=(3, 4, 1, 1)).astype(np.float32),
    "a.half": RNG.normal(size=(5,)).astype(np.float16),
    "a.double": RNG.normal(size=(2, 2)),
    "a.brain": RNG.normal(size=(3,)).astype(ml_dtypes.bfloat16),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": np.asfortranarray(RNG.normal(size=(4, 3)).astype(np.float32)),
    "integers": np.arange(4),
    "big-endian": np.arange(4, dtype=">f4"),
    "flags": np.array([True, False]),
}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, WEIGHTS, metadata={"format": "pt", "note": "é"})
    weights, metadata = read_safetensors(path)
    assert metadata == {"format": "pt", "note": "é"}
    assert list(weights) == list(WEIGHTS)
    for name, value in WEIGHTS.items():
        assert weights[name].dtype == value.dtype.newbyteorder("<")
        np.testing.assert_array_equal(weights[name], value)
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_the_library_reads_ours_and_we_read_its(tmp_path):
    plain = {name: np.ascontiguousarray(value) for name, value in WEIGHTS.items()
             if value.dtype not in (ml_dtypes.bfloat16, np.dtype(">f4"))}  # fmt: skip
    write_safetensors(tmp_path / "ours", plain, metadata={"format": "pt"})
    safetensors.numpy.save_file(plain, tmp_path / "theirs", metadata={"format": "pt"})
    theirs, metadata = read_safetensors(tmp_path / "theirs")
    assert metadata == {"format": "pt"}
    ours = safetensors.numpy.load_file(tmp_path / "ours")
    for name, value in plain.items():
        for found in (ours[name], theirs[name]):
            assert (found.dtype, found.shape) == (value.dtype, value.shape)
            np.testing.assert_array_equal(found, value)


def made(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


WRONG = {
    "empty": (b"", "truncated"),
    "a header longer than the file": (struct.pack("<Q", 2**62) + b"{}", "header of"),
    "not JSON": (made(b"{]"), "not JSON"),
    "not UTF-8": (made(b'{"\xff": 1}'), "not JSON"),
    "deep": (made(b"[" * 100_000), "not JSON"),
    "a huge integer": (made(b'{"x": ' + b"9" * 10_000 + b"}"), "not JSON|not described"),
    "a list": (made([]), "not an object"),
    "a name twice": (made(b'{"x": 1, "x": 2}'), "twice"),
    "not described": (made({"x": 3}), "'x' is not described"),
    "unknown type": (made({"x": entry(dtype="F8_E4M3")}, bytes(8)), "unknown type 'F8_E4M3'"),
    "negative": (made({"x": entry((-2,), (0, 8))}, bytes(8)), "impossible size"),
    "true": (made({"x": entry((True, 2))}, bytes(8)), "impossible size"),
    "another size": (made({"x": entry((3,))}, bytes(8)), "size of its shape"),
    "a huge shape": (made({"x": entry((2**40, 2**40), (0, 8))}, bytes(8)), "size of its shape"),
    "too few bytes": (made({"x": entry()}, bytes(7)), "'x' is not where it should be"),
    "overlap": (made({"x": entry(), "y": entry()}, bytes(8)), "'y' is not where it should be"),
    "a hole": (made({"x": entry(offsets=(4, 12))}, bytes(12)), "'x' is not where"),
    "too many bytes": (made({"x": entry()}, bytes(9)), "1 bytes after"),
    "metadata": (made({"__metadata__": {"a": 1}}), "not made of texts"),
}


@pytest.mark.parametrize("data, message", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said(tmp_path, data, message):
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"wrong\.safetensors: .*(" + message + ")"):
        read_safetensors(path)


def test_a_text_cannot_be_written(tmp_path):
    with pytest.raises(WeightsError, match="'x' of type <U1 cannot be written"):
        write_safetensors(tmp_path / "x", {"x": np.array(["a"])})
    assert not any(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"x": np.zeros(2)})
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WeightsError, match="x.safetensors: No space left"):
        write_safetensors(path, {"x": np.ones(2)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_no_mutation_does_more_than_raise_the_error(tmp_path):
    write_safetensors(tmp_path / "x", {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)})
    data = (tmp_path / "x").read_bytes()
    rng = random.Random(0)
    read = 0
    for _ in range(3000):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 6))):
            mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del mutant[rng.randrange(len(mutant)) :]
        try:
            weights, _ = parse_safetensors(bytes(mutant))
            assert sum(value.nbytes for value in weights.values()) <= len(mutant)
            read += 1
        except WeightsError:
            pass
    assert 100 < read < 2900

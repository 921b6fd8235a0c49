"""Tuned samplers as a file: the same numbers to the last bit, its place, damage."""

import json

import numpy as np
import pytest

from edm_jax import samplers, timesteps
from edm_jax.tuning import analytic_first_step
from edm_jax.weights.tuned_samplers import TunedSampler, TunedSamplers, beside, load, save


def example():
    tableau = analytic_first_step(samplers.ipndm(timesteps.edm(6)))
    one = TunedSampler("ipndm", tableau, 1 / 3, "heun", 0.7)
    return TunedSamplers("abc", {"guidance": 0.1, "guidance_interval": [0.2, 1.0]}, {5: one})


def test_every_number_comes_back_to_the_last_bit(tmp_path):
    save(example(), tmp_path / "samplers.json")
    found = load(tmp_path / "samplers.json")
    assert found == example()
    table, written = found.samplers[5].tableau, example().samplers[5].tableau
    for name in ("start", "sigma", "weights"):
        assert np.asarray(getattr(table, name)).tobytes() == getattr(written, name).tobytes()


def test_it_is_beside_the_model(tmp_path):
    steps = tmp_path / "run" / "checkpoints" / "12"
    steps.mkdir(parents=True)
    for path in (steps, steps.parent, steps.parent.parent):
        assert beside(path) == tmp_path / "run" / "samplers.json"
    file = tmp_path / "network.pkl"
    file.write_bytes(b"")
    assert beside(file) == tmp_path / "network.pkl.samplers.json"


def changed(**changes):
    content = {"start": [[1, 0]], "sigma": [1.0], "weights": [[[0, 1, 0]]]} | changes
    one = {"name": "a", "tableau": content, "error": 0.1, "fixed": "b", "fixed_error": 0.2}
    return json.dumps({"weights": "abc", "guidance": {}, "samplers": {"1": one}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"weights": "abc"}',
        changed(sigma=[-1.0]),
        changed(sigma=[1.0, 2.0]),
        changed(start="x"),
        changed()[:-9],
    ],
)
def test_anything_else_is_named(tmp_path, text):
    path = tmp_path / "samplers.json"
    path.write_text(changed())
    assert list(load(path).samplers) == [1]
    path.write_text(text)
    with pytest.raises(ValueError, match=r"samplers.json must be what `edm-jax tune` writes"):
        load(path)

"""The Python of the pages that have no test of their own runs, and does what they say."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import instead_of_unets, model_of

import edm_jax
from edm_jax import ideal, normal, objectives, sample_keys
from edm_jax.data import archive
from edm_jax.model import Model
from edm_jax.training.config import Config, LossConfig

DOCS = pathlib.Path(__file__).parents[2] / "docs"
SMALL = edm_jax.ddpmpp(
    resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,), num_blocks=1,
    attn_resolutions=(), dropout=0.0, label_dropout=0.1,
)  # fmt: skip


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def model():
    return model_of(SMALL)


@pytest.fixture
def small_model(monkeypatch):
    """A model with a small network."""
    instead_of_unets(monkeypatch)
    return model_of(SMALL)


@pytest.mark.slow
def test_conditioning_guides(small_model, monkeypatch):
    model = small_model
    monkeypatch.setattr(edm_jax, "load", lambda path: model)
    first, second, *_ = blocks("conditioning.md")
    names = {"edm_jax": edm_jax, "jnp": jnp, "guide": model}
    exec(first.replace("range(100)", "range(2)"), names)
    (part,) = names["parts"]
    assert part.images.shape == (2, 8, 8, 1) and part.finite.all()
    names["sampler"] = edm_jax.samplers.euler(edm_jax.timesteps.edm(3))
    exec(second.replace("range(100)", "range(2)"), names)
    assert next(names["parts"]).finite.all()


@pytest.mark.slow
def test_conditioning_draws_from_a_posterior():
    keys = sample_keys(range(3))
    images, noise, start = (normal(sample_keys(range(n, n + 3)), (32, 32, 3)) for n in (10, 20, 30))
    names = {"images": 0.5 * images, "noise": noise[:, :8, :8], "start_noise": start, "keys": keys}
    names["denoise"] = ideal.gaussian(0.0, 0.5)
    names["final_keys"] = sample_keys(range(40, 43))
    for block in blocks("conditioning.md")[2:]:
        exec(block, names)
        # Either way what is drawn has the measurement, to its noise.
        left = names["operator"](names["x"]) - names["y"]
        assert float(jnp.sqrt(jnp.mean(left**2))) < 0.1


@pytest.mark.slow
def test_restoring_draws_from_a_problem(small_model):
    images = archive.load("digits").images[:2].astype(np.float32) / 127.5 - 1
    names = {"model": small_model, "images": images}
    (code,) = blocks("restoring.md")
    exec(code, names)
    drawn = np.concatenate([part.images for part in names["parts"]])
    assert drawn.shape == (8, 8, 8, 1) and names["parts"][0].finite.all()


def test_data_makes_a_batch(monkeypatch):
    digits = archive.load("digits", labels=True)
    monkeypatch.setattr(archive, "load", lambda path, labels: digits)
    names: dict = {}
    exec(blocks("data.md")[0], names)
    assert names["rows"]["images"].shape == (512, 8, 8, 1)
    assert names["rows"]["labels"].shape == (512, 10)


def test_training_learns_a_variance():
    config = Config(model=SMALL)
    exec(
        blocks("training.md")[0],
        {"config": config, "dataclasses": dataclasses, "LossConfig": LossConfig},
    )
    assert config.model.predicts_variance
    model = Model.build(config.model, {})
    made = objectives.build(config.loss.name, model, variance_weight=config.loss.variance_weight)
    assert isinstance(made, objectives.Objective)


@pytest.mark.slow
def test_weights_round_trip(model, monkeypatch):
    from edm_jax.weights.official import nvidia

    plain = jax.device_get(model)
    kept = nvidia.to_state_dict(plain)
    monkeypatch.setattr(nvidia, "read_pickle", lambda path: kept)
    monkeypatch.setattr(edm_jax, "load", lambda path: plain)
    first, second = blocks("weights.md")
    labels = np.eye(10, dtype=np.float32)[:2]
    names = {"class_labels": labels}
    exec(first, names)
    exec(second, names)
    x = normal(sample_keys(range(2)), (8, 8, 1))
    first, again = map(jax.jit, (names["denoise"], names["model"].denoiser(labels)))
    np.testing.assert_array_equal(again(x, 1.0), first(x, 1.0))

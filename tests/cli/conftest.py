"""A tiny conditional model of 8×8 images, and a copy of it on disk."""

import jax
import numpy as np
import pytest

from edm_jax.model import Model, init_params
from edm_jax.networks import ddpmpp
from edm_jax.weights import save


@pytest.fixture(scope="session")
def model():
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,),
        num_blocks=1, attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    fresh = jax.jit(lambda: init_params(jax.random.key(0), config))()
    # Zero-initialised outputs would hide the labels: move every weight.
    rng = np.random.default_rng(1)
    moved = lambda p: p + 0.05 * rng.standard_normal(p.shape, dtype=np.float32)
    return Model.build(config, jax.tree.map(moved, jax.device_get(fresh)))


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits"
    save(model, path)
    return str(path)

"""A tiny conditional model of 8×8 images, and a copy of it on disk."""

import jax
import pytest

from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.weights import save


@pytest.fixture(scope="module")
def model(small_networks):
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,),
        num_blocks=1, attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    return jax.jit(Model.init, static_argnums=1)(jax.random.key(0), config)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits"
    save(model, path)
    return str(path)

"""A tiny conditional model of 8×8 images and a copy of it on disk; one of latents, and latents."""

import jax
import numpy as np
import pytest
from small_network import model_of

from edm_jax.data import moments
from edm_jax.model import Model
from edm_jax.networks import ddpmpp, edm2
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


@pytest.fixture(scope="module")
def latent_model(small_networks):
    """A model of latents whose F is zero, so that all that is done with it is a linear map."""
    config = edm2(
        resolution=4, channels=4, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(),
    )  # fmt: skip
    return model_of(config, scale=0.0)


@pytest.fixture(scope="module")
def saved_latent_model(latent_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "latents"
    save(latent_model, path)
    return str(path)


@pytest.fixture(scope="module")
def latent_data(tmp_path_factory):
    """A folder of forty latents [4, 4], and their moments [40, 4, 4, 8]; the first two are sure."""
    found = np.random.default_rng(0).normal(size=(40, 4, 4, 8)).astype(np.float32)
    found[..., 4:] = np.abs(found[..., 4:]) * 4
    found[:2, ..., 4:] = 0
    folder = tmp_path_factory.mktemp("latents")
    for i, each in enumerate(found):
        (folder / f"{i:02d}.npy").write_bytes(moments.write(each))
    return str(folder), found

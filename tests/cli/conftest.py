"""A tiny conditional model of 8×8 images, and a copy of it on disk."""

import jax
import pytest

from edm_jax.model import Model, ddpmpp


@pytest.fixture(scope="session")
def model():
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,),
        num_blocks=1, attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    fresh = Model.init(jax.random.key(0), config)
    # Zero-initialised outputs would hide the labels: move every weight.
    keys = iter(jax.random.split(jax.random.key(1), 200))
    return fresh.replace(
        params=jax.tree.map(
            lambda p: p + 0.05 * jax.random.normal(next(keys), p.shape), fresh.params
        )
    )


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits"
    model.save(path)
    return str(path)

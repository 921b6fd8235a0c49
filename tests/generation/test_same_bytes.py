"""An image is the same bytes on any number of devices, whatever is drawn beside it."""

import jax
import numpy as np
import pytest
from small_network import SmallNetwork

from edm_jax import generation, timesteps
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.samplers import Churn, heun


def images_of(model, seeds, batch_size=2, devices=8, churn=None):
    tableau = heun(timesteps.edm(4), churn=churn)
    parts = generation.generate(model, tableau, seeds, batch_size=batch_size, devices=devices)
    return np.concatenate([part.images for part in parts])


@pytest.fixture(scope="module")
def unet():
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,),
        num_blocks=1, attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    model = jax.jit(Model.init, static_argnums=1)(jax.random.key(0), config)
    # Zero-initialised outputs would hide the labels: move every weight.
    rng = np.random.default_rng(1)
    moved = lambda p: p + 0.05 * rng.standard_normal(p.shape, dtype=np.float32)
    return model.replace(params=jax.tree.map(moved, jax.device_get(model.params)))


def same_bytes(model, seeds, churn=None):
    """The images on eight devices, which are those on one."""
    eight = images_of(model, seeds, churn=churn)
    np.testing.assert_array_equal(images_of(model, seeds, devices=1, churn=churn), eight)
    assert np.std(eight.astype(float), axis=0).min() > 0
    return eight


@pytest.mark.slow
def test_an_image_is_the_same_bytes_on_any_number_of_devices(unet):
    small = SmallNetwork()
    inputs = [np.zeros((1, *n), np.float32) for n in ((8, 8, 1), (), (10,))]
    params = jax.jit(small.init)(jax.random.key(1), *inputs)["params"]
    model, seeds, churn = unet.replace(network=small, params=params), range(19), Churn(s_churn=2.0)
    eight = same_bytes(model, seeds, churn)
    # Its neighbours and its place do not matter either.
    back = images_of(model, seeds[::-1], devices=1, churn=churn)
    np.testing.assert_array_equal(back[::-1], eight)
    # At another batch size the arithmetic may differ in the last place.
    other = images_of(model, seeds, batch_size=3, devices=1, churn=churn)
    assert np.abs(other.astype(int) - eight).max() <= 1


@pytest.mark.slow
def test_an_image_of_a_unet_is_the_same_bytes_on_one_device_and_eight(unet):
    same_bytes(unet, range(16))

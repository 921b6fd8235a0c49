"""A model's denoiser on the host: the same bytes whatever the batch and the devices."""

import jax
import numpy as np
import pytest

from edm_jax.generation import host_denoiser
from edm_jax.model import Model
from edm_jax.networks import ddpmpp

X = 5.0 * np.random.default_rng(0).standard_normal((11, 8, 8, 1), np.float32)
LABELS = np.array([0, 3, -1, 9, 1, 2, 3, -1, 5, 6, 7], np.int32)


@pytest.fixture(scope="module")
def model(small_networks):
    config = ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,),
        num_blocks=1, attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    return jax.jit(Model.init, static_argnums=1)(jax.random.key(0), config)


@pytest.mark.slow
def test_it_is_the_model_s_denoiser(model):
    found = host_denoiser(model, batch_size=4, devices=2)(X, 1.5, LABELS)
    one_hot = jax.nn.one_hot(LABELS, 10)
    expected = jax.jit(lambda x, y: model.denoiser(y)(x, 1.5))(X, one_hot)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    other = host_denoiser(model, batch_size=4, devices=2)(X, 1.5, LABELS[::-1])
    assert np.abs(other - found).max() > 1e-3


def test_the_bytes_do_not_depend_on_devices_or_neighbours(model):
    wanted = host_denoiser(model, batch_size=4, devices=1)(X, 1.5, LABELS)
    for devices in (2, 8):
        found = host_denoiser(model, batch_size=4, devices=devices)(X, 1.5, LABELS)
        assert found.tobytes() == wanted.tobytes()
    few = host_denoiser(model, batch_size=4, devices=2)(X[3:5], 1.5, LABELS[3:5])
    assert few.tobytes() == wanted[3:5].tobytes()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"devices": 9}, "devices must be 1 to 8"),
    ],
)
def test_what_is_not_allowed_is_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        host_denoiser(model, **options)

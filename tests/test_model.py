"""A model: its denoisers, and what it says of itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import model_of

from edm_jax import preconditioning
from edm_jax.model import Model
from edm_jax.networks import ddpmpp


def tiny(**changes):
    """A model without numbers."""
    config = ddpmpp(
        resolution=8, channels=1, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), **changes,
    )  # fmt: skip
    return jax.eval_shape(lambda key: Model.init(key, config), jax.random.key(0))


def test_it_says_in_a_line_what_it_is():
    assert repr(tiny(label_dim=3)) == (
        "Model(song, 8x8x1, 3 classes, preconditioner edm, 10,625 parameters)"
    )
    assert "no classes" in repr(Model.build(ddpmpp(), None))


def test_a_denoiser_with_a_variance_is_the_denoiser_and_more(small_networks):
    model = model_of(tiny(learned_variance=True).config)
    x = jnp.linspace(-1, 1, 2 * 64).reshape(2, 8, 8, 1)

    @jax.jit
    def each(model, x):
        c_in, c_noise = model.preconditioner.c_in, model.preconditioner.c_noise
        sigma = jnp.float32(0.7)
        raw = model.network.apply({"params": model.params}, c_in(sigma) * x, c_noise(sigma))
        return model.denoiser_with_variance()(x, 0.7), model.denoiser()(x, 0.7), raw

    (denoised, v), alone, raw = each(model, x)
    np.testing.assert_array_equal(denoised, alone)
    assert raw.shape == (2, 8, 8, 2) and np.std(raw) > 0.1
    np.testing.assert_allclose(v, 0.5 * (raw[..., 1:] + 1), atol=1e-6)
    with pytest.raises(ValueError, match="must have 2 channels to predict a variance, got 1"):
        jax.eval_shape(lambda model: model.denoiser_with_variance()(x, 0.7), tiny())


def test_equal_configurations_share_what_is_static():
    first, second = Model.build(ddpmpp(), None), Model.build(ddpmpp(), None)
    assert first.preconditioner is second.preconditioner is preconditioning.build("edm")
    assert jax.tree.structure(first) == jax.tree.structure(second)

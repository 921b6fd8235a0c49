"""Networks that are told how far to jump: at first they do not listen, then they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.model import Model, init_params
from edm_jax.networks import adm, classifier, ddpmpp, edm2
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import nvidia
from edm_jax.weights.official.names import flatten

SMALL = dict(resolution=8, channels=1, channel_mult=(1,), num_blocks=1, attn_resolutions=())
MAKE = {
    "song": lambda **more: ddpmpp(model_channels=16, **SMALL, **more),
    "dhariwal": lambda **more: adm(model_channels=64, **SMALL, **more),
    "edm2": lambda **more: edm2(model_channels=64, **SMALL, **more),
}
ADDED = {
    "song": {"map_jump/kernel": (16, 16)},
    "dhariwal": {"map_jump/kernel": (64, 64)},
    "edm2": {"emb_jump/kernel": (64, 64), "emb_jump_gain": ()},
}


def shapes(config):
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    return {"/".join(path): leaf.shape for path, leaf in flatten(params).items()}


@pytest.mark.parametrize("kind", MAKE)
def test_it_is_one_layer_more(kind):
    without, given = shapes(MAKE[kind]()), shapes(MAKE[kind](flow_map=True))
    assert given == without | ADDED[kind] and not set(without) & set(ADDED[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["song", "edm2"])  # the other is told as song is
def test_before_training_it_is_the_network_without_and_then_it_listens(kind):
    config = MAKE[kind](flow_map=True, dropout=0.0)
    rng = np.random.default_rng(0)
    x = jnp.tile(jnp.asarray(rng.normal(size=(1, 8, 8, 1)), jnp.float32), (3, 1, 1, 1))
    c_noise, jumps = jnp.full(3, 0.7), jnp.array([0.3, 0.29, 0.31])
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    drawn = lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype("f") if leaf.ndim else np.ones(())
    params = jax.tree.map(drawn, like)
    silent = dict(params) | {
        name: jax.tree.map(jnp.zeros_like, params[name])
        for name in ("map_jump", "emb_jump_gain")
        if name in params
    }
    plain = {name: leaf for name, leaf in silent.items() if "jump" not in name}
    net, own = config.network(), MAKE[kind](dropout=0.0).network()

    @jax.jit
    def run(params):
        apply = lambda jumps: net.apply({"params": params}, x, c_noise, jump=jumps)
        return jax.jvp(apply, (jumps,), (jnp.ones(3),))

    first, _ = run(silent)
    without = jax.jit(own.apply)({"params": plain}, x, c_noise)
    later, slope = run(params)
    np.testing.assert_allclose(first, without, rtol=1e-5, atol=1e-5)
    assert np.abs(later - first).max() > 1e-3
    apart = (later[2] - later[1]) / 0.02
    np.testing.assert_allclose(slope[0], apart, atol=1e-2 * np.abs(slope).max())


def test_a_jump_is_checked():
    net = MAKE["song"]().network()
    x = jnp.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match="jump must be left out for a network that is no flow map"):
        jax.eval_shape(net.init, jax.random.key(0), x, jnp.zeros(2), jump=jnp.zeros(2))
    net = MAKE["song"](flow_map=True).network()
    with pytest.raises(ValueError, match="jump must have 1 or 2 values, got 3"):
        jax.eval_shape(net.init, jax.random.key(0), x, jnp.zeros(2), jump=jnp.zeros(3))
    with pytest.raises(ValueError, match="model.flow_map must be True of a network that jumps"):
        Model.build(MAKE["song"](), None).flow_map()


def test_what_official_files_and_classifiers_cannot_hold():
    with pytest.raises(WeightsError, match="flow_map must be False for an official network"):
        nvidia.to_state_dict(Model.build(MAKE["song"](flow_map=True), {}))
    with pytest.raises(ValueError, match="flow_map must be False for a classifier, got True"):
        classifier.Classifier(8, 1, 10, flow_map=True)

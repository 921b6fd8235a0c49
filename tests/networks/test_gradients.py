"""Derivatives: forward and backward agree, rematerialisation changes memory only."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import network_cases as cases
import numpy as np
import pytest

from edm_jax.networks import Classifier
from edm_jax.networks.block import UNetBlock
from edm_jax.networks.config import ARCHITECTURES
from edm_jax.networks.edm2 import EDM2UNet
from edm_jax.randomness import sample_keys

JAX = tuple(int(part) for part in jax.__version__.split(".")[:2])


def training_loss(net):
    """A loss of the parameters with dropout on."""
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    c_noise = np.array([-1.0, 0.5], np.float32)

    def loss(params):
        f = net.apply({"params": params}, x, c_noise, dropout_keys=sample_keys([1, 2]))
        return jnp.square(f - x).mean()

    return loss


def recomputed(net):
    """How many blocks a network's program recomputes, and how many it has."""
    params = cases.abstract_params(net)
    jaxpr = jax.make_jaxpr(training_loss(net))(params)
    text = jax.make_jaxpr(jax.grad(training_loss(net)))(params).pretty_print(use_color=False)
    outer = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("checkpoint", "remat2")]
    convolutions = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "conv_general_dilated"]
    blocks = sum("norm0" in layer for layer in params.values())
    return len(outer), len(convolutions), blocks, text.count("conv_general_dilated")


@pytest.mark.slow
def test_remat_recomputes_each_block():
    settings = dict(channel_mult=(1,), attn_resolutions=(8,))
    _, outside, blocks, stored = recomputed(cases.small("ddpmpp", **settings))
    assert outside == 2 * blocks + 2
    units, outside, _, again = recomputed(cases.small("ddpmpp", remat=True, **settings))
    # One unit a block and one norm at the end; the first and the last convolution stay out.
    assert (units, outside) == (blocks + 1, 2)
    assert again > stored


@pytest.mark.skipif(JAX < (0, 11), reason="XLA for CPUs undoes rematerialisation before jax 0.11")
def test_remat_saves_memory():
    settings = dict(channel_mult=(1,), attn_resolutions=(8,))
    sizes = []
    for remat in (False, True):
        net = cases.small("ddpmpp", remat=remat, **settings)
        lowered = jax.jit(jax.grad(training_loss(net))).lower(cases.abstract_params(net))
        sizes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    assert sizes[1] < sizes[0]


def cosines(block, *inputs):
    """Parameters of a block that are nowhere zero."""
    return jax.tree.map(
        lambda leaf: np.float32(
            np.cos(np.arange(leaf.size)).reshape(leaf.shape) / leaf.shape[-1] ** 0.5
        ),
        jax.eval_shape(block.init, jax.random.key(0), *inputs),
    )


@pytest.mark.slow
@pytest.mark.parametrize("resample, adaptive", [("up", True), ("down", False)])
def test_forward_and_backward_derivatives_agree(resample, adaptive):
    # Likelihoods take forward derivatives, training takes backward ones.
    block = UNetBlock(16, resample, heads=2, adaptive_scale=adaptive, resample_filter=(1, 3, 3, 1))
    rng = np.random.default_rng(1)
    x, u, w = (jnp.asarray(rng.normal(size=(2, 4, 4, 8)), jnp.float32) for _ in range(3))
    emb = jnp.asarray(rng.normal(size=(2, 6)), jnp.float32)

    params = cosines(block, x, emb)

    @jax.jit
    def products(x, u, w):
        f = lambda x: jnp.tanh(block.apply(params, x, emb)).sum() + (x * w).sum()
        _, tangent = jax.jvp(f, (x,), (u,))
        return tangent, (jax.grad(f)(x) * u).sum()

    forward, backward = products(x, u, w)
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


@pytest.mark.slow
def test_a_rematerialised_block_has_the_same_gradient():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(2, 4, 4, 8)), jnp.float32)
    emb, keys = jnp.asarray(rng.normal(size=(2, 6)), jnp.float32), sample_keys([1, 2])
    settings = dict(heads=1, dropout=0.5)
    params = cosines(UNetBlock(8, **settings), x, emb)

    def gradient(make):
        loss = lambda params: jnp.square(make(8, **settings).apply(params, x, emb, keys)).sum()
        return jax.jit(jax.grad(loss))(params)

    plain, remat = gradient(UNetBlock), gradient(nn.remat(UNetBlock))
    for a, b in zip(jax.tree.leaves(remat), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert np.abs(plain["params"]["qkv"]["kernel"]).max() > 1e-3


def drawn(tree):
    """Parameters that are nowhere zero, for abstract ones: normal, kernels of unit gain."""
    rng = np.random.default_rng(0)

    def leaf(like):
        deviation = (like.size / like.shape[-1]) ** -0.5 if like.ndim > 1 else 0.7
        return (deviation * rng.normal(size=like.shape)).astype(np.float32)

    return jax.tree.map(leaf, tree)


SHALLOW = dict(channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,))
NETWORKS = {
    **{kind: functools.partial(cases.small, kind) for kind in ("ddpmpp", "ncsnpp", "skip", "adm")},
    "edm2": lambda: EDM2UNet(8, 3, 3, model_channels=32, **SHALLOW),
    "classifier": lambda: Classifier(8, 3, 5, model_channels=16, head_channels=16, **SHALLOW),
}


def test_no_architecture_is_left_out():
    assert {type(make()) for make in NETWORKS.values()} == {
        config.module for config in ARCHITECTURES.values()
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_forward_derivatives_of_each_network_are_differences(kind):
    """Inverse problems and likelihoods differentiate a network with respect to its image.

    Continuous-time consistency does so by the noise level too, of networks that embed it by
    positional features: Fourier features are too rough for it.
    """
    net = NETWORKS[kind]()
    of_formula = kind not in ("edm2", "classifier")
    params = cases.formula_params(net) if of_formula else drawn(cases.abstract_params(net))
    rng = np.random.default_rng(3)
    x, v = (jnp.asarray(rng.normal(size=(1, 8, 8, 3)), jnp.float32) for _ in range(2))
    slope = 0.7 if kind in ("ddpmpp", "skip", "adm") else 0.0
    step = 5e-3
    at = jnp.array([0.0, step, -step, 2 * step, -2 * step])

    @jax.jit
    def both(params):
        f = lambda x, c_noise: net.apply({"params": params}, x, c_noise)
        points = x + at[:, None, None, None] * v, slope * at
        return jax.jvp(f, points, (jnp.broadcast_to(v, (5, *v.shape[1:])), jnp.full(5, slope)))

    (_, one, less_one, two, less_two), (forward, *_) = both(params)
    # of fourth order
    difference = (8 * (one - less_one) - (two - less_two)) / (12 * step)
    assert np.linalg.norm(forward - difference) < 2e-3 * np.linalg.norm(difference)

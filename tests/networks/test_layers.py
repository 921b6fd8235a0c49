"""The layers in closed form: norm, embeddings, attention, fused resampling, precision."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.networks import layers
from edm_jax.networks.block import QueryKeyValue, attention
from edm_jax.networks.initialization import Init
from edm_jax.networks.resample import downsample


@pytest.mark.slow
@pytest.mark.parametrize("channels, groups", [(16, 4), (96, 24), (128, 32), (256, 32)])
def test_group_norm_has_the_right_groups(channels, groups):
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 4, 4, channels))
    grouped = x.reshape(2, 16, groups, -1)
    mean = grouped.mean((1, 3), keepdims=True)
    expected = (grouped - mean) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-2)
    scale, bias = np.linspace(0.5, 2, channels), np.linspace(-1, 1, channels)
    expected = expected.reshape(x.shape) * scale + bias
    norms = layers.GroupNorm(eps=1e-2, activate=False), layers.GroupNorm(eps=1e-2)
    variables = {"params": {"scale": np.float32(scale), "bias": np.float32(bias)}}
    both = jax.jit(lambda v, x: [norm.apply(v, x) for norm in norms])
    plain, active = both(variables, np.float32(x))
    np.testing.assert_allclose(plain, expected, atol=2e-5)
    np.testing.assert_allclose(active, expected / (1 + np.exp(-expected)), atol=2e-5)


@pytest.mark.slow
def test_group_norm_survives_a_large_mean():
    x = np.float32(1000 + np.random.default_rng(1).normal(size=(1, 8, 8, 16)))
    exact = np.asarray(x, np.float64).reshape(1, 64, 4, 4)
    exact = (exact - exact.mean((1, 3), keepdims=True)) / exact.std((1, 3), keepdims=True)
    norm = jax.jit(lambda x: layers.normalize(x, jnp.ones(16), jnp.zeros(16), 4, 1e-6))
    found = norm(x)
    np.testing.assert_allclose(found, exact.reshape(x.shape), atol=2e-3)


@pytest.mark.slow
def test_group_norm_computes_in_float32_whatever_comes_in():
    x = np.random.default_rng(2).normal(50.0, 1.0, (1, 4, 4, 16)).astype(jnp.bfloat16)
    norm = layers.GroupNorm(dtype=jnp.bfloat16)
    variables = {"params": {"scale": np.ones(16, np.float32), "bias": np.zeros(16, np.float32)}}
    half = jax.jit(norm.apply)(variables, x)
    full = jax.jit(layers.GroupNorm().apply)(variables, x.astype(np.float32))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, np.asarray(full).astype(jnp.bfloat16))


def test_group_norm_refuses_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="channels must divide into .* groups, got 132"):
        layers.GroupNorm().init(jax.random.key(0), jnp.zeros((1, 2, 2, 132)))


def test_positional_embedding():
    values = np.array([0.0, 1.5, 999.0], np.float32)
    for endpoint, span in ((True, 3), (False, 4)):
        phase = values[:, None] * 1e-4 ** (np.arange(4) / span)
        expected = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
        embed = functools.partial(layers.positional_embedding, channels=8, endpoint=endpoint)
        found = jax.jit(embed)(values)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_fourier_embedding_and_its_frozen_frequencies():
    embed = layers.FourierEmbedding(8)
    values, freqs = np.float32([0.3, -1.2]), np.float32([0.1, -2.0, 5.0, 16.0])
    phase = 2 * np.pi * freqs * values[:, None]
    expected = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
    apply = lambda freqs: embed.apply({"params": {"freqs": freqs}}, values)
    found, gradient = jax.jit(lambda f: (apply(f), jax.grad(lambda f: apply(f).sum())(f)))(freqs)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.asarray(gradient).any()


@pytest.mark.slow
def test_attention_reads_heads_outermost_and_qkv_innermost():
    heads, width, pixels = 2, 3, 5
    channels = heads * width
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, pixels, channels))
    kernel = rng.normal(size=(channels, 3 * channels))
    bias = rng.normal(size=3 * channels)
    expected = np.zeros((2, pixels, heads, width))
    for h in range(heads):
        q, k, v = (
            np.stack(
                [
                    x @ kernel[:, (h * width + c) * 3 + j] + bias[(h * width + c) * 3 + j]
                    for c in range(width)
                ],
                axis=-1,
            )
            for j in range(3)
        )
        logits = q @ k.swapaxes(1, 2) / np.sqrt(width)
        weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected[:, :, h] = weights @ v
    variables = {"params": {"kernel": np.float32(kernel[None, None]), "bias": np.float32(bias)}}
    unit = QueryKeyValue(heads, Init(), jnp.float32)
    found = jax.jit(lambda v, x: attention(*unit.apply(v, x)))(variables, np.float32(x))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_attention_logits_are_float32_under_bfloat16():
    q, k, v = (jax.ShapeDtypeStruct((1, 4, 1, 8), jnp.bfloat16) for _ in range(3))
    jaxpr = str(jax.make_jaxpr(attention)(q, k, v))
    assert "exp" in jaxpr
    for line in jaxpr.splitlines():
        if " exp " in line:
            assert "f32" in line.split("=")[0]


@pytest.mark.slow
@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_fused_down_filters_after_the_convolution(taps):
    # Convolve on a large black canvas, filter it whole, and cut the image's pixels out.
    conv = layers.Conv(5, resample="down", fused=True, resample_filter=taps)
    rng = np.random.default_rng(4)
    x = np.float32(rng.normal(size=(1, 6, 6, 2)))
    kernel, bias = np.float32(rng.uniform(-0.2, 0.2, (3, 3, 2, 5))), np.arange(5, dtype=np.float32)

    @jax.jit
    def both(x):
        canvas = jnp.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
        filtered = downsample(layers.convolve(canvas, kernel, 1), taps)[:, 2:5, 2:5]
        return conv.apply({"params": {"kernel": kernel, "bias": bias}}, x), filtered + bias

    np.testing.assert_allclose(*both(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_one_by_one_convolution_is_the_product(resample):
    rng = np.random.default_rng(5)
    x = np.float32(rng.normal(size=(1, 4, 4, 3)))
    one = layers.Conv(2, 1, resample=resample, resample_filter=(1, 3, 3, 1))
    three = layers.Conv(2, 3, resample=resample, resample_filter=(1, 3, 3, 1))
    params = {"kernel": np.float32(rng.uniform(-0.5, 0.5, (1, 1, 3, 2))), "bias": np.ones(2)}
    padded = params | {"kernel": np.pad(params["kernel"], ((1, 1), (1, 1), (0, 0), (0, 0)))}
    both = jax.jit(lambda x: (one.apply({"params": params}, x), three.apply({"params": padded}, x)))
    np.testing.assert_allclose(*both(x), atol=1e-6)


def precisions(net, dtype, *inputs):
    """The precision of every dot and convolution in a module's program."""
    variables = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    jaxpr = jax.make_jaxpr(net.apply)(variables, *inputs)
    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            named = equation.primitive.name in ("dot_general", "conv_general_dilated")
            if named and equation.invars[0].aval.dtype == dtype:
                found.append(equation.params["precision"])
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    visit(inner)

    visit(jaxpr.jaxpr)
    return found


class Everything(nn.Module):
    """A dense layer, both kinds of convolution and attention."""

    dtype: type

    @nn.compact
    def __call__(self, x):
        x = layers.Conv(8, dtype=self.dtype)(x)
        x = layers.Conv(8, 1, dtype=self.dtype)(x).astype(self.dtype)
        q, k, v = QueryKeyValue(1, Init(), self.dtype)(x.reshape(1, 4, 8))
        return layers.Dense(3)(attention(q, k, v))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_float32_means_float32_on_every_accelerator(dtype):
    found = precisions(Everything(dtype), dtype, np.zeros((1, 2, 2, 4), np.float32))
    wanted = jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    assert len(found) == 6
    assert all(pair in ((wanted, wanted), wanted) for pair in found), found

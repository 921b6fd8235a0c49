"""Layers that keep magnitudes: closed forms, and magnitudes of random inputs."""

import jax
import numpy as np
import pytest

from edm_jax.networks import magnitude_preserving as mp


def rms(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def draws(*shape, key=0):
    return np.random.default_rng(key).normal(size=shape).astype(np.float32)


@pytest.mark.slow
def test_normalize_divides_by_the_root_mean_square_and_a_little():
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    fixed = 0.9999 * np.ones(8, np.float32)
    found, same = jax.jit(lambda x, y: (mp.normalize(x, (-1,)), mp.normalize(y, (0,))))(x, fixed)
    np.testing.assert_allclose(found, [[3 / (1e-4 + 12.5**0.5), 4 / (1e-4 + 12.5**0.5)], [0, 0]])
    assert rms(same) == pytest.approx(0.9999)


@pytest.mark.slow
def test_the_gradient_of_normalize_is_finite_everywhere():
    grad = jax.jit(jax.grad(lambda x: (mp.normalize(x, (-1,)) * np.arange(4.0)).sum()))
    found = grad(np.zeros((2, 4), np.float32))
    np.testing.assert_allclose(found, np.tile(np.arange(4.0) / 1e-4, (2, 1)), rtol=1e-6)


def test_half_precision_has_its_statistics_in_float32():
    x = np.full((1, 4), 3e4, np.float16)  # whose square is infinite in float16
    found = jax.jit(lambda x: mp.normalize(x, (-1,)))(x)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, np.ones((1, 4)), rtol=2e-3)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_sums_and_concatenations_keep_the_magnitude(share):
    a, b = draws(64, 1000), draws(64, 1000, key=1)
    both = jax.jit(lambda a, b: (mp.mix(a, b, share), mp.concatenate(a[:, :100], b, share)))
    mixed, joined = map(np.asarray, both(a, b))
    assert rms(mixed) == pytest.approx(1.0, abs=0.03)
    assert rms(joined) == pytest.approx(1.0, abs=0.03)
    # Both parts contribute as their shares say, whatever their widths.
    parts = [np.square(part).sum() for part in (joined[:, :100], joined[:, 100:])]
    assert parts[1] / parts[0] == pytest.approx((share / (1 - share)) ** 2, rel=0.15)


def test_silu_keeps_the_magnitude_of_normal_values():
    assert rms(jax.jit(mp.silu)(draws(100_000))) == pytest.approx(1.0, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("make", [mp.Dense(64), mp.Conv(64, 1)], ids=["dense", "conv"])
def test_a_layer_keeps_the_magnitude_whatever_its_weights_are_scaled_by(make):
    x = draws(256, 1, 1, 32)

    @jax.jit
    def both(x):
        params = make.init(jax.random.key(0), x)
        scaled = make.apply(jax.tree.map(lambda w: 7 * w, params), x, 0.5)
        return make.apply(params, x), scaled

    found, scaled = map(np.asarray, both(x))
    assert rms(found) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(scaled, 0.5 * found, rtol=3e-4, atol=1e-5)


def test_kernels_are_normalised_by_output_filter_and_nothing_else_is():
    tree = {"a": {"kernel": 3 * draws(3, 3, 8, 5)}, "gain": np.float32(4.0)}
    found = jax.tree.map(np.asarray, jax.jit(mp.normalize_kernels)(tree))
    assert found["gain"] == 4.0
    for i in range(5):
        assert rms(found["a"]["kernel"][..., i]) == pytest.approx(1.0, abs=2e-4)


@pytest.mark.slow
def test_fourier_features_are_of_unit_magnitude_and_are_not_trained():
    layer, values = mp.FourierFeatures(512), np.linspace(-1.0, 1.0, 16, dtype=np.float32)

    @jax.jit
    def made():
        params = layer.init(jax.random.key(0), values)
        grads = jax.grad(lambda p: layer.apply(p, values).sum())(params)
        return params, layer.apply(params, values), grads

    params, features, grads = made()
    assert rms(features) == pytest.approx(1.0, abs=0.05)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))
    freqs, phases = (np.asarray(params["params"][name]) for name in ("freqs", "phases"))
    assert rms(freqs) == pytest.approx(2 * np.pi, rel=0.1)
    assert -np.pi <= phases.min() < -3 and 3 < phases.max() <= np.pi

"""Importance sampling of levels: unbiased, and far less noisy where losses differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.objectives import importance

LOSSES = 1.0 / (1.0 + np.arange(1000.0)) ** 0.9  # of a thousand levels, three decades


update = jax.jit(importance.update)
probabilities = jax.jit(importance.probabilities)


def full():
    losses = np.repeat(LOSSES.astype(np.float32)[:, None], 10, axis=1)
    return importance.History(losses, np.full(1000, 10, np.int32))


def test_draws_are_uniform_until_every_level_has_a_history():
    history = importance.empty(4)
    for _ in range(10):
        np.testing.assert_allclose(probabilities(history), 0.25)
        history = update(history, jnp.arange(4), jnp.array([1.0, 2.0, 3.0, 4.0]))
    expected = 0.999 * np.arange(1.0, 5.0) / 10 + 0.001 / 4
    np.testing.assert_allclose(probabilities(history), expected, rtol=1e-5)


def test_the_estimator_is_unbiased_and_hardly_varies():
    p = np.asarray(probabilities(full()), np.float64)
    estimates = LOSSES / (1000 * p)
    mean = LOSSES.mean()
    assert np.isclose((p * estimates).sum(), mean, rtol=1e-6)
    relative = np.sqrt((p * (estimates - mean) ** 2).sum()) / mean
    assert relative < 0.05 < 1.0 < LOSSES.std() / mean


def test_levels_come_as_often_as_their_probability():
    u = (jnp.arange(100_000) + 0.5) / 100_000
    level, factor = jax.jit(importance.choose)(full(), u)
    p = np.asarray(probabilities(full()), np.float64)
    np.testing.assert_allclose(np.bincount(level, minlength=1000) / 1e5, p, atol=3e-5)
    np.testing.assert_allclose(factor, 1 / (1000 * p[np.asarray(level)]), rtol=1e-5)


def test_a_batch_is_noted_as_if_one_by_one():
    level = np.random.default_rng(0).integers(0, 3, 64)
    loss = np.arange(64.0) + 1
    batched = importance.empty(4)
    for part in range(0, 64, 32):
        batched = update(batched, *map(jnp.asarray, (level[part:][:32], loss[part:][:32])))
    for k in range(3):
        newest = loss[level == k][-10:]
        np.testing.assert_array_equal(np.sort(batched.losses[k]), np.sort(newest))
        assert int(batched.count[k]) == (level == k).sum()
    assert int(batched.count[3]) == 0 and not batched.losses[3].any()


@pytest.mark.slow
def test_no_gradient_flows_into_the_history():
    grad = jax.grad(
        lambda x: importance.update(importance.empty(2), jnp.array([0]), x).losses.sum()
    )(jnp.ones(1))
    assert float(grad[0]) == 0.0

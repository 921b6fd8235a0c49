"""The learned uncertainty: its optimum is the logarithm of the loss."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.objectives import uncertainty

SIGMA = np.geomspace(0.01, 50.0, 64, dtype=np.float32)


@pytest.mark.slow
def test_it_starts_as_the_loss_itself():
    each = np.linspace(0.1, 3.0, 64, dtype=np.float32)

    @jax.jit
    def at_first(each):
        return uncertainty.loss(uncertainty.log_variance(uncertainty.initial(), SIGMA), each)

    found = at_first(each)
    np.testing.assert_array_equal(found, each)


@pytest.mark.slow
def test_its_features_are_cosines_of_the_logarithm():
    """Frequencies at the quantiles of N(0, (2 pi)^2), phases by the golden ratio's fractions."""
    index = np.arange(128)
    normal = statistics.NormalDist(0.0, 2 * np.pi)
    frequency = np.array([normal.inv_cdf((i + 0.5) / 128) for i in index])
    phase = 2 * np.pi * np.modf(index * (5**0.5 - 1) / 2)[0]
    sigmas = np.array([0.02, 1.0, 30.0], np.float32)
    features = jax.jit(jax.vmap(uncertainty.log_variance, (0, None)))
    found = features(np.eye(128, dtype=np.float32), sigmas)
    for sigma, each in zip((0.02, 1.0, 30.0), np.asarray(found).T):
        wanted = np.sqrt(2 / 128) * np.cos(np.log(sigma) / 4 * frequency + phase)
        np.testing.assert_allclose(each, wanted, atol=1e-5)


@pytest.mark.slow
def test_its_optimum_is_the_logarithm_of_the_loss():
    each = np.float32(0.2 + 0.8 / (1 + np.exp(-np.log(SIGMA) - 1)))
    cost = lambda w: uncertainty.loss(uncertainty.log_variance(w, SIGMA), each).mean()

    @jax.jit
    def descend():
        # Newton with a little damping: 128 weights, 64 noise levels.
        def step(w, _):
            hessian = jax.hessian(cost)(w) + 1e-5 * jnp.eye(len(w))
            return w - jnp.linalg.solve(hessian, jax.grad(cost)(w)), None

        w, _ = jax.lax.scan(step, uncertainty.initial(), length=8)
        return uncertainty.log_variance(w, SIGMA), cost(w)

    u, least = descend()
    np.testing.assert_allclose(u, np.log(each), atol=0.02)
    np.testing.assert_allclose(least, (1 + np.log(each)).mean(), rtol=1e-3)

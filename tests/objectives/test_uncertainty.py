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
    u = uncertainty.log_variance(uncertainty.initial(), SIGMA)
    found = jax.jit(uncertainty.loss)(u, each)
    np.testing.assert_array_equal(found, each)


@pytest.mark.slow
def test_its_features_are_cosines_of_the_logarithm():
    """Frequencies at the quantiles of N(0, (2 pi)^2), phases by the golden ratio's fractions."""
    index = np.arange(128)
    normal = statistics.NormalDist(0.0, 2 * np.pi)
    frequency = np.array([normal.inv_cdf((i + 0.5) / 128) for i in index])
    phase = 2 * np.pi * np.modf(index * (5**0.5 - 1) / 2)[0]
    for sigma in (0.02, 1.0, 30.0):
        wanted = np.sqrt(2 / 128) * np.cos(np.log(sigma) / 4 * frequency + phase)
        found = jax.vmap(uncertainty.log_variance, (0, None))(jnp.eye(128), jnp.array([sigma]))
        np.testing.assert_allclose(found[:, 0], wanted, atol=1e-5)


@pytest.mark.slow
def test_its_optimum_is_the_logarithm_of_the_loss():
    each = 0.2 + 0.8 * jax.nn.sigmoid(jnp.log(SIGMA) + 1.0)
    cost = lambda w: uncertainty.loss(uncertainty.log_variance(w, SIGMA), each).mean()

    @jax.jit
    def descend(w):
        # Newton with a little damping: 128 weights, 64 noise levels.
        hessian = jax.hessian(cost)(w) + 1e-5 * jnp.eye(len(w))
        return w - jnp.linalg.solve(hessian, jax.grad(cost)(w))

    w = uncertainty.initial()
    for _ in range(8):
        w = descend(w)
    u = uncertainty.log_variance(w, SIGMA)
    np.testing.assert_allclose(u, jnp.log(each), atol=0.02)
    np.testing.assert_allclose(cost(w), (1 + jnp.log(each)).mean(), rtol=1e-3)

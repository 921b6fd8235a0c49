"""The residual of the Fokker-Planck equation: 0 for ideal denoisers, known for others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, sample_keys
from edm_jax.likelihood import fokker_planck_residual

X = np.random.default_rng(0).standard_normal((5, 2, 2, 1))
LEVELS = np.array([0.05, 0.2, 0.7, 2.0, 40.0])
ROOT = np.random.default_rng(1).standard_normal((4, 4))
IDEAL = {
    "gaussian": ideal.gaussian(0.3, 0.4),
    "coupled": ideal.gaussian(0.1, covariance=ROOT @ ROOT.T),
    "mixture": ideal.mixture(X[:3], np.array([0.2, 0.5, 0.3]), np.array([0.2, 0.3, 0.5])),
}


@pytest.fixture(autouse=True, scope="module")
def in_float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", IDEAL)
@pytest.mark.parametrize("sigma", [0.3, LEVELS], ids=["one", "each"])
def test_ideal_denoisers_have_none(name, sigma):
    found = jax.jit(lambda x: fokker_planck_residual(IDEAL[name], x, sigma, chunk=3))(X)
    assert found.shape == X.shape
    np.testing.assert_allclose(found, 0.0, atol=1e-11)


@pytest.mark.slow
def test_the_density_obeys_the_heat_equation():
    """What the residual stands for, by the densities themselves."""
    density = ideal.mixture_log_prob(np.array([[0.1], [0.9]]), np.array([0.2, 0.5]), np.ones(2))
    p = lambda x, sigma: jnp.exp(density(x.reshape(1, 1), sigma)[0])
    sides = lambda x, sigma: (jax.grad(p, 1)(x, sigma), sigma * jax.grad(jax.grad(p))(x, sigma))
    left, right = jax.jit(sides)(0.4, 0.7)
    assert float(left) == pytest.approx(float(right), rel=1e-10)


@pytest.mark.slow
def test_a_denoiser_of_two_minds_has_what_its_terms_say():
    """D = w(sigma) x with a wrong w: sigma w' x - 2 w (w - 1) x."""
    w = lambda sigma: 1 / (1 + sigma)
    denoise = lambda x, sigma: w(jnp.reshape(sigma, (-1, 1, 1, 1))) * x
    found = jax.jit(lambda x: fokker_planck_residual(denoise, x, LEVELS))(X)
    sigma = LEVELS.reshape(-1, 1, 1, 1)
    expected = (-sigma / (1 + sigma) ** 2 - 2 * w(sigma) * (w(sigma) - 1)) * X
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.slow
def test_a_field_that_turns_is_no_gradient():
    """D = x + 0.1 A x, A antisymmetric: the trace and the level say nothing, the transpose does."""
    turn = np.triu(np.ones((4, 4)), 1) - np.tril(np.ones((4, 4)), -1)
    denoise = lambda x, sigma: x + 0.1 * (x.reshape(-1, 4) @ turn).reshape(x.shape)
    found = np.asarray(jax.jit(lambda x: fokker_planck_residual(denoise, x, 0.5))(X))
    row = 0.1 * X.reshape(-1, 4) @ turn
    expected = -2 * (row + 0.1 * row @ turn.T)
    np.testing.assert_allclose(found.reshape(-1, 4), expected, atol=1e-12)


@pytest.mark.slow
def test_probes_are_right_on_average():
    call = lambda keys: fokker_planck_residual(
        IDEAL["mixture"], X, 0.7, keys=keys, probes="rademacher", num_probes=20
    )
    found = np.asarray(jax.jit(jax.vmap(call))(sample_keys(range(500)).reshape(100, 5)))
    error = found.std(axis=0) / 10
    assert error.max() > 1e-4 and (np.abs(found.mean(axis=0)) < 4.5 * error + 1e-12).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="x must be floating"):
        fokker_planck_residual(IDEAL["gaussian"], np.arange(3), 1.0)
    with pytest.raises(ValueError, match="keys must be given for gaussian probes"):
        fokker_planck_residual(IDEAL["gaussian"], X, 1.0, probes="gaussian")

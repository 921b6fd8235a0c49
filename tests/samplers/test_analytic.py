"""The posterior variance that Analytic-DPM needs, measured on data of known posterior variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import samplers, timesteps
from edm_jax.samplers import analytic

STD = 0.5
LEVELS = timesteps.edm(10)
KEY = jax.random.key(0)


def ideal(x, sigma):
    return STD**2 / (STD**2 + sigma**2) * x


@pytest.fixture(scope="module")
def data():
    return STD * np.random.default_rng(0).standard_normal((500, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def measured(data):
    return analytic.estimate(ideal, [data[:200], data[200:400], data[400:]], LEVELS, KEY)


@pytest.mark.slow
def test_the_variance_is_that_of_the_posterior(measured):
    exact = STD**2 * LEVELS[:-1] ** 2 / (STD**2 + LEVELS[:-1] ** 2)
    for sigma, variance in zip(LEVELS, exact):
        assert abs(measured(sigma) / variance - 1) < 0.03, sigma
    for sigma in (200.0, 0.5, 3.0, 0.001):  # between and outside of the levels
        variance = STD**2 * sigma**2 / (STD**2 + sigma**2)
        assert abs(measured(sigma) / variance - 1) < 0.03, sigma


def test_batches_do_not_matter(data, measured):
    whole = analytic.estimate(ideal, [data], LEVELS, KEY)
    np.testing.assert_allclose(whole.value, measured.value, rtol=0, atol=1e-6)


def test_the_sampler_it_makes_is_nearly_exact_where_ddpm_is_not(measured):
    deviation = lambda tableau: np.sqrt(samplers.moments(tableau, 0.0, STD**2)[1]) / STD
    assert abs(deviation(samplers.analytic_dpm(LEVELS, posterior_variance=measured)) - 1) < 0.03
    assert abs(deviation(samplers.ddpm(LEVELS)) - 1) > 0.3
    capped = samplers.analytic_dpm(LEVELS, posterior_variance=measured, last_noise=0.0)
    assert capped.weights[-1, 0, 2] == 0


def test_variances_stay_in_their_range():
    wild = analytic.PosteriorVariance(np.array([80.0, 1.0, 0.1]), np.array([0.9, 1.3, 0.5]))
    assert wild(80.0) == 1.0  # of data in [-1, 1]
    assert wild(1.0) < 1e-9
    assert wild(80.0, limit=0.25) == 0.25


def test_no_data_is_an_error():
    with pytest.raises(ValueError, match="batches must hold at least one example"):
        analytic.estimate(lambda x, s: jnp.zeros_like(x), [], LEVELS, KEY)


@pytest.mark.slow
def test_an_error_of_the_denoiser_adds_its_square(data):
    """E |y - D|^2 grows by e^2 at every sigma; E |eps|^2 would lose what correlates with n."""
    wrong = lambda x, sigma: ideal(x, sigma) + 0.3 * jnp.tanh(x / sigma)
    found = analytic.estimate(wrong, [data], LEVELS, KEY)
    exact = analytic.estimate(ideal, [data], LEVELS, KEY)
    normal = np.random.default_rng(1).standard_normal(100_000)
    for sigma in LEVELS[LEVELS > 1]:
        square = 0.09 * (np.tanh(np.hypot(1, STD / sigma) * normal) ** 2).mean()
        more = found(sigma) - exact(sigma)
        assert abs(more / square - 1) < 0.1, sigma

"""Particle filters against the exact posterior of what the sampler draws from a Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, inverse, normal, sample_keys, samplers, timesteps

MEAN, STD = 0.3, 1.0
PRIOR = ideal.gaussian(MEAN, STD)
GRID = timesteps.edm(7, sigma_min=0.1, sigma_max=5.0)
A, Y, SIGMA_Y = np.array([1.0, 0.5]), 1.5, 0.5
# name -> (the sampler, whether particles follow the gradient)
FILTERS = {
    "twisted ddpm": (samplers.ddpm(GRID), True),
    "twisted ancestral": (samplers.euler_ancestral(GRID, eta=0.7), True),
    "steered ddpm": (samplers.ddpm(GRID), False),
    "steered dpmpp_2m": (samplers.dpmpp_2m(GRID, eta=1.0), False),
}


# Half of the data's variance: the potential is not the best one, and weights have work to do.
PRIOR_VARIANCE = 0.5


def potential(batch, gradient=True):
    operator = inverse.from_matrix(A[None], (2,))
    given = {"prior_variance": PRIOR_VARIANCE} if gradient else {}
    return inverse.log_likelihood(operator, jnp.full((batch, 1), Y), SIGMA_Y, **given)


@functools.cache
def filtered(name, batch, count):
    tableau, gradient = FILTERS[name]

    @jax.jit
    def run(keys):
        noise = normal(keys, (count, 2))
        return inverse.particle_filter(
            PRIOR, potential(batch, gradient), tableau, noise, keys, gradient=gradient
        )

    return run(sample_keys(range(batch)))


def exact(name):
    """(p(y), posterior mean, posterior covariance) under the Gaussian that a sampler draws."""
    tableau, gradient = FILTERS[name]
    mean, variance = samplers.moments(tableau, MEAN, STD**2)
    rho2 = 1 / (1 / PRIOR_VARIANCE + 1 / tableau.sigma[-1] ** 2) if gradient else 0.0
    spread = (variance + rho2) * A @ A + SIGMA_Y**2
    misfit = Y - A.sum() * mean
    evidence = np.exp(-0.5 * misfit**2 / spread) / np.sqrt(2 * np.pi * spread)
    gain = variance * A / spread
    return evidence, mean + gain * misfit, variance * (np.eye(2) - np.outer(gain, A))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
def test_the_evidence_and_what_it_weighs_have_no_bias(name):
    """With four particles alone: the mean over many filters, within its deviation."""
    found = filtered(name, 4096, 4)
    evidence, mean, cov = exact(name)
    x0 = np.asarray(found.x0, np.float64)
    share = np.exp(np.asarray(found.log_evidence, np.float64)) / evidence
    weights = np.exp(np.asarray(found.log_weights, np.float64)) * share[:, None]
    ones = np.ones_like(x0[..., :1])
    powers = np.concatenate([ones, x0, (x0[..., :1] - mean[0]) * (x0 - mean)], axis=-1)
    each = (weights[..., None] * powers).sum(1)  # of each filter: unbiased of p(y) E[power | y]
    error = each.mean(0) - np.concatenate([[1.0], mean, cov[0]])
    assert (np.abs(error) < 4 * each.std(0) / np.sqrt(len(each))).all(), error
    assert (each.std(0) / np.sqrt(len(each)) < 0.04).all()


@pytest.mark.slow
def test_draws_approach_the_posterior():
    name = "steered ddpm"
    _, mean, cov = exact(name)
    errors = []
    for count in (2, 32):
        found = filtered(name, 2048, count)
        drawn = np.asarray(jax.jit(lambda f, k: f.draw(k))(found, sample_keys(range(5000, 7048))))
        errors.append(np.abs(drawn.mean(0) - mean).max())
    assert errors[0] > 2 * errors[1]  # the bias is of order 1 / P
    assert errors[1] < 4 * np.sqrt(cov.diagonal().max() / 2048)
    np.testing.assert_allclose(np.cov(drawn.T), cov, atol=0.06)


@pytest.mark.slow
def test_the_weights_with_variance_are_of_the_marginal():
    """log N(y; A D, sigma_y^2 + rho^2 A A^T), by the formula."""
    box = inverse.box_downsample((4, 4, 1), 2)
    x = normal(sample_keys(range(3)), (4, 4, 1))
    y = box(x) + 0.3
    log = lambda **prior: jax.jit(inverse.log_likelihood(box, y, 0.2, **prior))(x, 0.7)
    got = log(prior_variance=0.5)
    variance = 0.2**2 + (1 / (1 / 0.5 + 1 / 0.7**2)) / 4
    expected = -0.5 * 4 * (0.3**2 / variance + np.log(2 * np.pi * variance))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(log(), log(prior_variance=1e-12), rtol=1e-4)


@pytest.mark.slow
def test_one_particle_is_the_sampler():
    keys = sample_keys(range(3))
    noise = normal(keys, (1, 2))
    tableau, _ = FILTERS["steered dpmpp_2m"]

    @jax.jit
    def both(noise, keys):
        filtered = inverse.particle_filter(
            PRIOR, potential(3, False), tableau, noise, keys, gradient=False, threshold=1.0
        )
        alone = samplers.sample(PRIOR, tableau, noise[:, 0], keys)
        return filtered, alone, potential(3, False)(alone, 0.1)

    found, alone, evidence = both(noise, keys)
    np.testing.assert_allclose(found.x0[:, 0], alone, atol=2e-5)
    np.testing.assert_allclose(found.log_weights, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.log_evidence, evidence, rtol=1e-4)


@pytest.mark.slow
def test_samples_are_their_own():
    """Of their neighbours, of jit and of vmap nothing depends."""
    keys = sample_keys(range(4))
    noise = normal(keys, (8, 2))
    run = lambda noise, keys: inverse.particle_filter(
        PRIOR, potential(len(noise)), FILTERS["twisted ddpm"][0], noise, keys
    )
    together = jax.jit(run)(noise, keys)
    apart = jax.jit(jax.vmap(lambda n, k: run(n[None], k[None])))(noise, keys)
    for one, other in zip(together, apart):
        np.testing.assert_allclose(other[:, 0], one, atol=1e-4)


@pytest.mark.slow
def test_systematic_resampling_rounds():
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.float32([0.5, 0.26, 0.0, 0.24]))
    draw = jax.jit(jax.vmap(lambda key: inverse.systematic(key, log_weights)))
    found = np.asarray(draw(sample_keys(range(2000))))
    counts = np.stack([np.bincount(row, minlength=4) for row in found])
    assert (counts[:, 0] == 2).all() and (counts[:, 2] == 0).all()
    assert (np.abs(counts - [2, 1.04, 0, 0.96]) < 1).all()
    np.testing.assert_allclose(counts.mean(0), [2, 1.04, 0, 0.96], atol=0.02)
    assert float(jax.jit(inverse.effective_size)(log_weights)) == pytest.approx(
        1 / 0.3752, rel=1e-5
    )


@pytest.mark.slow
def test_what_is_wrong_is_said():
    keys = sample_keys(range(2))
    noise = normal(keys, (3, 2))

    def run(tableau=FILTERS["twisted ddpm"][0], log=potential(2), noise=noise, **options):
        return inverse.particle_filter(PRIOR, log, tableau, noise, keys, **options)

    ends_above = samplers.ddpm(GRID[:-1])
    for wrong, message in (
        (lambda: run(samplers.ddim(GRID)), "tableau must draw noise"),
        (lambda: run(ends_above), "tableau must return D of its last row"),
        (lambda: run(FILTERS["steered dpmpp_2m"][0]), "tableau must have one register"),
        (lambda: run(threshold=2.0), "threshold must lie"),
        (lambda: run(noise=noise[:, 0, 0]), r"noise must have shape \[B, P"),
        (lambda: run(log=lambda d, s: d), "potential must return shape"),
        (lambda: run(log=potential(3)), "y must have the shape"),
        (
            lambda: inverse.log_likelihood(lambda x: x, noise, 0.1, prior_variance=1.0),
            "operator must be an inverse.Spectral",
        ),
        (lambda: inverse.log_likelihood(lambda x: x, noise, 0.0), "sigma_y must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(wrong)

"""The variational bound against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import objectives, preconditioning, tables
from edm_jax.objectives import variational
from edm_jax.preconditioning import with_variance

LEVELS = tables.iddpm(1000, variant="exact")[-2::-1]


@pytest.mark.parametrize("std, best", [(0.25, 0.129), (0.5, 0.424), (1.0, 1.0), (2.0, 1.547)])
def test_the_best_variance_of_gaussian_data(std, best):
    """For N(0, c^2) the reverse step's variance is known; the bound is least there."""
    bound = variational.bound([0.7, 1.3])
    v = jnp.linspace(0.0, 2.0, 2001)
    y = jnp.zeros_like(v)
    error = std * 1.3 / np.hypot(std, 1.3)  # root mean square of D - y
    terms = jax.jit(lambda *a: variational.terms(bound, *a))
    cost = terms(jnp.ones(2001, jnp.int32), y + error, v, y)
    assert float(v[jnp.argmin(cost)]) == pytest.approx(best, abs=2e-3)
    expected = 0.7**2 * (1 - (0.7 / 1.3) ** 2) + (1 - (0.7 / 1.3) ** 2) ** 2 * error**2
    log_s = best * bound.log_large[1] + (1 - best) * bound.log_small[1]
    assert np.exp(log_s) == pytest.approx(expected, rel=1e-3)


def test_a_perfect_step_costs_nothing_and_more_than_that_otherwise():
    bound = variational.bound(LEVELS)
    level = jnp.array([1, 10, 500, 999])
    y = np.full((4, 3), 0.2, np.float32)
    terms = jax.jit(lambda *a: variational.terms(bound, level, *a))
    np.testing.assert_allclose(terms(y, 0 * y, y), 0.0, atol=1e-6)
    # At high levels the two variances, and steps with and without an error, hardly differ.
    assert (terms(y, 0 * y + 0.3, y)[:2] > 1e-4).all()
    assert (terms(y + 0.1, 0 * y, y)[:2] > 1e-4).all()


def test_the_variances_are_those_of_ddpm():
    """In the scale of the process: beta_tilde_k and beta_k of the cosine table."""
    bar = tables.alphas_cumprod("cosine")
    bound = variational.bound(tables.sigmas(bar))
    before = np.append(1.0, bar[:-1])
    beta = 1 - bar / before
    tilde = beta * (1 - before) / (1 - bar)
    tilde[0] = tilde[1]  # posterior_log_variance_clipped
    np.testing.assert_allclose(np.exp(bound.log_large) * before, beta, rtol=1e-9)
    np.testing.assert_allclose(np.exp(bound.log_small[1:]) * before[1:], tilde[1:], rtol=1e-9)
    assert np.exp(bound.log_small[0]) == pytest.approx(tilde[0], rel=1e-9)


@pytest.mark.parametrize("mean, log_std", [(0.1, -3.0), (-1.0, -6.0), (0.9, 0.5)])
def test_the_masses_of_all_pixel_values_sum_to_one(mean, log_std):
    y = np.arange(256, dtype=np.float32) / 127.5 - 1
    likelihood = jax.jit(variational.discretized_log_likelihood)
    mass = likelihood(y, np.full(256, mean, np.float32), np.full(256, log_std, np.float32))
    assert float(jnp.exp(mass).sum()) == pytest.approx(1.0, abs=1e-4)


def test_the_bound_teaches_the_variance_alone():
    """The hybrid's gradient in the mean is that of the simple loss; in the variance it is not 0."""
    bound = variational.bound(LEVELS)
    level = jnp.array([0, 3, 400, 900])
    sigma = jnp.asarray(LEVELS, jnp.float32)[level]
    y, noise = np.random.default_rng(0).uniform(-1, 1, (2, 4, 5)).astype(np.float32)
    weight = objectives.inverse_square_weight()

    def network(p):
        return lambda x, c: jnp.concatenate([p[0] * x, p[1] + 0 * x], -1)

    def hybrid(p):
        both = with_variance(network(p), preconditioning.iddpm())
        return objectives.hybrid_loss(
            both, y, sigma, noise, weight, bound=bound, level=level
        ).mean()

    def simple(p):
        denoise = preconditioning.denoiser(network(p), preconditioning.iddpm())
        return objectives.loss(denoise, y, sigma, noise, weight).mean()

    both = jax.jit(lambda p: (jax.grad(hybrid)(p), jax.grad(simple)(p)))
    a, b = both(jnp.array([0.3, 0.2]))
    assert float(a[0]) == pytest.approx(float(b[0]), rel=1e-5)
    assert float(b[1]) == 0.0 and abs(float(a[1])) > 1e-6


@pytest.mark.slow
def test_the_hybrid_is_the_simple_loss_and_a_share_of_the_bound():
    bound = variational.bound(LEVELS)
    level = np.array([0, 3, 400, 900])
    sigma = np.float32(LEVELS)[level]
    y, noise, v = np.random.default_rng(1).uniform(-1, 1, (3, 4, 5)).astype(np.float32)
    weight = objectives.inverse_square_weight()
    halved = lambda x, sigma: (0.5 * x, jnp.asarray(v))
    x = y + sigma[:, None] * noise

    @jax.jit
    def both(y):
        found = objectives.hybrid_loss(
            halved, y, sigma, noise, weight, bound=bound, level=level, bound_weight=0.25
        )
        return found, variational.terms(bound, level, 0.5 * x, v, y)

    found, terms = map(np.asarray, both(y))
    simple = (0.5 * x - y) ** 2 / sigma[:, None] ** 2
    np.testing.assert_allclose(found, simple + 0.25 * 1000 * terms, rtol=1e-4)


@pytest.mark.slow
def test_a_network_of_any_library_learns_the_variance():
    """With `Wrapped`, conditions and all, the objective is the hybrid loss of its own draws."""

    def network(x, c_noise, gain):
        gain = gain[:, None]
        return jnp.concatenate([gain * x, jnp.tanh(x) * gain], -1)

    model = objectives.Wrapped(network, preconditioning.iddpm())
    objective = objectives.build("iddpm", model, variance_weight=0.25)
    plain = objectives.build("iddpm", model)
    y = np.random.default_rng(2).uniform(-1, 1, (6, 5)).astype(np.float32)
    conditions = {"gain": np.linspace(0.1, 0.9, 6, dtype=np.float32)}

    @jax.jit
    def of_both(key):
        state = objective.init()
        examples = objective.draw(state, jax.random.split(key, (6, 2)), y, conditions)
        half = model._replace(network=lambda *a, **k: network(*a, **k)[..., :5])
        losses = objective.loss(model, state, examples)
        return examples, losses, plain.loss(half, state, examples)

    examples, losses, gone = of_both(jax.random.key(1))
    bound = variational.bound(LEVELS)
    sigma = np.asarray(LEVELS)[np.asarray(examples.level)]
    np.testing.assert_allclose(examples.sigma, sigma, rtol=1e-6)
    x = y + sigma[:, None] * np.asarray(examples.noise, np.float64)
    x_in = x / np.sqrt(1 + sigma**2)[:, None]
    gain = conditions["gain"][:, None]
    denoised, v = x - sigma[:, None] * gain * x_in, 0.5 * (np.tanh(x_in) * gain + 1)
    simple = (denoised - y) ** 2 / sigma[:, None] ** 2
    terms = jax.jit(lambda *a: variational.terms(bound, *a))(
        examples.level, *map(np.float32, (denoised, v)), y
    )
    wanted = (simple + 0.25 * 1000 * np.asarray(terms)).mean(1)
    np.testing.assert_allclose(losses.each, wanted, rtol=2e-3)
    np.testing.assert_allclose(gone.each, simple.mean(1), rtol=1e-4)


def test_a_table_that_is_none_is_refused():
    for levels in ([1.0], [2.0, 1.0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="levels must be"):
            variational.bound(levels)


@pytest.mark.slow
def test_the_terms_are_the_divergence_of_two_gaussians_and_the_mass_of_a_pixel_in_bits():
    """KL(N(0, 1) || ...) as it stands in every textbook, element by element."""
    levels = np.array([0.2, 0.9, 1.4, 3.0])
    bound = variational.bound(levels)
    rng = np.random.default_rng(2)
    level = np.array([0, 1, 2, 3, 2])
    y = rng.integers(0, 256, (5, 3)) / 127.5 - 1
    y[0] = -1.0, 1.0, 3 / 127.5 - 1  # both ends, which are open, and one inside
    denoised, v = y + 0.05 * rng.standard_normal((5, 3)), rng.uniform(0, 1, (5, 3))
    with jax.enable_x64(True):
        found = jax.jit(lambda *a: variational.terms(bound, *a))(level, denoised, v, y)
    s, below = levels[level], np.append(0.0, levels)[level]
    r = (below / s) ** 2
    large = (s**2 - below**2) * (1 + below**2) / (1 + s**2)
    small = below**2 * (1 - r)
    small[0] = levels[0] ** 2 * (1 - (0.2 / 0.9) ** 2) / (1 + 0.2**2)  # of the second level
    # q's mean is r x + (1 - r) y and p's r x + (1 - r) D: they differ by (1 - r) (y - D).
    gap = (1 - r)[:, None] * (y - denoised)
    variance = large[:, None] ** v * small[:, None] ** (1 - v)
    ratio = small[:, None] / variance
    kl = 0.5 * (ratio + gap**2 / variance - 1 - np.log(ratio))
    np.testing.assert_allclose(found[1:], kl[1:] / np.log(2), rtol=1e-9)
    std = np.sqrt(variance[0])
    cdf = lambda value: np.array([0.5 * math.erfc(-z / 2**0.5) for z in value])
    edges = cdf((y[0] + 1 / 255 - denoised[0]) / std), cdf((y[0] - 1 / 255 - denoised[0]) / std)
    mass = np.array([edges[0][0], 1 - edges[1][1], edges[0][2] - edges[1][2]])
    np.testing.assert_allclose(found[0], -np.log2(mass), rtol=1e-7)


@pytest.mark.slow
def test_a_pixel_far_from_the_mean_has_its_tail_and_a_floor_in_training():
    """At z deviations: log of the Gaussian's tail between the two ends, by its series."""
    std = np.array([0.02, 0.005])  # 50 and 200 deviations away
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    z = (1 - 1 / 255) / std
    series = 1 - z**-2 + 3 * z**-4
    tail = -0.5 * z**2 - np.log(z * np.sqrt(2 * np.pi)) + np.log(series)
    likelihood = jax.jit(variational.discretized_log_likelihood)
    np.testing.assert_allclose(likelihood(zero, one, np.float32(np.log(std))), tail, rtol=1e-5)
    table = variational.bound([0.01, 0.02])
    terms = jax.jit(lambda *a: variational.terms(table, *a))(np.array([0, 0]), one, zero, zero)
    np.testing.assert_allclose(terms, -np.log2(1e-12), rtol=1e-6)

"""The variational bound against entropies and densities in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, normal, sample_keys, timesteps
from edm_jax.likelihood import bits_per_dim, elbo

STD = 0.5
ENTROPY = 0.5 * np.log(2 * np.pi * np.e * STD**2)
# A Gaussian denoiser's error is linear in (y, n): two signs of each have its mean square.
SIGNS = np.array([[1.0, 1.0], [1.0, -1.0]])


@pytest.fixture(autouse=True, scope="module")
def in_float64():
    with jax.enable_x64(True):
        yield


def posterior_variance(sigma):
    return STD**2 * sigma**2 / (STD**2 + sigma**2)


def expected(steps, variance):
    """The bound of N(0, STD^2), averaged over data and noise exactly."""
    levels = timesteps.edm(steps)[:-1]
    y, sign = STD * SIGNS[:, :1], SIGNS[:, 1:]
    terms = jax.jit(
        lambda y: elbo(
            ideal.gaussian(0.0, STD), y, levels, variance=variance, decoder="gaussian",
            decoder_variance=posterior_variance(levels[-1]), prior_std=STD,
            noise=jnp.broadcast_to(sign, (steps, 2, 1)),
        )
    )(y)  # fmt: skip
    return float(terms.total().mean())


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_with_the_best_variances_the_bound_is_the_entropy_for_any_number_of_steps(steps):
    assert expected(steps, posterior_variance) == pytest.approx(ENTROPY, abs=1e-10)


@pytest.mark.parametrize(
    "steps, small, large", [(10, 66.35, 0.868), (50, 3.07, 0.759), (1000, 0.8154, 0.7275)]
)
def test_the_variances_of_ddpm_cost_what_they_must(steps, small, large):
    assert expected(steps, "small") == pytest.approx(small, rel=1e-3)
    assert expected(steps, "large") == pytest.approx(large, rel=1e-3)


def limit(y, sigma):
    """int over log sigma > ... of E|y - D|^2 / sigma^2 for one y, in closed form."""
    c2, v = STD**2, STD**2 + sigma**2
    return 0.5 * (np.log(sigma**2 / v) + (y**2 - c2) * -1 / v)


@pytest.mark.parametrize(
    "variance, tolerance", [("small", 6e-3), ("large", 1e-3), (posterior_variance, 1e-3)]
)
def test_many_steps_bring_the_bound_of_a_datum_to_its_density(variance, tolerance):
    """For each y by itself, not on average: D is exact, so the chain reverses the noise."""
    steps = 20000
    levels = np.geomspace(80, 1e-3, steps)
    y = np.array([[0.1], [0.1], [-1.3], [-1.3]])
    noise = np.broadcast_to([[1.0], [-1.0], [1.0], [-1.0]], (steps, 4, 1))
    terms = jax.jit(
        lambda y: elbo(
            ideal.gaussian(0.0, STD), y, levels, decoder="gaussian", prior_std=STD, noise=noise,
            variance=variance,
        ).total()
    )(y)  # fmt: skip
    found = np.asarray(terms).reshape(2, 2).mean(axis=1)
    density = jax.jit(ideal.gaussian_log_prob(0.0, STD))(y[::2], 0.0)
    np.testing.assert_allclose(-found, density, atol=tolerance)


@pytest.mark.slow
def test_the_continuous_bound_is_the_integral_whatever_the_grid():
    """On average over where in each interval it looks; and no bias by a grid of two levels."""
    y, count = 0.7, 20000
    ends = 80.0, 1e-2
    exact = limit(y, ends[0]) - limit(y, ends[1])
    sign = jnp.tile(jnp.array([1.0, -1.0]), count // 2)[:, None]
    for steps, tolerance in ((2, 0.02), (50, 1e-3)):
        levels = np.geomspace(*ends, steps)
        keys = sample_keys(np.arange(count) // 2)  # both signs at one level
        terms = jax.jit(
            lambda keys, levels=levels, steps=steps: elbo(
                ideal.gaussian(0.0, STD), jnp.full((count, 1), y), levels, keys,
                variance="continuous", noise=jnp.broadcast_to(sign, (steps, count, 1)),
            ).steps
        )(keys)  # fmt: skip
        assert float(terms.sum(0).mean()) == pytest.approx(exact, rel=tolerance)


@pytest.mark.slow
def test_learned_variances_at_their_ends_are_the_two_of_ddpm():
    y, keys = normal(sample_keys(range(3)), (4,), dtype=jnp.float64), sample_keys(range(3))
    y = jnp.rint(y * 40 + 127).clip(0, 255) / 127.5 - 1
    denoise, levels = ideal.gaussian(0.0, STD), timesteps.edm(6)
    for v, name in ((0.0, "small"), (1.0, "large")):
        both = lambda x, sigma, v=v: (denoise(x, sigma), jnp.full_like(x, v))

        @jax.jit
        def terms(y, both=both, name=name):
            narrow = dict(decoder_variance=0.01)
            return (
                elbo(both, y, levels, keys, variance="learned"),
                elbo(denoise, y, levels, keys, variance=name),
                elbo(both, y, levels, keys, variance="learned", **narrow),
                elbo(denoise, y, levels, keys, **narrow).decoder,
            )

        learned, fixed, other, expected = terms(y)
        np.testing.assert_allclose(learned.steps, fixed.steps, rtol=1e-9)
        np.testing.assert_array_equal(learned.prior, fixed.prior)
        if name == "large":
            np.testing.assert_allclose(learned.decoder, fixed.decoder, rtol=1e-9)
        np.testing.assert_allclose(other.decoder, expected, rtol=1e-12)
        np.testing.assert_array_equal(other.steps, learned.steps)


@pytest.mark.slow
def test_pixels_cost_the_entropy_of_their_distribution():
    """Independent pixels of 256 values by their exact denoiser: bits per dimension, no offset."""
    values = np.array([20, 22, 23, 200])
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    means = values[:, None] / 127.5 - 1
    pixels = np.repeat(means, (weights * 1000).astype(int), axis=0)
    denoise = ideal.mixture(means, np.zeros(4), weights)
    terms = jax.jit(
        lambda y, keys: elbo(
            denoise, y, timesteps.edm(400, sigma_min=1e-3), keys, variance="small",
            prior_mean=pixels.mean(), prior_std=pixels.std(),
        )
    )(pixels, sample_keys(range(1000)))  # fmt: skip
    bits = bits_per_dim(-terms.total(), 1, cell=1.0)
    entropy = -(weights * np.log2(weights)).sum()
    assert entropy - 0.05 < float(bits.mean()) < entropy + 0.2
    assert (terms.prior > 0).all() and float(terms.prior.max()) < 2e-4


@pytest.mark.slow
def test_a_sample_has_its_own_terms():
    y, keys = normal(sample_keys(range(8)), (3,)), sample_keys(range(8))
    call = lambda y, keys: elbo(
        ideal.gaussian(0.0, STD), y, timesteps.edm(5), keys, variance="continuous"
    ).total()
    whole = jax.jit(call)(y, keys)
    mapped = jax.pmap(call)(y[:, None], keys[:, None])
    np.testing.assert_allclose(mapped[:, 0], whole, rtol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sigmas": [1.0, 0.0]}, "positive sigmas must be"),
        ({"variance": "smal"}, "variance must be one of small, large, learned, continuous"),
        ({"variance": lambda sigma: 0.0}, "variance must be positive at every level"),
        ({"decoder": "pixels"}, "decoder must be one of discretized, gaussian"),
        ({"decoder_variance": 0.0}, "decoder_variance must be positive"),
        ({"keys": None}, "keys must be typed keys"),
        ({"noise": np.zeros((5, 2, 1))}, r"noise must have shape \[N, B, ...\] = \(6, 2, 1\)"),
        ({"y": np.arange(3)}, "y must be floating"),
    ],
)
def test_bad_arguments_are_named(options, message):
    given = {"y": np.zeros((2, 1)), "sigmas": timesteps.edm(6), "keys": sample_keys([0, 1])}
    with pytest.raises(ValueError, match=message):
        elbo(ideal.gaussian(0.0, STD), **(given | options))

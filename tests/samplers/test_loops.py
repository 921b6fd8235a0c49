"""The samplers that are no tableaux: predictor-corrector, learned variance, adaptive steps."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_reference import exact_flow, toy

from edm_jax import preconditioning, randomness, samplers, timesteps

STD = 0.5
KEYS = randomness.sample_keys(range(8))


def ideal(x, sigma):
    return STD**2 / (STD**2 + sigma**2) * x


# -- predictor-corrector -----------------------------------------------------------------------


def recursion(levels, snr, corrector, start):
    """Variance of Gaussian data in many dimensions, where |z| / |score| is its limit."""
    v = start
    for sigma, target in zip(levels, levels[1:]):
        true = STD**2 + sigma**2
        eta = 2 * snr**2 * (true**2 / v if corrector == "langevin" else sigma**2)
        v = (1 - eta / true) ** 2 * v + 2 * eta
        jump = sigma**2 - target**2
        v = (1 - jump / true) ** 2 * v + (jump if target > 0 else 0)
    return v


def test_predictor_corrector_has_the_variance_of_its_recursion():
    levels = timesteps.exponential(60, 0.01, 50.0)
    noise = randomness.normal(randomness.sample_keys(range(20, 28)), (8192,))
    for corrector in ("langevin", "ald"):
        call = lambda noise, keys: samplers.predictor_corrector(
            ideal, levels, noise, keys, corrector=corrector, snr=0.16
        )
        result = np.asarray(jax.jit(call)(noise, KEYS), np.float64)
        expected = np.sqrt(recursion(levels, 0.16, corrector, 50.0**2))
        assert abs(result.std() / expected - 1) < 8e-3, corrector
        alone = np.sqrt(samplers.moments(samplers.reverse_diffusion(levels), 0, STD**2)[1])
        assert abs(alone / expected - 1) > 0.02  # the corrector did something
    # The limit of the corrector alone: 1 + snr^2 times the variance.
    assert (
        abs(
            recursion(levels[-3] * np.ones(400), 0.16, "langevin", 1.0) / (STD**2 + levels[-3] ** 2)
            - (1 + 0.16**2)
        )
        < 1e-3
    )


def test_predictor_corrector_without_correction_is_its_predictor():
    levels = timesteps.edm(9)
    noise = randomness.normal(KEYS, (3,))
    result = samplers.predictor_corrector(
        ideal, levels, noise, KEYS, process="vp", corrector_steps=0
    )
    expected = samplers.sample(ideal, samplers.reverse_diffusion(levels, "vp"), noise, KEYS)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    euler = samplers.euler(levels)  # and a corrector of snr 0 does nothing
    result = samplers.predictor_corrector(ideal, levels, noise, KEYS, predictor=euler, snr=0.0)
    np.testing.assert_allclose(result, samplers.sample(ideal, euler, noise), atol=1e-5)


def test_predictor_corrector_is_per_sample_and_counts_its_evaluations():
    levels = timesteps.edm(5)
    noise = randomness.normal(KEYS, (3,))
    traces = []

    def denoise(x, sigma):
        traces.append(sigma)
        return jnp.tanh(x)

    call = lambda n, k: samplers.predictor_corrector(denoise, levels, n, k, corrector_steps=2)
    text = jax.make_jaxpr(call)(noise, KEYS)
    assert len(traces) == 1 and "length=15" in str(text)  # N (1 + 2), the network once
    whole, part = call(noise, KEYS), call(noise[2:4], KEYS[2:4])
    np.testing.assert_allclose(part, whole[2:4], rtol=0, atol=1e-5)
    gradient = jax.grad(lambda n: call(n, KEYS).sum())(noise)
    assert np.isfinite(gradient).all()


# -- learned variance --------------------------------------------------------------------------


def test_learned_variance_at_its_ends_is_ddpm():
    levels = timesteps.edm(12)
    noise = randomness.normal(KEYS, (3,))
    for v, variance in ((0.0, "small"), (1.0, "large")):
        with_v = lambda x, sigma: (ideal(x, sigma), jnp.full_like(x, v))
        result = samplers.improved_ddpm(with_v, levels, noise, KEYS)
        expected = samplers.sample(ideal, samplers.ddpm(levels, variance), noise, KEYS)
        np.testing.assert_allclose(result, expected, atol=3e-5)


def test_the_optimal_learned_variance_of_gaussian_data():
    """From 1.3 to 0.7: v = 0.129, 0.424, 1, 1.547 for data of deviation 1/4, 1/2, 1, 2."""
    keys = randomness.sample_keys([1])
    noise = randomness.normal(randomness.sample_keys([2]), (2**18,))

    @jax.jit
    def deviation(std, v):
        denoise = lambda x, sigma: (std**2 / (std**2 + sigma**2) * x, jnp.full_like(x, v))
        start = jnp.sqrt(std**2 + 1.3**2) / 1.3 * noise
        return samplers.improved_ddpm(denoise, [1.3, 0.7], start, keys).std()

    for std, v in ((0.25, 0.129), (0.5, 0.424), (1.0, 1.0), (2.0, 1.547)):
        assert abs(deviation(std, v) / np.sqrt(std**2 + 0.7**2) - 1) < 5e-3, std


def test_a_network_of_twice_the_channels_becomes_denoiser_and_variance():
    network = lambda x, c: jnp.concatenate([0.1 * x, jnp.full_like(x, 0.5)], -1)
    denoise = preconditioning.with_variance(network, preconditioning.edm())
    x = jnp.ones((2, 4, 4, 3))
    denoised, v = denoise(x, 0.7)
    expected = preconditioning.denoiser(lambda x, c: 0.1 * x, preconditioning.edm())(x, 0.7)
    np.testing.assert_allclose(denoised, expected)
    np.testing.assert_allclose(v, np.full(x.shape, 0.75))
    with pytest.raises(ValueError, match="must have 6 channels to predict a variance, got 3"):
        preconditioning.with_variance(lambda x, c: x, preconditioning.edm())(x, 0.7)


def test_gradients_through_learned_variance_are_finite():
    noise = randomness.normal(KEYS, (3,))

    def loss(scale):
        denoise = lambda x, sigma: (ideal(x, sigma), jax.nn.sigmoid(scale * x))
        return samplers.improved_ddpm(denoise, timesteps.edm(6), noise, KEYS).sum()

    assert np.isfinite(jax.grad(loss)(0.3))


# -- adaptive ----------------------------------------------------------------------------------

NOISE = jnp.asarray([[-1.3], [-0.4], [0.35], [1.7]])


@pytest.fixture(scope="module")
def truth():
    return exact_flow(toy(), 80.0 * np.asarray(NOISE, np.float64), 80.0, 0.002)


@pytest.fixture(scope="module")
def adaptive():
    """One program for the tests below."""
    return jax.jit(lambda z: samplers.adaptive(toy(jnp), z, denoise_last=False))


def test_adaptive_reaches_its_tolerance(adaptive, truth):
    result, calls = adaptive(NOISE)
    np.testing.assert_allclose(result, truth, atol=2e-4)
    assert (calls > 50).all() and (calls < 200).all() and len(set(np.asarray(calls))) > 1


def test_adaptive_samples_do_not_share_steps(adaptive):
    result, calls = adaptive(NOISE)
    others = NOISE.at[1:].add(0.7)
    result_again, calls_again = adaptive(others)
    np.testing.assert_allclose(result_again[0], result[0], rtol=0, atol=1e-6)
    assert calls_again[0] == calls[0]


@pytest.mark.parametrize("solver", ["dopri5", "dopri8"])
def test_adaptive_counts_its_evaluations(solver):
    count = []

    def denoise(x, sigma):
        jax.debug.callback(lambda _: count.append(1), sigma)
        return ideal(x, sigma)

    call = jax.jit(lambda z: samplers.adaptive(denoise, z, solver=solver, rtol=1e-4, atol=1e-4))
    calls = call(NOISE[:1])[1]
    jax.effects_barrier()
    assert int(calls[0]) == len(count)


def test_adaptive_has_gradients():
    """The flow of Gaussian data is a factor, and that is its derivative."""
    call = lambda z: samplers.adaptive(ideal, z, denoise_last=False)[0].sum()
    gradient = jax.jit(jax.grad(call))(NOISE[:1])
    expected = 80.0 * np.sqrt((STD**2 + 0.002**2) / (STD**2 + 80.0**2))
    np.testing.assert_allclose(gradient, [[expected]], rtol=1e-4)


def test_adaptive_gives_up_as_nan():
    levels = [80.0, 0.5, 0.002, 0.0]
    result = samplers.generate("adaptive", ideal, levels, NOISE[:1], max_steps=3, rtol=1e-6)
    assert np.isnan(result).all()


def test_diffrax_is_asked_for_only_when_needed(monkeypatch):
    original = builtins.__import__

    def without(name, *arguments):
        if name == "diffrax":
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install 'edm_jax\\[adaptive\\]'"):
        samplers.adaptive(toy(jnp), NOISE)


# -- by name -----------------------------------------------------------------------------------


def test_generate_runs_names_of_both_kinds():
    noise, keys = randomness.normal(KEYS[:2], (3,)), KEYS[:2]
    levels = timesteps.edm(4)
    with_v = lambda x, sigma: (ideal(x, sigma), 0.5 * jnp.ones_like(x))
    for name in ("predictor_corrector", "improved_ddpm"):
        denoise = with_v if name == "improved_ddpm" else ideal
        result = samplers.generate(name, denoise, levels, noise, keys)
        assert result.shape == noise.shape and np.isfinite(result).all()
    result = samplers.generate("ddim", ideal, levels, noise, keys, eta=0.5)
    expected = samplers.sample(ideal, samplers.ddim(levels, 0.5), noise, keys)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: samplers.generate("adaptiv", ideal, [1, 0], NOISE), "did you mean adaptive"),
        (
            lambda: samplers.generate("adaptive", ideal, [1, 0.5, 0], NOISE, eta=1),
            "adaptive has no option 'eta'",
        ),
        (
            lambda: samplers.generate("predictor_corrector", ideal, [1, 0], NOISE),
            "keys must be given for predictor_corrector",
        ),
        (
            lambda: samplers.predictor_corrector(
                ideal, [2, 1, 0], NOISE, KEYS[:4], predictor=samplers.heun([2, 1, 0])
            ),
            "predictor must have one register",
        ),
        (
            lambda: samplers.predictor_corrector(ideal, [1, 0], NOISE, KEYS[:4], corrector="x"),
            "corrector must be one of langevin, ald",
        ),
        (lambda: samplers.adaptive(ideal, NOISE, solver="rk45"), "solver must be one of dopri5"),
        (lambda: samplers.adaptive(ideal, NOISE, sigma_min=-1), "sigma_min must lie in"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

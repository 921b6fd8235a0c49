"""The samplers that are no tableaux: predictor-corrector, learned variance, adaptive steps."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_reference import exact_flow, toy

from edm_jax import preconditioning, randomness, samplers, schedules, timesteps

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


@pytest.mark.slow
def test_predictor_corrector_has_the_variance_of_its_recursion():
    levels = timesteps.exponential(60, sigma_min=0.01, sigma_max=50.0)
    noise = randomness.normal(randomness.sample_keys(range(20, 28)), (8192,))
    for corrector in ("langevin", "ald"):
        loop = samplers.predictor_corrector(levels, corrector=corrector, snr=0.16)
        call = lambda noise, keys: samplers.sample(ideal, loop, noise, keys)
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


@pytest.mark.slow
def test_predictor_corrector_without_correction_is_its_predictor():
    levels = timesteps.edm(9)
    noise = randomness.normal(KEYS, (3,))
    vp = schedules.vp()
    loop = samplers.predictor_corrector(levels, schedule=vp, corrector_steps=0)
    result = samplers.sample(ideal, loop, noise, KEYS)
    predictor = samplers.reverse_diffusion(levels, schedule=vp)
    expected = samplers.sample(ideal, predictor, noise, KEYS)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    euler = samplers.euler(levels)  # and a corrector of snr 0 does nothing
    loop = samplers.predictor_corrector(levels, predictor=euler, snr=0.0)
    result = samplers.sample(ideal, loop, noise, KEYS)
    np.testing.assert_allclose(result, samplers.sample(ideal, euler, noise), atol=1e-5)


@pytest.mark.slow
def test_predictor_corrector_is_per_sample_and_counts_its_evaluations():
    levels = timesteps.edm(5)
    noise = randomness.normal(KEYS, (3,))
    traces = []

    def denoise(x, sigma):
        traces.append(sigma)
        return jnp.tanh(x)

    loop = samplers.predictor_corrector(levels, corrector_steps=2)
    call = jax.jit(lambda n, k: loop.run(denoise, n, k))
    text = jax.make_jaxpr(call)(noise, KEYS)
    assert len(traces) == 1 and "length=15" in str(text)  # N (1 + 2), the network once
    whole, calls = call(noise, KEYS)
    assert loop.nfe == 15 and calls.tolist() == [15] * 8
    part = call(jnp.roll(noise, 3, axis=0), jnp.roll(KEYS, 3))[0]
    np.testing.assert_allclose(part, jnp.roll(whole, 3, axis=0), rtol=0, atol=1e-5)


# -- learned variance --------------------------------------------------------------------------


@pytest.mark.slow
def test_learned_variance_at_its_ends_is_ddpm():
    levels = timesteps.edm(12)
    noise = randomness.normal(KEYS, (3,))
    for v, variance in ((0.0, "small"), (1.0, "large")):
        with_v = lambda x, sigma: (ideal(x, sigma), jnp.full_like(x, v))
        result = samplers.sample(with_v, samplers.improved_ddpm(levels), noise, KEYS)
        expected = samplers.sample(ideal, samplers.ddpm(levels, variance=variance), noise, KEYS)
        np.testing.assert_allclose(result, expected, atol=3e-5)


@pytest.mark.slow
def test_the_optimal_learned_variance_of_gaussian_data():
    """From 1.3 to 0.7: v = 0.129, 0.424, 1, 1.547 for data of deviation 1/4, 1/2, 1, 2."""
    keys = randomness.sample_keys([1])
    noise = randomness.normal(randomness.sample_keys([2]), (2**18,))

    @jax.jit
    def deviation(std, v):
        denoise = lambda x, sigma: (std**2 / (std**2 + sigma**2) * x, jnp.full_like(x, v))
        start = jnp.sqrt(std**2 + 1.3**2) / 1.3 * noise
        return samplers.sample(denoise, samplers.improved_ddpm([1.3, 0.7]), start, keys).std()

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


# -- adaptive ----------------------------------------------------------------------------------

ENDS = [80.0, 0.002]
# toy takes one sigma for all.
EACH = jax.vmap(lambda x, sigma: toy(jnp)(x[None], sigma)[0])
NOISE = jnp.asarray([[-1.3], [-0.4], [0.35], [1.7]])


@pytest.fixture(scope="module")
def truth():
    return exact_flow(toy(), 80.0 * np.asarray(NOISE, np.float64), 80.0, 0.002)


@pytest.fixture(scope="module")
def adaptive():
    """One program for the tests below."""
    return jax.jit(lambda z: samplers.adaptive(ENDS).run(EACH, z, None))


@pytest.mark.slow
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


@pytest.mark.parametrize("method", ["dopri5", "dopri8"])
def test_adaptive_counts_its_evaluations(method):
    count = []

    def denoise(x, sigma):
        jax.debug.callback(lambda _: count.append(1), sigma)
        return ideal(x, sigma)

    loop = samplers.adaptive([80.0, 0.002, 0.0], method=method, rtol=1e-4, atol=1e-4)
    calls = jax.jit(lambda z: loop.run(denoise, z, None))(NOISE[:1])[1]
    jax.effects_barrier()
    assert int(calls[0]) == len(count)


@pytest.mark.slow
def test_adaptive_evaluates_the_whole_batch_at_once():
    """A denoiser may hold labels `[B]`; each sample is as it is alone, with its own label."""
    means = jnp.asarray([[-1.0], [0.0], [0.5], [2.0]])

    def of(means):
        def denoise(x, sigma):
            assert x.shape == means.shape and sigma.shape == (len(means),)
            return means + 0.25 / (0.25 + sigma[:, None] ** 2) * (x - means)

        return denoise

    loop = samplers.adaptive([80.0, 0.002, 0.0])
    draw = jax.jit(lambda means, noise: samplers.sample(of(means), loop, noise))
    together = draw(means, NOISE)
    for i in range(4):
        alone = draw(means[i : i + 1], NOISE[i : i + 1])
        np.testing.assert_allclose(together[i : i + 1], alone, atol=1e-4)


@pytest.mark.slow
def test_adaptive_has_gradients():
    """The flow of Gaussian data is a factor, and that is its derivative."""
    call = lambda z: samplers.sample(ideal, samplers.adaptive(ENDS), z).sum()
    gradient = jax.jit(jax.grad(call))(NOISE[:1])
    expected = 80.0 * np.sqrt((STD**2 + 0.002**2) / (STD**2 + 80.0**2))
    np.testing.assert_allclose(gradient, [[expected]], rtol=1e-4)


def test_adaptive_gives_up_as_nan():
    loop = samplers.build("adaptive", [80.0, 0.5, 0.002, 0.0], max_steps=3, rtol=1e-6)
    result = samplers.sample(ideal, loop, NOISE[:1])
    assert np.isnan(result).all()


def test_diffrax_is_asked_for_only_when_needed(monkeypatch):
    original = builtins.__import__

    def without(name, *arguments):
        if name == "diffrax":
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install 'edm_jax\\[adaptive\\]'"):
        samplers.adaptive(ENDS)


# -- one signature -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loop_is_run_as_a_tableau_is():
    noise, keys = randomness.normal(KEYS[:2], (3,)), KEYS[:2]
    levels = timesteps.edm(4)
    with_v = lambda x, sigma: (ideal(x, sigma), 0.5 * jnp.ones_like(x))
    for name in ("predictor_corrector", "improved_ddpm"):
        loop = samplers.build(name, levels)
        assert loop.stochastic and loop.variance == (name == "improved_ddpm")
        denoise = with_v if loop.variance else ideal
        result = samplers.sample(denoise, loop, noise, keys)
        assert result.shape == noise.shape and np.isfinite(result).all()
        x0, calls = loop.run(denoise, noise, keys)
        assert jnp.array_equal(x0, result) and calls.tolist() == [loop.nfe] * 2
    assert repr(loop) == "Loop(nfe=4, stochastic=True, variance=True)"


LOOP = samplers.predictor_corrector([1.0, 0.0])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: samplers.build("adaptiv", [1, 0]), "did you mean 'adaptive'"),
        (
            lambda: samplers.build("adaptive", [1, 0.5, 0], eta=1),
            "an option of adaptive must be one of rtol, .*got 'eta'",
        ),
        (lambda: samplers.sample(ideal, LOOP, NOISE), "keys must be given for a stochastic Loop"),
        (
            lambda: samplers.sample(ideal, LOOP, NOISE, KEYS[:4], trajectory=True),
            "trajectory must be left out for a Loop",
        ),
        (
            lambda: samplers.sample(ideal, LOOP, NOISE, KEYS[:4], row_noise=NOISE[None]),
            "row_noise must be left out for a Loop",
        ),
        (lambda: samplers.sample(ideal, LOOP, NOISE, KEYS), r"keys must have shape \[B\] = \(4,\)"),
        (
            lambda: samplers.predictor_corrector([2, 1, 0], predictor=samplers.heun([2, 1, 0])),
            "predictor must have one register",
        ),
        (
            lambda: samplers.predictor_corrector([1, 0], corrector="x"),
            "corrector must be one of langevin, ald",
        ),
        (lambda: samplers.adaptive(ENDS, method="rk45"), "method must be one of dopri5"),
        (lambda: samplers.adaptive([1.0, 0.0]), "positive sigmas must be a list of at least two"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

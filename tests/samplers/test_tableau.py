"""The one loop: randomness, transformations, precision; exact moments; bad tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_reference import gaussian, run, toy

from edm_jax import randomness, samplers, timesteps

HEUN = samplers.heun(timesteps.edm(6))
CHURNED = samplers.heun(timesteps.edm(6), churn=samplers.Churn(20))
KEYS = randomness.sample_keys(range(8))
NOISE = randomness.normal(randomness.sample_keys(range(100, 108)), (3,))


def ideal(x, sigma):
    return 0.1 + 0.25 / (0.25 + sigma**2) * (x - 0.1)


# -- moments -----------------------------------------------------------------------------------


def test_moments_are_those_of_many_samples():
    draws = np.random.default_rng(0).standard_normal((CHURNED.nfe + 2, 200_000))
    result = run(CHURNED, gaussian(0.3, 0.5), draws[0], draws[1:])
    mean, variance = samplers.moments(CHURNED, 0.3, 0.25)
    assert abs(result.mean() - mean) < 5e-3
    assert abs(result.std() / np.sqrt(variance) - 1) < 5e-3


def test_moments_broadcast_and_take_other_starts_and_gains():
    mean, variance = samplers.moments(CHURNED, np.zeros((2, 1)), np.array([0.0, 0.25, 1.0]))
    assert mean.shape == variance.shape == (2, 3)
    for column, value in enumerate((0.0, 0.25, 1.0)):
        np.testing.assert_allclose(variance[:, column], samplers.moments(CHURNED, 0.0, value)[1])
    shifted, _ = samplers.moments(HEUN, 0.0, 0.25, start_mean=1.0)
    np.testing.assert_allclose(shifted, run(HEUN, gaussian(0.0, 0.5), np.ones(1))[0], rtol=1e-12)
    _, wide = samplers.moments(HEUN, 0.0, 0.25, start_variance=4.0)
    np.testing.assert_allclose(wide, 4 * shifted**2, rtol=1e-12)
    mean, variance = samplers.moments(HEUN, 0.7, 0.25, gain=lambda sigma: 0.0)
    assert abs(mean - 0.7) < 1e-12 and variance < 1e-20  # a denoiser that always says 0.7
    with pytest.raises(ValueError, match="variance must not be negative, got -1"):
        samplers.moments(HEUN, 0.0, -1.0)


def test_a_point_mass_is_hit_exactly():
    for tableau in (HEUN, samplers.euler(timesteps.edm(6))):
        mean, variance = samplers.moments(tableau, 0.4, 0.0)
        assert abs(mean - 0.4) < 1e-12 and variance < 1e-24


# -- randomness --------------------------------------------------------------------------------


def test_a_deterministic_tableau_ignores_its_keys_bit_for_bit():
    other = randomness.sample_keys(range(50, 58))
    constant = jax.jit(lambda noise, keys: samplers.sample(ideal, HEUN, noise, keys))
    traced = jax.jit(lambda table, noise, keys: samplers.sample(ideal, table, noise, keys))
    assert jnp.array_equal(constant(NOISE, KEYS), constant(NOISE, other))
    assert jnp.array_equal(traced(HEUN, NOISE, KEYS), traced(HEUN, NOISE, other))
    without = jax.jit(lambda noise: samplers.sample(ideal, HEUN, noise))
    assert jnp.array_equal(constant(NOISE, KEYS), without(NOISE))
    assert not jnp.array_equal(traced(CHURNED, NOISE, KEYS), traced(CHURNED, NOISE, other))


def test_draws_are_those_of_each_key_and_row():
    with jax.enable_x64(True):
        noise = jnp.asarray(NOISE, jnp.float64)
        rows = [randomness.fold_in(KEYS, k) for k in range(CHURNED.nfe + 1)]
        injected = np.stack([randomness.normal(keys, (3,), dtype=jnp.float64) for keys in rows])
        drawn = np.asarray(samplers.sample(ideal, CHURNED, noise, KEYS))
    expected = run(CHURNED, gaussian(0.1, 0.5), NOISE, injected)
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_sample_does_not_know_its_neighbours():
    draw = jax.jit(lambda noise, keys: samplers.sample(ideal, CHURNED, noise, keys))
    whole = draw(NOISE, KEYS)
    np.testing.assert_allclose(draw(NOISE[2:5], KEYS[2:5]), whole[2:5], rtol=0, atol=1e-6)
    turned = draw(NOISE[::-1], KEYS[::-1])
    np.testing.assert_allclose(turned[::-1], whole, rtol=0, atol=1e-6)


# -- transformations ---------------------------------------------------------------------------


@pytest.mark.slow
def test_jit_vmap_and_devices_agree():
    call = lambda noise, keys: samplers.sample(ideal, CHURNED, noise, keys)
    traced = lambda table, noise, keys: samplers.sample(ideal, table, noise, keys)
    split = lambda a: a.reshape(4, 2, *a.shape[1:])
    expected = jax.jit(call)(NOISE, KEYS)
    results = {
        "argument": jax.jit(traced)(CHURNED, NOISE, KEYS),
        "vmap": jax.jit(jax.vmap(call))(split(NOISE), split(KEYS)),
        "8 devices": jax.pmap(traced, in_axes=(None, 0, 0))(CHURNED, NOISE[:, None], KEYS[:, None]),
    }
    for name, result in results.items():
        np.testing.assert_allclose(
            np.reshape(result, expected.shape), expected, rtol=0, atol=2e-6, err_msg=name
        )


@pytest.mark.slow
def test_vmap_over_tableaux():
    alphas = [samplers.heun(timesteps.edm(6), alpha=alpha) for alpha in (0.5, 2 / 3, 1.0)]
    stacked = jax.tree.map(lambda *fields: np.stack(fields), *alphas)
    results = jax.vmap(lambda table: samplers.sample(ideal, table, NOISE))(stacked)
    for result, tableau in zip(results, alphas):
        np.testing.assert_allclose(result, samplers.sample(ideal, tableau, NOISE), atol=2e-6)


@pytest.mark.slow
def test_gradients_are_finite_and_right_down_to_sigma_zero():
    """The sampler of Gaussian data is affine, so its slope is known."""
    slope = np.sqrt(samplers.moments(HEUN, 0.0, 0.25)[1])
    gradient = jax.jit(jax.grad(lambda noise: samplers.sample(ideal, HEUN, noise).sum()))(NOISE)
    np.testing.assert_allclose(np.abs(gradient), slope, rtol=1e-4)

    def through(std, table):
        denoise = lambda x, sigma: std**2 / (std**2 + sigma**2) * x
        return samplers.sample(denoise, table, NOISE, KEYS).var()

    by_std, by_table = jax.jit(jax.grad(through, argnums=(0, 1)))(0.5, CHURNED)
    assert np.isfinite(by_std) and by_std != 0
    assert all(np.isfinite(field).all() for field in jax.tree.leaves(by_table))
    step = 1e-4
    with jax.enable_x64(True):
        noise = jnp.asarray(NOISE, jnp.float64)

        @jax.jit
        def loss(std):
            denoise = lambda x, sigma: std**2 / (std**2 + sigma**2) * x
            return samplers.sample(denoise, HEUN, noise).var()

        finite = (loss(0.5 + step) - loss(0.5 - step)) / (2 * step)
        np.testing.assert_allclose(jax.grad(loss)(0.5), finite, rtol=1e-6)


def test_the_network_is_in_the_program_once():
    traces = []

    def denoise(x, sigma):
        traces.append(sigma.shape)
        return jnp.tanh(x @ jnp.eye(3)) / (1 + sigma)

    call = jax.jit(lambda table, noise, keys: samplers.sample(denoise, table, noise, keys))
    text = call.lower(CHURNED, NOISE, KEYS).as_text()
    assert text.count("dot_general") == 1
    assert traces == [()]
    churn = samplers.Churn(5)
    again = samplers.heun(timesteps.edm(6, rho=3.0), alpha=0.5, churn=churn)
    call(CHURNED, NOISE, KEYS), call(again, NOISE, KEYS)
    assert len(traces) == 1 and call._cache_size() == 1


def test_trajectory_is_where_the_denoiser_is_evaluated():
    plain = samplers.sample(ideal, HEUN, NOISE)
    result, states = samplers.sample(ideal, HEUN, NOISE, trajectory=True)
    assert states.shape == (HEUN.nfe + 1, *NOISE.shape)
    np.testing.assert_allclose(result, plain, rtol=0, atol=1e-6)
    assert jnp.array_equal(states[0], 80.0 * NOISE) and jnp.array_equal(states[-1], result)
    euler = samplers.euler(timesteps.edm(6))
    _, states = samplers.sample(ideal, euler, NOISE, trajectory=True)
    x, levels = np.asarray(states, np.float64), timesteps.edm(6)
    for k in range(6):
        slope = (x[k] - gaussian(0.1, 0.5)(x[k], levels[k])) / levels[k]
        np.testing.assert_allclose(x[k + 1], x[k] + (levels[k + 1] - levels[k]) * slope, atol=2e-5)
    text = jax.jit(lambda n: samplers.sample(ideal, HEUN, n)).lower(NOISE).as_text()
    assert f"tensor<{HEUN.nfe}x8x3" not in text  # nothing is stacked unless asked


# -- precision ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_float32_agrees_with_float64():
    noise = np.random.default_rng(1).standard_normal((64, 1))
    for steps in (18, 256):
        for tableau in (samplers.heun(timesteps.edm(steps)), samplers.euler(timesteps.edm(steps))):
            exact = run(tableau, toy(), noise)
            single = samplers.sample(toy(jnp), tableau, jnp.asarray(noise, jnp.float32))
            assert single.dtype == jnp.float32
            np.testing.assert_allclose(single, exact, rtol=0, atol=4e-5)


def test_the_state_keeps_its_dtype_under_a_bfloat16_denoiser():
    coarse = lambda x, sigma: ideal(x, sigma).astype(jnp.bfloat16)
    result = samplers.sample(coarse, HEUN, NOISE)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, samplers.sample(ideal, HEUN, NOISE), atol=5e-2)


# -- tables as text ----------------------------------------------------------------------------


def test_json_gives_the_same_numbers_bit_for_bit():
    odd = [-0.0, 5e-324, 0.1 + 0.2, np.nextafter(1.0, 2.0), 1.7976931348623157e308, -1 / 3]
    rows = samplers.Tableau([[80.0, 0.0]] * 2, [0.1, 3.0], np.resize(odd, (2, 2, 4)))
    still = dataclasses.replace(HEUN, stochastic=True)  # it takes keys, and uses none
    for tableau in (HEUN, CHURNED, rows, still):
        again = samplers.Tableau.from_json(tableau.to_json())
        assert again == tableau and again.weights.dtype == np.float64
        for name in ("start", "sigma", "weights"):
            before = np.asarray(getattr(tableau, name), np.float64)
            assert getattr(again, name).tobytes() == before.tobytes()


@pytest.mark.parametrize(
    "text, message",
    [
        ("heun", "text must be a JSON object of start, sigma, weights, stochastic, got 'heun'"),
        ("3", "text must be a JSON object"),
        (None, "text must be a JSON object of .* got None"),
        (HEUN.to_json().replace("sigma", "sigmas"), "text must be a JSON object"),
        (HEUN.to_json().replace("false", "0"), "text must be a JSON object"),
        (HEUN.to_json().replace("[80.0,0.0]", "[80.0]"), "text must be a JSON object"),
        (HEUN.to_json().replace("[80.0,0.0]", "[80.0,NaN]"), "tableau.start must be finite"),
        (CHURNED.to_json().replace("true", "false"), "stochastic must be True where z"),
    ],
    ids=["word", "number", "none", "name", "switch", "ragged", "nan", "noise"],
)
def test_text_that_is_no_tableau_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        samplers.Tableau.from_json(text)


# -- bad tables, bad arguments -----------------------------------------------------------------


def broken(**fields):
    return dataclasses.replace(HEUN, **fields)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: samplers.sample(ideal, CHURNED, NOISE), "keys must be given for a stochastic"),
        (lambda: samplers.sample(ideal, CHURNED, NOISE, KEYS[:3]), r"keys must have shape \[B\]"),
        (
            lambda: samplers.sample(ideal, CHURNED, NOISE, jnp.zeros((8, 2), jnp.uint32)),
            "keys must be typed keys .* dtype uint32",
        ),
        (
            lambda: samplers.sample(ideal, CHURNED, NOISE, row_noise=NOISE[None]),
            r"row_noise must have shape \[K \+ 1, B, ...\] = \(12, 8, 3\), got \(1, 8, 3\)",
        ),
        (lambda: samplers.sample(ideal, HEUN, np.zeros((2, 3), int)), "noise must be a floating"),
        (lambda: samplers.sample(lambda x, s: x[:1], HEUN, NOISE), "denoise must return the shape"),
        (lambda: samplers.sample(ideal, broken(start=np.ones((2, 3))), NOISE), "start must have"),
        (lambda: samplers.sample(ideal, broken(sigma=-HEUN.sigma), NOISE), "must be positive"),
        (lambda: samplers.moments(broken(weights=HEUN.weights[:, :1]), 0, 1), "weights must have"),
        (
            lambda: samplers.moments(broken(weights=np.nan * HEUN.weights), 0, 1),
            "weights must be finite",
        ),
        (lambda: samplers.Tableau.from_rows([[1.0, 0.0]], []), "sigma must have shape"),
        (lambda: samplers.sample(ideal, "heun", NOISE), "sampler must be a Tableau or a Loop"),
        (lambda: samplers.moments("heun", 0, 1), "tableau must be a Tableau"),
        (
            lambda: samplers.moments(dataclasses.replace(CHURNED, stochastic=False), 0, 1),
            "tableau.stochastic must be True where z has weights",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_traced_tableau_of_wrong_shape_is_refused():
    call = jax.jit(lambda table, noise: samplers.sample(ideal, table, noise))
    with pytest.raises(ValueError, match="weights must have shape"):
        call(broken(weights=HEUN.weights[:, :1]), NOISE)
    with pytest.raises(ValueError, match="tableau must be concrete to be written"):
        jax.eval_shape(lambda table: table.to_json(), HEUN)


def test_a_traced_stochastic_tableau_needs_keys_as_a_concrete_one_does():
    call = jax.jit(lambda table, noise: samplers.sample(ideal, table, noise))
    with pytest.raises(ValueError, match="keys must be given for a stochastic Tableau"):
        call(CHURNED, NOISE)
    assert jax.tree.map(lambda a: 2 * a, CHURNED).stochastic and not HEUN.stochastic
    assert repr(HEUN) == "Tableau(nfe=11, registers=2, stochastic=False)"


def test_rows_are_linear():
    Y, D, _ = samplers.symbols(1)
    for row in (lambda: Y[0] * D, lambda: Y[0] + 1.0, lambda: 1.0 / D, lambda: np.exp(D)):
        with pytest.raises(ValueError, match="rows of a tableau must be linear in Y, D and z"):
            row()
    for row, message in (
        (lambda: Y[0] * D, "got the multiply of a row and a row"),
        (lambda: Y[0] + 1.0, "got the add of a row and 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            row()


def test_tableaux_are_equal_by_their_numbers_and_stay_as_they_are():
    assert samplers.heun(timesteps.edm(6)) == HEUN and HEUN != "heun"
    assert samplers.heun(timesteps.edm(7)) != HEUN and CHURNED != HEUN
    for name in ("start", "sigma", "weights"):
        assert dataclasses.replace(HEUN, **{name: 1.5 * getattr(HEUN, name)}) != HEUN
    assert dataclasses.replace(HEUN, stochastic=True) != HEUN
    with pytest.raises(dataclasses.FrozenInstanceError):
        HEUN.sigma = CHURNED.sigma
    with pytest.raises(TypeError, match="unhashable"):
        hash(HEUN)

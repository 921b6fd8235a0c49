"""The likelihood by the probability flow, against densities in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, randomness, sample_keys, timesteps
from edm_jax.likelihood import decode, divergence, encode, flow, log_prob

GRID = timesteps.edm(160)
MIXTURE = (np.array([[-1.0], [0.2], [1.1]]), np.array([0.25, 0.15, 0.3]), np.array([3.0, 5.0, 2.0]))
POINTS = np.linspace(-1.6, 1.6, 9)[:, None]
ROOT = np.random.default_rng(0).standard_normal((6, 6)) / 3
COUPLED = {"mean": np.linspace(-0.4, 0.6, 6), "covariance": ROOT @ ROOT.T}


@pytest.fixture(autouse=True, scope="module")
def in_float64():
    with jax.enable_x64(True):
        yield


def run(denoise, x, sigmas=GRID, **options):
    """Its fields as arrays of numpy."""
    found = jax.jit(lambda x: log_prob(denoise, x, sigmas, **options))(x)
    return jax.tree.map(np.asarray, found)


def at_once(density):
    """A log-density (x, sigma) -> [B] as one program, with a result of numpy."""
    call = jax.jit(density)
    return lambda x, sigma: np.asarray(call(x, sigma))


def coupled_points():
    return COUPLED["mean"] + np.random.default_rng(1).standard_normal((4, 6)) @ ROOT.T


@pytest.mark.slow
def test_a_mixture_is_exact():
    density = ideal.mixture_log_prob(*MIXTURE)
    found = run(ideal.mixture(*MIXTURE), POINTS, solver="dopri5", prior=density)
    np.testing.assert_allclose(found.nats, at_once(density)(POINTS, 0.002), atol=1e-8)
    np.testing.assert_array_equal(found.standard_error, 0.0)


@pytest.mark.slow
def test_a_gaussian_with_covariance_is_exact_whatever_the_frame():
    x, density = coupled_points(), ideal.gaussian_log_prob(**COUPLED)
    for options in ({}, {"sigma_data": 1.3}, {"chunk": 4}):
        found = run(ideal.gaussian(**COUPLED), x, solver="dopri5", prior=density, **options)
        np.testing.assert_allclose(found.nats, at_once(density)(x, 0.002), atol=1e-8)


@pytest.mark.slow
def test_data_that_stand_still_are_exact_on_any_grid():
    x = np.random.default_rng(2).standard_normal((3, 2, 2))
    found = run(ideal.gaussian(0.0, 0.5), x, [80.0, 0.01])
    expected = at_once(ideal.gaussian_log_prob(0.0, 0.5))(x, 0.01)
    np.testing.assert_allclose(found.nats, expected, rtol=1e-12)
    np.testing.assert_allclose(found.latents, x * np.hypot(80, 0.5) / np.hypot(0.01, 0.5) / 80)


@pytest.mark.parametrize("solver, order", [("heun", 2), ("rk4", 4), ("dopri5", 5)])
def test_a_solver_has_its_order(solver, order):
    """On dy/dt = -2 t y^2, of which y = 1 / (1 + t^2) is a solution."""
    errors = []
    for steps in (32, 64):
        times = np.linspace(0.1, 1.4, steps + 1)
        y = flow.solve(
            lambda t, y: -2 * t * y**2, jnp.full((1, 1), 1 / (1 + times[0] ** 2)),
            0.5 * np.tan(times), solver, None, 0.5,
        )  # fmt: skip
        errors.append(abs(float(y[0, 0]) - 1 / (1 + times[-1] ** 2)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance, error", [(1e-4, 1e-2), (1e-9, 1e-8)])
def test_adaptive_steps_keep_a_tolerance(tolerance, error):
    density = ideal.mixture_log_prob(*MIXTURE)
    options = {"solver": "adaptive", "tolerance": tolerance, "prior": density}
    found = run(ideal.mixture(*MIXTURE), POINTS, [80.0, 0.002], **options)
    exact = at_once(density)(POINTS, 0.002)
    np.testing.assert_allclose(found.nats, exact, atol=error)
    assert np.abs(found.nats - exact).max() > error / 1e4


@pytest.mark.slow
def test_the_prior_of_other_data_is_off_by_the_ratio_of_the_two_at_the_end():
    density = ideal.gaussian_log_prob(0.3, 0.2)
    denoise = ideal.gaussian(0.3, 0.2)
    right = run(denoise, POINTS, solver="dopri5", prior=density)
    default = run(denoise, POINTS, solver="dopri5")
    end = 80 * right.latents
    other = ideal.gaussian_log_prob(0.0, 0.5)
    wrong = at_once(other)(end, 80.0) - at_once(density)(end, 80.0)
    assert np.abs(wrong).max() > 1e-5
    np.testing.assert_allclose(default.nats - right.nats, wrong, atol=1e-12)


def test_float32_agrees_with_float64():
    x, density = coupled_points(), ideal.gaussian_log_prob(**COUPLED)
    found = run(ideal.gaussian(**COUPLED), np.float32(x), prior=density)
    assert found.nats.dtype == found.latents.dtype == jnp.float32
    np.testing.assert_allclose(found.nats, at_once(density)(x, 0.002), atol=2e-4)


# -- probes --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("probes", ["rademacher", "gaussian"])
def test_probes_have_the_variance_that_theory_says(probes):
    matrix = ROOT @ ROOT.T
    total = np.trace(matrix)
    make = randomness.rademacher if probes == "rademacher" else randomness.normal
    vectors = make(sample_keys(range(20000)), (6,), dtype=jnp.float64)[:, None]
    value, traces = jax.jit(lambda z: divergence(lambda z: z @ matrix, z, vectors))(np.ones((1, 6)))
    np.testing.assert_allclose(value, np.ones((1, 6)) @ matrix)
    off = np.sum(matrix**2) - (probes == "rademacher") * np.sum(np.diag(matrix) ** 2)
    assert np.mean(traces) == pytest.approx(total, abs=0.02)
    assert np.var(traces) == pytest.approx(2 * off, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("probes", ["rademacher", "gaussian"])
def test_the_mean_over_probes_is_right_within_its_error(probes):
    x, density = coupled_points(), ideal.gaussian_log_prob(**COUPLED)
    options = {"probes": probes, "num_probes": 200, "keys": sample_keys(range(4))}
    found = run(ideal.gaussian(**COUPLED), x, timesteps.edm(40), prior=density, **options)
    assert (found.standard_error > 1e-3).all()
    assert (np.abs(found.nats - at_once(density)(x, 0.002)) < 4 * found.standard_error).all()


@pytest.mark.slow
def test_random_signs_are_exact_where_elements_do_not_mix():
    x = np.random.default_rng(3).standard_normal((3, 5))
    denoise, keys = ideal.gaussian(0.1, np.linspace(0.1, 1, 5)), sample_keys(range(3))
    exact, signs = (run(denoise, x, probes=p, keys=keys) for p in ("exact", "rademacher"))
    np.testing.assert_allclose(signs.nats, exact.nats, atol=1e-9)
    assert np.isnan(signs.standard_error).all()  # of one probe there is none


@pytest.mark.slow
def test_gaussian_probes_have_no_noise_of_the_linear_part():
    x = np.random.default_rng(4).standard_normal((3, 5))
    found = run(ideal.gaussian(0.0, 0.5), x, probes="gaussian", keys=sample_keys(range(3)))
    exact = at_once(ideal.gaussian_log_prob(0.0, 0.5))(x, 0.002)
    np.testing.assert_allclose(found.nats, exact, rtol=1e-9)


# -- programs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sample_has_its_own_likelihood_on_any_number_of_devices():
    x, keys = POINTS[:8] + np.zeros(2), sample_keys(range(8))
    denoise = ideal.mixture(np.hstack([MIXTURE[0]] * 2), *MIXTURE[1:])
    call = lambda x, keys: log_prob(
        denoise, x, timesteps.edm(12), keys=keys, probes="gaussian", num_probes=2
    )
    whole = jax.jit(call)(x, keys)
    mapped = jax.pmap(call)(x[:, None], keys[:, None])
    mapped = jax.tree.map(np.asarray, mapped)
    np.testing.assert_allclose(mapped.nats[:, 0], whole.nats, rtol=1e-12)
    np.testing.assert_allclose(mapped.standard_error[:, 0], whole.standard_error, rtol=1e-9)
    alone = jax.jit(jax.vmap(call))(x.reshape(4, 2, 2), keys.reshape(4, 2))
    np.testing.assert_allclose(np.ravel(alone.nats), whole.nats, rtol=1e-12)


@pytest.mark.parametrize("solver", ["rk4", "adaptive"])
def test_the_network_is_traced_once_or_twice(solver):
    calls = []

    def denoise(x, sigma):
        calls.append(sigma.shape)
        return ideal.gaussian(0.2, 0.4)(x, sigma)

    jax.make_jaxpr(lambda x: log_prob(denoise, x, timesteps.edm(18), solver=solver))(POINTS)
    # Adaptive steps ask once before the loop; jax traces the body of a scan up to twice.
    assert len(calls) <= 2 and set(calls) == {(9,) if solver == "adaptive" else ()}


@pytest.mark.slow
def test_it_has_a_gradient():
    density = ideal.gaussian_log_prob(**COUPLED)
    value = lambda x: log_prob(ideal.gaussian(**COUPLED), x, timesteps.edm(40), prior=density)
    x = coupled_points()
    gradients = [
        jax.grad(lambda x: value(x).nats.sum()),
        jax.grad(lambda x: density(x, 0.002).sum()),
    ]
    np.testing.assert_allclose(*jax.jit(lambda x: [of(x) for of in gradients])(x), atol=1e-2)


# -- there and back ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gaussian_is_encoded_as_its_whitening_and_decoded():
    x = np.random.default_rng(5).standard_normal((4, 3))
    denoise = ideal.gaussian(0.3, 0.2)
    there = jax.jit(lambda x: encode(denoise, x, GRID, solver="dopri5"))(x)
    expected = (0.3 + (x - 0.3) * np.hypot(80, 0.2) / np.hypot(0.002, 0.2)) / 80
    np.testing.assert_allclose(there, expected, atol=1e-9)
    back = jax.jit(lambda z: decode(denoise, z, GRID, solver="dopri5"))(there)
    np.testing.assert_allclose(back, x, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"solver": "adaptive", "tolerance": 1e-8}])
def test_a_mixture_makes_the_round_trip(options):
    denoise = ideal.mixture(*MIXTURE)
    trip = jax.jit(lambda x: decode(denoise, encode(denoise, x, GRID, **options), GRID, **options))
    error = np.abs(trip(POINTS) - POINTS).max()
    assert 1e-14 < error < 1e-5


@pytest.mark.slow
def test_the_latents_of_a_likelihood_are_those_of_encode():
    denoise = ideal.mixture(*MIXTURE)
    found = run(denoise, POINTS, timesteps.edm(18))
    encoded = jax.jit(functools.partial(encode, denoise, sigmas=timesteps.edm(18)))(x=POINTS)
    np.testing.assert_allclose(found.latents, encoded, rtol=1e-12)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sigmas": [1.0, 2.0]}, "sigmas must descend"),
        ({"sigmas": [1.0, 0.0]}, "positive sigmas must be"),
        ({"solver": "hen"}, "solver must be one of heun, rk4, dopri5, adaptive, got 'hen'"),
        ({"tolerance": 1e-3}, "tolerance must be left out with a fixed grid"),
        ({"solver": "adaptive", "tolerance": 0.0}, "tolerance must be positive"),
        ({"sigma_data": 0.0}, "sigma_data must be positive"),
        ({"probes": "rademacher"}, "keys must be given for rademacher probes"),
        ({"probes": "normal"}, "probes must be one of exact, rademacher, gaussian"),
        ({"probes": np.ones((1, 3, 1))}, r"probes must have shape \[P, \*\(9, 1\)\]"),
        ({"num_probes": 0}, "num_probes must lie in"),
        ({"x": np.arange(3)}, "x must be floating"),
    ],
)
def test_bad_arguments_are_named(options, message):
    given = {"x": POINTS, "sigmas": GRID} | options
    with pytest.raises(ValueError, match=message):
        log_prob(ideal.gaussian(0.0, 0.5), **given)

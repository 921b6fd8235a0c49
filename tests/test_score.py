"""Tweedie's relations and the drifts, on data whose densities and solutions are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, schedules, score

MEANS = np.array([[-1.0, 0.5], [0.3, -0.2], [1.0, 1.0]])
STDS, WEIGHTS = np.array([0.2, 0.4, 0.1]), np.array([0.3, 0.5, 0.2])
MIXTURE = jax.jit(ideal.mixture(MEANS, STDS, WEIGHTS))
SCHEDULES = {
    "edm": schedules.edm(),
    "ve": schedules.ve(),
    "vp": schedules.vp(),
    "sub_vp": schedules.sub_vp(),
    "cosine": schedules.cosine(),
    "flow": schedules.flow(),
    "trigflow": schedules.trigflow(),
    "linear with vp scaling": schedules.with_vp_scaling(schedules.edm()),
}
# Without a scale, with one that falls, one that reaches 0, and one that follows from sigma.
DIFFERENT = ("edm", "vp", "flow", "linear with vp scaling")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def log_density(x, sigma):
    """log p(x; sigma) of the mixture, one point [2]."""
    variance = STDS**2 + sigma**2
    squares = ((x - MEANS) ** 2).sum(-1)
    terms = jnp.log(WEIGHTS) - squares / (2 * variance) - jnp.log(2 * jnp.pi * variance)
    return jax.scipy.special.logsumexp(terms)


def score_of_mixture(x, sigma):
    """The gradient of `log_density` at points [n, 2], in closed form."""
    variance, away = STDS**2 + sigma**2, MEANS - x[:, None]
    shares = WEIGHTS / variance * np.exp(-(away**2).sum(-1) / (2 * variance))
    shares /= shares.sum(1, keepdims=True)
    return ((shares / variance)[..., None] * away).sum(1)


POINTS = np.random.default_rng(0).standard_normal((7, 2)) * 1.5


@pytest.mark.slow
def test_tweedie():
    """(D - x) / sigma^2 is the gradient of log p, and dD/dx the covariance over sigma^2."""

    @jax.jit
    @jax.vmap
    def both(x, sigma):
        denoise = lambda x: MIXTURE(x[None], sigma)[0]
        found = score.score(MIXTURE)(x[None], sigma)[0], jax.jacfwd(denoise)(x)
        return found, jax.grad(log_density)(x, sigma), jax.hessian(log_density)(x, sigma)

    sigma = np.repeat([0.01, 0.3, 5.0], len(POINTS))
    (found, jacobian), gradient, hessian = both(np.tile(POINTS, (3, 1)), sigma)
    np.testing.assert_allclose(found, gradient, rtol=1e-8, atol=1e-8)
    for points, level, of_points in zip(np.tile(POINTS, (3, 1)), sigma, gradient):
        closed = score_of_mixture(points[None], level)[0]
        np.testing.assert_allclose(closed, of_points, rtol=1e-8, atol=1e-8)
    s2 = sigma[:, None, None] ** 2
    np.testing.assert_allclose(jacobian, np.eye(2) + s2 * hessian, rtol=1e-6, atol=1e-9)
    covariance = s2 * np.asarray(jacobian)
    np.testing.assert_allclose(covariance, covariance.swapaxes(1, 2), atol=1e-12)
    assert (np.linalg.eigvalsh(covariance) > 0).all()


@pytest.mark.parametrize("prediction", score.PREDICTIONS)
def test_conversions_invert_each_other(prediction):
    x, sigma = jnp.asarray(POINTS), jnp.asarray(np.geomspace(0.02, 50.0, 7))
    predict = score.from_denoiser(MIXTURE, prediction)
    back = jax.jit(score.to_denoiser(predict, prediction))
    np.testing.assert_allclose(back(x, sigma), MIXTURE(x, sigma), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(back(x, sigma[2])[2], MIXTURE(x, sigma)[2], rtol=1e-9)


@pytest.mark.slow
def test_conversions_of_known_data_and_noise():
    """Of a perfect denoiser of one point y, every prediction is its textbook target."""
    rng = np.random.default_rng(1)
    y, n = jnp.asarray(rng.standard_normal((4, 3))), jnp.asarray(rng.standard_normal((4, 3)))
    sigma = jnp.asarray([0.1, 0.5, 1.0, 30.0])
    s = sigma[:, None]
    alpha, beta = 1 / jnp.sqrt(1 + s**2), s / jnp.sqrt(1 + s**2)  # the angle's cosine and sine
    targets = {
        "x0": y,
        "score": -n / s,
        "epsilon": n,
        "v": alpha * n - beta * y,
        "velocity": n - y,
    }
    assert set(targets) == set(score.PREDICTIONS)
    for prediction, target in targets.items():
        found = jax.jit(score.from_denoiser(lambda x, sigma: y, prediction))(y + s * n, sigma)
        np.testing.assert_allclose(found, target, rtol=1e-10, atol=1e-12)
    for function in (score.from_denoiser, score.to_denoiser):
        with pytest.raises(ValueError, match="prediction must be one of .*got 'noise'"):
            function(MIXTURE, "noise")


@pytest.mark.parametrize("name", DIFFERENT)
def test_scaled_score(name):
    schedule, t = SCHEDULES[name], 0.4
    s, sigma = float(schedule.scale(t)), float(schedule.sigma(t))
    # p_t(x_t) = p(x_t / s; sigma) / s^d.
    expected = score_of_mixture(POINTS / s, sigma) / s
    found = jax.jit(score.scaled_score(MIXTURE, schedule))(POINTS, t)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", SCHEDULES)
def test_probability_flow_has_the_known_solution_of_gaussian_data(name):
    """x_t = s (mean + sqrt(c^2 + sigma^2) z) for a fixed z, whatever the schedule."""
    schedule = SCHEDULES[name]
    mean, std = np.array([0.3, -1.0]), np.array([0.5, 0.1])
    z = np.random.default_rng(2).standard_normal((3, 2))

    def solution(t):
        spread = jnp.sqrt(std**2 + schedule.sigma(t)[:, None] ** 2)
        return schedule.scale(t)[:, None] * (mean + spread * z)

    drift = score.probability_flow(ideal.gaussian(mean, std), schedule)

    @jax.jit
    def compare(t):
        x_t, slope = jax.jvp(solution, (t,), (jnp.ones_like(t),))
        return slope, drift(x_t, t), drift(x_t, t[1])[1]

    slope, found, scalar = compare(jnp.array([0.01, 0.3, 0.9]))
    np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(scalar, found[1], rtol=1e-12)


@pytest.mark.parametrize("name", DIFFERENT)
def test_reverse_sde_keeps_the_marginals(name):
    """dV/dt = 2 a V - g^2 with time reversed; V = s^2 (c^2 + sigma^2), for every stochasticity."""
    schedule, std = SCHEDULES[name], 0.5
    variance = lambda t: schedule.scale(t) ** 2 * (std**2 + schedule.sigma(t) ** 2)
    mean = lambda t: 0.2 * schedule.scale(t)

    def rates(t, stochasticity):
        drift, diffusion = score.reverse_sde(
            ideal.gaussian(0.2, std), schedule, stochasticity=stochasticity
        )
        at, slope = jax.value_and_grad(lambda x: drift(x[None, None], t)[0, 0])(mean(t))
        return jnp.stack([at, 2 * slope * variance(t) - diffusion(t) ** 2])

    @jax.jit
    @jax.vmap
    def compare(t):
        expected = jnp.stack([jax.grad(mean)(t), jax.grad(variance)(t)])
        return expected, [rates(t, e) for e in (0.0, 0.5, 1.0, 1.3)]

    expected, found = compare(jnp.array([0.05, 0.7]))
    for rate in found:
        np.testing.assert_allclose(rate, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_reverse_sde_of_vp_is_the_textbook_one():
    schedule, x, t = schedules.vp(), jnp.asarray(POINTS), 0.3
    beta = 0.1 + 19.9 * t
    drift, diffusion = score.reverse_sde(MIXTURE, schedule)
    drift, score_t = jax.jit(drift), jax.jit(score.scaled_score(MIXTURE, schedule))(x, t)
    np.testing.assert_allclose(drift(x, t), -0.5 * beta * x - beta * score_t, rtol=1e-9)
    assert diffusion(t) == pytest.approx(beta**0.5, rel=1e-12)
    with pytest.raises(ValueError, match="stochasticity must not be negative, got -1.0"):
        score.reverse_sde(MIXTURE, schedule, stochasticity=-1.0)

"""What holds for every method of inverse problems, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import (
    guidance,
    ideal,
    inverse,
    normal,
    sample,
    sample_keys,
    samplers,
    schedules,
    timesteps,
)

KEYS = sample_keys(range(4))
NOISE = np.asarray(normal(KEYS, (4, 4, 3)))
PRIOR = ideal.gaussian(0.2, 0.5)
BOX = inverse.box_downsample((4, 4, 3), 2)
TRUTH = 0.2 + 0.5 * np.asarray(normal(sample_keys(range(10, 14)), (4, 4, 3)))
MEASURE = jax.jit(lambda x: BOX(x))
Y = MEASURE(TRUTH) + 0.1 * np.asarray(normal(sample_keys(range(20, 24)), (2, 2, 3)))
GRID = timesteps.edm(6, sigma_max=10.0)

# name -> the conditioned denoiser of a measurement
MAPS = {
    "dps": lambda y: inverse.dps(PRIOR, BOX, y, 0.5),
    "pigdm": lambda y: inverse.pigdm(PRIOR, BOX, y, 0.1),
    "mmps": lambda y: inverse.mmps(PRIOR, BOX, y, 0.1, iterations=2),
    "mmps by cg": lambda y: inverse.mmps(PRIOR, BOX, y, 0.1, solver="cg", iterations=2),
    "tmpd": lambda y: inverse.tmpd(PRIOR, BOX, y, 0.1),
    "jfps": lambda y: inverse.jfps(PRIOR, BOX, y, 0.1),
    "diffpir": lambda y: inverse.diffpir(PRIOR, BOX, y, 0.1),
    "projection": lambda y: inverse.projection(PRIOR, BOX, y),
    "a function": lambda y: inverse.pigdm(PRIOR, lambda x: BOX(x), y, 0.1, iterations=2),
    "guided": lambda y: inverse.mmps(
        guidance.classifier_free(PRIOR, ideal.gaussian(0.0, 1.0), 1.5),
        BOX,
        y,
        0.1,
        solver="cg",
        iterations=1,
    ),
}
# name -> the sampler of a measurement
STEPS = {
    "steps.dps": lambda y: inverse.steps.dps(BOX, y, GRID),
    "steps.dps poisson": lambda y: inverse.steps.dps(
        BOX, y, GRID, noise="poisson", step_size=0.01, variance="large"
    ),
    "steps.pigdm": lambda y: inverse.steps.pigdm(BOX, y, GRID),
    "steps.pigdm from y": lambda y: inverse.steps.pigdm(BOX, y, GRID, eta=0.0, start="measurement"),
    "steps.ddnm": lambda y: inverse.steps.ddnm(BOX, y, GRID, travel_length=2, travel_repeats=2),
    "steps.ddnm_plus": lambda y: inverse.steps.ddnm_plus(BOX, y, GRID, 0.1),
    "steps.ddrm": lambda y: inverse.steps.ddrm(BOX, y, GRID, 0.1),
    "steps.repaint": lambda y: inverse.steps.repaint(
        BOX, y, GRID, travel_length=2, travel_repeats=2
    ),
    "steps.score_sde": lambda y: inverse.steps.score_sde(BOX, y, GRID),
}


def draw(name, noise=NOISE, y=Y, keys=KEYS):
    if name in MAPS:
        return sample(MAPS[name](y), samplers.euler(GRID), noise)
    return sample(PRIOR, STEPS[name](y), noise, keys)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MAPS, *STEPS])
def test_programs_compose(name):
    run = functools.partial(draw, name)

    @jax.jit
    def transformed(noise, y, keys):
        together = lambda y: run(noise, y, keys)
        alone = jax.vmap(lambda n, y, k: run(n[None], y[None], k[None])[0])(noise, y, keys)
        plain, push = jax.linearize(together, y)
        (gradient,) = jax.linear_transpose(push, y)(jnp.ones_like(plain))
        return alone, plain, gradient, push(y)

    with jax.enable_x64(True):
        noise, y = (np.asarray(a, np.float64) for a in (NOISE, Y))
        found = jax.tree.map(np.asarray, transformed(noise, y, KEYS))
    alone, plain, gradient, pushed = found
    assert np.isfinite(plain).all()
    np.testing.assert_allclose(alone, plain, atol=1e-10)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_allclose(pushed.sum(), (gradient * y).sum(), rtol=1e-9, atol=1e-9)


@functools.partial(jax.jit, static_argnums=0)
def together_and_alone(rule, x, y, numbers):
    """Returns rule(x, y, numbers) [B, ...], and each example of it from a call of its own."""
    alone = lambda one: rule(one[0][None], one[1][None], one[2])[0]
    return rule(x, y, numbers), jax.lax.map(alone, (x, y, numbers))


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_levels_and_noise_of_each_sample(name):
    levels = jnp.array([0.1, 0.5, 2.0, 9.0])
    rule = lambda x, y, sigma: MAPS[name](y)(x, sigma)
    together, ones = together_and_alone(rule, NOISE, Y, levels)
    np.testing.assert_allclose(together, ones, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pigdm", "mmps", "jfps", "tmpd"])
def test_noise_of_each_measurement(name):
    deviations = jnp.array([0.05, 0.1, 0.2, 1.0])
    options = {"iterations": 2} if name == "mmps" else {}
    rule = lambda x, y, noise: getattr(inverse, name)(PRIOR, BOX, y, noise, **options)(x, 2.0)
    together, ones = together_and_alone(rule, NOISE, Y, deviations)
    np.testing.assert_allclose(together, ones, rtol=1e-4, atol=1e-5)


def test_independent_pixels_are_exact():
    """For N(m, c^2 I) the approximations of the covariance given x are the covariance."""
    rules = [inverse.mmps(PRIOR, BOX, Y, 0.1, iterations=3)]
    rules += [
        rule(PRIOR, BOX, Y, 0.1, prior_variance=0.25) for rule in (inverse.pigdm, inverse.jfps)
    ]
    exact, *others = jax.jit(lambda x: [rule(x, 0.7) for rule in rules])(2.0 * NOISE)
    for got in others:
        np.testing.assert_allclose(got, exact, atol=2e-5)


@pytest.mark.slow
def test_what_a_measurement_knows_is_met():
    loops = {
        "ddnm": inverse.steps.ddnm(BOX, Y, GRID, travel_length=2, travel_repeats=2),
        "pigdm": inverse.steps.pigdm(BOX, Y, GRID),
        "ddnm_plus": inverse.steps.ddnm_plus(BOX, Y, GRID, 0.0),
        "ddrm": inverse.steps.ddrm(BOX, Y, GRID, 0.0),
    }

    @jax.jit
    def measured(noise, keys):
        drawn = [sample(PRIOR, loop, noise, keys) for loop in loops.values()]
        return BOX(inverse.projection(PRIOR, BOX, Y)(3.0 * noise, 1.0)), *map(BOX, drawn)

    projected, *drawn = measured(NOISE, KEYS)
    np.testing.assert_allclose(projected, Y, atol=1e-5)
    for name, found in zip(loops, drawn):
        np.testing.assert_allclose(found, Y, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("corrector_steps", [0, 2])
def test_score_sde_in_few_steps(corrector_steps):
    """Also with fewer steps than beta_max, where the original's 1 - beta is below 0."""
    vp = schedules.vp()
    grid = np.append(vp.sigma(np.linspace(1.0, 1e-3, 8)), 0.0)
    loop = inverse.steps.score_sde(BOX, Y, grid, schedule=vp, corrector_steps=corrector_steps)
    assert loop.nfe == 8 * (1 + corrector_steps)
    drawn = jax.jit(lambda noise, keys: sample(PRIOR, loop, noise, keys))(NOISE, KEYS)
    assert np.isfinite(drawn).all()
    np.testing.assert_allclose(MEASURE(drawn), Y, atol=1e-4)


@pytest.mark.slow
def test_without_the_weight_pseudo_inverse_guidance_is_a_denoiser():
    tableau = samplers.ddim(GRID, eta=0.0)

    def moved(x, sigma):
        denoised, vjp = jax.vjp(lambda x: PRIOR(x, sigma), x)
        return (
            denoised
            + vjp(inverse.projection(lambda x, s: x, BOX, Y)(denoised, sigma) - denoised)[0]
        )

    loop = inverse.steps.pigdm(BOX, Y, GRID, eta=0.0, adaptive_weight=False)
    np.testing.assert_allclose(sample(PRIOR, loop, NOISE), sample(moved, tableau, NOISE), atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind, v", [("small", 0.0), ("large", 1.0)])
def test_learned_variance_has_both_ends(kind, v):
    learned = inverse.steps.dps(BOX, Y, GRID, variance="learned")
    assert learned.variance
    with_variance = lambda x, sigma: (PRIOR(x, sigma), jnp.full_like(x, v))
    got = sample(with_variance, learned, NOISE, KEYS)
    expected = sample(PRIOR, inverse.steps.dps(BOX, Y, GRID, variance=kind), NOISE, KEYS)
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.slow
def test_a_nonlinear_measurement():
    """Phase retrieval: the score is that of the derivative, and steps lower the residual."""
    operator = inverse.phase_retrieval(2)
    look = jax.jit(lambda x: operator(x))
    y = np.asarray(look(TRUTH))
    x, sigma, sigma_y = 0.5 * NOISE, np.float32(0.3), 0.4
    likelihood = lambda x: -0.5 * jnp.sum((y - operator(PRIOR(x, sigma))) ** 2) / sigma_y**2

    @jax.jit
    def both(x):
        expected = PRIOR(x, sigma) + sigma**2 * jax.grad(likelihood)(x)
        return inverse.dps(PRIOR, operator, y, sigma_y)(x, sigma), expected

    np.testing.assert_allclose(*both(x), rtol=1e-4, atol=1e-4)
    grid = timesteps.edm(60, sigma_max=10.0)

    def misfit(step_size):
        loop = inverse.steps.dps(operator, y, grid, step_size=step_size)
        drawn = jax.jit(lambda noise, keys: sample(PRIOR, loop, noise, keys))(NOISE, KEYS)
        return np.linalg.norm(y - look(drawn))

    assert misfit(0.1) < 0.7 * misfit(0.0)


def test_travel_of_repaint():
    path = inverse.steps.loop.travel(250, 10, 10)
    assert len(path) == 2410
    assert sum(to - after for _, to, after in path) == 2160
    assert inverse.steps.loop.travel(5, 1, 1) == [(i, i + 1, i + 1) for i in range(5)]


def steps(name, *arguments, **options):
    return lambda: sample(PRIOR, getattr(inverse.steps, name)(*arguments, **options), NOISE, KEYS)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: inverse.pigdm(PRIOR, BOX, Y, -0.1), "sigma_y must be finite and not negative"),
        (lambda: inverse.mmps(PRIOR, BOX, Y, float("nan")), "sigma_y must be finite"),
        (lambda: inverse.dps(PRIOR, BOX, Y, 0.0), "sigma_y must be finite and positive"),
        (lambda: inverse.mmps(PRIOR, BOX, Y, 0.1, iterations=0), "iterations must be a positive"),
        (lambda: inverse.mmps(PRIOR, BOX, Y, 0.1, solver="lu"), "solver must be one of"),
        (lambda: inverse.jfps(PRIOR, BOX, Y, 0.1, prior_variance=0.0), "prior_variance must be"),
        (lambda: inverse.diffpir(PRIOR, BOX, Y, 0.1, strength=-1.0), "strength must be"),
        (lambda: inverse.pigdm(PRIOR, BOX, Y[:, :1], 0.1)(NOISE, 1.0),
         r"y must have the shape of operator\(x\), \(4, 2, 2, 3\), got \(4, 1, 2, 3\)"),
        (lambda: inverse.projection(PRIOR, BOX, Y[:1])(NOISE, 1.0), "y must have the shape"),
        (lambda: BOX(NOISE[:, :2]), "x must be a batch of images"),
        (lambda: inverse.mmps(PRIOR, lambda x: (x, x), Y, 0.1)(NOISE, 1.0),
         "operator must return one array, got tuple"),
        (lambda: inverse.box_downsample((4, 4, 3), 3), "factor must divide"),
        (lambda: inverse.bicubic_downsample((4, 5, 3), 2), "factor must divide"),
        (lambda: inverse.mask(np.zeros((2, 2), bool)), "keep must be booleans"),
        (lambda: inverse.mask(np.ones((2, 2))), "keep must be booleans"),
        (lambda: inverse.fourier_mask(np.ones(3, bool)), "keep must be booleans"),
        (lambda: inverse.blur(np.ones((2, 3))), "kernel must be"),
        (lambda: inverse.motion_kernel(4), "length must be odd"),
        (lambda: inverse.gaussian_blur((4, 4, 3), 0.0), "std must be positive"),
        (lambda: inverse.gaussian_blur((4, 4), 1.0), "shape must be"),
        (lambda: inverse.gray((4, 4, 3), weights=[0.5, 0.5]), "matrices must be one"),
        (lambda: inverse.from_matrix(np.ones((2, 5)), (2, 2)), "matrices must be one"),
        (lambda: inverse.phase_retrieval(-1), "pad must not be negative"),
        (steps("dps", BOX, Y, GRID, step_size=-1.0), "step_size must lie"),
        (steps("dps", BOX, Y, GRID, noise="x"), "noise must be one of"),
        (steps("dps", BOX, Y, GRID, variance="x"), "variance must be one of"),
        (steps("dps", BOX, Y, GRID, frame="x"), "frame must be one of"),
        (steps("dps", BOX, Y[:, :1], GRID), "y must have the shape"),
        (steps("pigdm", BOX, Y, GRID, eta=2.0), "eta must lie"),
        (steps("pigdm", BOX, Y, GRID, start="x"), "start must be one of"),
        (steps("ddnm", BOX, Y, GRID, travel_length=0), "travel_length must be"),
        (steps("ddnm", BOX, Y[:, :1], GRID), "y must have the shape"),
        (steps("repaint", BOX, Y, GRID, travel_repeats=1.5), "travel_repeats must be"),
        (steps("repaint", BOX, Y[:1], GRID), "y must have the shape"),
        (steps("score_sde", BOX, Y[:1], GRID), "y must have the shape"),
        (steps("score_sde", BOX, Y, GRID, snr=float("nan")), "snr must lie"),
        (steps("ddrm", lambda x: x, NOISE, GRID, 0.1), "operator must be an inverse.Spectral"),
        (steps("ddrm", BOX, Y, GRID, -0.1), "sigma_y must be finite"),
        (steps("ddrm", BOX, Y, GRID, 0.1, eta_b=1.5), "eta_b must lie"),
        (steps("ddrm", BOX, Y[:, :1], GRID, 0.1), "y must have the shape"),
        (steps("ddnm_plus", BOX, Y, [1.0, 2.0], 0.1), "sigmas must descend"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()

"""What holds for every kind of guidance, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import guidance, ideal, normal, sample, sample_keys, samplers, timesteps
from edm_jax.checks import Remembering

MAIN = ideal.gaussian(0.8, 0.3)
GUIDE = ideal.gaussian(0.1, 0.6)
NOISE = normal(sample_keys(range(8)), (2, 2, 3))
GRAY = lambda x, sigma: GUIDE(x, sigma)[..., :1]  # of other images
LOG_PROB = lambda x, sigma: -jnp.sum((x - 0.5) ** 2, axis=(1, 2, 3)) / (1 + jnp.asarray(sigma) ** 2)

# name -> the guided denoiser at a scale
RULES = {
    "classifier_free": lambda w: guidance.classifier_free(MAIN, GUIDE, w),
    "rescaled": lambda w: guidance.classifier_free(MAIN, GUIDE, w, rescale=0.7),
    "interval": lambda w: guidance.classifier_free(MAIN, GUIDE, w, interval=(0.2, 5.0)),
    "steps": lambda w: guidance.in_steps(
        MAIN, lambda main: guidance.classifier_free(main, GUIDE, w), 2, 5, evaluations=1
    ),
    "autoguidance": lambda w: guidance.autoguidance(MAIN, GUIDE, w),
    "zero_star": lambda w: guidance.zero_star(MAIN, GUIDE, w),
    "projected": lambda w: guidance.adaptive_projected(MAIN, GUIDE, w, norm_threshold=2.0),
    "momentum": lambda w: guidance.adaptive_projected(MAIN, GUIDE, w, momentum=-0.5),
    "composed": lambda w: guidance.compose([MAIN, GUIDE], ideal.gaussian(0.0, 1.0), [w, 0.5]),
    "classifier": lambda w: guidance.classifier(GUIDE, LOG_PROB, w),
    "clipped": lambda w: guidance.clip(guidance.classifier_free(MAIN, GUIDE, w)),
    "dynamic": lambda w: guidance.dynamic_threshold(guidance.classifier_free(MAIN, GUIDE, w), 0.9),
}


def draw(rule, noise=NOISE):
    return sample(rule, samplers.dpmpp_2m(timesteps.edm(8)), noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_programs_compose(name):
    rule = RULES[name](2.0)
    drawn = functools.partial(draw, rule)

    @jax.jit
    def transformed(noise):
        alone = jax.vmap(drawn)(noise[:, None])[:, 0]  # its neighbours do not matter
        together, push = jax.linearize(drawn, noise)
        (gradient,) = jax.linear_transpose(push, noise)(jnp.ones_like(together))
        return alone, together, gradient, push(noise)

    alone, together, gradient, pushed = transformed(NOISE)
    np.testing.assert_allclose(alone, together, rtol=2e-5, atol=2e-5)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_allclose(pushed.sum(), (gradient * NOISE).sum(), rtol=2e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier_free", "interval", "projected", "classifier"])
def test_levels_and_scales_of_each_sample(name):
    x = 3.0 * NOISE
    levels = jnp.array([0.1, 0.2, 0.3, 1.0, 2.0, 5.0, 5.1, 40.0])
    scales = jnp.linspace(0.0, 3.0, 8)

    @jax.jit
    def each(x, levels, scales):
        alone = lambda one: RULES[name](one[2])(one[0][None], one[1])[0]
        return RULES[name](scales)(x, levels), jax.lax.map(alone, (x, levels, scales))

    together, ones = each(x, levels, scales)
    np.testing.assert_allclose(together, ones, atol=1e-5)
    by_level = jax.jit(RULES[name](lambda sigma: 1.0 + sigma))(x, levels)
    np.testing.assert_allclose(by_level, each(x, levels, 1.0 + levels)[0], atol=1e-5)


@pytest.mark.slow
def test_equal_deviations_move_the_mean():
    """D_w of N(m_c, s^2) and N(m_u, s^2) is that of N(m_u + w (m_c - m_u), s^2)."""
    cond, uncond = ideal.gaussian(0.5, 0.4), ideal.gaussian(-0.25, 0.4)
    for w in (0.0, 1.0, 3.5):
        got = draw(guidance.classifier_free(cond, uncond, w))
        expected = draw(ideal.gaussian(-0.25 + w * 0.75, 0.4))
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_equal_means_multiply_the_deviations():
    """Guidance between N(0, c^2) and N(0, u^2) draws the deviation c^w u^(1 - w)."""
    cond, uncond, w = ideal.gaussian(0.0, 0.3), ideal.gaussian(0.0, 0.6), 2.0
    rule = guidance.classifier_free(cond, uncond, w)
    grid = timesteps.edm(400, sigma_max=2000.0)
    drawn = sample(rule, samplers.heun(grid), NOISE)
    np.testing.assert_allclose(drawn, 0.3**w * 0.6 ** (1 - w) * NOISE, rtol=2e-3, atol=1e-5)


def test_rules_that_are_one_another():
    x = 2.0 * NOISE
    free = guidance.classifier_free(MAIN, GUIDE, 2.5)(x, 0.7)
    same = {
        "no projection": guidance.adaptive_projected(MAIN, GUIDE, 2.5, eta=1.0),
        "its other base": guidance.adaptive_projected(MAIN, GUIDE, 2.5, eta=1.0, base="uncond"),
        "everywhere": guidance.classifier_free(MAIN, GUIDE, 2.5, interval=(0.0, np.inf)),
        "one condition": guidance.compose([MAIN], GUIDE, [2.5]),
    }
    for name, rule in same.items():
        np.testing.assert_allclose(rule(x, 0.7), free, atol=1e-5, err_msg=name)
    outside = guidance.classifier_free(MAIN, GUIDE, 2.5, interval=(1.0, 2.0))
    np.testing.assert_array_equal(outside(x, 0.7), MAIN(x, 0.7))
    np.testing.assert_array_equal(outside(x, 1.0), MAIN(x, 1.0))  # low < sigma <= high
    assert np.abs(outside(x, 2.0) - MAIN(x, 2.0)).max() > 0.1


def test_momentum_is_carried_from_row_to_row():
    grid, beta = timesteps.edm(5), -0.5
    rule = guidance.adaptive_projected(MAIN, GUIDE, 3.0, eta=1.0, momentum=beta)
    assert isinstance(rule, Remembering)
    x, moved = grid[0] * NOISE, 0.0
    for s, t in zip(grid, grid[1:]):
        moved = MAIN(x, s) - GUIDE(x, s) + beta * moved
        denoised = MAIN(x, s) + 2.0 * moved
        x = x + (t - s) * (x - denoised) / s
    np.testing.assert_allclose(sample(rule, samplers.euler(grid), NOISE), x, atol=5e-5)


def labelled(labels):
    means = labels @ jnp.array([0.5, -0.5, 0.2])
    network = lambda x, sigma: x / (1 + jnp.asarray(sigma).reshape((-1, 1, 1, 1)) ** 2)
    return lambda x, sigma: network(x, sigma) + means[:, None, None, None]


@pytest.mark.slow
@pytest.mark.parametrize("interval", [None, (0.2, 5.0)])
def test_one_call_of_twice_the_batch_is_two_calls(interval):
    labels = jax.nn.one_hot(jnp.arange(8) % 3, 3)
    calls = []

    def counted(labels):
        def denoise(x, sigma):
            calls.append(len(x))
            return labelled(labels)(x, sigma)

        return denoise

    cond, uncond = guidance.in_one_call(counted, labels, jnp.zeros_like(labels))
    one = guidance.classifier_free(cond, uncond, 2.0, interval=interval)
    two = guidance.classifier_free(
        labelled(labels), labelled(jnp.zeros_like(labels)), 2.0, interval=interval
    )
    np.testing.assert_allclose(draw(one), draw(two), atol=1e-5)
    assert set(calls) == ({16} if interval is None else {16, 8})
    levels = jnp.linspace(0.1, 6.0, 8)
    np.testing.assert_allclose(one(NOISE, levels), two(NOISE, levels), atol=1e-5)


def test_the_guide_is_not_called_outside_the_interval():
    asked = []

    def guide(x, sigma):
        jax.debug.callback(lambda s: asked.append(float(s)), sigma)
        return GUIDE(x, sigma)

    grid = timesteps.edm(10)
    rule = guidance.classifier_free(MAIN, guide, 2.0, interval=(0.1, 3.0))
    sample(rule, samplers.euler(grid), NOISE).block_until_ready()
    jax.effects_barrier()
    inside = [s for s in grid[:-1] if 0.1 < s <= 3.0]
    np.testing.assert_allclose(sorted(asked, reverse=True), inside, rtol=1e-6)


def test_the_guide_is_called_in_the_steps_alone():
    """Steps 5 to 9 of 16 with Heun's corrections: 41 network calls, and which levels."""
    asked = []

    def guide(x, sigma):
        jax.debug.callback(lambda s: asked.append(float(s)), sigma)
        return GUIDE(x, sigma)

    grid = timesteps.edm(16)
    rule = guidance.in_steps(MAIN, lambda main: guidance.classifier_free(main, guide, 3.0), 5, 9)
    tableau = samplers.heun(grid)
    sample(rule, tableau, NOISE).block_until_ready()
    jax.effects_barrier()
    assert len(asked) + tableau.nfe == 41
    expected = np.concatenate([grid[5:10], grid[6:11]])
    np.testing.assert_allclose(sorted(asked), np.sort(expected), rtol=1e-6)


@pytest.mark.slow
def test_each_network_is_traced_once():
    calls = []
    main = lambda x, sigma: calls.append("main") or MAIN(x, sigma)
    guide = lambda x, sigma: calls.append("guide") or GUIDE(x, sigma)
    limited = guidance.classifier_free(main, guide, 2.0, interval=(0.1, 3.0))
    counted = guidance.in_steps(main, lambda m: guidance.classifier_free(m, guide, 2.0), 1, 3)
    for rule in (limited, counted):
        calls.clear()
        jax.jit(functools.partial(draw, rule))(NOISE)
        assert calls == ["main", "guide"]


def test_scales_over_frames():
    np.testing.assert_allclose(guidance.linear_over_frames(4, 2.5), [1, 1.5, 2, 2.5])
    np.testing.assert_allclose(guidance.triangle_over_frames(5, 2.5), [1, 1.75, 2.5, 1.75, 1])
    twice = guidance.triangle_over_frames(5, 3.0, period=[1.0, 0.5], fuse="multiply")
    np.testing.assert_allclose(twice, [1, 2, 1, 2, 1], atol=1e-12)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: guidance.classifier_free(MAIN, GUIDE, float("nan")), "scale must be a finite"),
        (lambda: guidance.classifier_free(MAIN, GUIDE, 1, interval=(2, 1)), "interval must be"),
        (lambda: guidance.classifier_free(MAIN, GUIDE, 1, interval=3), "interval must be"),
        (lambda: guidance.in_steps(MAIN, lambda main: main, 3, 2), "stop must be an integer of at"),
        (lambda: guidance.in_steps(MAIN, lambda main: main, 0.5, 2), "start must be an integer"),
        (lambda: guidance.classifier_free(MAIN, GRAY, 2.0)(NOISE, 1.0),
         r"guide must return images of the shape of x, \(8, 2, 2, 3\), got \(8, 2, 2, 1\)"),
        (lambda: guidance.autoguidance(MAIN, GRAY, 2.0, interval=(0, 2))(NOISE, 1.0), "guide must"),
        (lambda: guidance.compose([MAIN, GRAY], GUIDE, [1.0, 1.0])(NOISE, 1.0), "conds must"),
        (lambda: draw(guidance.adaptive_projected(MAIN, GRAY, 2.0, momentum=-0.5)), "uncond must"),
        (lambda: guidance.classifier_free(MAIN, GUIDE, 1, rescale=1.5), "rescale must lie"),
        (lambda: guidance.classifier_free(MAIN, GUIDE, 1, rescale_on="x"), "rescale_on must be"),
        (lambda: guidance.compose([MAIN], GUIDE, []), "scales must be one for each"),
        (lambda: guidance.clip(MAIN, low=1.0, high=0.0), "low must be below"),
        (lambda: guidance.dynamic_threshold(MAIN, 2.0), "percentile must lie"),
        (lambda: guidance.dynamic_threshold(MAIN, max_value=0.5), "max_value must lie"),
        (lambda: guidance.adaptive_projected(MAIN, GUIDE, 2, base="x"), "base must be one of"),
        (lambda: guidance.linear_over_frames(0, 2.0), "num_frames must be"),
        (lambda: guidance.triangle_over_frames(3, 2.0, period=0.0), "period must be positive"),
        (lambda: guidance.mean_shift(MAIN, LOG_PROB, 1.0, [1, 2]), "sigmas must descend"),
        (lambda: guidance.in_one_call(labelled, jnp.ones((2, 3)), jnp.ones((3, 3))),
         "uncond must have the shapes"),
        (lambda: guidance.classifier(GUIDE, lambda x, s: x, 1.0)(NOISE, 1.0),
         "log_prob must return shape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()

"""Algorithm 2 as a tableau equals the algorithm as a loop, on any levels and on a table's."""

import math

import numpy as np
import pytest
from sampler_reference import run, toy

from edm_jax import preconditioning, samplers, timesteps

NOISE = np.array([[-1.3], [-0.4], [0.35], [1.7]])
IDDPM = preconditioning.iddpm()
BOUNDS = IDDPM.sigma_min, IDDPM.sigma_max
OFFICIAL = samplers.Churn(s_churn=80.0, s_min=0.05, s_max=50.0, s_noise=1.003)


def loop(
    denoise,
    levels,
    noise,
    draws,
    churn,
    second_order=True,
    round_sigma=lambda sigma: sigma,
    step_scale=1.0,
):
    """Karras et al. 2022, algorithm 2, step by step; `draws[i]` is the noise of step i."""
    levels = [float(round_sigma(np.float64(level))) if level > 0 else 0.0 for level in levels]
    steps = len(levels) - 1
    x, evaluations = levels[0] * noise, []
    for i, (level, after) in enumerate(zip(levels, levels[1:])):
        inside = churn.s_min <= (after if churn.decides == "next" else level) <= churn.s_max
        gamma = min(churn.s_churn / steps, math.sqrt(2) - 1)
        if churn.gamma is not None:
            gamma = np.broadcast_to(churn.gamma, steps)[i]
        gamma = gamma if inside else 0.0
        raised = float(round_sigma(np.float64(level + gamma * level))) if gamma else level
        x = x + math.sqrt(max(raised**2 - level**2, 0.0)) * churn.s_noise * draws[i]
        slope = (x - denoise(x, raised)) / raised
        evaluations.append(raised)
        moved = x + step_scale * (after - raised) * slope
        if second_order and i < steps - 1:
            evaluations.append(after)
            slope = 0.5 * slope + 0.5 * (moved - denoise(moved, after)) / after
            moved = x + (after - raised) * slope
        x = moved
    return x, evaluations


def compare(levels, churn, solver="heun", round_sigma=None, **options):
    """Both on the same draws; returns the levels of the evaluations."""
    stages = 2 if solver == "heun" else 1
    steps = len(levels) - 1
    draws = np.random.default_rng(7).standard_normal((steps, *NOISE.shape))
    tableau = samplers.build(solver, levels, churn=churn, round_sigma=round_sigma, **options)
    rows = np.zeros((tableau.nfe + 1, *NOISE.shape))
    rows[: stages * steps : stages] = draws
    given = options if round_sigma is None else options | {"round_sigma": round_sigma}
    expected, evaluations = loop(toy(), levels, NOISE, draws, churn, stages == 2, **given)
    np.testing.assert_allclose(run(tableau, toy(), NOISE, rows), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(tableau.sigma, evaluations, rtol=1e-14)
    return evaluations


@pytest.mark.parametrize("solver", ["heun", "euler"])
@pytest.mark.parametrize("steps", [1, 18])
def test_the_tableau_is_the_algorithm(solver, steps):
    for churn in (samplers.Churn(), OFFICIAL, samplers.Churn(4.0)):
        compare(timesteps.edm(steps), churn, solver)


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_the_published_setting_on_the_level_table_of_iddpm(solver):
    """256 steps on a table of 1,000 levels: near the ends neighbours round to the same one."""
    levels = timesteps.build("edm", 256, bounds=BOUNDS)
    rounded = timesteps.rounded(levels, IDDPM.round_sigma, keep_repeated=True)
    assert len(rounded) == 257 and (np.diff(rounded) == 0).sum() > 10
    evaluations = compare(levels, OFFICIAL, solver, IDDPM.round_sigma)
    assert len(evaluations) == {"heun": 511, "euler": 256}[solver]
    assert set(evaluations) <= set(np.asarray(IDDPM.round_sigma(np.array(evaluations))).tolist())


def noisy_steps(churn, levels=(8.0, 4.0, 2.0, 1.0, 0.0)):
    """The levels at which a step begins with noise."""
    tableau = samplers.euler(levels, churn=churn)
    added = np.append(tableau.start[0, 1], tableau.weights[:-1, 0, -1])
    return [level for level, noise in zip(levels, added) if noise > 0]


def test_the_bounds_of_churn_are_inclusive():
    assert noisy_steps(samplers.Churn(1.0)) == [8.0, 4.0, 2.0, 1.0]
    assert noisy_steps(samplers.Churn(1.0, s_min=2.0, s_max=4.0)) == [4.0, 2.0]
    below, above = np.nextafter(4.0, 0.0), np.nextafter(2.0, 3.0)
    assert noisy_steps(samplers.Churn(1.0, s_min=above, s_max=4.0)) == [4.0]
    assert noisy_steps(samplers.Churn(1.0, s_min=2.0, s_max=below)) == [2.0]
    assert noisy_steps(samplers.Churn(1.0, s_min=2.0, s_max=2.0)) == [2.0]
    assert noisy_steps(samplers.Churn(0.0)) == []


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_gammas_of_ones_own_are_not_capped_and_either_level_decides(solver):
    levels = timesteps.edm(9)
    each = [0.0, 2.5, 0.1, 0.8, 0.8, 0.8, 0.8, 0.8, 0.3]
    for churn in (
        samplers.Churn(gamma=0.8),
        samplers.Churn(gamma=each, s_noise=1.003),
        samplers.Churn(gamma=each, s_min=0.05, s_max=20.0, decides="next"),
        samplers.Churn(4.0, s_min=0.05, s_max=20.0, decides="next"),
    ):
        compare(levels, churn, solver)
    assert noisy_steps(samplers.Churn(gamma=0.8, s_min=2.0, decides="next")) == [8.0, 4.0]
    assert noisy_steps(samplers.Churn(gamma=0.8, s_min=2.0)) == [8.0, 4.0, 2.0]
    assert noisy_steps(samplers.Churn(gamma=[0, 1, 0, 1])) == [4.0, 1.0]
    raised = samplers.euler([4.0, 1.0, 0.0], churn=samplers.Churn(gamma=[1.5, 0.0]))
    assert raised.sigma.tolist() == [10.0, 1.0]


def test_longer_steps_than_to_the_next_level():
    for churn in (samplers.Churn(), samplers.Churn(gamma=0.8, s_noise=1.003, decides="next")):
        compare(timesteps.edm(9), churn, "euler", step_scale=1.5)
    plain = samplers.euler(timesteps.edm(9))
    assert samplers.euler(timesteps.edm(9), step_scale=1.0) == plain


def spreads(tableau, sigma_data):
    """Deviation of the output over that of Gaussian data, of 0.1, 0.3, 1 and 3 times sigma_data."""
    data = sigma_data * np.array([0.1, 0.3, 1.0, 3.0])
    return np.sqrt(samplers.moments(tableau, 0.0, data**2)[1]) / data


@pytest.mark.parametrize(
    "steps, step_scale, expected",
    [
        (200, 1.5, [0.529, 0.658, 0.685, 0.691]),
        (200, 1.0, [0.886, 0.867, 0.868, 0.870]),
        (50, 1.5, [0.358, 0.548, 0.598, 0.616]),
    ],
)
def test_the_spread_that_alphafold_leaves(steps, step_scale, expected):
    levels = timesteps.edm(steps, sigma_min=0.0064, sigma_max=2560.0, final="sigma_min")
    churn = samplers.Churn(gamma=0.8, s_min=1.0, s_noise=1.003, decides="next")
    tableau = samplers.euler(levels, churn=churn, step_scale=step_scale)
    assert tableau.nfe == steps
    np.testing.assert_allclose(spreads(tableau, 16.0), expected, atol=5.1e-4)
    data = (16.0 * np.array([0.1, 0.3, 1.0, 3.0])) ** 2
    variance = 2560.0**2 * np.ones(4)
    for level, after in zip(levels, levels[1:]):
        gamma = 0.8 if after > 1.0 else 0.0
        high = level * (1 + gamma)
        variance += 1.003**2 * level**2 * gamma * (2 + gamma)
        move = step_scale * (after - high) / high
        variance *= (1 + move * high**2 / (data + high**2)) ** 2
    np.testing.assert_allclose(spreads(tableau, 16.0), np.sqrt(variance / data), rtol=1e-11)


def test_the_churn_of_dpmpp_2s_is_that_of_gencast():
    levels = timesteps.edm(20, sigma_min=0.03)
    churn = samplers.Churn(2.5, s_min=0.75, s_noise=1.05)
    tableau = samplers.dpmpp_2s(levels, churn=churn)
    assert tableau.nfe == 39
    np.testing.assert_allclose(spreads(tableau, 1.0), [0.983, 1.0235, 1.029, 1.030], atol=5.1e-4)
    draws = np.random.default_rng(5).standard_normal((20, *NOISE.shape))
    rows = np.zeros((40, *NOISE.shape))
    rows[:40:2] = draws
    x, denoise = levels[0] * NOISE, toy()
    for i, (level, after) in enumerate(zip(levels, levels[1:])):
        gamma = 0.125 if level >= 0.75 else 0.0
        high = level * (1 + gamma)
        x = x + 1.05 * level * math.sqrt(gamma * (2 + gamma)) * draws[i]
        ratio, middle = after / high, math.sqrt(high * after)
        if after:
            inner = middle / high * x + (1 - middle / high) * denoise(x, high)
            x = ratio * x + (1 - ratio) * denoise(inner, middle)
        else:
            x = denoise(x, high)
    np.testing.assert_allclose(run(tableau, denoise, NOISE, rows), x, rtol=0, atol=1e-12)
    assert samplers.dpmpp_2s(levels, churn=samplers.Churn()) == samplers.dpmpp_2s(levels)
    assert samplers.dpmpp_2s(levels) == samplers.dpmpp_2s_ancestral(levels, eta=0.0)


@pytest.mark.parametrize(
    "churn, message",
    [
        (samplers.Churn(gamma=-0.1), "gamma must be a number or .* not negative, got -0.1"),
        (samplers.Churn(gamma=[0.1, 0.2]), r"\[N\] = \[3\] of them, .* got \[0.1, 0.2\]"),
        (samplers.Churn(gamma=math.inf), "gamma must be a number"),
        (samplers.Churn(5.0, gamma=0.1), "s_churn must be left out where gamma is given, got 5.0"),
        (samplers.Churn(decides="last"), "decides must be one of current, next, got 'last'"),
        (samplers.Churn(s_min=2.0, s_max=1.0), "s_max must lie in"),
        (0.8, "churn must be a Churn, such as .*got 0.8"),
    ],
)
def test_bad_churn_is_named(churn, message):
    for solver in (samplers.heun, samplers.dpmpp_2s):
        with pytest.raises(ValueError, match=message):
            solver([4.0, 2.0, 1.0, 0.0], churn=churn)


def test_a_step_that_goes_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"step_scale must lie in \(0.0, inf\], got 0"):
        samplers.euler([1.0, 0.0], step_scale=0)

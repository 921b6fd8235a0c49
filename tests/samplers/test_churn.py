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


def loop(denoise, levels, noise, draws, churn, second_order=True, round_sigma=lambda sigma: sigma):
    """Karras et al. 2022, algorithm 2, step by step; `draws[i]` is the noise of step i."""
    levels = [float(round_sigma(np.float64(level))) if level > 0 else 0.0 for level in levels]
    steps = len(levels) - 1
    x, evaluations = levels[0] * noise, []
    for i, (level, after) in enumerate(zip(levels, levels[1:])):
        inside = churn.s_min <= level <= churn.s_max
        gamma = min(churn.s_churn / steps, math.sqrt(2) - 1) if inside else 0.0
        raised = float(round_sigma(np.float64(level + gamma * level))) if gamma else level
        x = x + math.sqrt(max(raised**2 - level**2, 0.0)) * churn.s_noise * draws[i]
        slope = (x - denoise(x, raised)) / raised
        evaluations.append(raised)
        moved = x + (after - raised) * slope
        if second_order and i < steps - 1:
            evaluations.append(after)
            slope = 0.5 * slope + 0.5 * (moved - denoise(moved, after)) / after
            moved = x + (after - raised) * slope
        x = moved
    return x, evaluations


def compare(levels, churn, solver="heun", round_sigma=None):
    """Both on the same draws; returns the levels of the evaluations."""
    stages = 2 if solver == "heun" else 1
    steps = len(levels) - 1
    draws = np.random.default_rng(7).standard_normal((steps, *NOISE.shape))
    tableau = samplers.build(solver, levels, churn=churn, round_sigma=round_sigma)
    rows = np.zeros((tableau.nfe + 1, *NOISE.shape))
    rows[: stages * steps : stages] = draws
    given = {} if round_sigma is None else {"round_sigma": round_sigma}
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

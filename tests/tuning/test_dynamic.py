"""GITS by its reference program: costs, schedules, what its students make, on a mixture."""

import json

import jax
import numpy as np
import pytest

from edm_jax import ideal, samplers, timesteps
from edm_jax.tuning import analytic_first_step, cheapest, costs, reference, run

GRIDS = {"polynomial": timesteps.edm, "logsnr": timesteps.exponential}


@pytest.fixture(scope="module")
def gits(golden):
    return golden("gits.npz")


@pytest.fixture(scope="module")
def denoise(gits):
    with jax.enable_x64(True):
        ask = jax.jit(ideal.mixture(*(gits[f"mixture/{n}"] for n in ("means", "stds", "weights"))))
        yield lambda x, sigma: np.asarray(ask(x, sigma))


@pytest.mark.parametrize("place", range(5))
def test_costs_and_schedules_are_the_reference_s(gits, denoise, place):
    case = json.loads(str(gits["cases"]))[place]
    name = case["name"]
    sigmas = GRIDS[case["schedule"]](case["num_points"] - 1, final="sigma_min")
    paths = [
        reference(denoise, noise, sigmas, solver=case["teacher"])
        for noise in gits["latents"][: case["rounds"]]
    ]
    cost = np.mean([costs(path, metric=case["metric"]) for path in paths], axis=0)
    np.testing.assert_allclose(
        cost[np.triu_indices(len(cost), 1)], gits[f"cost/{name}"], rtol=0, atol=1e-12
    )
    found = [cheapest(cost, calls, gamma=case["coeff"]) for calls in range(4, 11)]
    np.testing.assert_array_equal(np.concatenate([f[0] for f in found]), gits[f"index/{name}"])
    np.testing.assert_allclose([f[1] for f in found], gits[f"total/{name}"], rtol=1e-12)


@pytest.mark.parametrize("place", range(5))
def test_its_students_draw_the_reference_s_samples(gits, denoise, place):
    """With the analytical first step and without it."""
    case = json.loads(str(gits["runs"]))[place]
    order = {"order": case["max_order"]} if case["solver"] == "ipndm" else {}
    tableau = samplers.build(case["solver"], case["sigmas"], **order)
    if case["afs"]:
        calls = tableau.nfe
        tableau = analytic_first_step(tableau)
        assert tableau.nfe == calls - 1
    states, _ = run(denoise, tableau, gits["latents"][0])
    np.testing.assert_allclose(states[-1], gits[f"out/{case['name']}"], rtol=0, atol=1e-12)


def test_a_straight_path_costs_nothing(denoise):
    """One point of data: D = y, and every jump is exact."""
    point = np.ones((3, 4, 4, 1))
    noise = np.random.default_rng(0).standard_normal(point.shape)
    path = reference(lambda x, sigma: point, noise, timesteps.edm(9))
    for metric in ("l1", "l2", "dev"):
        assert np.abs(costs(path, metric=metric)).max() < 1e-11


def test_what_is_not_allowed_is_named():
    cost = np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"calls must lie in \[1, 3\], got 4"):
        cheapest(cost, 4)
    with pytest.raises(ValueError, match="gamma must be positive"):
        cheapest(cost, 2, gamma=0.0)

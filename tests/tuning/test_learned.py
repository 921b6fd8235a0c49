"""Learned rows: exact where they can be, least squares where they cannot, a point stays exact."""

import numpy as np
import pytest

from edm_jax import samplers, timesteps
from edm_jax.tuning import analytic_first_step, fit, reference, run

STD = 0.5
RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal((40, 3))
SIGMAS = np.array([80.0, 5.0, 1.0, 0.4, 0.1, 0.0])


def gaussian(x, sigma):
    return STD**2 / (STD**2 + sigma**2) * x


@pytest.mark.parametrize("analytic", [False, True])
def test_on_gaussian_data_a_row_with_a_memory_is_exact(analytic):
    """There all D are multiples of one vector, so one coefficient suffices."""
    path = reference(gaussian, NOISE, timesteps.edm(400))
    tableau, end = fit(gaussian, path, SIGMAS, analytic=analytic)
    assert tableau.nfe == len(SIGMAS) - 1 - analytic and tableau.registers == 4
    np.testing.assert_allclose(end, path.end, rtol=1e-9)
    drawn = run(gaussian, tableau, NOISE)[0][-1]
    np.testing.assert_allclose(drawn, path.end, rtol=1e-9)
    other = RNG.standard_normal((40, 3))
    exact = other * 80.0 * STD / np.sqrt(STD**2 + 80.0**2)
    np.testing.assert_allclose(run(gaussian, tableau, other)[0][-1], exact, rtol=2e-3)


def curved(x, sigma):
    """No linear function of x."""
    return np.tanh(x / (STD**2 + sigma**2)) * [1.0, 0.5, 0.2] + 0.1 * gaussian(x, sigma)


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_a_point_of_data_stays_exact_whatever_was_learned(memory):
    path = reference(curved, NOISE, timesteps.edm(100))
    tableau, _ = fit(curved, path, SIGMAS, memory=memory)
    point = np.array([0.3, -0.9, 0.7])
    states, _ = run(lambda x, sigma: np.broadcast_to(point, x.shape), tableau, NOISE)
    for sigma, x in zip(SIGMAS, states):
        expected = point + sigma / 80.0 * (80.0 * NOISE - point)
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-12)


def test_memory_of_one_is_euler_and_more_is_nearer_to_the_flow():
    path = reference(curved, NOISE, timesteps.edm(200))
    misses = []
    for memory in (1, 2, 3):
        end = fit(curved, path, SIGMAS, memory=memory)[1]
        misses.append(np.linalg.norm(end - path.end))
        if memory == 1:
            euler = run(curved, samplers.euler(SIGMAS), NOISE)[0][-1]
            np.testing.assert_allclose(end, euler, rtol=1e-12)
    assert misses[1] < 0.7 * misses[0] and misses[2] < 0.92 * misses[1]


def test_no_other_coefficients_come_nearer():
    """The last row is at the minimum of its squares, among rows of that sum."""
    path = reference(curved, NOISE, timesteps.edm(200))
    tableau, end = fit(curved, path, SIGMAS)
    best = np.sum((end - path.end) ** 2)
    for register in (1, 2, 3):
        for move in (-1e-3, 1e-3):
            weights = tableau.weights.copy()
            weights[-1, 0, register] += move
            weights[-1, 0, 4] -= move  # of the newest D
            moved = samplers.Tableau(tableau.start, tableau.sigma, weights)
            assert np.sum((run(curved, moved, NOISE)[0][-1] - path.end) ** 2) > best


def test_what_is_not_allowed_is_named():
    path = reference(gaussian, NOISE, timesteps.edm(9))
    with pytest.raises(ValueError, match="memory must be at least 1, got 0"):
        fit(gaussian, path, SIGMAS, memory=0)
    with pytest.raises(ValueError, match="2 steps or more for analytic"):
        fit(gaussian, path, [80.0, 0.0], analytic=True)
    with pytest.raises(ValueError, match="two rows or more and no noise"):
        analytic_first_step(samplers.euler([80.0, 0.0]))

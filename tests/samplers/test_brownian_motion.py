"""Noise of one Brownian path: its law, one path for every number of steps, and what it refuses."""

import functools

import jax
import numpy as np
import pytest

from edm_jax import ideal, normal, sample, sample_keys, samplers, timesteps

KEYS = sample_keys(range(4000))


def increments(num_steps, sigma_max=None, keys=KEYS):
    """The noise of each step of a grid, [N - 1, B, 1], and the levels."""
    grid = timesteps.edm(num_steps)
    path = samplers.brownian(samplers.euler_ancestral(grid), sigma_max=sigma_max)
    return np.asarray(rows_of(path, np.arange(1, num_steps), keys, 1), np.float64), grid


def rows_of(path, rows, keys, width):
    """The noise of chosen rows, [rows, B, width]."""
    like = jax.ShapeDtypeStruct((len(keys), width), np.float32)
    return jax.jit(jax.vmap(lambda row: path.function(row, keys, like)))(np.asarray(rows))


@pytest.mark.slow
def test_increments_are_independent_standard_normal_draws():
    drawn, _ = increments(9)
    covariance = np.cov(drawn[:, :, 0])
    np.testing.assert_allclose(covariance, np.eye(8), atol=5 * np.sqrt(2 / len(KEYS)))
    assert np.abs(drawn.mean(axis=1)).max() < 5 / np.sqrt(len(KEYS))


@pytest.mark.slow
def test_coarse_noise_is_the_sum_of_the_fine():
    # The levels of 2 N - 1 steps contain those of N.
    coarse, grid = increments(9, keys=KEYS[:50])
    fine, fine_grid = increments(17, keys=KEYS[:50])
    np.testing.assert_allclose(fine_grid[:-1][::2], grid[:-1], rtol=1e-12)
    gaps, fine_gaps = -np.diff(grid)[:-1], -np.diff(fine_grid)[:-1]
    moved = fine * np.sqrt(fine_gaps)[:, None, None]
    expected = (moved[::2] + moved[1::2]) / np.sqrt(gaps)[:, None, None]
    np.testing.assert_allclose(coarse, expected, atol=2e-3)


@pytest.mark.slow
def test_samples_of_one_seed_converge_along_the_path():
    denoise = ideal.gaussian(0.3, 0.5)
    keys = KEYS[:200]

    @functools.cache
    def draw(num_steps, path):
        tableau = samplers.dpmpp_2m_sde(timesteps.edm(num_steps))
        noise = samplers.brownian(tableau) if path else None
        return jax.jit(lambda z, keys: sample(denoise, tableau, z, keys, draw=noise))(start, keys)

    start = normal(keys, (1,))
    apart = lambda n, path: float(np.sqrt(np.mean((draw(2 * n, path) - draw(n, path)) ** 2)))
    assert apart(32, True) < 0.6 * apart(16, True)
    assert apart(32, True) < 0.2 * apart(32, False)


@pytest.mark.slow
def test_two_draws_of_a_step_take_a_half_each():
    tableau = samplers.dpmpp_sde([4.0, 1.0, 0.5], correlation="tree")
    path = samplers.brownian(tableau, sigma_end=0.5)
    first, second = rows_of(path, [1, 2], KEYS[:50], 2)
    one = samplers.brownian(samplers.euler_ancestral([4.0, 1.0, 0.5]), sigma_end=0.5)
    (whole,) = rows_of(one, [1], KEYS[:50], 2)
    part = (4.0 - tableau.sigma[1]) / 3.0
    np.testing.assert_allclose(whole, np.sqrt(part) * first + np.sqrt(1 - part) * second, atol=1e-4)


@pytest.mark.slow
def test_grids_with_other_beginnings_share_a_path_of_one_range():
    keys = KEYS[:20]
    high, low = ([8.0, 4.0, 1.0, 0.0], [4.0, 1.0, 0.0])
    path = lambda grid, top: samplers.brownian(samplers.euler_ancestral(grid), sigma_max=top)
    draw = lambda grid, row, top: rows_of(path(grid, top), [row], keys, 3)
    wanted = draw(high, 2, None)  # of 8.0, where it begins
    np.testing.assert_array_equal(draw(low, 1, 8.0), wanted)
    assert np.abs(draw(low, 1, None) - wanted).max() > 0.1


@pytest.mark.slow
def test_a_tree_draws_each_leaf_from_its_own_path():
    path = samplers.brownian(samplers.euler_ancestral(timesteps.edm(4)))
    like = {name: jax.ShapeDtypeStruct((5, 3), np.float32) for name in "ab"}
    drawn = jax.jit(lambda keys: path.function(1, keys, like))(KEYS[:5])
    assert np.abs(drawn["a"] - drawn["b"]).min() > 1e-4


def test_what_has_no_path_is_refused():
    with pytest.raises(ValueError, match="tableau must draw noise in its rows alone"):
        samplers.brownian(samplers.euler(timesteps.edm(4)))
    with pytest.raises(ValueError, match="tableau must draw noise in its rows alone"):
        samplers.brownian(samplers.heun(timesteps.edm(4), churn=samplers.Churn(s_churn=2.0)))
    with pytest.raises(ValueError, match="tableau must descend with every noisy row"):
        samplers.brownian(samplers.restart(timesteps.edm(18), intervals=samplers.restarts.CIFAR10))
    with pytest.raises(ValueError, match="sigma_max must lie in"):
        samplers.brownian(samplers.euler_ancestral(timesteps.edm(4)), sigma_max=1.0)

"""Noise of one Brownian path: its law, one path for every number of steps, and what it refuses."""

import jax
import numpy as np
import pytest

from edm_jax import ideal, normal, sample, sample_keys, samplers, timesteps

KEYS = sample_keys(range(4000))


def increments(num_steps, sigma_max=None, keys=KEYS):
    """The noise of each step of a grid, [N - 1, B, 1], and the levels."""
    grid = timesteps.edm(num_steps)
    path = samplers.brownian(samplers.euler_ancestral(grid), sigma_max=sigma_max)
    like = jax.ShapeDtypeStruct((len(keys), 1), np.float32)
    rows = jax.vmap(lambda row: path.function(row, keys, like))(np.arange(1, num_steps))
    return np.asarray(rows, np.float64), grid


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

    def draw(num_steps, path):
        tableau = samplers.dpmpp_2m_sde(timesteps.edm(num_steps))
        noise = samplers.brownian(tableau) if path else None
        return sample(denoise, tableau, normal(keys, (1,)), keys, draw=noise)

    apart = lambda n, path: float(np.sqrt(np.mean((draw(2 * n, path) - draw(n, path)) ** 2)))
    assert apart(64, True) < 0.6 * apart(16, True)
    assert apart(64, True) < 0.2 * apart(64, False)


@pytest.mark.slow
def test_two_draws_of_a_step_take_a_half_each():
    tableau = samplers.dpmpp_sde([4.0, 1.0, 0.5], correlation="tree")
    path = samplers.brownian(tableau, sigma_end=0.5)
    like = jax.ShapeDtypeStruct((50, 2), np.float32)
    first, second = (path.function(row, KEYS[:50], like) for row in (1, 2))
    one = samplers.brownian(samplers.euler_ancestral([4.0, 1.0, 0.5]), sigma_end=0.5)
    whole = one.function(1, KEYS[:50], like)
    part = (4.0 - tableau.sigma[1]) / 3.0
    np.testing.assert_allclose(whole, np.sqrt(part) * first + np.sqrt(1 - part) * second, atol=1e-4)


@pytest.mark.slow
def test_grids_with_other_beginnings_share_a_path_of_one_range():
    keys = KEYS[:20]
    like = jax.ShapeDtypeStruct((20, 3), np.float32)
    high, low = ([8.0, 4.0, 1.0, 0.0], [4.0, 1.0, 0.0])
    draw = lambda grid, row, top: samplers.brownian(
        samplers.euler_ancestral(grid), sigma_max=top
    ).function(row, keys, like)
    np.testing.assert_array_equal(draw(high, 2, 8.0), draw(low, 1, 8.0))
    assert np.abs(draw(high, 2, None) - draw(low, 1, None)).max() > 0.1


@pytest.mark.slow
def test_a_tree_draws_each_leaf_from_its_own_path():
    path = samplers.brownian(samplers.euler_ancestral(timesteps.edm(4)))
    like = {name: jax.ShapeDtypeStruct((5, 3), np.float32) for name in "ab"}
    drawn = path.function(1, KEYS[:5], like)
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

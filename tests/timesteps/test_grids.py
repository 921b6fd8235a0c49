"""Grids by name: their options, a network's bounds, and the levels that it knows."""

import numpy as np
import pytest

from edm_jax import preconditioning, schedules, tables, timesteps


@pytest.mark.parametrize("name", timesteps.GRIDS)
def test_a_grid_by_name_is_the_function(name):
    np.testing.assert_array_equal(
        timesteps.build(name, 7), timesteps.GRIDS[name].make(7), strict=True
    )


@pytest.mark.parametrize("name", ["edm", "vp", "ve", "exponential", "polyexponential"])
def test_a_network_narrows_a_grid(name):
    grid = timesteps.build(name, 6, bounds=(0.05, 10.0))
    np.testing.assert_allclose(grid[[0, -2]], (10.0, 0.05), rtol=1e-9)
    own = timesteps.noise_range(name)
    assert timesteps.noise_range(name, bounds=(1e-9, 1e9)) == own
    wide = timesteps.build(name, 6, bounds=(1e-9, 1e9))
    np.testing.assert_array_equal(wide, timesteps.GRIDS[name].make(6))
    asked = timesteps.build(name, 6, bounds=(0.05, 10.0), sigma_min=0.06, sigma_max=None)
    np.testing.assert_allclose(asked[[0, -2]], (10.0, 0.06), rtol=1e-9)


def test_the_table_of_iddpm_is_narrowed_to_the_levels_inside():
    grid = timesteps.build("iddpm", 6, bounds=(0.05, 10.0))
    table = tables.iddpm(variant="sampler")
    inside = table[(table >= 0.05) & (table <= 10.0)]
    np.testing.assert_array_equal(grid[[0, -2]], inside[[0, -1]])


def test_tangent_starts_at_the_end_of_the_bounds_and_keeps_their_lowest_level():
    assert timesteps.noise_range("tangent") == (0.0, 80.0)
    grid = timesteps.build("tangent", 6, bounds=(0.05, 10.0), sigma_data=1.0)
    np.testing.assert_allclose(grid[[0, -2, -1]], (10.0, 0.05, 0.0), rtol=1e-9)


def test_the_range_of_vp_follows_its_betas():
    schedule = schedules.vp(beta_d=10.0, beta_min=0.2)
    expected = float(schedule.sigma(1e-3)), float(schedule.sigma(1.0))
    assert timesteps.noise_range("vp", beta_d=10.0, beta_min=0.2) == expected
    grid = timesteps.build("vp", 5, beta_d=10.0, beta_min=0.2)
    np.testing.assert_allclose(grid[[-2, 0]], expected, rtol=1e-9)


def test_ddpm_starts_at_its_highest_level_with_as_many_steps_as_asked():
    bounds = 0.002, 200.0
    for steps in (1, 4, 1000):
        grid = timesteps.build("ddpm", steps, bounds=bounds)
        assert grid.shape == (steps + 1,) and grid[0] == pytest.approx(157.40728)
    assert timesteps.noise_range("ddpm", bounds=bounds) is None


@pytest.mark.parametrize(
    "name, bounds, outside",
    [
        ("ddpm", (0.002, 80.0), "157.407"),
        ("ddpm", (1.0, 200.0), "0.952"),
        ("flow", (0.002, 80.0), "999"),
        ("align_your_steps", (0.1, 10.0), "14.615"),
    ],
)
def test_given_levels_outside_of_the_bounds_are_named(name, bounds, outside):
    low, high = bounds
    message = rf"grid '{name}' must lie in \[{low:g}, {high:g}\].*got .*{outside}"
    with pytest.raises(ValueError, match=message):
        timesteps.build(name, 4, bounds=bounds)


def test_bounds_that_are_float32_numbers_hold_their_own_levels():
    levels = tables.sigmas(tables.alphas_cumprod())
    bounds = float(np.float32(levels[0])), float(np.float32(levels[-1]))
    assert len(timesteps.build("ddpm", 1000, bounds=bounds)) == 1001


def test_options_reach_their_grid():
    for name in ("edm", "polyexponential"):
        bent = timesteps.build(name, 6, rho=3.0)
        np.testing.assert_array_equal(bent, timesteps.GRIDS[name].make(6, rho=3.0))
        assert not np.allclose(bent, timesteps.build(name, 6))
    shifted = timesteps.build("flow", 6, factor=3.0)
    np.testing.assert_allclose(shifted, 3.0 * timesteps.build("flow", 6), rtol=1e-12)
    t = np.append(np.linspace(0.999, 0.0, 7)[:-1], 0.0)
    np.testing.assert_allclose(timesteps.build("flow", 6), t / (1 - t), rtol=1e-12)
    log = np.log(timesteps.build("polyexponential", 5, rho=2.0)[:-1] / 0.002)
    np.testing.assert_allclose(log / log[0], np.linspace(1, 0, 5) ** 2, atol=1e-12)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: timesteps.build("emd", 4), "grid must be one of .*'emd'; did you mean 'edm'?"),
        (lambda: timesteps.build("exp", 4), "did you mean 'exponential'?"),
        (lambda: timesteps.noise_range("emd"), "grid must be one of .*got 'emd'"),
        (
            lambda: timesteps.build("exponential", 4, rho=3.0),
            "an option of the grid 'exponential' must be one of sigma_min.*got 'rho'",
        ),
        (lambda: timesteps.build("ddpm", 4, sigma_max=80.0), "grid 'ddpm' must be .*'sigma_max'"),
        (lambda: timesteps.build("edm", 4, rho=-1.0), "rho must be positive and finite, got -1.0"),
        (lambda: timesteps.build("edm", 4, bounds=(90.0, 100.0)), "sigma_min must be below"),
        (lambda: timesteps.build("edm", 0), "num_steps must be a positive integer, got 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_levels_are_rounded_to_those_a_network_knows():
    known = preconditioning.epsilon([0.5, 1.0, 2.0, 4.0]).round_sigma
    grid = np.array([5.0, 3.9, 2.1, 1.9, 0.3, 0.1, 0.0])
    assert timesteps.rounded(grid, known).tolist() == [4.0, 2.0, 0.5, 0.0]
    kept = timesteps.rounded(grid, known, keep_repeated=True)
    assert kept.tolist() == [4.0, 4.0, 2.0, 2.0, 0.5, 0.5, 0.0]
    assert timesteps.rounded(grid[:3], known).tolist() == [4.0, 2.0]  # without a 0 at the end
    assert timesteps.rounded(grid, None) is grid
    to_zero = lambda sigma: 0.0 * np.asarray(sigma) + 1.0  # 0 stays 0, whatever is nearest to it
    assert timesteps.rounded(grid, to_zero).tolist() == [1.0, 0.0]

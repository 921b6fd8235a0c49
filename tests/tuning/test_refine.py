"""Levels moved freely: any numbers are a grid, and a minimum is found."""

import numpy as np

from edm_jax.tuning.refine import mean_distance, refine, to_levels, to_shares


def test_shares_and_levels_are_each_other_s_inverse():
    levels = np.array([80.0, 7.0, 1.5, 0.2])
    np.testing.assert_allclose(to_levels(to_shares(levels, 0.002), 80.0, 0.002), levels)


def test_any_shares_make_a_descending_grid_between_the_ends():
    shares = np.random.default_rng(0).normal(scale=5.0, size=7)
    levels = to_levels(shares, 80.0, 0.002)
    assert levels[0] == 80.0 and (np.diff(levels) < 0).all() and levels[-1] > 0.002
    # A grid that ends where the levels do has a last share of nothing, which becomes a small one.
    assert np.isfinite(to_shares(np.array([80.0, 1.0, 0.002]), 0.002)).all()


def residuals(wanted):
    """Two samples that miss by what the logarithms of levels miss the wanted ones by."""

    def missed(shares):
        off = np.log(to_levels(shares, 80.0, 0.002)[1:]) - np.log(wanted)
        return np.stack([off, 2.0 * off + off**3])

    return missed


def test_it_finds_the_minimum():
    wanted = np.array([9.0, 2.0, 0.5])
    start = to_shares(np.array([80.0, 20.0, 10.0, 5.0]), 0.002)
    shares, error = refine(residuals(wanted), start, iterations=8)
    np.testing.assert_allclose(to_levels(shares, 80.0, 0.002)[1:], wanted, rtol=1e-9)
    assert error < 1e-9


def test_it_is_never_worse_and_leaves_what_it_cannot_move():
    missed = residuals(np.array([9.0, 2.0, 0.5]))
    start = to_shares(np.array([80.0, 20.0, 10.0, 5.0]), 0.002)
    first = mean_distance(missed(start))
    last = first
    for iterations in range(4):
        _, error = refine(missed, start, iterations=iterations)
        assert error <= last
        last = error
    assert last < 0.5 * first
    alone, error = refine(lambda v: np.ones((2, 3)), start)  # nothing depends on the levels
    np.testing.assert_array_equal(alone, start)
    assert error == 1.0
    _, error = refine(lambda v: None, start)  # no grid at all
    assert error == np.inf

"""Levels moved freely: any numbers are a grid, and a minimum is found."""

import numpy as np

from edm_jax.tuning import refine as module
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


def test_how_levels_change_with_shares_is_their_derivative():
    shares = np.random.default_rng(1).normal(size=5)
    levels = lambda v: np.log(to_levels(v, 80.0, 0.002))[1:]
    differences = [(levels(shares + h) - levels(shares - h)) / 2e-5 for h in 1e-5 * np.eye(5)]
    found = module._of_shares(to_levels(shares, 80.0, 0.002), 0.002)
    np.testing.assert_allclose(found, np.transpose(differences), rtol=1e-6)


START = np.array([80.0, 20.0, 10.0, 5.0])


def residuals(wanted):
    """Two samples that miss by what the logarithms of levels miss the wanted ones by."""

    def missed(levels):
        off = np.log(levels[1:]) - np.log(wanted)
        return np.stack([off, 2.0 * off + off**3])

    return missed


def test_it_finds_the_minimum():
    wanted = np.array([9.0, 2.0, 0.5])
    levels, error = refine(residuals(wanted), START, 0.002, iterations=8)
    np.testing.assert_allclose(levels[1:], wanted, rtol=1e-9)
    assert levels[0] == 80.0 and error < 1e-9


def test_a_derivative_leaves_the_levels_before_it_alone():
    """So what a sampler did there is the same, to the last bit."""
    asked = []
    missed = residuals(np.array([9.0, 2.0, 0.5]))
    refine(lambda levels: asked.append(levels) or missed(levels), START, 0.002, iterations=1)
    for i, moved in enumerate(asked[1:4], start=1):
        assert (np.flatnonzero(moved != asked[0]) == [i]).all() and moved[i] < asked[0][i]


def test_it_is_never_worse_and_leaves_what_it_cannot_move():
    missed = residuals(np.array([9.0, 2.0, 0.5]))
    first = mean_distance(missed(START))
    last = first
    for iterations in range(4):
        _, error = refine(missed, START, 0.002, iterations=iterations)
        assert error <= last + 1e-12
        last = error
    assert last < 0.5 * first
    alone, error = refine(lambda v: np.ones((2, 3)), START, 0.002)  # nothing depends on the levels
    np.testing.assert_allclose(alone, START, rtol=1e-12)
    assert error == 1.0
    _, error = refine(lambda v: None, START, 0.002)  # no grid at all
    assert error == np.inf

"""`tune` on a mixture in closed form: nearer to the flow on noise that it never saw."""

import jax
import numpy as np
import pytest

from edm_jax import ideal, samplers, timesteps
from edm_jax.tuning import run, tune, tune_each
from edm_jax.tuning.candidates import Choice, Learned, choices, fixed_grids

MEANS = np.array([[1.0, 0.2], [-0.6, 0.9], [-0.3, -1.1], [0.4, -0.2]])
STDS, WEIGHTS = np.array([0.1, 0.2, 0.15, 0.1]), np.array([0.4, 0.3, 0.2, 0.1])
NOISE = np.random.default_rng(0).standard_normal((96, 2))


def denoise(x, sigma):
    """`ideal.mixture` in numpy, which is called in a tenth of the time."""
    variance = STDS**2 + sigma**2
    away = x[:, None] - MEANS
    logits = np.log(WEIGHTS / variance) - (away**2).sum(-1) / (2 * variance)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return (weights[..., None] * (MEANS + (STDS**2 / variance)[:, None] * away)).sum(axis=1)


def test_the_mixture_is_that_of_the_library():
    with jax.enable_x64(True):
        expected = jax.jit(ideal.mixture(MEANS, STDS, WEIGHTS))(NOISE, 0.7)
        np.testing.assert_allclose(denoise(NOISE, 0.7), expected, rtol=1e-12)


@pytest.fixture(scope="module")
def found():
    return tune(denoise, NOISE, 5)


def nearer(tuned):
    """On held-out noise, against the best fixed choice that the same noise picked."""
    fixed = tuned.fixed.error
    assert tuned.searched.error < 0.8 * fixed and tuned.best.error < 0.6 * fixed
    assert tuned.searched.tuning_error < tuned.fixed.tuning_error
    three = tuned.fixed, tuned.searched, tuned.learned
    assert tuned.best.tuning_error == min(one.tuning_error for one in three)


def test_the_search_is_nearer_to_the_flow(found):
    nearer(found)


@pytest.mark.slow
def test_so_it_is_at_other_numbers_of_calls():
    for tuned in tune_each(denoise, NOISE, [6, 8, 10]):
        nearer(tuned)


def test_the_tableaux_take_their_calls_and_their_errors_are_those_of_drawing(found):
    rest = NOISE[48:]
    end = run(denoise, samplers.heun(timesteps.edm(400)), rest)[0][-1]
    assert found.nfe == 5 and found.tableau is found.best.tableau
    for one in (found.fixed, found.searched, found.learned):
        assert one.tableau.nfe == 5 and not one.tableau.stochastic
        missed = run(denoise, one.tableau, rest)[0][-1] - end
        error = np.sqrt((missed**2).mean(axis=1)).mean()
        assert one.error == pytest.approx(error, rel=0.05)  # the two references differ a little


def test_one_number_of_calls_and_rows_that_know_their_samples():
    """A context is cut like the noise: here every sample has data of its own."""
    means = np.random.default_rng(1).standard_normal((8, 2))

    def denoise(x, sigma, mean):
        return mean + (x - mean) / (1.0 + 4.0 * sigma**2)  # of N(mean, 0.5^2)

    tuned = tune(denoise, NOISE[:8], 3, context=means)
    end = run(lambda x, sigma: denoise(x, sigma, means), tuned.tableau, NOISE[:8])[0][-1]
    exact = means + (80.0 * NOISE[:8] - means) * 0.5 / np.sqrt(0.25 + 80.0**2)
    np.testing.assert_allclose(end, exact, atol=3e-3)
    assert tuned.learned.error < 1e-3 < tuned.fixed.error


def test_a_score_decides_in_place_of_the_distance():
    scored = []

    def score(tableau):
        scored.append(tableau)
        return -float(len(scored))  # the last is the best

    flat = lambda x, sigma: x / (1.0 + 4.0 * sigma**2)
    tuned = tune(flat, NOISE[:8], 2, score=score)
    assert scored == [tuned.fixed.tableau, tuned.searched.tableau, tuned.learned.tableau]
    assert tuned.best is tuned.learned


def test_levels_are_those_that_the_denoiser_knows():
    known = np.geomspace(0.02, 50.0, 200)
    nearest = lambda s: known[np.abs(known[:, None] / np.maximum(s, 0.02) - 1.0).argmin(axis=0)]
    asked = set()

    def denoise(x, sigma):
        asked.add(float(sigma))
        return x / (1.0 + 4.0 * sigma**2)

    tuned = tune(denoise, NOISE[:8], 3, sigma_min=0.02, sigma_max=50.0, round_sigma=nearest)
    assert tuned.nfe == 3 and asked <= set(known) and set(tuned.tableau.sigma) <= set(known)


def test_every_choice_makes_the_calls_it_says():
    assert Choice("unipc", (("order", 3),)) in choices() and Learned() not in choices()
    for choice in choices():
        for grid in fixed_grids(0.002, 80.0):
            if (steps := choice.steps(6, grid.end)) is not None:
                assert choice.tableau(grid.make(steps)).nfe == 6
    assert Choice("heun").steps(8, "zero") is None and Choice("heun").steps(8, "sigma_min") == 4
    assert Choice("euler", analytic=True).steps(5, "zero") == 6


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nfe": 0}, "nfe must be an integer from 1 to 99"),
        ({"nfe": 2.5}, "nfe must be an integer"),
        ({"noise": NOISE[:3]}, "with B of at least 4"),
        ({"noise": NOISE[:, 0]}, r"noise must be \[B, ...\]"),
        ({"sigma_min": 90.0}, "sigma_min must be below sigma_max"),
    ],
)
def test_what_is_not_allowed_is_named(changes, message):
    given = {"noise": NOISE, "nfe": 4} | changes
    with pytest.raises(ValueError, match=message):
        tune(lambda x, sigma: x, given.pop("noise"), given.pop("nfe"), **given)

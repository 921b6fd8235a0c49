"""Power-function averages, and any of them from snapshots of two."""

import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.training import averages, posthoc


def weights_of(std, steps):
    """The weight of each step's parameters in the average, by the recursion itself, in float64."""
    power = averages.exponent(std) + 1
    beta = (1 - 1 / np.arange(1.0, steps + 1)) ** power
    return (1 - beta) * np.append(np.cumprod(beta[:0:-1])[::-1], 1.0)


@pytest.mark.parametrize("std", [0.03, 0.05, 0.10, 0.20])
def test_the_recursion_has_the_width_it_says(std):
    steps = 4000
    share = averages.by_power(std)
    found = np.array([share(jnp.int32(s)) for s in (0, 9, 99, 3999)])
    g = averages.exponent(std)
    np.testing.assert_allclose(
        found, 1 - (1 - 1 / np.array([1.0, 10, 100, 4000])) ** (g + 1), rtol=2e-6
    )
    w, t = weights_of(std, steps), np.arange(1.0, steps + 1)
    exact = (t ** (g + 1) - (t - 1) ** (g + 1)) / steps ** (g + 1)
    np.testing.assert_allclose(w, exact, atol=1e-10)
    mean = (w * t).sum()
    assert np.sqrt((w * (t - mean) ** 2).sum()) / steps == pytest.approx(std, rel=2e-3)


@pytest.mark.parametrize("std, error", [(0.05, 1e-9), (0.07, 4e-3), (0.12, 4e-3), (0.20, 3e-2)])
def test_any_average_from_twenty_snapshots_of_two(std, error):
    steps, every = 4000, 200
    times = np.repeat(np.arange(every, steps + 1, every), 2)
    widths = np.tile([0.05, 0.10], len(times) // 2)
    profiles = np.stack([np.pad(weights_of(w, t), (0, steps - t)) for t, w in zip(times, widths)])
    weights = posthoc.solve(times, widths, steps, std)
    assert weights.sum() == pytest.approx(1.0)
    wanted = weights_of(std, steps)
    assert np.linalg.norm(weights @ profiles - wanted) / np.linalg.norm(wanted) < error


def test_widths_that_cannot_be_are_named():
    for std in (0.0, 0.3):
        with pytest.raises(ValueError, match=f"std must lie .*got {std}"):
            averages.exponent(std)
    with pytest.raises(ValueError, match="ema_more_kimg must hold .*got -1"):
        averages.shares(8, halflives_kimg=(-1.0,))
    assert list(averages.shares(8, (250.0,), (0.05,))) == ["halflife-250", "power-0.050"]

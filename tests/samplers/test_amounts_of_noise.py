"""How much noise the options of the stochastic solvers let in, and where."""

import inspect

import numpy as np
import pytest
from sampler_reference import run, toy

from edm_jax import samplers, timesteps

LEVELS = timesteps.edm(8)


def takes(option):
    return [
        name
        for name in samplers.SOLVERS
        if option in inspect.signature(getattr(samplers, name)).parameters
    ]


@pytest.mark.parametrize("name", takes("s_noise"))
def test_s_noise_multiplies_every_draw_of_a_row_and_nothing_else(name):
    options = {} if samplers.SOLVERS[name].stochastic else {"eta": 1.0}
    one = samplers.build(name, LEVELS, **options)
    more = samplers.build(name, LEVELS, s_noise=1.5, **options)
    assert (one.weights[..., -1] != 0).any()
    np.testing.assert_allclose(more.weights[..., -1], 1.5 * one.weights[..., -1], rtol=1e-14)
    np.testing.assert_array_equal(more.weights[..., :-1], one.weights[..., :-1])
    np.testing.assert_array_equal(more.start, one.start)
    quiet = samplers.build(name, LEVELS, s_noise=0.0, **options)
    assert not quiet.weights[..., -1].any()
    with pytest.raises(ValueError, match=r"s_noise must lie in \[0.0, inf\], got -0.1"):
        samplers.build(name, LEVELS, s_noise=-0.1, **options)


@pytest.mark.parametrize("name", takes("eta"))
def test_eta_goes_from_the_ode_to_the_whole_sde(name):
    needed = {"posterior_variance": lambda sigma: 0.0} if name == "analytic_dpm" else {}
    make = lambda eta: samplers.build(name, LEVELS, eta=eta, **needed)
    noise = [np.abs(make(eta).weights[..., -1]).sum() for eta in (0.0, 0.5, 1.0)]
    assert 0.0 == noise[0] < noise[1] < noise[2]
    most = "inf" if name == "euler_ancestral" else "1.0"
    for eta in (-1e-3,) if most == "inf" else (-1e-3, 1.001):
        with pytest.raises(ValueError, match=rf"eta must lie in \[0.0, {most}\], got {eta}"):
            make(eta)


def test_euler_ancestral_adds_no_more_noise_than_the_next_level_holds():
    """Then the step goes to the data, and all of the level is fresh noise."""
    tableau = samplers.euler_ancestral(LEVELS, eta=1e6)
    zero = np.zeros(8)
    wanted = np.stack([zero, zero + 1, LEVELS[1:]], 1)
    np.testing.assert_allclose(tableau.weights[:, 0], wanted, atol=1e-12)


@pytest.mark.parametrize("corrector_order", [0, 2])
def test_sa_solver_is_noisy_in_its_window_alone(corrector_order):
    """... whose ends are of it."""
    window = {"sigma_low": LEVELS[5], "sigma_high": LEVELS[2]}
    tableau = samplers.sa_solver(LEVELS, corrector_order=corrector_order, **window)
    assert np.flatnonzero(tableau.weights[:, 0, -1]).tolist() == [2, 3, 4, 5]
    # The draw of a step of the SDE: sigma'^2 (1 - (sigma' / sigma)^2).
    s, t = LEVELS[2:6], LEVELS[3:7]
    np.testing.assert_allclose(tableau.weights[2:6, 0, -1], t * np.sqrt(1 - (t / s) ** 2))
    everywhere = samplers.sa_solver(LEVELS, corrector_order=corrector_order)
    assert np.flatnonzero(everywhere.weights[:, 0, -1]).tolist() == list(range(7))


def test_the_end_of_a_grid_is_the_lowest_level_of_a_consistency_model_but_for_rounding():
    levels = timesteps.edm(4, sigma_min=0.002, final="sigma_min")
    assert levels[-1] != 0.002
    tableau = samplers.consistency(levels, sigma_min=0.002)
    assert tableau.weights[-1, 0].tolist() == [0.0, 1.0, 0.0]  # D alone, without noise
    with pytest.raises(ValueError, match="the last of sigmas must be at most 0.002"):
        samplers.consistency([1.0, 0.00201], sigma_min=0.002)


def test_the_last_level_of_a_consistency_model_may_be_its_lowest():
    """A jump to a level adds noise of deviation sqrt(sigma^2 - sigma_min^2): at the end none."""
    tableau = samplers.consistency([5.0, 0.5, 0.3], sigma_min=0.3)
    np.testing.assert_allclose(tableau.weights[:, 0], [[0, 1, 0.4], [0, 1, 0]], atol=1e-12)
    with pytest.raises(ValueError, match=r"the last of sigmas must be at most 0.3, got 0.31"):
        samplers.consistency([5.0, 0.31], sigma_min=0.3)


def test_unipc_corrects_from_the_step_that_is_named():
    never = samplers.unipc(LEVELS, corrector=False)
    for first in (1, 3, 99):
        tableau = samplers.unipc(LEVELS, first_corrected=first)
        # A corrected row starts from the step as it was known (register 1), not as predicted.
        starts = [int(np.flatnonzero(row[0, :2])[0]) for row in tableau.weights[:-1]]
        assert starts == [int(i >= first) for i in range(7)]
    np.testing.assert_allclose(
        tableau.weights[:-1, 0][:, [0, 2, 3, 4]], never.weights[:-1, 0], rtol=1e-12
    )


def heun_by_hand(x, levels):
    slope = lambda x, sigma: (x - toy()(x, sigma)) / sigma
    for s, t in zip(levels, levels[1:]):
        first = slope(x, s)
        euler = x + (t - s) * first
        x = euler if t == 0 else x + (t - s) * (first + slope(euler, t)) / 2
    return x


@pytest.mark.parametrize("options", [{}, {"rho": 3.0}], ids=["rho of EDM", "another rho"])
def test_restart_goes_down_its_intervals_after_the_nearest_level(options):
    rho = options.get("rho", 7.0)
    intervals = [(3, 2, 1.0, 4.0), (4, 1, 0.02, 0.3), (2, 1, 0.9, 2.0)]
    x, amounts = 80.0 * np.array([[-1.3], [0.4], [0.02]]), []
    for s, t in zip(LEVELS, LEVELS[1:]):
        x = heun_by_hand(x, [s, t])
        for points, rounds, low, high in intervals:
            if t > 0 and t == min(LEVELS[:-1], key=lambda level: abs(level - low)):
                down = np.linspace(high ** (1 / rho), t ** (1 / rho), points) ** rho
                for _ in range(rounds):
                    amounts.append(np.sqrt(high**2 - t**2))
                    x = heun_by_hand(x, down)  # with noise of no deviation
    tableau = samplers.restart(LEVELS, intervals=intervals, s_noise=0.0, **options)
    noise = np.array([[-1.3], [0.4], [0.02]])
    np.testing.assert_allclose(run(tableau, toy(), noise), x, rtol=1e-9)
    drawn = samplers.restart(LEVELS, intervals=intervals, **options).weights[:, 0, -1]
    np.testing.assert_allclose(drawn[drawn != 0], amounts, rtol=1e-9)


def test_the_settings_of_restart_are_the_published_ones():
    """Xu et al. 2023: (points, rounds, low, high)."""
    assert samplers.restart.CIFAR10 == ((3, 2, 0.14, 0.30),)
    assert samplers.restart.IMAGENET64 == (
        (4, 1, 19.35, 40.79),
        (4, 1, 1.09, 1.92),
        (4, 5, 0.59, 1.09),
        (4, 5, 0.30, 0.59),
        (6, 6, 0.06, 0.30),
    )
    assert samplers.restart(LEVELS) == samplers.restart(LEVELS, intervals="cifar10")

"""Every solver on Gaussian data, where its output is known exactly: moments, limits, invariants."""

import math

import numpy as np
import pytest
from sampler_reference import gaussian, run

from edm_jax import samplers, schedules, timesteps

STD = 0.5


def ideal_variance(sigma):
    return STD**2 * sigma**2 / (STD**2 + sigma**2)


NEEDED = {"analytic_dpm": {"posterior_variance": ideal_variance}}
WALKS = ("annealed_langevin", "consistency", "ddim_inversion", "restart")
LOOPS = ("adaptive", "improved_ddpm", "predictor_corrector")
STEPS = [name for name in samplers.SOLVERS if name not in (*WALKS, *LOOPS)]


def build(name, levels, **options):
    return samplers.build(name, levels, **(NEEDED.get(name, {}) | options))


def deviation(tableau, std=STD):
    return np.sqrt(samplers.moments(tableau, 0.0, std**2)[1]) / std


# Output over true deviation, data N(0, 0.5^2), Karras 80 -> 0.002 -> 0, N = 10, 20, 50, 100, 1000.
DEVIATIONS = [
    ("euler", {}, (0.73043, 0.86108, 0.94363, 0.97168, 0.99713)),
    ("ddim", {}, (0.73043, 0.86108, 0.94363, 0.97168, 0.99713)),
    ("ddim", {"eta": 0.5}, (0.711, 0.841, 0.932, 0.965, 0.9964)),
    ("ddim", {"eta": 0.5, "convention": "dpm"}, (0.651, 0.803, 0.915, 0.957, 0.9956)),
    ("ddim", {"eta": 0.5, "convention": "linear"}, (0.671, 0.811, 0.917, 0.957, 0.9956)),
    ("ddim", {"eta": 1.0}, (0.60377, 0.75656, 0.88901, 0.94190, 0.99393)),
    ("ddpm", {}, (0.60377, 0.75656, 0.88901, 0.94190, 0.99393)),
    ("ddpm", {"variance": "large"}, (1.28604, 1.13513, 1.05050, 1.02462, 1.00240)),
    ("euler_ancestral", {}, (0.60377, 0.75656, 0.88901, 0.94190, 0.99393)),
    (
        "reverse_diffusion",
        {"denoise_last": False},
        (1.93483, 1.34370, 1.11687, 1.05550, 1.00530),
    ),
    ("analytic_dpm", {}, (1.0, 1.0, 1.0, 1.0, 1.0)),
    ("analytic_dpm", {"eta": 0.0}, (1.0, 1.0, 1.0, 1.0, 1.0)),
    ("dpmpp_2m", {}, (1.15877, 1.04924, 1.00641, 1.00148, 0.99999)),
    ("dpmpp_2m_sde", {}, (1.167, 1.112, 1.0172, 1.0040, 1.0000)),
    ("dpmpp_2m_sde", {"solver_type": "heun"}, (1.731, 1.291, 1.0315, 1.0069, 1.0001)),
    (
        "sa_solver",
        {"predictor_order": 2, "corrector_order": 0},
        (1.731, 1.291, 1.0315, 1.0069, 1.0001),
    ),
    ("dpmpp_3m_sde", {}, (2.49, 1.003, 1.0067, 1.0018, 1.0000)),
    (
        "sa_solver",
        {"predictor_order": 3, "corrector_order": 0},
        (3.04, 0.873, 1.0003, 1.0005, 1.0000),
    ),
    ("dpmpp_2s_ancestral", {}, (0.79257, 0.92778, 0.98624, 0.99638, 0.99995)),
    ("dpmpp_sde", {"correlation": "independent"}, (0.700, 0.811, 0.904, 0.946, 0.9940)),
    ("dpmpp_sde", {"correlation": "tree"}, (0.859, 0.959, 0.994, 0.9987, 1.0000)),
    ("dpmpp_sde", {}, (0.796, 0.928, 0.986, 0.9963, 1.0000)),
]


@pytest.mark.parametrize("name, options, expected", DEVIATIONS)
def test_deviation_of_gaussian_data(name, options, expected):
    for count, value in zip((10, 20, 50, 100, 1000), expected):
        result = deviation(build(name, timesteps.edm(count), **options))
        digits = 5 if len(repr(expected[0])) > 6 else 3 if count <= 20 else 4
        tolerance = 1.5 * 10.0**-digits if value != 1.0 or count == 1000 else 1e-12
        if len(repr(value)) <= 5:
            tolerance = max(tolerance, 6e-4)
        if len(repr(value)) <= 4 and value != 1.0:
            tolerance = 6e-3
        assert abs(result - value) < tolerance, (count, result)


def weak_slope(make, counts=(200, 400)):
    """Order of the deviation's error, from an exact start to an exact end above 0."""
    errors = []
    for count in counts:
        tableau = make(timesteps.edm(count, final="sigma_min"))
        exact = (STD**2 + 80.0**2) / 80.0**2
        variance = samplers.moments(tableau, 0.0, STD**2, start_variance=exact)[1]
        errors.append(abs(np.sqrt(variance / (STD**2 + 0.002**2)) - 1))
    assert errors[1] < 0.03, errors
    return np.log2(errors[0] / errors[1])


@pytest.mark.parametrize("name", [n for n in STEPS if samplers.SOLVERS[n].stochastic])
def test_weak_order_is_the_registered_one(name):
    if name == "analytic_dpm":
        tableau = build(name, timesteps.edm(20))
        assert abs(deviation(tableau) - 1) < 1e-4  # no error but that of its start
        return
    order = samplers.SOLVERS[name].order
    slope = weak_slope(lambda levels: build(name, levels))
    # SA-Solver's corrector does better than its order on Gaussian data.
    assert order - 0.2 < slope < order + (1.5 if name == "sa_solver" else 0.2)


def test_independent_noise_costs_dpmpp_sde_its_order():
    for correlation, order in (("independent", 1), ("tree", 2), ("exact", 2)):
        make = lambda levels: samplers.dpmpp_sde(levels, correlation=correlation)
        assert abs(weak_slope(make) - order) < 0.2, correlation


def test_weak_order_of_the_processes_of_song():
    for schedule in (schedules.vp(), schedules.sub_vp(), schedules.ve(), schedules.edm()):
        make = lambda levels: samplers.euler_maruyama(levels, schedule=schedule, denoise_last=False)
        assert abs(weak_slope(make) - 1) < 0.2
    for schedule in (schedules.ve(), schedules.vp(), schedules.sub_vp()):
        make = lambda levels: samplers.reverse_diffusion(
            levels, schedule=schedule, denoise_last=False
        )
        assert abs(weak_slope(make) - 1) < 0.2
        mean, _ = samplers.moments(make(timesteps.vp(400)), 0.3, STD**2)
        assert abs(mean - 0.3) < 3e-3
    geometric = schedules.ve_geometric()
    levels = geometric.sigma(np.linspace(1.0, 0.0, 1001))
    expected = 50.0**2
    for sigma in levels[:-1]:
        jump = 2 * sigma**2 * math.log(5000.0) / 1000
        expected = (1 - jump / (STD**2 + sigma**2)) ** 2 * expected + jump
    tableau = samplers.euler_maruyama(levels, schedule=geometric, denoise_last=False)
    np.testing.assert_allclose(samplers.moments(tableau, 0.0, STD**2)[1], expected, rtol=1e-9)


def test_closed_sums_of_the_stochastic_first_order_solvers():
    levels = timesteps.edm(24, final="sigma_min")
    s, t, c = levels[:-1], levels[1:], STD**2
    end = c + levels[-1] ** 2
    gain = end / (c + t**2)
    start = (end / (c + 80.0**2)) ** 2 * (80.0**2 - c - 80.0**2)
    deficit = -(gain**2 * c * (s**2 - t**2) ** 2 / (s**2 * (c + s**2))).sum()
    excess = (gain**2 * (s**2 - t**2) ** 2 / (c + s**2)).sum()
    variance = lambda tableau: samplers.moments(tableau, 0.0, c)[1]
    np.testing.assert_allclose(variance(samplers.ddpm(levels)), end + deficit + start, atol=1e-12)
    tableau = samplers.reverse_diffusion(levels, denoise_last=False)
    np.testing.assert_allclose(variance(tableau), end + excess + start, atol=1e-12)
    # Exact on any grid, from an exact start: fixed-large for N(0, 1), analytic for every Gaussian.
    exact = lambda tableau, c: samplers.moments(
        tableau, 0.0, c, start_variance=(80.0**2 + c) / 80.0**2
    )[1]
    large = samplers.ddpm(levels, variance="large")
    np.testing.assert_allclose(exact(large, 1.0), 1 + levels[-1] ** 2, rtol=1e-12)
    for eta in (0.0, 0.5, 1.0):
        analytic = samplers.analytic_dpm(levels, posterior_variance=ideal_variance, eta=eta)
        np.testing.assert_allclose(exact(analytic, c), end, rtol=1e-12)


# -- what every table keeps --------------------------------------------------------------------

ODE = [name for name in STEPS if not samplers.SOLVERS[name].stochastic]
TO_SIGMA_MIN = timesteps.edm(12, final="sigma_min")


@pytest.mark.parametrize("name", STEPS)
def test_translation(name):
    """A denoiser that returns x leaves x where it is: rows add up to 1."""
    for levels in (TO_SIGMA_MIN, timesteps.edm(12)):
        options = {"posterior_variance": lambda sigma: 0.0} if name == "analytic_dpm" else {}
        if name == "euler_maruyama":
            options["schedule"] = schedules.edm()
        tableau = samplers.build(name, levels, **options)
        still = run(tableau, lambda x, sigma: x, np.array([1.0, -2.0]))
        np.testing.assert_allclose(still, [80.0, -160.0], rtol=1e-9)


@pytest.mark.parametrize("name", STEPS)
def test_point_mass(name):
    """Data that are a point: x keeps deviation sigma, and the end is exact for any N."""
    options = {"posterior_variance": lambda sigma: 0.0} if name == "analytic_dpm" else {}
    for levels, end in ((timesteps.edm(6, final="sigma_min"), 0.002), (timesteps.edm(6), 0.0)):
        tableau = samplers.build(name, levels, **options)
        _, variance = samplers.moments(tableau, 0.0, 0.0)
        if name in ("reverse_diffusion", "euler_maruyama"):
            assert end == 0 or abs(np.sqrt(variance) / end - 1) > 0.1  # not the posterior's
        else:
            np.testing.assert_allclose(np.sqrt(variance), end, rtol=1e-9, atol=1e-12)
        if name in ODE:
            result = run(tableau, lambda x, sigma: 0.4 + 0 * x, np.array([0.4625]))
            np.testing.assert_allclose(result, 0.4 + end * (37.0 - 0.4) / 80.0, rtol=1e-11)


def test_fixed_large_variance_is_wrong_for_a_point():
    tableau = samplers.ddpm(timesteps.edm(6, final="sigma_min"), variance="large")
    assert np.sqrt(samplers.moments(tableau, 0.0, 0.0)[1]) > 2 * 0.002


@pytest.mark.parametrize("name", ODE)
def test_constant_eps(name):
    """Where eps is the same everywhere, every method is exact, D being constant on each path."""
    levels = timesteps.edm(6, final="sigma_min")
    result = run(build(name, levels), lambda x, sigma: x - 3.0 * sigma, np.array([0.5]))
    np.testing.assert_allclose(result, 40.0 + 3.0 * (0.002 - 80.0), rtol=1e-11)


# -- samplers that are not steps down a grid ---------------------------------------------------


def test_annealed_langevin_of_ncsn_and_ncsnv2():
    ncsn = np.geomspace(1, 0.01, 10)
    v2 = np.append(np.geomspace(50, 0.01, 232), 0.0)
    uniform = {"start_mean": 0.5, "start_variance": 1 / 12}
    for levels, steps, size, nfe, expected in (
        (ncsn, 100, 2e-5, 1000, {0.5: 1.0157, 0.01: 1.451}),
        (v2, 5, 6.2e-6, 1161, {0.5: 1.0669, 0.01: 0.752}),
    ):
        tableau = samplers.annealed_langevin(
            levels, steps_per_level=steps, step_size=size, start_std=1.0
        )
        assert tableau.nfe == nfe and tableau.registers == 1
        for std, ratio in expected.items():
            variance = samplers.moments(tableau, 0.0, std**2, **uniform)[1]
            assert abs(np.sqrt(variance) / std - ratio) < 6e-4 * ratio
    # Unadjusted Langevin at one level: variance v / (1 - eta / (2 v)).
    one = samplers.annealed_langevin([0.5, 0.25], steps_per_level=2000, step_size=0.05 * 0.25**2)
    first = samplers.Tableau(one.start, one.sigma[:2000], one.weights[:2000])
    v, eta = STD**2 + 0.25, 0.05 * 0.25
    result = samplers.moments(first, 0.0, STD**2)[1]
    np.testing.assert_allclose(result, v / (1 - eta / (2 * v)), rtol=1e-10)


def test_consistency_sampling_is_exact_for_the_true_consistency_function():
    low = 0.002
    gain = lambda sigma: np.sqrt((STD**2 + low**2) / (STD**2 + sigma**2))
    for levels in ([80.0, 0.0], [80.0, 10.0, 0.0], [80.0, 10.0, 1.0, 0.1, 0.0]):
        tableau = samplers.consistency(levels, sigma_min=low)
        _, variance = samplers.moments(
            tableau, 0.3, STD**2, gain=gain, start_variance=(STD**2 + 80.0**2) / 80.0**2
        )
        np.testing.assert_allclose(variance, STD**2 + low**2, rtol=1e-12)
        assert tableau.nfe == len(levels) - 1


def test_restart_counts_and_contracts():
    assert samplers.restart(timesteps.edm(18)).nfe == 43
    large = samplers.restart(timesteps.edm(36), intervals="imagenet64", s_noise=1.003)
    assert large.nfe == 203
    intervals = samplers.restart.IMAGENET64
    assert large == samplers.restart(timesteps.edm(36), intervals=intervals, s_noise=1.003)
    assert samplers.restart(timesteps.edm(36), intervals=intervals) != large
    # From a wrong variance at `low`, each round comes (c^2 + low^2) / (c^2 + high^2) closer.
    low, high, c = 0.3, 2.0, STD**2
    wrong = 1.7 * (c + low**2)
    gap = []
    for rounds in (1, 2, 3):
        tableau = samplers.restart([low, 0.29], intervals=[(200, rounds, low, high)])
        rows = tableau.nfe - 2
        down = samplers.Tableau(tableau.start, tableau.sigma[:rows], tableau.weights[:rows])
        start = wrong / low**2
        gap.append(samplers.moments(down, 0.0, c, start_variance=start)[1] / (c + low**2) - 1)
    contraction = (c + low**2) / (c + high**2)
    np.testing.assert_allclose(np.array(gap), 0.7 * contraction ** np.arange(1, 4), atol=1e-4)
    # The exact distribution stays.
    still = samplers.moments(down, 0.0, c, start_variance=(c + low**2) / low**2)[1]
    np.testing.assert_allclose(still, c + low**2, rtol=1e-4)


def test_ddim_inversion_round_trip():
    levels = timesteps.edm(20, final="sigma_min")
    factor = np.cos(np.diff(np.arctan(levels / STD))).prod() ** 2
    assert abs(factor - 0.7527) < 5e-5
    y = np.array([0.9])
    denoise = gaussian(0.3, STD)
    noise = run(samplers.ddim_inversion(levels), denoise, y)
    back = run(samplers.ddim(levels), denoise, noise)
    np.testing.assert_allclose((back - 0.3) / (y - 0.3), factor, rtol=1e-12)
    to_zero = samplers.ddim_inversion(np.append(levels, 0.0))
    np.testing.assert_allclose(run(to_zero, denoise, y), noise, rtol=1e-12)
    assert to_zero.nfe == 20

"""Orders of convergence on a mixture with exact scores, in float64, down to sigma_min."""

import numpy as np
import pytest
from sampler_reference import exact_flow, run, toy

from edm_jax import samplers, schedules, timesteps

NOISE = np.array([[-1.3], [-0.4], [0.35], [1.7], [0.02], [-0.9]])
GRIDS = {
    "edm": lambda n: timesteps.edm(n, final="sigma_min"),
    "log": lambda n: timesteps.exponential(n, sigma_min=0.02, sigma_max=10.0, final="sigma_min"),
    "sigma": lambda n: np.linspace(2.0, 0.2, n + 1),
}


@pytest.fixture(scope="module")
def truth():
    """The flow of the ODE from the first to the last level of each grid."""
    ends = {name: make(2) for name, make in GRIDS.items()}
    return {name: exact_flow(toy(), s[0] * NOISE, s[0], s[-1]) for name, s in ends.items()}


ORDERS = [
    ("euler", {}, 1),
    ("heun", {}, 2),
    ("heun", {"alpha": 0.5}, 2),
    ("heun", {"alpha": 2 / 3}, 2),
    ("ddim", {}, 1),
    ("dpm_2", {}, 2),
    ("dpm_solver_1", {}, 1),
    ("dpm_solver_2", {"r": 0.3}, 2),
    ("dpm_solver_3", {}, 3),
    ("dpmpp_2s", {}, 2),
    ("dpmpp_2m", {}, 2),
    ("dpmpp_2m", {"solver_type": "heun"}, 2),
    ("dpmpp_3m", {}, 2),  # as published: not 3
    ("dpmpp_3m", {"low_orders": "both"}, 2),
    ("dpmpp_3m_third_order", {}, 3),
    ("lms", {"order": 1}, 1),
    ("lms", {"order": 2}, 2),
    ("lms", {"order": 3}, 3),
    ("lms", {}, 4),
    ("ipndm", {}, 2),  # the weights are those of equal steps in sigma
    ("ipndm", {"order": 1}, 1),
    ("plms", {}, 2),
    ("pndm", {}, 2),
    ("deis", {}, 3),
    ("deis", {"order": 2}, 2),
    ("deis", {"variable": "t"}, 3),
    ("deis", {"variable": "sigma", "order": 2}, 2),
    ("unipc", {"order": 1}, 2),
    ("unipc", {}, 3),
    ("unipc", {"variant": "bh1"}, 3),
    ("unipc", {"order": 3}, 4),
    ("unipc", {"order": 2, "corrector": False}, 2),
    ("unipc", {"order": 3, "corrector": False}, 3),
    ("sa_solver", {"tau": 0.0}, 2),
    ("sa_solver", {"tau": 0.0, "corrector_order": 0}, 2),
    ("sa_solver", {"tau": 0.0, "predictor_order": 2, "corrector_order": 3}, 3),
    ("sa_solver", {"tau": 0.0, "predictor_order": 3, "corrector_order": 4}, 4),
    ("sa_solver", {"tau": 0.0, "predictor_order": 3, "corrector_order": 0}, 3),
]


def slope(name, options, grid, truth, counts=(256, 512)):
    errors = [
        np.abs(run(samplers.build(name, GRIDS[grid](n), **options), toy(), NOISE) - truth).max()
        for n in counts
    ]
    return np.log2(errors[0] / errors[1]) / np.log2(counts[1] / counts[0])


@pytest.mark.parametrize("name, options, order", ORDERS)
def test_order_on_the_grid_of_edm(name, options, order, truth):
    assert abs(slope(name, options, "edm", truth["edm"]) - order) < 0.25


def test_every_deterministic_solver_is_in_the_table():
    """... under its registered order, with its defaults."""
    table = {name: order for name, options, order in ORDERS if not options}
    elsewhere = {"dpm_solver_2": 2, "ddim_inversion": 1}
    for name, solver in samplers.SOLVERS.items():
        if not solver.stochastic and name != "adaptive":
            assert (table | elsewhere)[name] == solver.order, name


def test_fixed_adams_weights_have_order_4_on_grids_uniform_in_sigma_only(truth):
    for name in ("pndm", "plms"):
        assert abs(slope(name, {}, "log", truth["log"]) - 2) < 0.2, name
    assert slope("pndm", {}, "sigma", truth["sigma"], (128, 256)) > 3.5


def test_deis_integrates_a_line_in_the_time_of_its_schedule():
    """In t = sigma^2 of VE in closed form, the step to 0 too; in t = sigma it is `lms`."""
    levels = timesteps.edm(6)
    s, t, before = levels[1:-1], levels[2:], levels[:-2]
    new = ((t**3 - s**3) / 3 - before**2 * (t - s)) / (s**2 - before**2)
    old = (t - s) - new
    table = samplers.deis(levels, order=2, variable="t", schedule=schedules.ve()).weights[1:, 0]
    # x' = x + new eps + old eps_before, with eps = (x - D) / sigma.
    wanted = np.stack([1 + new / s, old, -new / s, 0 * s], 1)
    np.testing.assert_allclose(table, wanted, rtol=1e-7, atol=1e-9)
    same = lambda one, two: np.testing.assert_allclose(one.weights, two.weights, atol=1e-9)
    same(
        samplers.deis(levels, variable="t", schedule=schedules.edm()), samplers.lms(levels, order=3)
    )
    own = samplers.deis(levels, variable="t")
    same(own, samplers.deis(levels, variable="t", schedule=schedules.vp()))
    # In log sigma the step to 0 is Euler's: D.
    last = samplers.deis(levels).weights[-1, 0]
    np.testing.assert_allclose(last, [0, 0, 0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_the_second_step_of_unipc_in_closed_form(variant):
    """x' = (t/s) x + (1 - e^-h) D - B/2 (D_before - D) / r: rho is 1/2 and not solved for."""
    levels = timesteps.edm(6)
    before, s, t = levels[:3]
    h, back = np.log(s / t), np.log(before / s)
    size = {"bh1": h, "bh2": 1 - np.exp(-h)}[variant]  # -B
    pull = 0.5 * size * h / back
    found = samplers.unipc(levels, order=2, variant=variant, corrector=False)
    wanted = [t / s, -pull, 1 - t / s + pull, 0]
    np.testing.assert_allclose(found.weights[1, 0], wanted, rtol=1e-12)
    # The first step has no past: Euler's. Its corrector of order 1 has rho = 1/2 too:
    # x' = (s/before) x + (1 - e^-h) D + (-B) (D' - D) / 2.
    np.testing.assert_allclose(found.weights[0, 0], [s / before, 0, 1 - s / before, 0], rtol=1e-12)
    size = {"bh1": back, "bh2": 1 - np.exp(-back)}[variant]
    corrected = samplers.unipc(levels, order=2, variant=variant)
    known = [s / before, 0, 0, 1 - s / before - size / 2, 0]
    np.testing.assert_allclose(corrected.weights[0, 1], known, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(corrected.weights[1, 0, 3], 1 - t / s + pull + t / s * size / 2)


def warm(name, options, sigmas, memory):
    """Runs a multistep tableau with the exact solution as its first steps and memory."""
    tableau = samplers.build(name, sigmas, **options)
    past, x = [], sigmas[0] * NOISE
    skip = tableau.registers - 1
    for s, t in zip(sigmas[:skip], sigmas[1:]):
        denoised = toy()(x, s)
        past.insert(0, (x - denoised) / s if memory == "eps" else denoised)
        x = exact_flow(toy(), x, s, t)
    registers = np.stack([x, *past])
    for sigma, weights in zip(tableau.sigma[skip:], tableau.weights[skip:]):
        denoised = toy()(registers[0], sigma)
        registers = np.tensordot(weights[:, :-1], np.concatenate([registers, [denoised]]), 1)
    return registers[0]


@pytest.mark.parametrize(
    "name, options, memory, order",
    [
        ("lms", {"order": 4}, "eps", 4),
        ("lms", {"order": 3}, "eps", 3),
        ("deis", {"order": 3}, "eps", 3),
        ("ipndm", {"order": 4}, "eps", 2),
        ("dpmpp_3m", {}, "D", 2),
        ("dpmpp_3m_third_order", {}, "D", 3),
        ("sa_solver", {"predictor_order": 4, "corrector_order": 0, "tau": 0.0}, "D", 4),
    ],
)
def test_order_from_a_warm_start_on_a_geometric_grid(name, options, memory, order, truth):
    """There the first Euler step of a cold start would hide orders above 2."""
    errors = [
        np.abs(warm(name, options, GRIDS["log"](n), memory) - truth["log"]).max()
        for n in (256, 512)
    ]
    assert abs(np.log2(errors[0] / errors[1]) - order) < 0.2


def test_ddim_inversion_is_the_flow_upwards():
    grid = lambda n: timesteps.edm(n, sigma_min=0.05, sigma_max=10.0, final="sigma_min")
    y = np.array([[-1.1], [0.1], [1.2]])
    truth = exact_flow(toy(), y, 0.05, 10.0) / 10.0
    errors = [
        np.abs(run(samplers.ddim_inversion(grid(n)), toy(), y) - truth).max() for n in (256, 512)
    ]
    assert abs(np.log2(errors[0] / errors[1]) - 1) < 0.1 and errors[1] < 1e-2


def test_euler_maruyama_is_the_reverse_sde_in_the_scaled_frame():
    levels = timesteps.edm(7)
    noise = np.random.default_rng(0).standard_normal((9, 4, 1))
    for schedule in (schedules.vp(), schedules.sub_vp(), schedules.ve(), schedules.edm()):
        f, g = schedules.drift_and_diffusion(schedule)
        times = np.append(schedule.sigma_inv(levels[:-1]), 0.0)
        x = schedule.scale(times[0]) * 80.0 * noise[0]
        for k, (t, target) in enumerate(zip(times, times[1:])):
            s, sigma, h = schedule.scale(t), schedule.sigma(t), target - t
            score = (toy()(x / s, sigma) - x / s) / sigma**2 / s
            x = x + h * (f(t) * x - g(t) ** 2 * score)
            if target > 0:
                x = x + g(t) * np.sqrt(-h) * noise[k + 2]
        tableau = samplers.euler_maruyama(levels, schedule=schedule)
        np.testing.assert_allclose(
            run(tableau, toy(), noise[0], noise[1:]), x / schedule.scale(0.0), atol=1e-10
        )


def test_reverse_diffusion_is_the_discrete_chain_of_song_reversed():
    """x' = (2 - a) x + b^2 score + b z (appendix E): a = sqrt(1 - beta), b^2 = beta for DDPM."""
    levels = timesteps.ddpm(6)
    bar = 1 / (1 + levels**2)
    a = np.sqrt(bar[:-1] / bar[1:])
    beta, s, after, sigma = 1 - a**2, np.sqrt(bar[:-1]), np.sqrt(bar[1:]), levels[:-1]
    of_score = beta / (s * sigma**2)  # score = (D - x) / (s sigma^2), with x_t = s x
    wanted = [((2 - a) * s - of_score) / after, of_score / after, np.sqrt(beta) / after]
    options = {"schedule": schedules.with_vp_scaling(schedules.edm()), "denoise_last": False}
    found = samplers.reverse_diffusion(levels, **options)
    np.testing.assert_allclose(found.weights[:, 0], np.stack(wanted, 1), rtol=1e-9, atol=1e-12)
    # SMLD: a = 1, b^2 = sigma^2 - sigma'^2. Noise removal leaves the rest as it is.
    jump = levels[:-1] ** 2 - levels[1:] ** 2
    wanted = np.stack([1 - jump / sigma**2, jump / sigma**2, np.sqrt(jump)], 1)
    wanted[-1, 2] = 0
    found = samplers.reverse_diffusion(levels)
    np.testing.assert_allclose(found.weights[:, 0], wanted, rtol=1e-9, atol=1e-12)

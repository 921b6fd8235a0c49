"""EDM's samplers against outputs of the reference implementation, orders and closed forms."""

import json

import chex
import edm_outputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_reference import exact_flow, gaussian, mixture, run, toy

from edm_jax import samplers, schedules, tables, timesteps


def general(steps, discretization, schedule, scaling, solver, **options):
    """The general sampler of EDM."""
    return samplers.ablation(
        steps,
        timesteps=discretization,
        schedule="edm" if schedule == "linear" else schedule,
        scaling=scaling,
        solver=solver,
        **options,
    )


# -- the mixture of golden/samplers.npz --------------------------------------------------------


@pytest.fixture(scope="module")
def reference(golden):
    return golden("samplers.npz")


def golden_tableau(name, arguments):
    if name.startswith("edm_heun"):
        return samplers.heun(timesteps.edm(arguments["num_steps"]))
    options = {key: arguments[key] for key in ("alpha",) if key in arguments}
    return general(
        arguments["num_steps"],
        arguments["discretization"],
        arguments["schedule"],
        arguments["scaling"],
        arguments["solver"],
        **options,
    )


@pytest.mark.slow
def test_reference_outputs_on_a_mixture(reference):
    exact = mixture(reference["means"], reference["stds"], reference["weights"])
    parameters = [reference[key].astype(np.float32) for key in ("means", "stds", "weights")]
    single = mixture(*parameters, xp=jnp)
    cases = json.loads(str(reference["cases"]))
    assert len(cases) == 29
    by_size = jax.jit(lambda tableau, noise: samplers.sample(single, tableau, noise))
    for case in cases:
        name, expected = case["name"], reference["out/" + case["name"]]
        tableau = golden_tableau(name, case["kwargs"])
        assert tableau.nfe == case["nfe"], name
        tolerance = 1e-9
        if "-ve-vp-" in name or "alpha" in name:
            tolerance = 1e-7  # the reference loses digits in exp(.) - 1 and log(1 + sigma^2)
        if "iddpm" in name:
            tolerance = 2e-5  # its alpha-bar is float32
        np.testing.assert_allclose(
            run(tableau, exact, reference["latents"]), expected, atol=tolerance, err_msg=name
        )
        result = by_size(tableau, reference["latents"].astype(np.float32))
        assert result.dtype == jnp.float32
        if np.abs(expected).max() < 3:
            np.testing.assert_allclose(result, expected, atol=1e-4, err_msg=name)
    assert by_size._cache_size() == len({9, 79, 18, 35, 63})  # K, which fixes R here


def test_float64_on_the_device_is_the_reference(reference):
    with jax.enable_x64(True):
        exact = mixture(reference["means"], reference["stds"], reference["weights"], jnp)
        tableau = samplers.heun(timesteps.edm(40))
        result = samplers.sample(exact, tableau, jnp.asarray(reference["latents"]))
        assert result.dtype == jnp.float64
        np.testing.assert_allclose(result, reference["out/edm_heun_40"], atol=1e-13)


# -- the stub denoiser: every combination, alpha, churn, rounding ------------------------------

LATENTS = np.array([-1.5, -0.3, 0.2, 1.1])


def stub(x, sigma):
    return (0.25 * x + 0.1 * sigma**2) / (sigma**2 + 0.25)


def step_noise(tableau, stages=2):
    """sqrt(2) sin(1.3 k + 0.7 j) at step k, which the tableau adds before the step's first row."""
    noise = np.zeros((tableau.nfe + 1, 4))
    for k in range((tableau.nfe + stages - 1) // stages):
        noise[stages * k] = np.sqrt(2) * np.sin(1.3 * k + 0.7 * np.arange(4))
    return noise


def numbers(text):
    return np.array([float(word) for word in text])


def test_every_combination_of_grid_schedule_scaling_and_solver():
    rows = [line.split() for line in edm_outputs.PLAIN.strip().splitlines()]
    assert len(rows) == 48
    for discretization, schedule, scaling, solver, *expected in rows:
        tableau = general(8, discretization, schedule, scaling, solver)
        assert tableau.nfe == {"euler": 8, "heun": 15}[solver]
        expected = numbers(expected)
        tolerance = 2e-5 if discretization == "iddpm" else 1e-7 if discretization == "ve" else 1e-9
        np.testing.assert_allclose(
            run(tableau, stub, LATENTS),
            expected,
            atol=tolerance * max(1, np.abs(expected).max()) + 1e-10,
            err_msg=f"{discretization} {schedule} {scaling} {solver}",
        )


def test_alpha_family():
    for line in edm_outputs.ALPHA.strip().splitlines():
        combination, alpha, *expected = line.split()
        alpha = 2 / 3 if alpha == "0.666667" else float(alpha)
        tableau = general(8, *combination.split("/"), "heun", alpha=alpha)
        assert tableau.nfe == 15
        np.testing.assert_allclose(
            run(tableau, stub, LATENTS), numbers(expected), atol=2e-9, err_msg=line
        )


def test_general_churn():
    churn = samplers.Churn(2.0, 0.05, 20.0, 1.01)
    for line in edm_outputs.CHURN.strip().splitlines():
        combination, *expected = line.split()
        tableau = general(8, *combination.split("/"), "heun", churn=churn)
        np.testing.assert_allclose(
            run(tableau, stub, LATENTS, step_noise(tableau)),
            numbers(expected),
            atol=2e-6 if combination.startswith("iddpm") else 2e-9,
            err_msg=line,
        )


def test_edm_sampler_with_and_without_churn():
    plain = samplers.heun(timesteps.edm(18))
    expected = [-0.6920964863, -0.0589469219, 0.2048653966, 0.6797275699]
    np.testing.assert_allclose(run(plain, stub, LATENTS), expected, atol=2e-10)
    for steps, churn, expected in (
        (18, (30, 0.01, 1, 1.007), [-0.2471994631, -0.0695678567, -0.1342187389, 0.1000937514]),
        (8, (40, 0.05, 50, 1.003), [-0.6764931072, -0.3774927344, -0.0391285352, 0.4732569937]),
    ):
        tableau = samplers.heun(timesteps.edm(steps), churn=samplers.Churn(*churn))
        noise = step_noise(tableau)
        np.testing.assert_allclose(run(tableau, stub, LATENTS, noise), expected, atol=2e-10)
        result = samplers.sample(
            stub, tableau, jnp.asarray(LATENTS, jnp.float32), row_noise=jnp.asarray(noise)
        )
        np.testing.assert_allclose(result, expected, atol=2e-5)


U = tables.iddpm(variant="network")  # descending, 1001 levels, float32


def round_sigma(sigma):
    index = np.abs(np.asarray(sigma, np.float32)[..., None] - U).argmin(-1)
    return U[index].astype(np.float64)


def on_table(tableau):
    levels = {float(level): j for j, level in enumerate(U)}
    return [levels[float(level)] for level in tableau.sigma]


def test_rounding_to_the_levels_of_an_iddpm_network():
    levels = timesteps.edm(18, sigma_min=float(U[999]), sigma_max=80.0)
    tableau = samplers.heun(levels, round_sigma=round_sigma)
    indices = [8, 11, 15, 21, 31, 45, 67, 101, 157, 247, 384, 561, 735, 861, 937, 976, 993, 999]
    assert on_table(tableau)[::2] == indices
    expected = [-0.68776156, -0.05807572, 0.20429338, 0.67655776]
    np.testing.assert_allclose(run(tableau, stub, LATENTS), expected, atol=2e-8)

    churn = samplers.Churn(40, 0.05, 50, 1.003)
    tableau = samplers.heun(levels, churn=churn, round_sigma=round_sigma)
    indices = [8, 11, 11, 15, 22, 32, 47, 72, 112, 179, 288, 450, 642, 804, 908, 976, 993, 999]
    assert on_table(tableau)[::2] == indices
    expected = [0.05426055, -0.00651868, -0.03140208, 0.01384134]
    result = run(tableau, stub, LATENTS, step_noise(tableau))
    np.testing.assert_allclose(result, expected, atol=3e-7)  # u differs by an ulp of float32

    tableau = samplers.heun(timesteps.iddpm(18), round_sigma=round_sigma)
    indices = [8, 66, 125, 183, 241, 299, 358, 416, 474, 533, 591, 649, 708, 766, 824, 882, 941]
    assert on_table(tableau)[::2] == [*indices, 999]
    expected = [-0.66291241, -0.05308938, 0.20100355, 0.65837083]
    np.testing.assert_allclose(run(tableau, stub, LATENTS), expected, atol=2e-8)


# -- closed forms ------------------------------------------------------------------------------


def test_evaluations_are_counted_exactly():
    for steps in (1, 2, 18, 40, 256):
        assert samplers.heun(timesteps.edm(steps)).nfe == 2 * steps - 1
        assert samplers.euler(timesteps.edm(steps)).nfe == steps
        assert samplers.heun(timesteps.edm(steps, final="sigma_min")).nfe == 2 * steps


def test_gaussian_products():
    mean, std = 0.3, 0.5
    levels = timesteps.edm(12, final="sigma_min")
    angle = np.arctan(levels / std)
    factor = np.cos(angle[0]) / np.cos(angle[-1]) * np.cos(np.diff(angle)).prod()
    noise = np.array([0.15])
    expected = mean + (80.0 * noise - mean) * factor
    result = run(samplers.euler(levels), gaussian(mean, std), noise)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    a, b, c = levels[:-1], levels[1:], std**2
    slope = a / (c + a**2) + b / (c + b**2) * (1 + (b - a) * a / (c + a**2))
    expected = mean + (80.0 * noise - mean) * (1 + 0.5 * (b - a) * slope).prod()
    result = run(samplers.heun(levels), gaussian(mean, std), noise)
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_stochastic_heun_has_its_exact_gaussian_deviation():
    """Output over true deviation with churn (S_min 0.05, S_max 50), by another recursion."""
    std = 0.5
    for steps, amount, noise in ((18, 40, 1.0), (64, 40, 1.0), (256, 40, 1.0), (32, 80, 1.003)):
        levels = timesteps.edm(steps)
        variance = 80.0**2
        for low, high in zip(levels[1:], levels[:-1]):
            inside = 0.05 <= high <= 50
            up = high * (1 + (min(amount / steps, np.sqrt(2) - 1) if inside else 0))
            variance += (up**2 - high**2) * noise**2
            gain = std**2 / (std**2 + up**2)
            if low > 0:
                slope = up / (std**2 + up**2)
                slope += low / (std**2 + low**2) * (1 + (low - up) * up / (std**2 + up**2))
                gain = 1 + 0.5 * (low - up) * slope
            variance *= gain**2
        tableau = samplers.heun(levels, churn=samplers.Churn(amount, 0.05, 50, noise))
        result = samplers.moments(tableau, 0.0, std**2)[1]
        np.testing.assert_allclose(result, variance, rtol=1e-11)
        rounded = {18: 1.125, 64: 1.021, 256: 1.0020}.get(steps)
        if rounded:
            assert abs(np.sqrt(result) / std - rounded) < 6e-4


@pytest.mark.slow
def test_order_of_convergence_in_any_frame():
    """Heun's family is of order 2, Euler's of order 1, in sigma and in the scaled frames."""
    noise = np.array([[-1.3], [-0.4], [0.35], [1.7]])
    levels = lambda count: timesteps.edm(count, sigma_min=0.05, sigma_max=10.0, final="sigma_min")
    truth = exact_flow(toy(), 10.0 * noise, 10.0, 0.05)
    frames = {
        "edm": schedules.edm(),
        "vp": schedules.vp(),
        "flow": schedules.flow(),
        "trigflow": schedules.trigflow(),
        "cosine": schedules.cosine(),
        "sub_vp": schedules.sub_vp(),
        "ve, vp scaling": schedules.with_vp_scaling(schedules.ve()),
    }
    for name, schedule in frames.items():
        for make, order, alphas in (
            (samplers.euler, 1, ({},)),
            (samplers.heun, 2, ({}, {"alpha": 2 / 3}, {"alpha": 0.5})),
        ):
            for options in alphas:
                errors = [
                    np.abs(
                        run(
                            make(levels(n), schedule=schedule, **options),
                            toy(),
                            noise,
                        )
                        - truth
                    ).max()
                    for n in (128, 256)
                ]
                measured = np.log2(errors[0] / errors[1])
                assert abs(measured - order) < 0.25, (name, make, options, measured, errors)


def test_a_grid_of_times_is_the_grid_of_its_levels():
    times = np.linspace(1.0, 0.0, 9)
    churn = samplers.Churn(2.0, 0.05, 20.0, 1.01)
    for schedule in (schedules.vp(), schedules.sub_vp(), schedules.ve()):
        levels = schedule.sigma(times)
        assert levels[-1] == 0
        for solver, make, options in (
            ("euler", samplers.euler, {}),
            ("heun", samplers.heun, {}),
            ("heun", samplers.heun, {"alpha": 0.5}),
            ("heun", samplers.heun, {"churn": churn}),
        ):
            by_time = samplers.ode(times, schedule, solver=solver, **options)
            by_level = make(levels, schedule=schedule, **options)
            chex.assert_trees_all_close(by_time, by_level, rtol=1e-9, atol=1e-12)
    rounded = samplers.ode(times, schedules.vp(), round_sigma=round_sigma)
    chex.assert_trees_all_equal(
        rounded,
        samplers.heun(
            schedules.vp().sigma(times), schedule=schedules.vp(), round_sigma=round_sigma
        ),
    )


def test_steps_that_are_equal_in_time_follow_any_schedule():
    """Algorithm 1 written out: x in its own frame, uniform steps in t."""
    schedule, times = schedules.vp(), np.linspace(1.0, 1e-3, 7)
    noise = np.array([[-1.3], [-0.4], [0.35], [1.7]])

    def slope(x, t):
        sigma, s = schedule.sigma(t), schedule.scale(t)
        pull = schedule.sigma_dot(t) / sigma
        return (pull + schedule.scale_dot(t) / s) * x - pull * s * toy()(x / s, sigma)

    x = schedule.sigma(1.0) * schedule.scale(1.0) * noise
    for t, after in zip(times, times[1:]):
        first = slope(x, t)
        x = x + (after - t) * (0.5 * first + 0.5 * slope(x + (after - t) * first, after))
    result = run(samplers.ode(times, schedule), toy(), noise)
    np.testing.assert_allclose(schedule.scale(times[-1]) * result, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: samplers.ode([1.0], schedules.vp()), "times must be at least two that descend"),
        (lambda: samplers.ode([0.5, 1.0], schedules.vp()), "times must be at least two that desc"),
        (lambda: samplers.ode([1.0, 1.0], schedules.vp()), "^times must be at least two that desc"),
        (lambda: samplers.ode([1.0, 0.5], schedules.flow()), r"sigma\(times\) must be finite"),
        (lambda: samplers.ode([1.0, 0.5], schedules.vp(), solver="rk4"), "solver must be one of"),
        (lambda: samplers.ode([1.0, 0.5], schedules.vp(), alpha=2.0), "alpha must lie in"),
        (lambda: samplers.heun([1.0]), "sigmas must be a list of at least two"),
        (lambda: samplers.heun([1.0, 2.0, 0.0]), "sigmas must descend strictly"),
        (lambda: samplers.heun([1.0, -1.0]), "the last of sigmas must be positive or 0, got -1"),
        (lambda: samplers.heun([np.nan, 0.0]), "sigmas must be finite"),
        (lambda: samplers.heun([1.0, 0.0], alpha=0.0), r"alpha must lie in \(0.0, 1.0\], got 0.0"),
        (lambda: samplers.heun([1.0, 0.0], churn=samplers.Churn(-1)), "s_churn must lie in"),
        (lambda: samplers.euler([1.0, 0.0], churn=samplers.Churn(1, 2, 1)), "s_max must lie in"),
        (lambda: samplers.ablation(4, solver="rk4"), "solver must be one of heun, euler"),
        (lambda: samplers.heun([1.0, 0.0], churn=10), r"churn must be a Churn, .* got 10"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Every solver of the registry through the one loop: precision, transformations, randomness."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_reference import run, toy

from edm_jax import randomness, samplers, timesteps

# As many steps as make 13 evaluations: one shape of tableau, one program, for all solvers.
NFE = 13
STEPS = {"heun": 7, "dpm_2": 7, "dpm_2_ancestral": 7, "dpm_solver_2": 7, "dpm_solver_3": 5}
STEPS |= {"dpmpp_2s": 7, "dpmpp_2s_ancestral": 7, "dpmpp_sde": 7, "plms": 12, "pndm": 4}
STEPS |= {"restart": 5, "annealed_langevin": 4, "ddim_inversion": 14}
OPTIONS = {
    "analytic_dpm": {"posterior_variance": lambda sigma: 0.25 * sigma**2 / (0.25 + sigma**2)},
    "restart": {"intervals": [(3, 1, 0.1, 0.3)]},
    "annealed_langevin": {"steps_per_level": 3},
}
REGISTERS = {"pndm": 5, "lms": 4, "ipndm": 4, "plms": 4, "dpm_solver_3": 3, "unipc": 3, "deis": 3}
REGISTERS |= {"dpmpp_3m": 3, "dpmpp_3m_sde": 3, "dpmpp_3m_third_order": 3}
REGISTERS |= dict.fromkeys(("heun", "dpm_2", "dpm_2_ancestral", "dpm_solver_2", "restart"), 2)
REGISTERS |= dict.fromkeys(("dpmpp_2s", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m"), 2)
REGISTERS |= {"dpmpp_2m_sde": 2, "sa_solver": 3}
LOOPS = ("adaptive", "improved_ddpm", "predictor_corrector")
NAMES = [name for name in samplers.SOLVERS if name not in LOOPS]
BATCH = 8
NOISE = np.random.default_rng(3).standard_normal((BATCH, 1)).astype(np.float32)
KEYS = randomness.sample_keys(range(BATCH))
TRACES = []


def traced_toy(x, sigma):
    TRACES.append(x.shape)
    return toy(jnp)(x, sigma)


def make(name, count=None):
    levels = timesteps.edm(count or STEPS.get(name, 13))
    return samplers.build(name, levels, **OPTIONS.get(name, {}))


def draw(tableau, noise, keys):
    return samplers.sample(traced_toy, tableau, noise, keys)


def injected(tableau, noise, rows):
    return samplers.sample(toy(jnp), tableau, noise, row_noise=rows)


def linear(x, sigma):
    return 0.1 + 0.25 / (0.25 + sigma * sigma) * (x - 0.1)


def slope(tableau, noise, keys):
    value = lambda table, latent: (samplers.sample(toy(jnp), table, latent, keys) ** 2).sum()
    return jax.grad(value, argnums=(0, 1))(tableau, noise)


def coarse(x, sigma):
    """A denoiser whose last layer is in bfloat16."""
    return linear(x, sigma).astype(jnp.bfloat16)


CALLS = {
    "jit": jax.jit(draw),
    "injected": jax.jit(injected),
    "linear": jax.jit(lambda table, z, rows: samplers.sample(linear, table, z, row_noise=rows)),
    "coarse": jax.jit(lambda table, z, rows: samplers.sample(coarse, table, z, row_noise=rows)),
    "gradient": jax.jit(slope),
    "vmap": jax.jit(jax.vmap(draw, in_axes=(None, 0, 0))),
    "devices": jax.pmap(draw, in_axes=(None, 0, 0)),
}


@pytest.fixture(params=NAMES)
def solver(request):
    tableau = make(request.param)
    assert tableau.nfe == NFE
    return request.param, tableau, samplers.pad(tableau, 5)


def test_registers_are_no_more_than_needed(solver):
    name, tableau, _ = solver
    assert tableau.registers == REGISTERS.get(name, 1)
    assert tableau.stochastic == samplers.SOLVERS[name].stochastic


def test_jit_vmap_and_devices_agree(solver):
    _, _, tableau = solver
    expected = CALLS["jit"](tableau, NOISE, KEYS)
    assert np.isfinite(expected).all()
    split = lambda a, rows: a.reshape(rows, -1, *a.shape[1:])
    for how, rows in (("vmap", 4), ("devices", 8)):
        result = CALLS[how](tableau, split(NOISE, rows), split(KEYS, rows))
        np.testing.assert_allclose(np.reshape(result, expected.shape), expected, atol=1e-4)


def test_float32_agrees_with_float64(solver):
    _, plain, tableau = solver
    rows = np.random.default_rng(4).standard_normal((NFE + 1, BATCH, 1)).astype(np.float32)
    exact = run(plain, toy(), NOISE, rows)
    single = CALLS["injected"](tableau, NOISE, rows)
    np.testing.assert_allclose(single, exact, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_eager_agrees_with_jit(solver):
    """Operation by operation, without a compiler that could contract or reorder."""
    _, plain, tableau = solver
    rows = np.random.default_rng(4).standard_normal((NFE + 1, BATCH, 1)).astype(np.float32)
    with jax.disable_jit():
        eager = samplers.sample(linear, plain, jnp.asarray(NOISE), row_noise=jnp.asarray(rows))
    np.testing.assert_allclose(CALLS["linear"](tableau, NOISE, rows), eager, rtol=0, atol=1e-4)


def test_a_bfloat16_denoiser_leaves_the_state_in_float32(solver):
    name, _, tableau = solver
    rows = np.random.default_rng(4).standard_normal((NFE + 1, BATCH, 1)).astype(np.float32)
    exact, rough = (CALLS[how](tableau, NOISE, rows) for how in ("linear", "coarse"))
    assert rough.dtype == jnp.float32
    few_long_steps = {"pndm": 0.8, "restart": 0.25}  # which multiply the rounding of D
    tolerance = few_long_steps.get(name, 0.05)
    np.testing.assert_allclose(rough, exact, rtol=0.02, atol=tolerance)


def test_the_same_twice_and_other_keys_only_where_there_is_noise(solver):
    name, _, tableau = solver
    first = CALLS["jit"](tableau, NOISE, KEYS)
    assert jnp.array_equal(first, CALLS["jit"](tableau, NOISE, KEYS))
    other = CALLS["jit"](tableau, NOISE, randomness.sample_keys(range(90, 90 + BATCH)))
    assert jnp.array_equal(first, other) != samplers.SOLVERS[name].stochastic


def test_a_sample_is_the_same_in_another_place_of_another_batch(solver):
    _, _, tableau = solver
    first = CALLS["jit"](tableau, NOISE, KEYS)
    moved = CALLS["jit"](tableau, np.roll(NOISE, 3, axis=0), jnp.roll(KEYS, 3))
    np.testing.assert_allclose(np.roll(first, 3, axis=0), moved, rtol=0, atol=1e-6)
    alone = CALLS["vmap"](tableau, NOISE[:, None], KEYS[:, None])
    np.testing.assert_allclose(np.reshape(alone, first.shape), first, rtol=0, atol=1e-4)


def test_gradients_are_finite(solver):
    name, _, tableau = solver
    by_table, by_noise = CALLS["gradient"](tableau, NOISE, KEYS)
    assert np.isfinite(by_noise).all() and all(
        np.isfinite(field).all() for field in jax.tree.leaves(by_table)
    )
    assert np.abs(by_noise).max() > 0 or name == "consistency"


@pytest.mark.slow
def test_all_solvers_share_one_program():
    """After all of the above for every solver: two traces per shape, with noise and without."""
    for name in NAMES:
        CALLS["jit"](samplers.pad(make(name), 5), NOISE, KEYS)
    assert CALLS["jit"]._cache_size() == 2  # with noise and without
    before = len(TRACES)
    call = jax.jit(lambda *arguments: draw(*arguments))
    for name in NAMES:
        call(samplers.pad(make(name), 5), NOISE, KEYS)
    assert len(TRACES) == before + 2


@pytest.mark.slow
def test_precision_over_many_steps():
    """256 steps in float32 against float64 on the host."""
    noise = np.random.default_rng(5).standard_normal((64, 1)).astype(np.float32)
    call = jax.jit(lambda tableau, latent: samplers.sample(toy(jnp), tableau, latent))
    for name in ("euler", "dpmpp_2m", "dpmpp_3m_third_order", "lms", "deis", "ipndm", "unipc"):
        tableau = samplers.pad(make(name, 256), 4)
        exact = run(tableau, toy(), noise)
        np.testing.assert_allclose(call(tableau, noise), exact, rtol=0, atol=4e-5, err_msg=name)


# -- identities between methods of different names ---------------------------------------------

LEVELS = timesteps.edm(12)


def same(one, other, skip=0):
    return all(
        np.allclose(a[skip:] if a.ndim != 2 else a, b[skip:] if b.ndim != 2 else b, atol=1e-10)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other))
    )


def test_one_method_under_many_names():
    s = samplers
    ancestral = s.ddpm(LEVELS)
    assert same(ancestral, s.euler_ancestral(LEVELS))
    assert same(ancestral, s.ddim(LEVELS, eta=1.0))
    for convention in ("dpm", "linear"):
        assert same(ancestral, s.ddim(LEVELS, eta=1.0, convention=convention))
        assert not same(s.ddim(LEVELS, eta=0.5), s.ddim(LEVELS, eta=0.5, convention=convention))
    assert same(s.euler(LEVELS), s.ddim(LEVELS))
    assert same(s.euler(LEVELS), s.dpm_solver_1(LEVELS))
    assert same(s.euler(LEVELS), s.lms(LEVELS, order=1))
    assert same(s.euler(LEVELS), s.ipndm(LEVELS, order=1))
    assert same(s.euler(LEVELS), s.unipc(LEVELS, order=1, corrector=False))
    assert same(s.dpm_2(LEVELS), s.dpm_solver_2(LEVELS))
    assert same(s.lms(LEVELS, order=3), s.deis(LEVELS, order=3, variable="sigma"))
    assert same(s.analytic_dpm(LEVELS, posterior_variance=lambda sigma: 0.0), ancestral)
    variance = lambda sigma: sigma**2 / (1 + sigma**2)
    analytic = s.analytic_dpm(LEVELS, posterior_variance=variance)
    assert same(s.ddpm(LEVELS, variance="analytic", posterior_variance=variance), analytic)


def test_dpmpp_and_sa_solver_are_one_family():
    s = samplers
    for tau in (0.0, 0.5, 1.0):
        heun = s.dpmpp_2m(LEVELS, eta=tau**2, solver_type="heun")
        assert same(heun, s.sa_solver(LEVELS, predictor_order=2, corrector_order=0, tau=tau))
        parabola = s.dpmpp_3m_third_order(LEVELS, eta=tau**2)
        assert same(parabola, s.sa_solver(LEVELS, predictor_order=3, corrector_order=0, tau=tau))
        assert not same(parabola, s.dpmpp_3m(LEVELS, eta=tau**2), skip=2)
    # UniP solves for the same weights, but for 1/2 in the step with one past image.
    after = lambda tableau: tableau.weights[2:, 0]
    unip = s.unipc(LEVELS, order=3, corrector=False)
    np.testing.assert_allclose(after(s.dpmpp_3m_third_order(LEVELS)), after(unip), atol=1e-10)
    # ... and with the corrector for SA-Solver's, which counts the new image among its nodes.
    unipc, sa_solver = (
        s.unipc(LEVELS, order=3),
        s.sa_solver(LEVELS, predictor_order=3, corrector_order=4, tau=0.0),
    )
    for register in (0, 1):
        one, other = (t.weights[3:-2, register] for t in (unipc, sa_solver))
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_analytic_variance_is_ddpm_large_for_unit_gaussian_data():
    levels = timesteps.edm(9, final="sigma_min")
    variance = lambda sigma: sigma**2 / (1 + sigma**2)
    analytic = samplers.analytic_dpm(levels, posterior_variance=variance)
    assert same(analytic, samplers.ddpm(levels, variance="large"))


def test_ddim_and_ddpm_are_the_published_coefficients():
    """In x_t = x / sqrt(1 + sigma^2): Ho et al. eq. 7 and Song et al. eq. 12."""
    s, t = LEVELS[:-2], LEVELS[1:-1]
    high, low = 1 / (1 + s**2), 1 / (1 + t**2)  # alpha-bar at the step's start and end
    beta = 1 - high / low
    table = samplers.ddpm(LEVELS).weights[:-1, 0]
    of_x0, of_x = np.sqrt(low) * beta / (1 - high), np.sqrt(high / low) * (1 - low) / (1 - high)
    np.testing.assert_allclose(of_x0 / np.sqrt(low), table[:, 1], rtol=1e-10)
    np.testing.assert_allclose(of_x * np.sqrt(high / low), table[:, 0], rtol=1e-10)
    np.testing.assert_allclose((1 - low) / (1 - high) * beta / low, table[:, 2] ** 2, rtol=1e-9)
    for eta in (0.0, 0.3, 1.0):
        noise = eta * np.sqrt((1 - low) / (1 - high) * beta)
        table = samplers.ddim(LEVELS, eta=eta).weights[:-1, 0]
        np.testing.assert_allclose(noise / np.sqrt(low), table[:, 2], atol=1e-9)
        of_eps = np.sqrt(1 - low - noise**2) / np.sqrt(low)
        np.testing.assert_allclose(of_eps, table[:, 0] * s, rtol=1e-9)


def test_transfer_of_pndm_is_eulers_step():
    """Liu et al. eq. 11 in the frame x_t, at a step with eps = -0.2."""
    s, t, x, eps = 2.0, 1.5, 0.7, -0.2
    high, low = 1 / (1 + s**2), 1 / (1 + t**2)
    denominator = high * np.sqrt(1 - low) + np.sqrt(high * (1 - high) * low)
    moved = np.sqrt(low / high) * np.sqrt(high) * x - (low - high) * eps / denominator
    np.testing.assert_allclose(moved / np.sqrt(low), x + (t - s) * eps, rtol=1e-12)


def test_prk_and_plms_against_a_step_loop():
    levels = timesteps.edm(9)
    middle = np.sqrt(levels[:3] * levels[1:4])
    eps = lambda x, sigma: (x - toy()(x, sigma)) / sigma
    for name in ("pndm", "plms"):
        x, past = 80.0 * NOISE.astype(np.float64), []
        for i, (s, t) in enumerate(zip(levels, levels[1:])):
            e = eps(x, s)
            if name == "pndm" and i < 3:
                m = middle[i]
                e2 = eps(x + (m - s) * e, m)
                e3 = eps(x + (m - s) * e2, m)
                e4 = eps(x + (t - s) * e3, t)
                combined = (e + 2 * e2 + 2 * e3 + e4) / 6
            elif i == 0:
                combined = (e + eps(x + (t - s) * e, t)) / 2
            elif i == 1:
                combined = (3 * e - past[0]) / 2
            elif i == 2:
                combined = (23 * e - 16 * past[0] + 5 * past[1]) / 12
            else:
                combined = (55 * e - 59 * past[0] + 37 * past[1] - 9 * past[2]) / 24
            x, past = x + (t - s) * combined, [e, *past]
        tableau = (
            samplers.pndm(levels, midpoints=middle) if name == "pndm" else samplers.plms(levels)
        )
        np.testing.assert_allclose(run(tableau, toy(), NOISE), x, atol=1e-10)


# -- the registry ------------------------------------------------------------------------------


def test_every_solver_documents_itself():
    for name, solver in samplers.SOLVERS.items():
        function = getattr(samplers, name)
        text = inspect.getdoc(function)
        assert "NFE" in text or "evaluations" in text, name
        assert "Args" in text and "Returns" in text, name
        assert solver.source and (solver.order is None or solver.order >= 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: samplers.build("dpmpp2m", LEVELS), "got 'dpmpp2m'; did you mean 'dpmpp_2m'"),
        (
            lambda: samplers.build("qqqq", LEVELS),
            "solver must be one of euler, heun, .*, got 'qqqq'",
        ),
        (
            lambda: samplers.build("heun", LEVELS, eta=1),
            "an option of heun must be one of alpha, .*got 'eta'",
        ),
        (lambda: samplers.build("dpm_2", LEVELS, r=1), "dpm_2 must be given no options, got 'r'"),
        (
            lambda: samplers.build("analytic_dpm", LEVELS),
            "posterior_variance must be given for analytic_dpm",
        ),
        (lambda: samplers.ddim(LEVELS, eta=1.5), r"eta must lie in \[0.0, 1.0\], got 1.5"),
        (lambda: samplers.ddim(LEVELS, convention="k"), "convention must be one of ddim"),
        (lambda: samplers.ddpm(LEVELS, variance="huge"), "variance must be one of small"),
        (lambda: samplers.ddpm(LEVELS, variance="analytic"), "posterior_variance must be given"),
        (
            lambda: samplers.analytic_dpm(LEVELS, posterior_variance=lambda s: -1.0),
            "must not be negative, got -1",
        ),
        (lambda: samplers.lms(LEVELS, order=5), "order must be one of 1, 2, 3, 4, got 5"),
        (lambda: samplers.deis(LEVELS, variable="x"), "variable must be one of"),
        (lambda: samplers.pndm(timesteps.edm(3)), "must make at least 4 steps"),
        (lambda: samplers.pndm(LEVELS, midpoints=[1, 2, 3]), "midpoints must be 3 levels inside"),
        (lambda: samplers.plms([1.0, 0.0]), "must make at least 2 steps"),
        (lambda: samplers.unipc(LEVELS, order=4), "order must be one of 1, 2, 3, got 4"),
        (lambda: samplers.sa_solver(LEVELS, corrector_order=9), "corrector_order must be one of"),
        (lambda: samplers.dpmpp_sde(LEVELS, correlation="no"), "correlation must be one of"),
        (lambda: samplers.dpmpp_2m(LEVELS, eta=-0.1), "eta must lie in"),
        (
            lambda: samplers.restart(LEVELS, intervals=[(1, 1, 0.1, 1)]),
            "points of an interval must lie in",
        ),
        (
            lambda: samplers.restart(LEVELS, intervals=[(3, 1, 2.0, 0.1)]),
            "high of an interval must lie in",
        ),
        (lambda: samplers.consistency([2.0, 1.0]), "the last of sigmas must be at most 0.002"),
        (
            lambda: samplers.annealed_langevin(LEVELS, steps_per_level=0),
            "steps_per_level must lie in",
        ),
        (lambda: samplers.ddim_inversion([1.0, 0.0]), "positive sigmas must be a list"),
        (lambda: samplers.pad(samplers.heun(LEVELS), 1), "registers must be at least 2, got 1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Every schedule against its closed forms, its own derivatives and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import schedules, tables

B_D, B_MIN = 19.9, 0.1
beta = lambda t: B_MIN + B_D * t
integral = lambda t: B_MIN * t + 0.5 * B_D * t * t
one, zero = np.ones_like, np.zeros_like

# name -> (schedule, sigma(t), s(t), f(t), g(t)^2): the textbook forms, on t in (0, 1).
KNOWN = {
    "edm": (schedules.edm(), lambda t: t, one, zero, lambda t: 2 * t),
    "ve": (schedules.ve(), np.sqrt, one, zero, one),
    "ve_geometric": (
        schedules.ve_geometric(),
        lambda t: 0.01 * 5000**t,
        one,
        zero,
        lambda t: 2 * np.log(5000) * (0.01 * 5000**t) ** 2,
    ),
    "vp": (
        schedules.vp(),
        lambda t: np.sqrt(np.exp(integral(t)) - 1),
        lambda t: np.exp(-integral(t) / 2),
        lambda t: -beta(t) / 2,
        beta,
    ),
    "sub_vp": (
        schedules.sub_vp(),
        lambda t: 2 * np.sinh(integral(t) / 2),
        lambda t: np.exp(-integral(t) / 2),
        lambda t: -beta(t) / 2,
        lambda t: beta(t) * (1 - np.exp(-2 * integral(t))),
    ),
    "v": (
        schedules.cosine(offset=0.0),
        lambda t: np.tan(np.pi * t / 2),
        lambda t: np.cos(np.pi * t / 2),
        lambda t: -np.pi / 2 * np.tan(np.pi * t / 2),
        lambda t: np.pi * np.tan(np.pi * t / 2),
    ),
    "flow": (
        schedules.flow(),
        lambda t: t / (1 - t),
        lambda t: 1 - t,
        lambda t: -1 / (1 - t),
        lambda t: 2 * t / (1 - t),
    ),
    "trigflow": (
        schedules.trigflow(),
        lambda t: 0.5 * np.tan(t),
        np.cos,
        lambda t: -np.tan(t),
        lambda t: 0.5 * np.tan(t),
    ),
}
ALL = {name: row[0] for name, row in KNOWN.items()} | {
    "cosine": schedules.cosine(),
    "vp_from_range": schedules.vp_from_range(0.002, 80.0),
    "vp_falling_beta": schedules.vp_from_range(0.1, 80.0),
    "ve_with_vp_scaling": schedules.with_vp_scaling(schedules.ve()),
    "vp_without_scaling": schedules.without_scaling(schedules.vp()),
}
TIMES = np.concatenate([[1e-5, 1e-4, 1e-3], np.linspace(0.01, 0.98, 40)])


def times(name):
    return TIMES[TIMES >= 1e-3] if name == "vp_from_range" else TIMES


@pytest.mark.parametrize("name", KNOWN)
def test_textbook_forms(name):
    schedule, sigma, scale, f, g_squared = KNOWN[name]
    t = np.linspace(0.05, 0.95, 19)
    drift, diffusion = schedules.drift_and_diffusion(schedule)
    np.testing.assert_allclose(schedule.sigma(t), sigma(t), rtol=1e-12)
    np.testing.assert_allclose(schedule.scale(t), scale(t), rtol=1e-12)
    np.testing.assert_allclose(drift(t), f(t), rtol=1e-12)
    np.testing.assert_allclose(diffusion(t) ** 2, g_squared(t), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_derivatives_and_inverse(name):
    schedule, t = ALL[name], times(name)
    np.testing.assert_allclose(schedule.sigma_inv(schedule.sigma(t)), t, rtol=1e-10)
    h = 1e-4 * t
    for value, slope in (
        (schedule.sigma, schedule.sigma_dot),
        (schedule.scale, schedule.scale_dot),
    ):
        # Central differences of order four.
        near, far = value(t + h) - value(t - h), value(t + 2 * h) - value(t - 2 * h)
        found = (8 * near - far) / (12 * h)
        np.testing.assert_allclose(slope(t), found, rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_the_device_agrees_with_the_host_to_float32_rounding(name):
    schedule, t = ALL[name], times(name).astype(np.float32)
    sigma = schedule.sigma(t).astype(np.float32)

    @jax.jit
    def every(t, sigma):
        slope = jax.vmap(jax.grad(schedule.sigma))(t)
        return slope, [f(sigma if f is schedule.sigma_inv else t) for f in schedule]

    slope, values = every(t, sigma)
    np.testing.assert_allclose(slope, schedule.sigma_dot(t), rtol=6e-6)
    for field, found in zip(schedule._fields, values):
        expected = getattr(schedule, field)(sigma if field == "sigma_inv" else t)
        assert found.dtype == jnp.float32 and found.shape == t.shape
        assert expected.dtype == np.float64
        # Near sigma_min the time of a geometric schedule is a small difference of logarithms.
        atol = 1e-8 if (name, field) == ("ve_geometric", "sigma_inv") else 0.0
        np.testing.assert_allclose(found, expected, rtol=6e-6, atol=atol)


def test_vp_has_no_cancellation_at_small_times():
    # sqrt(exp(B) - 1) in float32 is 2.4 % off here.
    sigma = jax.jit(schedules.vp().sigma)(jnp.float32(1e-5))
    assert sigma == pytest.approx(0.00100049762668, rel=2e-7)
    t = jax.jit(schedules.vp().sigma_inv)(jnp.float32(0.002))
    assert t == pytest.approx(3.984198e-5, rel=1e-6)


def test_vp_range():
    sigma = schedules.vp().sigma
    assert sigma(1e-3) == pytest.approx(0.010485992786706, rel=1e-12)
    assert sigma(1.0) == pytest.approx(152.1669702839464, rel=1e-13)


def test_vp_refit():
    betas = schedules.vp_betas(0.002, 80.0)
    np.testing.assert_allclose(betas, (17.537956987, -0.004768986), atol=5e-10)
    default = schedules.vp_betas(0.010485992786706, 152.1669702839464)
    np.testing.assert_allclose(default, (19.9, 0.1), rtol=1e-11)
    for sigma_min, sigma_max, epsilon_s in ((0.002, 80.0, 1e-3), (0.5, 10.0, 0.2)):
        refit = schedules.vp_from_range(sigma_min, sigma_max, epsilon_s=epsilon_s)
        np.testing.assert_allclose(refit.sigma(np.array([epsilon_s, 1.0])), (sigma_min, sigma_max))


def test_cosine_is_the_table_of_iddpm():
    schedule, levels = schedules.cosine(), tables.sigmas(tables.alphas_cumprod("cosine"))
    t = np.arange(1, 1000) / 1000  # the last level of the table has its beta clipped
    np.testing.assert_allclose(schedule.sigma(t), levels[:-1], rtol=1e-9)
    assert schedule.sigma(1.0) == np.inf and schedule.scale(1.0) == 0.0


def test_vp_scaling_is_that_of_vp():
    t = np.linspace(0.01, 1.0, 30)
    rescaled = schedules.with_vp_scaling(schedules.without_scaling(schedules.vp()))
    np.testing.assert_allclose(rescaled.scale(t), schedules.vp().scale(t), rtol=1e-12)
    np.testing.assert_allclose(rescaled.scale_dot(t), schedules.vp().scale_dot(t), rtol=1e-12)


def test_sub_vp_noise():
    t, schedule = np.linspace(0.01, 1.0, 30), schedules.sub_vp()
    noise = schedule.scale(t) * schedule.sigma(t)
    np.testing.assert_allclose(noise, 1 - np.exp(-integral(t)), rtol=1e-12)


def test_scalars_and_integers():
    for schedule in ALL.values():
        assert np.ndim(schedule.sigma(0.5)) == 0
    assert schedules.ve().sigma(4) == 2.0
    assert schedules.ve().sigma(jnp.arange(5)).dtype == jnp.float32


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: schedules.vp(beta_d=-1.0, beta_min=0.1), "beta_d = -1.0"),
        (
            lambda: schedules.ve_geometric(sigma_min=1.0, sigma_max=0.5),
            "sigma_min must be below sigma_max = 0.5",
        ),
        (
            lambda: schedules.ve_geometric(sigma_min=0.0, sigma_max=0.5),
            "sigma_min must be positive.*got 0.0",
        ),
        (lambda: schedules.vp_betas(0.1, float("inf")), "sigma_max must be positive and finite"),
        (lambda: schedules.vp_betas(1.0, 2.0), "fit no increasing"),
        (lambda: schedules.vp_betas(0.1, 2.0, epsilon_s=1.0), "epsilon_s must lie in"),
        (lambda: schedules.cosine(offset=-0.1), "offset must not be negative, got -0.1"),
        (lambda: schedules.trigflow(sigma_data=0.0), "sigma_data must be positive"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

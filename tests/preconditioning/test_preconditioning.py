"""Preconditioners against table 1.5, unit variances, and one another through one ideal denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, objectives, preconditioning, score, tables

SIGMAS = np.array([0.002, 0.1, 0.5, 1.0, 10.0, 80.0])
# sigma, c_skip, c_out, c_in, c_noise with sigma_data = 0.5.
EDM = """
    0.002 0.999984 0.001999984 1.999984 -1.55365202
    0.1 0.961538462 0.0980580676 1.96116135 -0.575646273
    0.5 0.5 0.353553391 1.41421356 -0.173286795
    1 0.2 0.447213595 0.894427191 0
    10 0.00249376559 0.499376169 0.0998752339 0.575646273
    80 3.90609742e-05 0.499990235 0.0124997559 1.09550666"""
COEFFICIENTS = ("c_skip", "c_out", "c_in", "c_noise")


def test_edm_values():
    table = np.array(EDM.split(), float).reshape(-1, 5).T
    row = preconditioning.edm(0.5)
    for name, expected in zip(COEFFICIENTS, table[1:]):
        coefficient = getattr(row, name)
        np.testing.assert_allclose(coefficient(table[0]), expected, rtol=5e-9, atol=1e-15)
        found = coefficient(jnp.asarray(table[0], jnp.float32))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_rows_of_table_1():
    s, ones = SIGMAS, np.ones_like(SIGMAS)
    vp, ve, iddpm = preconditioning.vp(), preconditioning.ve(), preconditioning.iddpm()
    for row in (vp, iddpm):
        np.testing.assert_array_equal(row.c_skip(s), ones)
        np.testing.assert_array_equal(row.c_out(s), -s)
        np.testing.assert_allclose(row.c_in(s), 1 / np.sqrt(1 + s**2), rtol=1e-14)
    np.testing.assert_array_equal([ve.c_skip(s), ve.c_in(s), ve.c_out(s)], [ones, ones, s])
    np.testing.assert_allclose(ve.c_noise(s), np.log(s / 2), rtol=1e-14)
    t = vp.c_noise(s) / 999
    np.testing.assert_allclose(np.exp(0.5 * 19.9 * t**2 + 0.1 * t) - 1, s**2, rtol=1e-9)
    assert t[0] == pytest.approx(3.9842e-5, rel=1e-5)
    np.testing.assert_array_equal(iddpm.c_noise(np.array([0.002, 1.0, 80.0])), [-1, 495, 991])


def test_ranges():
    bounds = {
        "edm": (0.0, np.inf),
        "vp": (0.00100049762668, 152.1669702839464),
        "ve": (0.02, 100.0),
        "iddpm": (0.006422337144613266, 20291.169921875),
        "epsilon": (0.01000050, 157.40728081),
        "flow": (0.0, np.inf),
        "trigflow": (0.0, np.inf),
        "consistency": (0.002, np.inf),
    }
    for name, expected in bounds.items():
        row = preconditioning.PRECONDITIONERS[name]()
        assert isinstance(row.sigma_min, float) and isinstance(row.sigma_max, float)
        np.testing.assert_allclose((row.sigma_min, row.sigma_max), expected, rtol=2e-6)


@pytest.mark.parametrize("name", ["edm", "v", "trigflow"])
def test_unit_variances(name):
    """Network input and training target have unit variance when the data has sd (1 for v)."""
    sd = 1.0 if name == "v" else 0.5
    row = preconditioning.PRECONDITIONERS[name]()
    np.testing.assert_allclose(row.c_in(SIGMAS) ** 2 * (sd**2 + SIGMAS**2), 1, rtol=1e-13)
    # The target is (y - c_skip (y + sigma n)) / c_out.
    skip = row.c_skip(SIGMAS)
    variance = (1 - skip) ** 2 * sd**2 + skip**2 * SIGMAS**2
    np.testing.assert_allclose(variance / row.c_out(SIGMAS) ** 2, 1, rtol=1e-9)


@pytest.mark.parametrize("name", ["edm", "trigflow"])
def test_a_zero_network_is_the_ideal_denoiser_of_gaussian_data(name):
    row = preconditioning.PRECONDITIONERS[name](sigma_data=0.7)
    denoise = jax.jit(preconditioning.denoiser(lambda x, c_noise: jnp.zeros_like(x), row))
    x = np.random.default_rng(0).standard_normal((6, 3)) * 10
    with jax.enable_x64(True):
        x, sigma = jnp.asarray(x, jnp.float64), jnp.asarray(SIGMAS)
        ideal = 0.49 * x / (0.49 + sigma[:, None] ** 2)
        np.testing.assert_allclose(denoise(x, sigma), ideal, rtol=1e-12)


MIXTURE = ideal.mixture([[-1.0, 0.5], [0.3, -0.2], [1.0, 1.0]], [0.2, 0.4, 0.1], [0.3, 0.5, 0.2])
# preconditioner -> what its network predicts (`score.from_denoiser`), and with which sign.
PREDICTS = {
    "vp": ("epsilon", 1),
    "ve": ("epsilon", -1),
    "iddpm": ("epsilon", 1),
    "epsilon": ("epsilon", 1),
    "x0": ("x0", 1),
    "v": ("v", 1),
    "flow": ("velocity", 1),
}


@pytest.mark.parametrize("name", PREDICTS)
def test_every_prediction_gives_the_same_denoiser(name):
    prediction, sign = PREDICTS[name]
    row, predict = preconditioning.PRECONDITIONERS[name](), score.from_denoiser(MIXTURE, prediction)

    @jax.jit
    @jax.vmap
    def compare(x, sigma):
        network = lambda x_in, _: sign * predict(x_in / row.c_in(sigma), sigma)
        return preconditioning.denoiser(network, row)(x, sigma), MIXTURE(x, sigma)

    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).standard_normal((3, 5, 2)))
        found, expected = compare(x, jnp.asarray([0.05, 0.7, 20.0]))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_trigflow_and_v_are_edm_turned():
    trigflow, edm = preconditioning.trigflow(0.5), preconditioning.edm(0.5)
    v, unit = preconditioning.v(), preconditioning.edm(1.0)
    for turned, straight in ((trigflow, edm), (v, unit)):
        for name, sign in (("c_skip", 1), ("c_out", -1), ("c_in", 1)):
            found, expected = getattr(turned, name)(SIGMAS), getattr(straight, name)(SIGMAS)
            np.testing.assert_allclose(found, sign * expected, rtol=1e-13)
    t = trigflow.c_noise(SIGMAS)
    np.testing.assert_allclose(trigflow.c_skip(SIGMAS), np.cos(t) ** 2, rtol=1e-9)
    np.testing.assert_allclose(trigflow.c_out(SIGMAS), -0.5 * np.sin(t), rtol=1e-12)
    np.testing.assert_allclose(trigflow.c_in(SIGMAS), np.cos(t) / 0.5, rtol=1e-10)


def test_a_consistency_function_is_the_identity_at_sigma_min():
    row = preconditioning.consistency(0.5, sigma_min=0.002)
    denoise = preconditioning.denoiser(lambda x, c_noise: 100.0 + x, row)
    x = jnp.array([[0.3, -2.0]])
    np.testing.assert_allclose(denoise(x, jnp.float32(0.002)), x, rtol=1e-6)
    assert row.c_noise(1.0) == 0.0 and row.c_noise(np.e) == pytest.approx(250.0)


def test_a_consistency_function_that_maps_to_0_is_edm():
    found = preconditioning.consistency(0.3, sigma_min=0.0, noise_scale=0.25)
    edm = preconditioning.edm(0.3)
    for name in ("c_skip", "c_out", "c_in", "c_noise"):
        np.testing.assert_allclose(
            getattr(found, name)(SIGMAS), getattr(edm, name)(SIGMAS), rtol=1e-15
        )
    assert found.sigma_min == 0.0 and found.sigma_data == 0.3


class TestRounding:
    """iDDPM and the discrete rows know the levels of their table."""

    def test_iddpm_levels_are_fixed_points(self):
        row, u = preconditioning.iddpm(), tables.iddpm(variant="network")
        np.testing.assert_array_equal(row.round_sigma(u), u)
        np.testing.assert_array_equal(row.c_noise(u), 999 - np.arange(1001))

    def test_nearest_level_in_the_type_and_shape_given(self):
        row = preconditioning.iddpm(u=[8.0, 4.0, 2.0, 0.0])
        sigma = np.array([[0.9, 1.1], [3.0, 7.0]])  # 3 is a tie: the first of 4 and 2
        rounded = row.round_sigma(sigma)
        np.testing.assert_array_equal(rounded, [[0.0, 2.0], [4.0, 8.0]])
        assert rounded.dtype == np.float64 and row.round_sigma(5.0).shape == ()
        np.testing.assert_array_equal(row.c_noise(sigma), [[-1, 0], [1, 2]])
        device = jax.jit(row.round_sigma)(jnp.asarray(sigma, jnp.float32))
        assert device.dtype == jnp.float32
        np.testing.assert_array_equal(device, rounded)
        assert (row.sigma_min, row.sigma_max) == (2.0, 8.0)

    def test_a_given_table_is_used(self, golden):
        u = golden("adm_iddpm_cond.npz")["weights/u"]
        row = preconditioning.iddpm(u)
        np.testing.assert_array_equal(row.round_sigma(u), u)
        np.testing.assert_allclose(preconditioning.iddpm().round_sigma(u), u, rtol=2e-5)

    def test_discrete_rows(self):
        levels = tables.sigmas(tables.alphas_cumprod())
        for nearest in ("linear", "log", "interpolate"):
            row = preconditioning.epsilon("linear", nearest=nearest)
            np.testing.assert_allclose(row.c_noise(levels), np.arange(1000), atol=1e-9)
            np.testing.assert_allclose(row.round_sigma(levels), levels, rtol=1e-15)
        between = np.array([1.4, 1.45])  # of 1 and 2: means 1.5 and sqrt 2
        rows = {
            n: preconditioning.v([1.0, 2.0, 4.0], nearest=n)
            for n in ("linear", "log", "interpolate")
        }
        np.testing.assert_array_equal(rows["linear"].c_noise(between), [0, 0])
        np.testing.assert_array_equal(rows["log"].c_noise(between), [0, 1])
        np.testing.assert_allclose(rows["interpolate"].c_noise(between), np.log2(between))
        np.testing.assert_array_equal(rows["log"].round_sigma(between), [1.0, 2.0])
        np.testing.assert_array_equal(rows["interpolate"].round_sigma(between), between)

    def test_c_noise_of_choice(self):
        row = preconditioning.v(c_noise=preconditioning.edm().c_noise)
        assert row.c_noise(np.e) == pytest.approx(0.25)

    def test_continuous_rows_do_not_round(self):
        for name in ("edm", "vp", "ve", "flow", "trigflow", "consistency"):
            row = preconditioning.PRECONDITIONERS[name]()
            np.testing.assert_array_equal(row.round_sigma(SIGMAS), SIGMAS)


class TestDenoiser:
    """The wrapper: what the network sees, types, shapes and errors."""

    x = jnp.asarray(np.random.default_rng(2).standard_normal((3, 4, 4, 2)), jnp.float32)

    def test_what_the_network_sees(self):
        seen = []
        row = preconditioning.edm()
        denoise = preconditioning.denoiser(lambda *a: seen.append(a) or jnp.ones_like(a[0]), row)
        sigma = jnp.array([0.1, 1.0, 10.0])
        column = sigma[:, None, None, None]
        found = denoise(self.x, sigma)
        np.testing.assert_allclose(seen[0][0], row.c_in(column) * self.x, rtol=1e-6)
        np.testing.assert_allclose(seen[0][1], row.c_noise(sigma), rtol=1e-6)
        expected = row.c_skip(column) * self.x + row.c_out(column)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(denoise(self.x, 1.0)[1], found[1], rtol=1e-6)
        assert seen[1][1].shape == (3,)  # a scalar sigma conditions every row

    def test_extra_channels_are_dropped(self):
        row = preconditioning.iddpm()
        narrow = preconditioning.denoiser(lambda x, c: jnp.sin(x), row)
        wide = preconditioning.denoiser(lambda x, c: jnp.concatenate([jnp.sin(x), x], -1), row)
        np.testing.assert_array_equal(wide(self.x, 2.0), narrow(self.x, 2.0))

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
    def test_arithmetic_is_float32(self, dtype):
        row = preconditioning.edm()
        denoise = preconditioning.denoiser(lambda x, c: x.astype(dtype), row)
        x = self.x.astype(dtype)
        found = denoise(x, 0.5)
        assert found.dtype == jnp.float32
        x = np.asarray(x, np.float64)
        np.testing.assert_allclose(found, 0.5 * x + 0.25**0.5 * x, rtol=2e-2, atol=1e-3)

    def test_float64(self):
        with jax.enable_x64(True):
            x = jnp.asarray(np.asarray(self.x, np.float64))
            denoise = preconditioning.denoiser(lambda x, c: x, preconditioning.edm())
            assert denoise(x, jnp.float64(0.3)).dtype == jnp.float64

    def test_vmap_and_gradient(self):
        denoise = preconditioning.denoiser(lambda x, c: jnp.tanh(x + c[0]), preconditioning.edm())
        found = denoise(self.x, 0.3)

        @jax.jit
        def mapped(x):
            return jax.vmap(lambda x: denoise(x[None], 0.3)[0])(x)

        np.testing.assert_allclose(mapped(self.x), found, rtol=1e-5, atol=1e-6)
        total = lambda x, s: denoise(x, s).sum()
        gradient = jax.jit(jax.grad(total, argnums=(0, 1)))(self.x, 0.3)
        assert all(np.isfinite(g).all() for g in gradient)
        step = total(self.x, 0.3 + 1e-2) - total(self.x, 0.3 - 1e-2)
        assert gradient[1] == pytest.approx(float(step) / 2e-2, rel=1e-2)

    @pytest.mark.parametrize("sigma", [np.ones(2), np.ones((3, 1)), np.ones((2, 1, 1, 1))])
    def test_bad_sigma(self, sigma):
        denoise = preconditioning.denoiser(lambda x, c: x, preconditioning.edm())
        with pytest.raises(ValueError, match=r"sigma must have shape \[\] or \(3,\)"):
            denoise(self.x, jnp.asarray(sigma, jnp.float32))

    @pytest.mark.parametrize("slices", [np.s_[..., :1], np.s_[:, :2], np.s_[:, 0]])
    def test_bad_network(self, slices):
        denoise = preconditioning.denoiser(lambda x, c: x[slices], preconditioning.edm())
        with pytest.raises(ValueError, match=r"the network's output must have x's shape"):
            denoise(self.x, 1.0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: preconditioning.edm(0.0), "sigma_data must be positive"),
        (lambda: preconditioning.vp(epsilon_t=0.0), r"epsilon_t must lie in \(0, 1\), got 0.0"),
        (lambda: preconditioning.ve(sigma_min=2.0, sigma_max=1.0), "sigma_min must be below"),
        (lambda: preconditioning.iddpm(u=[1.0, 2.0, 0.0]), "u must be"),
        (lambda: preconditioning.iddpm(u=[2.0, 1.0]), "u must be"),
        (lambda: preconditioning.epsilon(levels=[2.0, 1.0]), "levels must be"),
        (lambda: preconditioning.epsilon(levels="cos"), "betas must be one of"),
        (lambda: preconditioning.v(nearest="up"), "nearest must be .*got 'up'"),
        (lambda: preconditioning.flow(0.0), "time_scale must be positive"),
        (
            lambda: preconditioning.consistency(sigma_min=-1.0),
            r"sigma_min must lie in \[0.0, inf\]",
        ),
        (lambda: preconditioning.consistency(noise_scale=0.0), "noise_scale must be positive"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("u", [[0.5, 0.9, 0.0], [1.0, 1.0, 0.0], [1.0, 0.5], [0.0], [[1.0, 0.0]]])
def test_a_table_of_iddpm_descends_to_0(u):
    with pytest.raises(ValueError, match=r"u must be \[M \+ 1\] noise levels descending to 0, got"):
        preconditioning.iddpm(u)


@pytest.mark.slow
def test_a_sigma_data_for_each_channel_is_that_of_each_channel_alone():
    """Coefficients, weight and, with F = 0, the ideal denoiser of a Gaussian."""
    each = [0.1, 0.5, 16.0]
    row = preconditioning.edm(each)
    assert row.sigma_data == tuple(each)
    weight = objectives.edm_weight(each)
    for sigma in (0.002, 1.0, 80.0):
        for c, sigma_data in enumerate(each):
            alone = preconditioning.edm(sigma_data)
            for name in ("c_skip", "c_out", "c_in"):
                found, expected = getattr(row, name)(sigma)[c], getattr(alone, name)(sigma)
                np.testing.assert_allclose(found, expected, rtol=1e-15)
            np.testing.assert_allclose(weight(sigma)[c], objectives.edm_weight(sigma_data)(sigma))
        np.testing.assert_allclose(weight(sigma), row.c_out(sigma) ** -2.0, rtol=1e-12)
        np.testing.assert_array_equal(row.c_noise(sigma), np.log(sigma) / 4)
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 3))
    denoise = preconditioning.denoiser(lambda x, c_noise: 0 * x, row)
    for sigma in (jnp.float32(0.7), jnp.array([0.1, 0.7, 2.0, 80.0])):
        level = np.reshape(sigma, (-1, 1, 1, 1)) ** 2
        gaussian = np.square(each) / (np.square(each) + level) * x
        np.testing.assert_allclose(denoise(x, sigma), gaussian, rtol=1e-5)
    with jax.enable_x64(True):  # coefficients have the precision of the level
        assert row.c_in(jnp.float32(1.0)).dtype == weight(jnp.float32(1.0)).dtype == jnp.float32


@pytest.mark.slow
def test_the_loss_of_each_channel_has_the_unit_target_of_its_own_deviation():
    """With F = 0 and Gaussian data the weighted loss is 1 in every channel, at every level."""
    each = np.array([0.1, 0.5, 16.0], np.float32)
    keys = jax.random.split(jax.random.key(1), 2)
    y = each * jax.random.normal(keys[0], (20000, 1, 3))
    noise = jax.random.normal(keys[1], y.shape)
    made = objectives.recipe("edm", preconditioning.edm(each))
    denoise = preconditioning.denoiser(lambda x, c_noise: 0 * x, preconditioning.edm(each))
    for sigma in (0.05, 1.0, 20.0):
        found = objectives.loss(denoise, y, jnp.full(20000, sigma), noise, made.weight)
        np.testing.assert_allclose(found.mean((0, 1)), 1.0, atol=0.05)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: preconditioning.edm([0.5, 0.0]), r"sigma_data must be positive .* \[0.5, 0.0\]"),
        (lambda: preconditioning.edm([]), "sigma_data must be positive and finite, or .C. of such"),
        (lambda: preconditioning.edm([[0.5]]), "sigma_data must be positive"),
        (lambda: objectives.edm_weight([0.5, -1.0]), "sigma_data must be positive"),
        (
            lambda: objectives.recipe("edm", preconditioning.edm([0.5, 1.0]), sigma_data=0.5),
            r"must be that of the preconditioner, \(0.5, 1.0\), got 0.5",
        ),
        (
            lambda: preconditioning.denoiser(lambda x, c: x, preconditioning.edm([0.5, 1.0]))(
                jnp.ones((2, 4, 1)), 1.0
            ),
            r"x must have a channel for each of the 2 of sigma_data, got \(2, 4, 1\)",
        ),
    ],
)
def test_a_sigma_data_of_other_channels_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_sigma_data_for_each_channel_by_name():
    built = preconditioning.build("edm", sigma_data=[0.5, 1.0])
    assert built is preconditioning.build("edm", sigma_data=(0.5, 1.0))
    weight = objectives.recipe("karras", built, sigma_data=[0.5, 1.0]).weight
    np.testing.assert_array_equal(weight(1.0), [5.0, 2.0])

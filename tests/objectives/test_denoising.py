"""The loss and its choices, against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, objectives, preconditioning, randomness, schedules, tables, timesteps

SIGMAS = np.float32([0.002, 0.1, 0.5, 1.0, 10.0, 80.0])
# Data of second moment 1/4 and noise of second moment 1, orthogonal: means are expectations.
Y = np.tile(0.5 * np.float32([1, 1, -1, -1]), (6, 3, 1))
NOISE = np.tile(np.float32([1, -1, 1, -1]), (6, 3, 1))


def test_the_loss_of_edm_starts_at_one_for_every_sigma():
    zero = preconditioning.denoiser(lambda x, c: jnp.zeros_like(x), preconditioning.edm(0.5))
    weighed = jax.jit(lambda *a: objectives.loss(zero, *a, objectives.edm_weight(0.5)))
    found = weighed(Y, SIGMAS, NOISE)
    assert found.shape == Y.shape and found.dtype == jnp.float32
    np.testing.assert_allclose(found.mean((1, 2)), 1.0, rtol=2e-4)
    with jax.enable_x64(True):
        y, sigma, noise = (jnp.asarray(np.asarray(a, np.float64)) for a in (Y, SIGMAS, NOISE))
        found = weighed(y, sigma, noise)
        np.testing.assert_allclose(found.mean((1, 2)), 1.0, rtol=1e-9)


def test_predicting_nothing_costs_the_noise():
    """lambda = 1/sigma^2 and D = x: the squared error of a predicted noise of zero is n^2."""
    found = objectives.loss(lambda x, s: x, Y, SIGMAS, NOISE, objectives.inverse_square_weight())
    np.testing.assert_allclose(found[2:], NOISE[2:] ** 2, rtol=1e-5)


def test_the_denoiser_sees_the_data_and_sigma_times_the_noise():
    noise = np.random.default_rng(2).standard_normal(Y.shape)  # of both signs and all sizes
    found = objectives.loss(lambda x, s: 2 * x, Y, SIGMAS, noise, objectives.unit_weight())
    wanted = (np.asarray(Y) + 2 * np.asarray(SIGMAS)[:, None, None] * noise) ** 2
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_loss_of_a_tree_weighs_every_element_by_its_own_level():
    rng = np.random.default_rng(3)
    y = {"image": rng.standard_normal((2, 3, 2)), "vector": rng.standard_normal((2, 4))}
    noise = {"image": rng.standard_normal((2, 3, 2)), "vector": rng.standard_normal((2, 4))}
    # A level for every row of the image, one for each vector.
    levels = {"image": np.array([[[0.1], [1.0], [5.0]], [[2.0], [0.3], [40.0]]]),
              "vector": np.array([0.5, 8.0])}  # fmt: skip
    halved = lambda x, sigma: jax.tree.map(lambda leaf: 0.5 * leaf, x)
    weight = objectives.edm_weight(0.5)
    found = jax.jit(lambda *a: objectives.loss(halved, *a, weight))(y, levels, noise)
    for name, sigma in (("image", levels["image"]), ("vector", levels["vector"][:, None])):
        lam = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
        wanted = lam * (0.5 * (y[name] + sigma * noise[name]) - y[name]) ** 2
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5)
    # One level an example, for all leaves: as each leaf alone.
    sigma = np.array([0.3, 3.0])

    @jax.jit
    def together_and_alone(y, noise):
        each = lambda y, noise: objectives.loss(lambda x, s: 0.5 * x, y, sigma, noise, weight)
        return objectives.loss(halved, y, sigma, noise, weight), jax.tree.map(each, y, noise)

    together, alone = together_and_alone(y, noise)
    for name in y:
        np.testing.assert_array_equal(together[name], alone[name])


def test_the_ideal_denoiser_has_the_least_loss():
    """For N(0, c^2) it is lambda c^2 sigma^2 / (c^2 + sigma^2); any other std costs more."""
    weight = objectives.unit_weight()
    best = objectives.loss(ideal.gaussian(0.0, 0.5), Y, SIGMAS, NOISE, weight).mean((1, 2))
    np.testing.assert_allclose(best, 0.25 * SIGMAS**2 / (0.25 + SIGMAS**2), rtol=2e-4)
    for std in (0.4, 0.6):
        other = objectives.loss(ideal.gaussian(0.0, std), Y, SIGMAS, NOISE, weight).mean((1, 2))
        assert (other > best).all()


def test_one_sigma_for_all_and_gradient():
    denoise = lambda scale: ideal.gaussian(0.0, 0.5)
    weight = objectives.edm_weight()
    each = objectives.loss(denoise(1.0), Y, jnp.full(6, 0.3), NOISE, weight)
    np.testing.assert_allclose(
        objectives.loss(denoise(1.0), Y, 0.3, NOISE, weight), each, rtol=1e-6
    )

    def mean(scale):
        return objectives.loss(lambda x, s: scale * x, Y, SIGMAS[2:], NOISE, weight).mean()

    with pytest.raises(ValueError, match=r"sigma must have shape \[\] or \(6,\), .*got \(4,\)"):
        mean(1.0)
    with pytest.raises(ValueError, match="noise must have the shape of y"):
        objectives.loss(denoise(1.0), Y, 0.3, NOISE[:2], weight)


def test_bfloat16_data_is_weighed_in_float32():
    found = objectives.loss(
        lambda x, s: jnp.zeros_like(x),
        Y.astype(jnp.bfloat16),
        SIGMAS,
        NOISE,
        objectives.unit_weight(),
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 0.25, rtol=1e-6)


DISTRIBUTIONS = {
    "log_normal": objectives.log_normal(),
    "vp": objectives.vp(),
    "ve": objectives.ve(),
    "iddpm": objectives.iddpm(),
    "discrete": objectives.discrete([0.5, 3.0, 1.0]),
    "cosine": objectives.cosine(),
    "karras": objectives.karras(),
}
U = np.linspace(0.0005, 0.9995, 1000)


def normal_cdf(z):
    return np.array([0.5 * math.erfc(-value / 2**0.5) for value in z])


# name -> the cumulative distribution, independently of the quantile function.
CDF = {
    "log_normal": lambda s: normal_cdf((np.log(s) + 1.2) / 1.2),
    "vp": lambda s: (schedules.vp().sigma_inv(s) - 1e-5) / (1 - 1e-5),
    "ve": lambda s: np.log(s / 0.02) / np.log(100 / 0.02),
    "cosine": lambda s: (np.arctan(s) - np.arctan(0.002)) / (np.arctan(80) - np.arctan(0.002)),
    "karras": lambda s: (s ** (1 / 7) - 0.02 ** (1 / 7)) / (88 ** (1 / 7) - 0.02 ** (1 / 7)),
}


@pytest.fixture(scope="module")
def quantiles():
    """name -> its quantiles at U; the last two are those of the extreme draws of float32."""
    extremes = np.array([0.0, 1.0 - 2.0**-23], np.float32) + np.float32(2.0**-24)
    u = jnp.asarray(np.append(U, extremes), jnp.float32)
    assert (u > 0).all() and (u < 1).all()
    return jax.jit(lambda u: {name: draw.quantile(u) for name, draw in DISTRIBUTIONS.items()})(u)


@pytest.mark.parametrize("name", CDF)
def test_quantiles_invert_the_cumulative_distribution(name, quantiles):
    sigma = np.asarray(quantiles[name], np.float64)[:-2]
    assert (np.diff(sigma) > 0).all()
    np.testing.assert_allclose(CDF[name](sigma), U, atol=2e-6)


def test_extreme_draws_are_finite(quantiles):
    for name, sigma in quantiles.items():
        assert np.isfinite(sigma).all() and (sigma > 0).all(), name
    tails = np.log(quantiles["log_normal"][-2:])
    np.testing.assert_allclose(tails, -1.2 + 1.2 * np.array([-5.295, 5.295]), rtol=1e-3)


@pytest.mark.slow
def test_draws(quantiles):
    keys = randomness.fold_in(jax.random.key(1), jnp.arange(40000))

    @jax.jit
    def draw_all(keys):
        return {name: jax.vmap(draw)(keys) for name, draw in DISTRIBUTIONS.items()}

    drawn, few = draw_all(keys), draw_all(keys[7:9])
    for name, sigma in drawn.items():
        assert sigma.shape == (40000,) and sigma.dtype == jnp.float32
        sigma = np.asarray(sigma)
        assert np.isfinite(sigma).all() and (sigma > 0).all()
        np.testing.assert_allclose(few[name], sigma[7:9], rtol=1e-6)
        # Kolmogorov's statistic: 1.95 / sqrt(n) is its 99.9 % point.
        expected = np.asarray(quantiles[name])[:-2]
        below = np.searchsorted(np.sort(sigma), expected, side="right") / len(sigma)
        at = np.searchsorted(np.sort(expected), expected, side="right") / len(expected)
        assert np.abs(below - at).max() < 1.95 / 200 + 1e-3, name


def test_karras_is_the_distribution_of_the_levels_of_the_grid():
    levels = timesteps.edm(9, sigma_min=0.02, sigma_max=88.0, rho=5.0, final="sigma_min")
    quantile = objectives.karras(rho=5.0).quantile
    np.testing.assert_allclose(quantile(np.linspace(1.0, 0.0, 10)), levels, rtol=1e-13)


def test_draws_have_the_shape_asked_for():
    key = jax.random.key(0)
    assert objectives.ve()(key).shape == () and objectives.ve()(key, (2, 3)).shape == (2, 3)


def test_discrete_levels_are_equally_likely():
    u = tables.iddpm(variant="network")
    middle = jnp.asarray((np.arange(1000) + 0.5) / 1000, jnp.float32)
    np.testing.assert_allclose(objectives.iddpm().quantile(middle), u[-2::-1], rtol=1e-6)
    np.testing.assert_allclose(objectives.iddpm(u).quantile(middle), u[-2::-1], rtol=1e-6)
    ddpm = tables.sigmas(tables.alphas_cumprod())
    np.testing.assert_allclose(objectives.discrete(ddpm).quantile(middle), ddpm, rtol=1e-6)


def test_weights():
    sigma = np.array([0.002, 0.1, 0.5, 1.0, 10.0, 80.0])
    expected = [250004, 104, 8, 5, 4.01, 4.00015625]
    np.testing.assert_allclose(objectives.edm_weight(0.5)(sigma), expected, rtol=1e-12)
    c_out = preconditioning.edm(0.3).c_out(sigma)
    np.testing.assert_allclose(objectives.edm_weight(0.3)(sigma), c_out**-2.0, rtol=1e-12)
    np.testing.assert_allclose(objectives.inverse_square_weight()(sigma), sigma**-2.0, rtol=1e-14)
    np.testing.assert_allclose(objectives.min_snr_weight(5.0)(sigma), [5, 5, 4, 1, 0.01, 80**-2.0])
    np.testing.assert_array_equal(objectives.min_snr_weight()(0.1), 5.0)  # the paper's limit
    np.testing.assert_array_equal(objectives.unit_weight()(sigma), np.ones(6))


def test_objectives_by_name():
    for name, draw in (
        ("vp", objectives.vp()),
        ("ve", objectives.ve()),
        ("iddpm", objectives.iddpm()),
    ):
        found = objectives.recipe(name, preconditioning.edm())
        assert found.noise.quantile(0.3) == draw.quantile(0.3) and found.weight(0.5) == 4.0
    edm = objectives.recipe("edm", preconditioning.edm(1.0), p_mean=-0.4, p_std=1.0)
    assert edm.noise.quantile(0.3) == objectives.log_normal(-0.4, 1.0).quantile(0.3)
    assert edm.weight(0.5) == 5.0
    assert objectives.recipe("edm", preconditioning.edm()).weight(0.5) == 8.0
    assert objectives.recipe("edm", preconditioning.epsilon(), sigma_data=1.0).weight(0.5) == 5.0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: objectives.build("edn", None), "name must be one of edm, karras, vp, .*got 'edn'"),
        (
            lambda: objectives.recipe("edm", preconditioning.edm(1.0), sigma_data=0.5),
            "sigma_data of the weight must be that of the preconditioner, 1.0, got 0.5",
        ),
        (
            lambda: objectives.recipe("vp", preconditioning.vp(), p_mean=1.0),
            "the arguments of 'vp' must be among beta_d, .*got 'p_mean'",
        ),
        (lambda: objectives.log_normal(p_std=0.0), "p_std must be positive and finite, got 0.0"),
        (lambda: objectives.vp(epsilon_t=2.0), "epsilon_t must lie in"),
        (lambda: objectives.ve(1.0, 1.0), "sigma_min must be below sigma_max = 1.0, got 1.0"),
        *(
            (lambda levels=levels: objectives.discrete(levels), "levels must be .* positive noise")
            for levels in ([1.0, 0.0], [1.0, np.inf], [1.0, np.nan], [], [[1.0, 2.0]])
        ),
        (lambda: objectives.iddpm(u=[1.0, 0.5]), "u must be"),
        (lambda: objectives.cosine(sigma_data=-1.0), "sigma_data must be positive"),
        (lambda: objectives.karras(rho=0.0), "rho must be positive"),
        (lambda: objectives.karras(sigma_min=90.0), "sigma_min must be below sigma_max = 88.0"),
        (lambda: objectives.edm_weight(0.0), "sigma_data must be positive"),
        (lambda: objectives.min_snr_weight(0.0), "limit must be positive"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "name, row, arguments",
    [
        *((name, name, {}) for name in ("edm", "vp", "ve", "flow", "v", "iddpm")),
        ("ddpm", "epsilon", {}),
        ("edm", "edm", {"sigma_data": 1.0}),
        ("edm", "trigflow", {"sigma_data": 0.3}),
        ("edm", "v", {}),
        ("vp", "iddpm", {}),
        ("ve", "epsilon", {}),
    ],
)
def test_every_objective_weighs_the_network_s_own_error_equally(name, row, arguments):
    """lambda = 1 / c_out^2: the squared error of what the network predicts."""
    made = preconditioning.build(row, **arguments)
    weight = objectives.recipe(name, made).weight
    np.testing.assert_allclose(weight(SIGMAS) * made.c_out(SIGMAS) ** 2, 1.0, rtol=1e-5)


@pytest.mark.slow
def test_flow_draws_the_logit_normal_time():
    u = jnp.array([0.1587, 0.5, 0.8413])
    sigma = objectives.recipe("flow", preconditioning.flow()).noise.quantile(u)
    np.testing.assert_allclose(jnp.log(sigma), [-1, 0, 1], atol=1e-3)  # ln t / (1 - t)


def test_the_levels_of_the_discrete_objectives():
    cosine = objectives.recipe("iddpm", preconditioning.iddpm())
    np.testing.assert_allclose(
        cosine.levels, tables.sigmas(tables.alphas_cumprod("cosine")), rtol=1e-3
    )
    drawn = cosine.noise.quantile(jnp.array([0.0005, 0.5, 0.9999]))
    np.testing.assert_allclose(drawn, cosine.levels[[0, 500, 999]], rtol=1e-6)
    row = preconditioning.epsilon()
    assert len(objectives.recipe("ddpm", row, betas="linear", num_train_steps=100).levels) == 100
    assert objectives.recipe("edm", row).levels is None


def test_a_weight_replaces_the_objective_s_own():
    row = preconditioning.vp()
    found = objectives.recipe("vp", row, weight="min_snr", weight_arguments={"limit": 4.0}).weight
    np.testing.assert_allclose(found(SIGMAS), jnp.minimum(SIGMAS**-2, 4.0), rtol=1e-6)
    with pytest.raises(ValueError, match="weight must be one of"):
        objectives.recipe("vp", row, weight="snr")


@pytest.mark.slow
def test_a_bound_needs_the_levels_of_a_table():
    continuous = objectives.levels.continuous(objectives.log_normal())
    bound = objectives.variational.bound(tables.sigmas(tables.alphas_cumprod()))
    objective = objectives.denoising(continuous, lambda sigma: 1.0, bound=bound)
    state, y = objective.init(), jnp.zeros((2, 4))
    examples = jax.jit(objective.draw)(state, jax.random.split(jax.random.key(0), (2, 2)), y, {})
    model = objectives.Wrapped(lambda x, c: jnp.concatenate([x, x], -1), preconditioning.edm())
    with pytest.raises(ValueError, match="levels must be a table's"):
        objective.loss(model, state, examples)

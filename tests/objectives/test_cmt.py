"""Mid-training against the reference, and on Gaussian data, where its paths are known."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, objectives, preconditioning, samplers, timesteps
from edm_jax.objectives import OnPaths, State

STD, MEAN = 0.5, 0.3
BOTH = {"solver_options": {"low_orders": "both"}}


def model_of(denoise, told=None):
    """A model whose denoiser is a function; `told` gathers what it is asked under."""

    def denoiser(**conditions):
        if told is not None:
            told.append(conditions)
        return denoise

    return types.SimpleNamespace(denoiser=denoiser, preconditioner=preconditioning.edm())


GAUSSIAN = model_of(ideal.gaussian(MEAN, STD))


def made(**arguments):
    return objectives.build("cmt", GAUSSIAN, **{"teacher": GAUSSIAN} | arguments)


def test_paths_and_losses_are_the_reference_s(golden):
    reference = golden("few_steps.npz")
    with jax.enable_x64(True):
        parts = (reference[f"mixture/{n}"] for n in ("means", "stds", "weights"))
        teacher = model_of(ideal.mixture(*parts))
        y, eps = (reference[f"cmt/{n}"] for n in ("y", "eps"))
        given = {n: reference[f"cmt/16-MAE/{n}"] for n in ("sigma", "x", "end", "loss")}
        sigmas = timesteps.exponential(16, final="sigma_min")
        np.testing.assert_allclose(sigmas[:-1], given["sigma"], rtol=1e-12)
        tableau = samplers.dpmpp_3m(sigmas, low_orders="both")
        start, teach = y + 80.0 * eps, teacher.denoiser()
        run = lambda start: samplers.sample(teach, tableau, start=start, trajectory=True)
        end, states = jax.jit(run)(start)
        np.testing.assert_allclose(states[:-1], given["x"], atol=1e-12)
        np.testing.assert_allclose(end, given["end"], atol=1e-12)
        rows = OnPaths(
            given["x"].reshape(-1, *y.shape[1:]),
            np.repeat(given["sigma"], len(y)),
            np.tile(given["end"], (16, 1, 1, 1)),
            {},
        )
        wanted = given["loss"].reshape(-1)
        for metric, power in (("norm", 1), ("squared", 2)):
            minimised = lambda rows: made(metric=metric).loss(teacher, State(), rows).minimised
            np.testing.assert_allclose(jax.jit(minimised)(rows), wanted**power, rtol=1e-12)


def test_the_first_of_each_group_gives_the_path_that_all_of_it_learn():
    asked = []
    teacher = model_of(ideal.gaussian(MEAN, STD), asked)
    objective = made(teacher=teacher, num_steps=4, solver="euler", sigma_min=0.1, sigma_max=10.0)
    y, labels = np.arange(24, dtype=np.float32).reshape(8, 3), np.eye(8, dtype=np.float32)

    @jax.jit
    def drawn(key):
        keys = jax.random.split(key, (8, 2))
        conditions = {"class_labels": labels, "dropout_keys": keys[:, 0]}
        found = objective.draw(objective.init(), keys, y, conditions)
        noises = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys[:, 1])
        return keys, found, asked[0]["class_labels"], noises

    keys, found, told, noises = drawn(jax.random.key(0))
    noises = np.asarray(noises)
    assert [sorted(told) for told in asked] == [["class_labels"]]
    np.testing.assert_array_equal(told, labels[[0, 4]])
    np.testing.assert_array_equal(found.conditions["class_labels"], labels[[0] * 4 + [4] * 4])
    assert (found.conditions["dropout_keys"] == keys[:, 0]).all()

    sigmas = timesteps.exponential(4, sigma_min=0.1, sigma_max=10.0, final="sigma_min")
    np.testing.assert_allclose(found.sigma, np.tile(sigmas[:-1], 2), rtol=1e-6)
    for group in (0, 4):
        x = y[group] + 10.0 * noises[group]
        for k, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
            np.testing.assert_allclose(found.x[group + k], x, rtol=1e-5)
            denoised = MEAN + STD**2 / (STD**2 + s**2) * (x - MEAN)
            x = x + (t - s) / s * (x - denoised)
        np.testing.assert_allclose(found.end[group : group + 4], np.tile(x, (4, 1)), rtol=1e-4)


def gains(tableau, sigmas):
    """g_k = std of a path's end over that of its state k, for the data N(MEAN, STD^2)."""
    start = dict(start_mean=MEAN / sigmas[0], start_variance=(STD / sigmas[0]) ** 2 + 1.0)
    variances = [STD**2 + sigmas[0] ** 2]
    for k in range(1, tableau.nfe + 1):
        part = samplers.Tableau(tableau.start, tableau.sigma[:k], tableau.weights[:k])
        mean, variance = samplers.moments(part, MEAN, STD**2, **start)
        assert mean == pytest.approx(MEAN)
        variances.append(float(variance))
    return np.sqrt(variances[-1] / np.array(variances[:-1]))


@pytest.mark.slow
def test_a_linear_denoiser_learns_where_paths_end():
    """A gain for each level, by descent on fresh draws; there no state has a loss."""
    sigmas = timesteps.exponential(16, final="sigma_min")
    wanted = gains(samplers.dpmpp_3m(sigmas, low_orders="both"), sigmas)
    objective = made(**BOTH)

    def mean_loss(gain, key):
        keys = jax.random.split(key, (32, 2))
        y = MEAN + STD * jax.random.normal(jax.random.fold_in(key, 0), (32, 2), jnp.float64)
        examples = objective.draw(objective.init(), keys, y, {})
        student = lambda x, sigma: MEAN + jnp.tile(gain, 2)[:, None] * (x - MEAN)
        found = objective.loss(model_of(student), objective.init(), examples)
        curvature = 2 * ((examples.x - MEAN) ** 2).reshape(2, 16, 2).sum((0, 2))
        return found.minimised.sum(), (curvature, found.each)

    @jax.jit
    def descend(key):
        def step(gain, key):
            slope, (curvature, each) = jax.grad(mean_loss, has_aux=True)(gain, key)
            return gain - 0.5 * slope / curvature, each.max()

        return jax.lax.scan(step, jnp.zeros(16), jax.random.split(key, 60))

    with jax.enable_x64(True):
        found, worst = map(np.asarray, descend(jax.random.key(0)))
    np.testing.assert_allclose(found, wanted, rtol=1e-11)
    assert worst[0] > 0.1 and worst[-1] < 1e-20
    # Beside the flow, whose consistency function is known, that is the teacher's own error.
    exact = np.sqrt((STD**2 + 0.002**2) / (STD**2 + sigmas[:-1] ** 2))
    assert (found / exact)[0] == pytest.approx(1.0172, abs=1e-4)


def test_a_weight_counts_by_level():
    x, sigma = jnp.ones((2, 3)), jnp.array([0.5, 2.0])
    rows = OnPaths(x, sigma, 3 * x, {})
    for metric, each in (("squared", 12.0), ("norm", 12.0**0.5)):
        objective = made(metric=metric, weight="epsilon")
        found = objective.loss(model_of(lambda x, sigma: x), State(), rows)
        np.testing.assert_allclose(found.minimised, each / sigma**2, rtol=1e-6)
        np.testing.assert_allclose(found.each, [4.0, 4.0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"teacher": None}, "teacher must be the model whose paths are learned, got none"),
        ({"solver": "ddpm"}, "tableau must be one without noise, .*stochastic=True"),
        ({"solver": "predictor_corrector"}, "tableau must be one without noise, .*Loop"),
        ({"solver": "heum"}, "solver .*'heum'.*heun"),
        ({"solver_options": {"order": 2}}, "option of dpmpp_3m must be one of .*'order'"),
        ({"metric": "lpips"}, "metric must be one of squared, norm, got 'lpips'"),
        ({"sigma_min": 90.0}, "sigma_min must be below sigma_max = 80.0, got 90.0"),
        ({"weight": "edn"}, "weight must be one of .*, got 'edn'; did you mean 'edm'"),
    ],
    ids=str,
)
def test_bad_arguments_of_mid_training_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)


def test_a_batch_that_does_not_divide_is_refused():
    objective = made(num_steps=6)
    keys = jax.random.split(jax.random.key(0), (8, 2))
    with pytest.raises(ValueError, match="batch_size must .*multiple of the 6 calls.*got 8 images"):
        objective.draw(objective.init(), keys, jnp.ones((8, 3)), {})

"""Restored images of Gaussian data against their exact posterior, through the whole chain."""

import jax
import numpy as np
import pytest
from small_network import SmallNetwork

from edm_jax import ddpmpp, generation, inverse, samplers, timesteps
from edm_jax.generation import Problem
from edm_jax.model import Model

SHAPE, SIGMA_Y, DRAWS = (8, 8, 1), 0.2, 512
# Both are exact for independent data; Heun's method is, to a thousandth.
METHODS = {"mmps": {}, "pigdm": {"prior_variance": 0.25}}


@pytest.fixture(scope="module")
def model(small_networks):
    """A zero network under EDM's preconditioner is the ideal denoiser of N(0, 0.5^2)."""
    config = ddpmpp(resolution=8, channels=1, dropout=0.0)
    network = SmallNetwork(width=4)
    inputs = np.zeros((1, *SHAPE), np.float32), np.zeros(1, np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    return Model.build(config, zeros).replace(network=network)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(0).normal(0.0, 0.5, (3, *SHAPE)).astype(np.float32)


def measured(problem, images):
    measure = jax.jit(lambda *rows: generation.measure(problem, *rows))
    return np.asarray(measure(images, np.arange(len(images))))


@pytest.mark.slow
def test_a_measurement_has_its_noise_by_place(truth):
    operator = inverse.build_operator("super-resolve", SHAPE)
    noisy, clean = (Problem(operator, s, "mmps", {}, None, 7) for s in (SIGMA_Y, 0.0))
    y = measured(noisy, truth)
    off = y - measured(clean, truth)
    assert off.std() == pytest.approx(SIGMA_Y, rel=0.25) and abs(off.mean()) < 0.1
    third = jax.jit(lambda image: generation.measure(noisy, image, np.array([2])))
    np.testing.assert_array_equal(third(truth[2:])[0], y[2])
    assert (measured(noisy._replace(seed=8), truth) != y).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_draws_are_of_the_exact_posterior(model, truth, name):
    # Independent data, and means of 2 x 2: each block has a posterior of its own, in closed form.
    operator = inverse.build_operator("super-resolve", SHAPE)
    sampler = samplers.heun(timesteps.edm(32))
    problem = Problem(operator, SIGMA_Y, name, METHODS[name], sampler)
    y = measured(problem, truth[:1])[0, :, :, 0]
    variance = 0.25
    gain = (variance / 4) / (variance / 4 + SIGMA_Y**2)  # of a block's mean
    run = jax.jit(lambda y, places, draws: generation.draw_given(model, problem, y, places, draws))
    same = np.broadcast_to(y[None, ..., None], (DRAWS, 4, 4, 1))
    drawn = np.asarray(run(same, np.zeros(DRAWS, np.uint32), np.arange(DRAWS, dtype=np.uint32)))
    blocks = drawn.reshape(DRAWS, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(DRAWS, 4, 4, 4)
    means = blocks.mean(-1)
    spread = np.sqrt((1 - gain) * variance / 4)
    # 512 draws: four standard errors of each of 16 means; 4 % is four of their pooled deviation.
    assert np.abs(means.mean(0) - gain * y).max() < 4 * spread / DRAWS**0.5
    assert np.sqrt(means.var(0).mean()) == pytest.approx(spread, rel=0.04)
    within = (blocks - means[..., None]).var() * 4 / 3  # what the measurement does not see
    assert within == pytest.approx(variance, rel=0.04)


@pytest.mark.slow
def test_batches_are_the_draws_one_by_one(model, truth):
    operator = inverse.build_operator("inpaint", SHAPE, share=0.5)
    problem = Problem(operator, 0.05, "steps.ddrm", {}, timesteps.edm(4), 3)
    places, draws = np.array([0, 0, 2, 1, 2]), np.array([0, 5, 1, 0, 0])
    restore = lambda *rows, size: list(
        generation.restore(model, problem, lambda p: truth[p], *rows, batch_size=size)
    )
    (whole,) = restore(places, draws, size=1)
    assert whole.images.shape == (5, *SHAPE) and whole.finite.all()
    (alone,) = restore(places[3:4], draws[3:4], size=2)
    np.testing.assert_array_equal(alone.images[0], whole.images[3])
    y = measured(problem, truth)
    run = jax.jit(lambda *rows: generation.draw_given(model, problem, *rows))
    direct = run(y[places], places, draws)
    np.testing.assert_allclose(
        whole.images, np.asarray(generation.to_uint8(direct)).astype(float), atol=1
    )


def test_models_that_restore_nothing_are_refused(model):
    operator = inverse.build_operator("deblur", SHAPE)
    problem = Problem(operator, 0.1, "mmps", {}, samplers.euler(timesteps.edm(3)))
    generation.check_problem(model, problem)
    config = ddpmpp(resolution=8, channels=1, preconditioner="consistency")
    with pytest.raises(ValueError, match="got a consistency model"):
        generation.check_problem(Model.build(config, model.params), problem)
    with pytest.raises(ValueError, match=r"x must be a batch of images \(8, 8, 1\)"):
        large = ddpmpp(resolution=16, channels=1)
        generation.check_problem(Model.build(large, model.params), problem)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        generation.restore(model, problem, lambda p: p, [0], [0], batch_size=0)

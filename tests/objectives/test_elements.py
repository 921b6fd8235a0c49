"""Elements that do not count alike: weights and masks, against sums written out."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edm_jax import objectives, preconditioning, randomness
from edm_jax.objectives import Weighted, levels, uncertainty
from edm_jax.training import averages, state
from edm_jax.training.examples import example_keys
from edm_jax.training.optimizer import Optimizer
from edm_jax.training.step import make_train_step

BATCH, SHAPE = 4, (3, 5, 2)
RANDOM = np.random.default_rng(0)
DATA = RANDOM.standard_normal((BATCH, *SHAPE)).astype(np.float32)
MASK = RANDOM.integers(0, 2, (BATCH, *SHAPE)).astype(bool)
MASK[2] = False  # nothing is known of this example
LATITUDES = np.array([0.5, 2.0, 0.5], np.float32)[:, None, None]
KEYS = jax.random.split(jax.random.key(3), (BATCH, 2))


class Scaled(types.SimpleNamespace):
    """D = a x, or a times a condition."""

    preconditioner = preconditioning.edm()

    def denoiser(self, context=None):
        gain = context["gain"][:, None, None, None] if context else 1.0
        return lambda x, sigma: jax.tree.map(lambda x: self.params * gain * x, x)

    def replace(self, params):
        return Scaled(params=params)


def made(**options):
    return objectives.denoising(
        levels.continuous(objectives.log_normal(1.0, 0.5)),
        objectives.inverse_square_weight(),
        **options,
    )


@jax.jit
def scored(y):
    """The examples drawn of y, and their losses, with D = x."""
    objective = made()
    examples = objective.draw(objective.init(), KEYS, y, {})
    return examples, objective.loss(Scaled(params=1.0), objective.init(), examples)


@pytest.mark.parametrize(
    "weight", [MASK, LATITUDES, MASK * LATITUDES, MASK[:, :1]], ids="mask lat both row".split()
)
def test_an_example_s_loss_is_the_weighted_mean_of_its_elements(weight):
    """With D = x and lambda = 1 / sigma^2 an element's loss is n^2."""
    examples, losses = scored(Weighted(DATA, weight))
    noise = np.asarray(examples.noise, np.float64)
    w = np.broadcast_to(weight, DATA.shape).astype(np.float64)
    total = w.sum((1, 2, 3))
    mean = (w * noise**2).sum((1, 2, 3)) / np.where(total > 0, total, 1)
    np.testing.assert_allclose(losses.each, mean, rtol=2e-5)
    np.testing.assert_allclose(losses.logged, mean, rtol=2e-5)
    np.testing.assert_allclose(losses.minimised, mean * total, rtol=2e-5)


def test_weights_of_one_change_nothing():
    plain, weighed = scored(DATA)[1], scored(Weighted(DATA, 1.0))[1]
    for found, wanted in zip(weighed, plain):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_scale_of_weights_is_that_of_the_gradient_alone():
    once, thrice = scored(Weighted(DATA, LATITUDES))[1], scored(Weighted(DATA, 3 * LATITUDES))[1]
    np.testing.assert_allclose(thrice.each, once.each, rtol=1e-6)
    np.testing.assert_allclose(thrice.minimised, 3 * once.minimised, rtol=1e-6)


def test_what_is_masked_is_not_scored():
    hidden = np.where(MASK, DATA, 7.0)
    for found, wanted in zip(scored(Weighted(hidden, MASK))[1], scored(Weighted(DATA, MASK))[1]):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_nothing_known_moves_nothing():
    objective = made(learned=uncertainty.BESIDE)
    examples, _ = scored(Weighted(DATA, MASK))

    def minimised(a, trained):
        memory = objective.init()._replace(trained=trained)
        return objective.loss(Scaled(params=a), memory, examples).minimised

    trained = np.linspace(-1, 1, len(objective.init().trained), dtype=np.float32)
    of_a, of_u = map(np.asarray, jax.jit(jax.jacobian(minimised, (0, 1)))(0.7, trained))
    assert np.isfinite(of_a).all() and np.isfinite(of_u).all()
    known = [True, True, False, True]
    assert (of_a != 0).tolist() == of_u.any(1).tolist() == known


@pytest.mark.slow
def test_leaves_are_weighed_together():
    y = {"image": DATA, "vector": DATA[:, 0, 0]}
    examples, losses = scored(Weighted(y, {"image": MASK, "vector": 2.0}))
    squares = jax.tree.map(lambda n: np.asarray(n, np.float64) ** 2, examples.noise)
    total = MASK.sum((1, 2, 3)) + 2.0 * 2
    wanted = ((MASK * squares["image"]).sum((1, 2, 3)) + 2 * squares["vector"].sum(1)) / total
    np.testing.assert_allclose(losses.each, wanted, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_step_learns_from_what_is_known(rounds):
    """One step of gradient descent on the factor a, written out; a condition is a tree."""
    key, rate, a = jax.random.key(5), 1e-3, 0.7
    batch = {"y": DATA, "mask": MASK, "gain": np.array([1.0, 0.5, 2.0, 1.5], np.float32)}

    def prepared(batch, keys):
        return Weighted(batch["y"], batch["mask"]), {"context": {"gain": batch["gain"]}}

    sgd = optax.sgd(rate)
    optimizer, objective = Optimizer(sgd.init, sgd.update), made()
    kept = averages.Averages(averages.by_halflife(BATCH, 40.0))
    step = make_train_step(
        Scaled(params=None), objective, optimizer, kept, prepared=prepared, rounds=rounds
    )

    @jax.jit
    def drawn(key):
        keys = example_keys(key, jnp.int32(0), BATCH)
        sigma = jax.vmap(objectives.log_normal(1.0, 0.5))(keys[:, 0])
        return sigma, randomness.normal(keys[:, 1], SHAPE)

    start = lambda a: state.create(jnp.float32(a), objective, optimizer)
    now, metrics = jax.jit(lambda a: step(start(a), batch, key))(a)
    column = lambda values: np.asarray(values, np.float64)[:, None, None, None]
    sigma, noise = drawn(key)
    sigma = column(sigma)
    x = DATA + sigma * np.asarray(noise, np.float64)
    x *= column(batch["gain"])
    error = MASK * (a * x - DATA)
    slope = (2 * x * error / sigma**2).sum() / BATCH
    each = (error**2 / sigma**2).sum((1, 2, 3)) / np.maximum(MASK.sum((1, 2, 3)), 1)
    np.testing.assert_allclose(now.params, a - rate * slope, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], each.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "y, weight, message",
    [
        (DATA, np.ones(3), r"weight must broadcast to the shape of y, \(4, 3, 5, 2\), got \(3,\)"),
        (DATA, np.ones((1, 1, 3, 5, 2)), r"got \(1, 1, 3, 5, 2\)"),
        ({"a": DATA}, MASK, "weight must have the structure of y, .*'a'.*got"),
    ],
)
def test_bad_weights_are_named(y, weight, message):
    with pytest.raises(ValueError, match=message):
        scored(Weighted(y, weight))

"""Which key draws what, and that the choice of levels leaves the mean loss as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import objectives, preconditioning, randomness, tables
from edm_jax.objectives import State, Wrapped, importance, levels

STEPS = 4
LEVELS = tables.iddpm(STEPS, variant="network")[-2::-1]
# F = x: neither the loss nor its gradient is zero at any level.
MODEL = Wrapped(lambda x, c_noise: x, preconditioning.iddpm())
DATA = np.linspace(-1, 1, 6 * 12, dtype=np.float32).reshape(6, 2, 2, 3)


def made(name, **options):
    options |= {} if name == "edm" else {"num_train_steps": STEPS}
    return objectives.build(name, MODEL, **options)


def history():
    """Four levels with a full history, of the losses 1, 2, 3 and 4."""
    losses = np.repeat(np.arange(1.0, STEPS + 1, dtype=np.float32)[:, None], importance.DEPTH, 1)
    return importance.History(jnp.asarray(losses), jnp.full(STEPS, importance.DEPTH, jnp.int32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options",
    [("edm", {}), ("iddpm", {}), ("iddpm", {"importance": True})],
    ids=["continuous", "uniform", "importance"],
)
def test_an_example_s_first_key_draws_its_level_and_the_second_its_noise(name, options):
    objective = made(name, **options)

    @jax.jit
    def drawn(key):
        keys = jax.random.split(key, (6, 2))
        found = objective.draw(objective.init(), keys, DATA, {"labels": 1})
        level = randomness.uniform(keys[:, 0])
        if name == "edm":
            level = jax.vmap(objectives.log_normal())(keys[:, 0])
        return found, randomness.normal(keys[:, 1], (2, 2, 3)), level

    found, noise, level = drawn(jax.random.key(3))
    np.testing.assert_array_equal(found.noise, noise)
    if name == "edm":
        np.testing.assert_array_equal(found.sigma, level)
    else:
        level = np.floor(np.asarray(level) * STEPS).astype(int)
        np.testing.assert_array_equal(found.level, level)
        np.testing.assert_allclose(found.sigma, LEVELS[level], rtol=1e-6)
    np.testing.assert_array_equal(found.y, DATA)
    assert found.conditions == {"labels": 1}


def test_the_leaves_of_a_tree_have_noise_of_their_own():
    data = {"a": DATA, "b": DATA[..., 0]}

    @jax.jit
    def drawn(key):
        keys = jax.random.split(key, (6, 2))
        wanted = {
            name: randomness.normal(randomness.fold_in(keys[:, 1], i), data[name].shape[1:])
            for i, name in enumerate("ab")
        }
        return made("edm").draw(State(), keys, data, {}).noise, wanted

    found, wanted = drawn(jax.random.key(3))
    for name in "ab":
        np.testing.assert_array_equal(found[name], wanted[name])


def examples(factor):
    """Each of the four levels once, of the same data and noise."""
    return objectives.Examples(
        np.repeat(DATA[:1], STEPS, axis=0),
        np.float32(LEVELS),
        np.full((STEPS, 2, 2, 3), 0.7, np.float32),
        {},
        np.arange(STEPS, dtype=np.int32),
        factor,
    )


@pytest.mark.slow
@pytest.mark.parametrize("uncertainty", [False, True])
def test_importance_changes_neither_the_mean_loss_nor_the_mean_gradient(uncertainty):
    objective = made("iddpm", importance=True, uncertainty=uncertainty)
    state = jax.jit(objective.init)()._replace(kept=history())
    p = np.asarray(jax.jit(importance.probabilities)(state.kept))
    assert p.max() > 3 * p.min()
    factor = np.arange(1.0, 1 + STEPS, dtype=np.float32)

    def losses(scale, factor):
        model = Wrapped(lambda x, c_noise: scale * x, preconditioning.iddpm())
        return objective.loss(model, state, examples(factor))

    def whole(scale, chance, factor):
        return (chance * losses(scale, factor).minimised).sum()

    @jax.jit
    def all_of_them(scale):
        by_chance = jax.value_and_grad(whole)(scale, p, 1 / (STEPS * p))
        evenly = jax.value_and_grad(whole)(scale, 1 / STEPS, None)
        return by_chance, evenly, losses(scale, factor), losses(scale, None)

    by_chance, evenly, found, plain = all_of_them(1.3)
    np.testing.assert_allclose(by_chance, evenly, rtol=1e-5)
    # What is minimised is a sum over twelve elements, what is logged a mean; the history takes
    # the loss at a level as it is.
    np.testing.assert_allclose(found.minimised, 12 * found.each * factor, rtol=1e-6)
    np.testing.assert_allclose(found.logged, found.each * factor, rtol=1e-6)
    np.testing.assert_array_equal(found.each, plain.each)
    np.testing.assert_allclose(found.sigma, LEVELS, rtol=1e-6)


def test_nothing_is_trained_beside_the_network_unless_asked_for():
    plain = objectives.denoising(levels.continuous(objectives.ve()), objectives.unit_weight())
    assert plain.init() == State((), ())


@pytest.mark.slow
def test_a_drawn_level_brings_the_factor_of_its_probability():
    objective = made("iddpm", importance=True)

    @jax.jit
    def drawn(key):
        state = objective.init()._replace(kept=history())
        keys = jax.random.split(key, (64, 2))
        found = objective.draw(state, keys, np.zeros((64, 1), np.float32), {})
        return found, importance.probabilities(state.kept)

    found, p = map(jax.device_get, drawn(jax.random.key(5)))
    assert set(np.asarray(found.level)) == set(range(STEPS))
    np.testing.assert_allclose(found.factor, 1 / (STEPS * p[found.level]), rtol=1e-5)


@pytest.mark.slow
def test_what_is_noted_of_a_batch_is_the_loss_of_each_level():
    objective = made("iddpm", importance=True)
    # As on two devices, of which each sees the same: the whole batch is noted.
    twice = lambda tree: jax.tree.map(lambda a: jnp.concatenate([a, a]), tree)

    @jax.jit
    def noted():
        state = objective.init()
        losses = objective.loss(MODEL, state, examples(jnp.full(STEPS, 9.0)))
        return losses, objective.update(state, examples(None), losses, twice).kept

    losses, after = noted()
    np.testing.assert_array_equal(after.count, 2)
    np.testing.assert_array_equal(after.losses[:, :2], np.stack([losses.each] * 2, 1))


@pytest.mark.slow
def test_the_uncertainty_s_gradient_balances_the_loss():
    """d/du of N (L e^-u + u) at u = 0 is N (1 - L), along the features of the level."""
    objective = made("edm", uncertainty=True)
    e = examples(None)._replace(level=None)

    def minimised(trained):
        found = objective.loss(MODEL, State(trained), e)
        return found.minimised, found.each

    start = objective.init().trained
    slope, each = jax.jit(jax.jacobian(minimised, has_aux=True))(start)
    np.testing.assert_allclose((slope**2).sum(1), (12 * (1 - each)) ** 2, rtol=0.1)

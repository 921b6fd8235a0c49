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
    keys = jax.random.split(jax.random.key(3), (6, 2))
    found = objective.draw(objective.init(), keys, DATA, {"labels": 1})
    np.testing.assert_array_equal(found.noise, randomness.normal(keys[:, 1], (2, 2, 3)))
    if name == "edm":
        np.testing.assert_array_equal(found.sigma, jax.vmap(objectives.log_normal())(keys[:, 0]))
    else:
        level = np.floor(np.asarray(randomness.uniform(keys[:, 0])) * STEPS).astype(int)
        np.testing.assert_array_equal(found.level, level)
        np.testing.assert_allclose(found.sigma, LEVELS[level], rtol=1e-6)
    np.testing.assert_array_equal(found.y, DATA)
    assert found.conditions == {"labels": 1}


def test_the_leaves_of_a_tree_have_noise_of_their_own():
    keys = jax.random.split(jax.random.key(3), (6, 2))
    found = made("edm").draw(State(), keys, {"a": DATA, "b": DATA[..., 0]}, {}).noise
    for i, name in enumerate("ab"):
        wanted = randomness.normal(randomness.fold_in(keys[:, 1], i), found[name].shape[1:])
        np.testing.assert_array_equal(found[name], wanted)


def examples(factor):
    """Each of the four levels once, of the same data and noise."""
    return objectives.Examples(
        jnp.asarray(np.repeat(DATA[:1], STEPS, axis=0)),
        jnp.asarray(LEVELS, jnp.float32),
        jnp.full((STEPS, 2, 2, 3), 0.7),
        {},
        jnp.arange(STEPS, dtype=jnp.int32),
        factor,
    )


@pytest.mark.slow
@pytest.mark.parametrize("uncertainty", [False, True])
def test_importance_changes_neither_the_mean_loss_nor_the_mean_gradient(uncertainty):
    objective = made("iddpm", importance=True, uncertainty=uncertainty)
    state = objective.init()._replace(kept=history())
    p = importance.probabilities(state.kept)
    assert p.max() > 3 * p.min()

    def minimised(scale, factor):
        model = Wrapped(lambda x, c_noise: scale * x, preconditioning.iddpm())
        found = objective.loss(model, state, examples(factor))
        return found.minimised, found

    def whole(chance, factor):
        return jax.value_and_grad(lambda scale: (chance * minimised(scale, factor)[0]).sum())(1.3)

    np.testing.assert_allclose(whole(p, 1 / (STEPS * p)), whole(1 / STEPS, None), rtol=1e-5)
    # What is minimised is a sum over twelve elements, what is logged a mean; the history takes
    # the loss at a level as it is.
    factor = jnp.array([1.0, 2.0, 3.0, 4.0])
    found = minimised(1.3, factor)[1]
    np.testing.assert_allclose(found.minimised, 12 * found.each * factor, rtol=1e-6)
    np.testing.assert_allclose(found.logged, found.each * factor, rtol=1e-6)
    np.testing.assert_array_equal(found.each, minimised(1.3, None)[1].each)
    np.testing.assert_allclose(found.sigma, LEVELS, rtol=1e-6)


def test_nothing_is_trained_beside_the_network_unless_asked_for():
    plain = objectives.denoising(levels.continuous(objectives.ve()), objectives.unit_weight())
    assert plain.init() == State((), ())


@pytest.mark.slow
def test_a_drawn_level_brings_the_factor_of_its_probability():
    objective = made("iddpm", importance=True)
    state = objective.init()._replace(kept=history())
    keys = jax.random.split(jax.random.key(5), (64, 2))
    found = objective.draw(state, keys, np.zeros((64, 1), np.float32), {})
    p = np.asarray(importance.probabilities(state.kept))
    assert set(np.asarray(found.level)) == set(range(STEPS))
    np.testing.assert_allclose(found.factor, 1 / (STEPS * p[found.level]), rtol=1e-5)


@pytest.mark.slow
def test_what_is_noted_of_a_batch_is_the_loss_of_each_level():
    objective = made("iddpm", importance=True)
    state = objective.init()
    losses = objective.loss(MODEL, state, examples(jnp.full(STEPS, 9.0)))
    # As on two devices, of which each sees the same: the whole batch is noted.
    twice = lambda tree: jax.tree.map(lambda a: jnp.concatenate([a, a]), tree)
    after = objective.update(state, examples(None), losses, twice).kept
    np.testing.assert_array_equal(after.count, 2)
    np.testing.assert_array_equal(after.losses[:, :2], np.stack([losses.each] * 2, 1))


@pytest.mark.slow
def test_the_uncertainty_s_gradient_balances_the_loss():
    """d/du of N (L e^-u + u) at u = 0 is N (1 - L), along the features of the level."""
    objective = made("edm", uncertainty=True)
    e = examples(None)._replace(level=None)
    each = objective.loss(MODEL, objective.init(), e).each

    def minimised(trained):
        return objective.loss(MODEL, State(trained), e).minimised

    slope = jax.jacobian(minimised)(objective.init().trained)
    np.testing.assert_allclose((slope**2).sum(1), (12 * (1 - each)) ** 2, rtol=0.1)

"""The training step against arithmetic: every number of three steps of a linear objective."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edm_jax.objectives import Losses, Objective, State
from edm_jax.training import averages, bins, state
from edm_jax.training.examples import example_keys
from edm_jax.training.optimizer import Optimizer
from edm_jax.training.step import make_train_step

RATE, ROWS = 0.125, 8
KEY = jax.random.key(3)


class Line(types.SimpleNamespace):
    """A model of one parameter w."""

    def replace(self, params):
        return Line(params=params)


def score(model, memory, e):
    each = (model.params["w"] + memory.trained * e["y"]) * e["y"]
    return Losses(3 * each, 2 * each, each, jnp.full(each.shape, 0.5))


# What the loss of an example is: (w + u y) y, with u beside the parameters. It notes the keys
# that it drew from and those of the data, and the losses.
LINEAR = Objective(
    init=lambda: State(jnp.float32(0.5), (jnp.zeros((ROWS, 4, 2), jnp.uint32), jnp.zeros(ROWS))),
    draw=lambda memory, keys, y, conditions: {
        "y": y,
        "keys": jnp.concatenate([jax.random.key_data(keys), conditions["keys"]], 1),
    },
    loss=score,
    update=lambda memory, e, losses, gather: memory._replace(kept=gather((e["keys"], losses.each))),
)


def prepared(batch, keys):
    return batch["y"], {"keys": jax.random.key_data(keys)}


def batch_of(step):
    return {"y": np.random.default_rng(step).integers(1, 9, ROWS).astype(np.float32)}


@jax.jit
def keys_of(step):
    return jax.random.key_data(example_keys(KEY, step, ROWS))


def expected(steps):
    """w, u, the averages and the metrics of each step."""
    w, u, found = 2.0, 0.5, []
    main = half = power = w
    for t in range(steps):
        y = batch_of(t)["y"].astype(np.float64)
        w *= 0.5  # the projection
        each = (w + u * y) * y
        slopes = 3 * y.mean(), 3 * (y**2).mean()
        w, u = w - RATE * slopes[0], u - RATE * slopes[1]
        share = 1.0 if t == 0 else 1 - 0.5 ** (ROWS / min(40.0, 0.5 * ROWS * t))
        main += share * (w - main)
        half += (1 - 0.5 ** (ROWS / 20.0)) * (w - half)
        power += (1 - (1 - 1 / (t + 1)) ** (averages.exponent(0.1) + 1)) * (w - power)
        sums, counts = np.zeros(bins.COUNT), np.zeros(bins.COUNT)
        place = np.abs(np.log(bins.centers() / 0.5)).argmin()
        sums[place], counts[place] = each.sum(), ROWS
        metrics = {
            "loss": 2 * each.mean(),
            "grad_norm": np.hypot(*slopes),
            "ema_beta": 1 - share,
            bins.SUMS: sums,
            bins.COUNTS: counts,
        }
        found.append((w, u, main, {"half": half, "power": power}, each, metrics))
    return found


@pytest.mark.parametrize(
    "devices, options",
    [(1, {}), (1, {"rounds": 2, "shards": 2}), (1, {"rounds": 4}),
     (1, {"loss_scale": 64.0}), (4, {}), (4, {"rounds": 2, "loss_scale": 8.0})],
)  # fmt: skip
def test_three_steps(devices, options):
    sgd = optax.sgd(RATE)
    halved = lambda params: jax.tree.map(lambda a: a / 2, params)
    kept = averages.Averages(
        averages.by_halflife(ROWS, 40.0, rampup_ratio=0.5),
        {
            "half": averages.by_halflife(ROWS, 20.0, rampup_ratio=None),
            "power": averages.by_power(0.1),
        },
    )
    optimizer = Optimizer(sgd.init, sgd.update, halved)
    step = make_train_step(
        Line(params=None), LINEAR, optimizer, kept, prepared=prepared,
        axis_name="data" if devices > 1 else None, **options,
    )  # fmt: skip
    spread = lambda tree: jax.tree.map(lambda a: a.reshape(devices, -1, *a.shape[1:]), tree)
    if devices > 1:
        run = jax.vmap(step, in_axes=(None, 0, None), axis_name="data")
        here = lambda now, batch: jax.tree.map(lambda a: a[0], run(now, spread(batch), KEY))
    else:
        here = lambda now, batch: step(now, batch, KEY)
    here = jax.jit(here)
    now = state.create({"w": jnp.float32(2.0)}, LINEAR, optimizer, averages=kept.further)
    for t, (w, u, main, further, each, metrics) in enumerate(expected(3)):
        now, numbers = here(now, batch_of(t))
        keys, noted = now.objective.kept
        np.testing.assert_array_equal(keys, keys_of(jnp.int32(t)))
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)
        close(noted, each)
        close(now.params["w"], w)
        close(now.objective.trained, u)
        close(now.ema["w"], main)
        for name in further:
            close(now.averages[name]["w"], further[name])
        assert now.step == t + 1 and numbers.keys() == metrics.keys()
        for name in metrics:
            close(numbers[name], metrics[name])


def test_the_whole_batch_is_scored_at_once_unless_told_otherwise():
    shapes = []

    def loss(model, memory, e):
        shapes.append(e["y"].shape)
        return score(model, memory, e)

    sgd = optax.sgd(RATE)
    optimizer = Optimizer(sgd.init, sgd.update)
    kept = averages.Averages(averages.by_halflife(ROWS, 40.0))
    now = state.create({"w": jnp.float32(2.0)}, LINEAR, optimizer)
    for options in ({}, {"rounds": 4}):
        objective = LINEAR._replace(loss=loss)
        step = make_train_step(
            Line(params=None), objective, optimizer, kept, prepared=prepared, **options
        )
        jax.eval_shape(step, now, batch_of(0), KEY)
    assert set(shapes[:1]) == {(8,)} and set(shapes[1:]) == {(2,)}

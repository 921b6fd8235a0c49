"""Several steps in one program are as many calls of one step, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from edm_jax import objectives, preconditioning
from edm_jax.data import archive, loader
from edm_jax.model import Model
from edm_jax.networks import ddpmpp, layers
from edm_jax.runtime import engines
from edm_jax.training import averages, optimizer, state
from edm_jax.training.calls import in_one_call
from edm_jax.training.step import make_train_step

BATCH, STEPS, CONFIG = 16, 2, ddpmpp(resolution=8, channels=1)


class Few(nn.Module):
    """One convolution and dropout."""

    @nn.compact
    def __call__(self, x, c_noise, class_labels=None, augment_labels=None, dropout_keys=None):
        h = x * jnp.cos(c_noise)[:, None, None, None]
        return layers.dropout(nn.silu(layers.Conv(4)(h)), dropout_keys, 0, 0.2).sum(
            3, keepdims=True
        )


def parts(axis_name=None):
    """A training step and what makes its first state."""
    model = Model(None, Few(), preconditioning.edm(), CONFIG)
    objective = objectives.build("edm", model)
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, BATCH))
    average = averages.Averages(averages.by_halflife(BATCH, 100.0))

    def initial():
        params = model.network.init(jax.random.key(1), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))
        return state.create(params["params"], objective, adam)

    return make_train_step(model, objective, adam, average, axis_name=axis_name), initial


def batch(step):
    return loader.batch(archive.load("digits"), 0, step, BATCH)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pmap", "jit"])
def test_it_changes_no_bit(name):
    engine = engines.engine(name, devices=2)
    step, initial = parts(engine.axis_name)
    steps = engine.compile(in_one_call(step), jax.eval_shape(initial))
    rows = [engine.put(batch(i)) for i in range(STEPS)]
    key, one_by_one, losses = engine.key(3), engine.init(initial), []
    for each in rows:
        one_by_one, metrics = steps(one_by_one, (each,), key)
        losses.extend(metrics["loss"].tolist())

    together, metrics = steps(engine.init(initial), tuple(rows), key)
    assert metrics["loss"].tolist() == losses and len(set(losses)) == STEPS
    jax.tree.map(np.testing.assert_array_equal, together, one_by_one)
    assert int(together.step) == STEPS


def test_the_network_stands_in_the_program_once():
    step, initial = parts()
    steps = jax.jit(in_one_call(step))
    one, four = (
        steps.trace(jax.eval_shape(initial), (batch(0),) * count, jax.random.key(0))
        .lower(lowering_platforms=("tpu",))
        .as_text()
        .count("stablehlo.convolution")
        for count in (1, 4)
    )
    assert four == one > 0

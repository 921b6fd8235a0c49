"""A step of a network of one's own, in closed form: projected first, then moved from there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edm_jax import objectives, preconditioning
from edm_jax.objectives import Wrapped
from edm_jax.training import averages, state
from edm_jax.training.optimizer import Optimizer
from edm_jax.training.step import make_train_step


class Linear(Wrapped):
    """F = w x_in; what a step asks of a model beside `Wrapped` is to hold other parameters."""

    def replace(self, params):
        return Wrapped(lambda x, c_noise, **_: params["w"] * x, self.preconditioner)


def test_the_gradient_is_taken_at_the_projected_parameters_and_the_update_goes_from_there():
    model = Linear(None, preconditioning.edm())
    sgd = optax.sgd(0.25)
    halve = lambda params: {"w": params["w"] / 2}
    # A loss of (w - 3)^2 for every example, whatever is drawn.
    square = lambda model, memory, examples: objectives.Losses(
        *[(model.network(jnp.ones(4), 0.0) - 3.0) ** 2] * 3, jnp.ones(4)
    )
    objective = objectives.build("edm", model)._replace(loss=square)
    adam = Optimizer(sgd.init, sgd.update, halve)
    now = state.create({"w": jnp.float32(4.0)}, objective, adam)
    kept = averages.Averages(lambda step: jnp.float32(1.0))
    y = {"images": jnp.zeros((4, 2, 2, 1), jnp.uint8), "labels": jnp.zeros((4, 0))}
    step = jax.jit(make_train_step(model, objective, adam, kept))
    after, numbers = step(now, y, jax.random.key(0))
    # Projected to 2: loss 1, gradient -2, update +0.5. From 4 it would be 1, 2 and 3.5.
    np.testing.assert_allclose(after.params["w"], 2.5, rtol=1e-6)
    np.testing.assert_allclose(after.ema["w"], 2.5, rtol=1e-6)
    np.testing.assert_allclose(numbers["loss"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(numbers["grad_norm"], 2.0, rtol=1e-6)

"""The training step: a pure function of (state, batch, key), the same under every engine."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from edm_jax.convolutions import fast_in_loops
from edm_jax.model import Model
from edm_jax.objectives import Losses, Objective
from edm_jax.training import averages, bins
from edm_jax.training.averages import Averages
from edm_jax.training.examples import (
    Batch,
    Prepare,
    example_keys,
    joined,
    microbatches,
    prepare,
)
from edm_jax.training.optimizer import Optimizer
from edm_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def make_train_step(
    model: Model,
    objective: Objective,
    optimizer: Optimizer,
    average: Averages,
    *,
    prepared: Prepare | None = None,
    loss_scale: float = 1.0,
    rounds: int = 1,
    shards: int = 1,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds the step: draw, score, average over devices, optimize, move the averages.

    What is minimised is the mean over the global batch of `Losses.minimised`.

    Args:
      model: network, preconditioner and configuration; its parameters are not used.
      objective: what is learned from a batch, and how it is scored.
      optimizer: moves the parameters, and what the objective trains beside them.
      average: the moving averages that the run keeps.
      prepared: from a batch to data and conditions; None is `examples.prepare()`.
      loss_scale: a factor of the loss in the backward pass, undone on the gradients, so that
        float16 does not underflow; it changes no update.
      rounds: microbatches per step; the gradient is that of the whole batch.
      shards: blocks of rows to take each microbatch from (`engines.Engine.shards`).
      axis_name: mapped axis to average over; None when one program sees the whole batch.

    Returns:
      step(state, batch, key) -> (state, metrics). `key` is the run's key, the same at every step.
      Metrics are float32 scalars: `loss` (the mean of `Losses.logged`), `grad_norm` and
      `ema_beta`; and those of `bins.by_sigma`.
    """
    prepared = prepared or prepare()
    together, whole_batch = lambda tree: tree, lambda tree: tree
    total = together
    if axis_name is not None:
        together = functools.partial(jax.lax.pmean, axis_name=axis_name)
        total = functools.partial(jax.lax.psum, axis_name=axis_name)
        whole_batch = functools.partial(jax.lax.all_gather, axis_name=axis_name, tiled=True)

    def score(trained: Any, state: TrainState, examples: Any) -> tuple[jax.Array, Losses]:
        params, learned = trained
        memory = state.objective._replace(trained=learned)
        losses = objective.loss(model.replace(params=params), memory, examples)
        return loss_scale * losses.minimised.sum(), losses

    gradient = fast_in_loops(jax.grad(score, has_aux=True), in_rows=shards == 1)

    def in_rounds(trained: Any, state: TrainState, examples: Any) -> tuple[Any, Losses]:
        if rounds == 1:
            return gradient(trained, state, examples)

        def add(total, part):
            grads, losses = gradient(trained, state, part)
            return jax.tree.map(jnp.add, total, grads), losses

        zeros = jax.tree.map(jnp.zeros_like, trained)
        parts = microbatches(examples, rounds, shards)
        grads, losses = jax.lax.scan(add, zeros, parts)
        return grads, joined(losses, shards)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        rows = jax.tree.leaves(batch)[0].shape[0]
        keys = example_keys(key, state.step, rows, axis_name=axis_name)
        y, conditions = prepared(batch, keys[:, 2:])
        examples = objective.draw(state.objective, keys[:, :2], y, conditions)

        trained = (optimizer.project(state.params), state.objective.trained)
        grads, losses = in_rounds(trained, state, examples)
        grads = jax.tree.map(lambda g: g / (rows * loss_scale), grads)
        loss, grads = together((losses.logged.mean(), grads))
        by_sigma = total(bins.by_sigma(losses.sigma, losses.each))

        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params, learned = optax.apply_updates(trained, updates)
        memory = state.objective._replace(trained=learned)
        share = average.main(state.step)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "ema_beta": 1.0 - share,
            **by_sigma,
        }
        new_state = state.replace(
            step=state.step + 1,
            params=params,
            ema=averages.update(state.ema, params, share),
            averages={
                name: averages.update(state.averages[name], params, further(state.step))
                for name, further in average.further.items()
            },
            opt_state=opt_state,
            objective=objective.update(memory, examples, losses, whole_batch),
        )
        return new_state, metrics

    return step

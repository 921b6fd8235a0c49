"""The training step: a pure function of (state, batch, key), the same under every engine."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from edm_jax import losses, randomness
from edm_jax.model import Model
from edm_jax.training import ema
from edm_jax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def example_index(batch_size: int, axis_name: str | None) -> jax.Array:
    """[batch_size] int32: each example's place in the global batch."""
    index = jnp.arange(batch_size, dtype=jnp.int32)
    if axis_name is None:
        return index
    return index + jax.lax.axis_index(axis_name) * batch_size


def microbatches(tree: Any, rounds: int, shards: int) -> Any:
    """[b, ...] -> [rounds, b / rounds, ...], each round with rows of every one of `shards` blocks.

    A plain split would put a round on some of the devices only, when one program sees all rows.
    """

    def split(a):
        a = a.reshape(shards, rounds, -1, *a.shape[1:])
        return jnp.moveaxis(a, 1, 0).reshape(rounds, -1, *a.shape[3:])

    return jax.tree.map(split, tree)


def make_train_step(
    model: Model,
    objective: losses.Objective,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    ema_halflife: float,
    ema_rampup_ratio: float | None = 0.05,
    augment: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
    rounds: int = 1,
    shards: int = 1,
    unroll: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds the step of spec 6.1: draw, denoise, weigh, average, Adam, moving average.

    Args:
        model: network, preconditioner and configuration; its parameters are not used.
        objective: noise distribution and weight.
        optimizer: an optax transformation.
        batch_size: global images per step.
        ema_halflife: half-life of the parameters' average, in images.
        ema_rampup_ratio: see `ema.decay`.
        augment: (keys [B], images [B, H, W, C]) -> (images, augment labels [B, A]), or None.
        rounds: microbatches per step; the gradient is that of the whole batch.
        shards: blocks of rows to take each microbatch from (`parallel.Engine.shards`).
        unroll: write the rounds out rather than loop over them.
        axis_name: mapped axis to average over; None when one program sees the whole batch.

    Returns:
        step(state, batch, key) -> (state, metrics). `batch` holds `images` [b, H, W, C] uint8 and
        `labels` [b, L] float32; `key` is the run's key, the same at every step. Metrics are
        float32 scalars: `loss` (mean over all elements), `grad_norm`, `learning_rate` is left to
        the schedule's owner.
    """

    def summed_loss(params, part):
        images = part["images"].astype(jnp.float32) / 127.5 - 1.0
        keys = jax.vmap(lambda k: jax.random.split(k, 4))(part["keys"])
        sigma_keys, noise_keys, augment_keys, dropout_keys = jnp.moveaxis(keys, 1, 0)
        augment_labels = None
        if augment is not None:
            images, augment_labels = augment(augment_keys, images)
        sigma = jax.vmap(objective.draw)(sigma_keys)
        noise = randomness.normal(noise_keys, images.shape[1:])
        denoise = model.replace(params=params).denoiser(
            part["labels"] if model.config.label_dim else None, augment_labels, dropout_keys
        )
        return losses.loss(denoise, images, sigma, noise, objective.weight).sum()

    gradient = jax.value_and_grad(summed_loss)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        rows = batch["images"].shape[0]
        key = jax.random.fold_in(key, state.step)
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(example_index(rows, axis_name))
        parts = microbatches({**batch, "keys": keys}, rounds, shards)

        def add(total, part):
            return jax.tree.map(jnp.add, total, gradient(state.params, part)), None

        if rounds == 1:
            total = gradient(state.params, jax.tree.map(lambda a: a[0], parts))
        else:
            zeros = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), state.params))
            total, _ = jax.lax.scan(add, zeros, parts, unroll=rounds if unroll else 1)
        # Sum over pixels, mean over the global batch.
        loss, grads = jax.tree.map(lambda a: a / rows, total)
        if axis_name is not None:
            loss, grads = jax.lax.pmean((loss, grads), axis_name)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        seen = state.step.astype(jnp.float32) * batch_size
        share = ema.decay(seen, batch_size, ema_halflife, ema_rampup_ratio)
        metrics = {
            "loss": loss / batch["images"][0].size,
            "grad_norm": optax.global_norm(grads),
            "ema_beta": 1.0 - share,
        }
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            ema=ema.update(state.ema, params, share),
            opt_state=opt_state,
        )
        return new_state, metrics

    return step

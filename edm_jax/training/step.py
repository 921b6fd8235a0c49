"""The training step: a pure function of (state, batch, key), the same under every engine."""

from collections.abc import Callable
from typing import Any, NamedTuple

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


class Examples(NamedTuple):
    """What a step learns from: data and every draw.

    Attributes:
      y: [b, H, W, C] images, augmented.
      sigma: [b] noise levels.
      noise: [b, H, W, C] standard normal.
      class_labels: [b, L], or None.
      augment_labels: [b, A], or None.
      dropout_keys: [b] typed keys, or None for no dropout.
    """

    y: jax.Array
    sigma: jax.Array
    noise: jax.Array
    class_labels: jax.Array | None = None
    augment_labels: jax.Array | None = None
    dropout_keys: jax.Array | None = None


def make_draw(
    objective: losses.Objective,
    augment: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
) -> Callable[[Batch, jax.Array], Examples]:
    """The draws of a step: (batch, keys [b]) -> Examples, each example from its own key.

    Args:
      objective: its distribution of noise levels.
      augment: (keys [b], images [b, H, W, C]) -> (images, labels [b, A]), or None.
    """

    def draw(batch: Batch, keys: jax.Array) -> Examples:
        y = batch["images"].astype(jnp.float32) / 127.5 - 1.0
        keys = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        augment_labels = None
        if augment is not None:
            y, augment_labels = augment(keys[:, 2], y)
        return Examples(
            y=y,
            sigma=jax.vmap(objective.draw)(keys[:, 0]),
            noise=randomness.normal(keys[:, 1], y.shape[1:]),
            class_labels=batch["labels"] if batch["labels"].shape[1] else None,
            augment_labels=augment_labels,
            dropout_keys=keys[:, 3],
        )

    return draw


def make_train_step(
    model: Model,
    draw: Callable[[Batch, jax.Array], Examples],
    weight: Callable[[jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    ema_halflife: float,
    ema_rampup_ratio: float | None = 0.05,
    rounds: int = 1,
    shards: int = 1,
    unroll: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds the step: draw, denoise, weigh, average over devices, Adam, moving average.

    Its objective is the sum over pixels and the mean over the global batch of the weighted
    squared error (Karras et al. 2022, eq. 8).

    Args:
      model: network, preconditioner and configuration; its parameters are not used.
      draw: see `make_draw`.
      weight: lambda, sigma -> weight.
      optimizer: an optax transformation.
      batch_size: global images per step.
      ema_halflife: half-life of the parameters' average, in images.
      ema_rampup_ratio: see `ema.decay`.
      rounds: microbatches per step; the gradient is that of the whole batch.
      shards: blocks of rows to take each microbatch from (`parallel.Engine.shards`).
      unroll: write the rounds out rather than loop over them.
      axis_name: mapped axis to average over; None when one program sees the whole batch.

    Returns:
      step(state, batch, key) -> (state, metrics). `batch` holds `images` [b, H, W, C] uint8 and
      `labels` [b, L] float32; `key` is the run's key, the same at every step. Metrics are float32
      scalars: `loss` (mean over all elements), `grad_norm` and `ema_beta`.
    """

    def summed_loss(params: Any, examples: Examples) -> jax.Array:
        denoise = model.replace(params=params).denoiser(*examples[3:])
        return losses.loss(denoise, *examples[:3], weight).sum()

    gradient = jax.value_and_grad(summed_loss)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        rows = batch["images"].shape[0]
        index = example_index(rows, axis_name)
        examples = draw(batch, randomness.fold_in(jax.random.fold_in(key, state.step), index))

        if rounds == 1:
            total = gradient(state.params, examples)
        else:

            def add(total, part):
                return jax.tree.map(jnp.add, total, gradient(state.params, part)), None

            zeros = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), state.params))
            parts = microbatches(examples, rounds, shards)
            total, _ = jax.lax.scan(add, zeros, parts, unroll=rounds if unroll else 1)
        loss, grads = jax.tree.map(lambda a: a / rows, total)
        if axis_name is not None:
            loss, grads = jax.lax.pmean((loss, grads), axis_name)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        seen = state.step.astype(jnp.float32) * batch_size
        share = ema.decay(seen, batch_size, ema_halflife, ema_rampup_ratio)
        metrics = {
            "loss": loss / examples.y[0].size,
            "grad_norm": optax.tree.norm(grads),
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

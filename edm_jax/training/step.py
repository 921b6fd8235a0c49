"""The training step: a pure function of (state, batch, key), the same under every engine."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from edm_jax import objectives, randomness
from edm_jax.model import Model
from edm_jax.objectives import importance, uncertainty, variational
from edm_jax.training import averages as ema
from edm_jax.training import bins
from edm_jax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def example_keys(
    key: jax.Array, step: jax.Array, count: int, axis_name: str | None = None
) -> jax.Array:
    """[count] typed keys of the examples of a step, each by its place in the global batch.

    Args:
      key: of the run.
      step: [] the step's number, from 0.
      count: examples here.
      axis_name: mapped axis over which the batch is spread; None when all of it is here.
    """
    index = jnp.arange(count, dtype=jnp.int32)
    if axis_name is not None:
        index += jax.lax.axis_index(axis_name) * count
    return randomness.fold_in(jax.random.fold_in(key, step), index)


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
      level: [b] int32, which level of a table sigma is; None for continuous ones.
      importance: [b] factors of the loss that undo how the levels were chosen, or None.
    """

    y: jax.Array
    sigma: jax.Array
    noise: jax.Array
    class_labels: jax.Array | None = None
    augment_labels: jax.Array | None = None
    dropout_keys: jax.Array | None = None
    level: jax.Array | None = None
    importance: jax.Array | None = None


def make_draw(
    objective: objectives.Objective,
    augment: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
) -> Callable[[Batch, jax.Array], Examples]:
    """The draws of a step: (batch, keys [b]) -> Examples, each example from its own key.

    Args:
      objective: its distribution of noise levels. Where it has a table of them, `draw` also takes
        the history of losses to choose levels by.
      augment: (keys [b], images [b, H, W, C]) -> (images, labels [b, A]), or None.
    """

    def noise_level(keys, history):
        if objective.levels is None:
            return jax.vmap(objective.draw)(keys), None, None
        u, factor = randomness.uniform(keys), None
        if history is None:
            level = jnp.floor(u * len(objective.levels)).astype(jnp.int32)
        else:
            level, factor = importance.choose(history, u)
        return jnp.asarray(objective.levels, jnp.float32)[level], level, factor

    def draw(batch: Batch, keys: jax.Array, history: importance.History | None = None) -> Examples:
        y = batch["images"].astype(jnp.float32) / 127.5 - 1.0
        keys = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        augment_labels = None
        if augment is not None:
            y, augment_labels = augment(keys[:, 2], y)
        sigma, level, factor = noise_level(keys[:, 0], history)
        return Examples(
            y=y,
            sigma=sigma,
            noise=randomness.normal(keys[:, 1], y.shape[1:]),
            class_labels=batch["labels"] if batch["labels"].shape[1] else None,
            augment_labels=augment_labels,
            dropout_keys=keys[:, 3],
            level=level,
            importance=factor,
        )

    return draw


def make_train_step(
    model: Model,
    draw: Callable[..., Examples],
    weight: Callable[[jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    ema_halflife: float,
    ema_rampup_ratio: float | None = 0.05,
    averages: dict[str, ema.Share] | None = None,
    bound: variational.Bound | None = None,
    bound_weight: float = 1e-3,
    loss_scale: float = 1.0,
    rounds: int = 1,
    shards: int = 1,
    unroll: bool = False,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds the step: draw, denoise, weigh, average over devices, Adam, moving averages.

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
      averages: further averages that the state holds, see `ema.shares`.
      bound: teach the network's second half of channels the variance, by L_hybrid over this table.
      bound_weight: the weight of the bound in it.
      loss_scale: a factor of the loss in the backward pass, undone on the gradients, so that
        float16 does not underflow; it changes no update.
      rounds: microbatches per step; the gradient is that of the whole batch.
      shards: blocks of rows to take each microbatch from (`engines.Engine.shards`).
      unroll: write the rounds out rather than loop over them.
      axis_name: mapped axis to average over; None when one program sees the whole batch.

    Returns:
      step(state, batch, key) -> (state, metrics). `batch` holds `images` [b, H, W, C] uint8 and
      `labels` [b, L] float32; `key` is the run's key, the same at every step. Metrics are float32
      scalars: `loss` (mean over all elements), `grad_norm` and `ema_beta`; and those of
      `bins.by_sigma`.
    """
    main_share = ema.by_halflife(batch_size, ema_halflife, ema_rampup_ratio)

    def element_loss(params: Any, e: Examples) -> jax.Array:
        bound_model = model.replace(params=params)
        conditions = e.class_labels, e.augment_labels, e.dropout_keys
        if bound is None:
            denoise = bound_model.denoiser(*conditions)
            return objectives.loss(denoise, e.y, e.sigma, e.noise, weight)
        both = bound_model.denoiser_with_variance(*conditions)
        return variational.hybrid_loss(
            both, e.y, e.sigma, e.noise, weight, bound, e.level, bound_weight
        )

    def objective(trained: Any, state: TrainState, e: Examples) -> tuple[jax.Array, jax.Array]:
        parts = state.with_trained(trained)
        each = element_loss(parts.params, e).mean(range(1, e.y.ndim))
        counted = each
        if parts.uncertainty is not None:
            counted = uncertainty.loss(parts.uncertainty, e.sigma, counted)
        if e.importance is not None:
            counted = counted * e.importance
        return loss_scale * e.y[0].size * counted.sum(), each

    gradient = jax.grad(objective, has_aux=True)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        rows = batch["images"].shape[0]
        keys = example_keys(key, state.step, rows, axis_name)
        history = () if state.history is None else (state.history,)
        examples = draw(batch, keys, *history)

        trained = state.trained()
        if rounds == 1:
            grads, each = gradient(trained, state, examples)
        else:

            def add(total, part):
                grads, each = gradient(trained, state, part)
                return jax.tree.map(jnp.add, total, grads), each

            zeros = jax.tree.map(jnp.zeros_like, trained)
            parts = microbatches(examples, rounds, shards)
            grads, each = jax.lax.scan(add, zeros, parts, unroll=rounds if unroll else 1)
            # Back from the order of the rounds to that of the batch.
            each = jnp.moveaxis(each.reshape(rounds, shards, -1), 0, 1).reshape(-1)
        sigma, level, factor = examples.sigma, examples.level, examples.importance
        loss = (each if factor is None else each * factor).mean()
        grads = jax.tree.map(lambda g: g / (rows * loss_scale), grads)
        by_sigma = bins.by_sigma(sigma, each)
        if axis_name is not None:
            loss, grads = jax.lax.pmean((loss, grads), axis_name)
            by_sigma = jax.lax.psum(by_sigma, axis_name)

        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        new_state = state.with_trained(optax.apply_updates(trained, updates))
        if state.history is not None:
            if axis_name is not None:
                gather = functools.partial(jax.lax.all_gather, axis_name=axis_name, tiled=True)
                level, each = gather(level), gather(each)
            new_state = new_state.replace(history=importance.update(state.history, level, each))
        share = main_share(state.step)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "ema_beta": 1.0 - share,
            **by_sigma,
        }
        new_state = new_state.replace(
            step=state.step + 1,
            ema=ema.update(state.ema, new_state.params, share),
            averages={
                name: ema.update(state.averages[name], new_state.params, further(state.step))
                for name, further in (averages or {}).items()
            },
            opt_state=opt_state,
        )
        return new_state, metrics

    return step

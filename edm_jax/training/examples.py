"""What a step begins with: its keys, data and conditions out of a batch, and cuts of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from edm_jax import latents, randomness

Batch = dict[str, jax.Array]
# (batch, keys [b, 2]) -> (y, conditions), see `prepare`.
Prepare = Callable[[Batch, jax.Array], tuple[Any, dict[str, Any]]]


def example_keys(
    key: jax.Array, step: jax.Array, count: int, *, axis_name: str | None = None
) -> jax.Array:
    """The typed keys of the examples of a step, each by its place in the global batch.

    Args:
      key: of the run.
      step: [] the step's number, from 0.
      count: examples here.
      axis_name: mapped axis over which the batch is spread; None when all of it is here.

    Returns:
      [count, 4]: for the noise level, the noise, the augmentation and dropout.
    """
    index = jnp.arange(count, dtype=jnp.int32)
    if axis_name is not None:
        index += jax.lax.axis_index(axis_name) * count
    keys = randomness.fold_in(jax.random.fold_in(key, step), index)
    return jax.vmap(lambda key: jax.random.split(key, 4))(keys)


def prepare(
    augment: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
    *,
    of_latents: bool = False,
) -> Prepare:
    """From a batch to data in [-1, 1] and what the model is given beside it.

    Args:
      augment: (keys [b], images [b, H, W, C]) -> (images, labels [b, A]), or None.
      of_latents: the data are means and deviations of latents, each drawn anew (`latents.draw`).

    Returns:
      (batch, keys [b, 2]) -> (y, conditions). The batch holds `images` [b, H, W, C] uint8 and
      `labels` [b, L] float32; of an example's keys the first is for augmentation, or for the
      latents, and the second for dropout. y is [b, H, W, C] float32, and the conditions are those
      of `Model.denoiser`.
    """

    def prepared(batch: Batch, keys: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        if of_latents:
            y = latents.draw(keys[:, 0], batch["images"])
        else:
            y = batch["images"].astype(jnp.float32) / 127.5 - 1.0
        conditions: dict[str, Any] = {"dropout_keys": keys[:, 1]}
        if batch["labels"].shape[1]:
            conditions["class_labels"] = batch["labels"]
        if augment is not None:
            y, conditions["augment_labels"] = augment(keys[:, 0], y)
        return y, conditions

    return prepared


def microbatches(tree: Any, rounds: int, shards: int) -> Any:
    """[b, ...] -> [rounds, b / rounds, ...], each round with rows of every one of `shards` blocks.

    A plain split would put a round on some of the devices only, when one program sees all rows.

    Args:
      tree: of arrays [b, ...].
      rounds: how many microbatches.
      shards: blocks of rows to take each from (`engines.Engine.shards`).
    """

    def split(a):
        a = a.reshape(shards, rounds, -1, *a.shape[1:])
        return jnp.moveaxis(a, 1, 0).reshape(rounds, -1, *a.shape[3:])

    return jax.tree.map(split, tree)


def joined(tree: Any, shards: int) -> Any:
    """The inverse of `microbatches`: [rounds, b / rounds, ...] -> [b, ...].

    Args:
      tree: of arrays [rounds, b / rounds, ...].
      shards: as for `microbatches`.
    """

    def join(a):
        a = a.reshape(a.shape[0], shards, -1, *a.shape[2:])
        return jnp.moveaxis(a, 0, 1).reshape(-1, *a.shape[3:])

    return jax.tree.map(join, tree)

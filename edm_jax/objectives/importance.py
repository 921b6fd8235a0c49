"""Importance sampling of discrete noise levels: levels whose loss is large are drawn more often."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

DEPTH = 10  # losses kept of each level
UNIFORM = 1e-3  # the share of draws that ignore them


class History(NamedTuple):
    """The newest losses of every level.

    losses: [T, DEPTH] float32, a ring for each level.
    count: [T] int32, how many a level has had so far.
    """

    losses: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a tuple's method, hidden here


def empty(num_levels: int) -> History:
    """The history before the first step."""
    return History(jnp.zeros((num_levels, DEPTH)), jnp.zeros(num_levels, jnp.int32))


def probabilities(history: History) -> jax.Array:
    """How likely each level is: p_k ~ sqrt(E L_k^2) (Nichol and Dhariwal 2021, eq. 18).

    Uniform until every level has a full history.

    Returns:
      [T], of sum 1.
    """
    size = len(history.count)
    p = jnp.sqrt((history.losses**2).mean(1))
    p = (1.0 - UNIFORM) * p / p.sum() + UNIFORM / size
    return jnp.where((history.count >= DEPTH).all(), p, 1.0 / size)


def choose(history: History, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Levels by `probabilities`, and the factors that make their mean loss unbiased.

    Args:
      history: the losses so far.
      u: [B] uniform in [0, 1).

    Returns:
      level [B] int32 and 1 / (T p_level) [B].
    """
    p = probabilities(history)
    cumulative = jnp.cumsum(p)
    level = jnp.searchsorted(cumulative, u * cumulative[-1], side="right").astype(jnp.int32)
    level = jnp.minimum(level, len(p) - 1)
    return level, 1.0 / (len(p) * p[level])


def update(history: History, level: jax.Array, loss: jax.Array) -> History:
    """Notes the losses of a batch, in its order.

    Args:
      history: before.
      level: [B] indices.
      loss: [B] the losses there, without importance weights.
    """
    same = level[:, None] == level[None, :]
    index = jnp.arange(len(level))
    earlier = (same & (index[None, :] < index[:, None])).sum(1)
    later = same.sum(1) - earlier - 1
    place = (history.count[level] + earlier) % DEPTH
    # Where a level comes more than DEPTH times, the last ones stay; others fall off the table.
    row = jnp.where(later < DEPTH, level, len(history.count))
    return History(
        history.losses.at[row, place].set(jax.lax.stop_gradient(loss), mode="drop"),
        history.count.at[level].add(1),
    )

"""How an objective chooses noise levels: from a distribution, from a table, from its hard ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness
from edm_jax.objectives import importance
from edm_jax.objectives.noise import NoiseDistribution


class Levels(NamedTuple):
    """A way to choose noise levels, which may learn from the losses.

    Attributes:
      init: () -> what it keeps, a pytree.
      draw: (kept, keys [b]) -> (sigma [b], level [b] int32, factor [b]): which entry of a table
        sigma is, or None for continuous ones, and what undoes in the mean how it was chosen, or
        None for 1.
      update: (kept, level, each, gather) -> kept, after losses `each` [b].
    """

    init: Callable[[], Any]
    draw: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array | None, jax.Array | None]]
    update: Callable[..., Any]


def _nothing() -> tuple[()]:
    return ()


def _unchanged(kept: Any, *_: Any) -> Any:
    return kept


def continuous(distribution: NoiseDistribution) -> Levels:
    """Levels of a distribution."""

    def draw(kept, keys):
        return jax.vmap(lambda key: distribution(key))(keys), None, None

    return Levels(_nothing, draw, _unchanged)


def uniform(table: np.ndarray) -> Levels:
    """All levels of a table equally often.

    Args:
      table: [T] noise levels.
    """

    def draw(kept, keys):
        level = jnp.floor(randomness.uniform(keys) * len(table)).astype(jnp.int32)
        return jnp.asarray(table, jnp.float32)[level], level, None

    return Levels(_nothing, draw, _unchanged)


def by_importance(table: np.ndarray) -> Levels:
    """Levels of a table, those of large loss more often (Nichol and Dhariwal 2021, section 3.3).

    Args:
      table: [T] noise levels.
    """

    def draw(history, keys):
        level, factor = importance.choose(history, randomness.uniform(keys))
        return jnp.asarray(table, jnp.float32)[level], level, factor

    def update(history, level, each, gather):
        return importance.update(history, *gather((level, each)))

    return Levels(lambda: importance.empty(len(table)), draw, update)

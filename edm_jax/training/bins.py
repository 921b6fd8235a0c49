"""The loss by noise level: summed into bins inside the step, read with its other metrics."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

LOW, HIGH, COUNT = 1e-3, 1e3, 24  # noise levels beyond them count to the outermost bins
SUMS, COUNTS = "loss_by_sigma", "count_by_sigma"


def centers() -> np.ndarray:
    """[COUNT] the noise level in the middle of each bin, evenly spread in ln sigma."""
    edges = np.linspace(np.log(LOW), np.log(HIGH), COUNT + 1)
    return np.exp(0.5 * (edges[:-1] + edges[1:]))


def by_sigma(sigma: jax.Array, loss: jax.Array) -> dict[str, jax.Array]:
    """Sums and counts of losses by noise level.

    Args:
      sigma: [b] noise levels.
      loss: [b] a loss each.

    Returns:
      `loss_by_sigma` and `count_by_sigma`, [COUNT] float32.
    """
    place = (jnp.log(sigma) - np.log(LOW)) * (COUNT / np.log(HIGH / LOW))
    index = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, COUNT - 1)
    one_hot = (index[:, None] == jnp.arange(COUNT)).astype(jnp.float32)
    return {SUMS: (one_hot * loss[:, None]).sum(0), COUNTS: one_hot.sum(0)}


def merge(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, list[float | None]]:
    """The mean losses of several steps as lists for JSON; None where a bin is empty.

    >>> two = {"loss_by_sigma": np.array([3.0, 0.0]), "count_by_sigma": np.array([1.0, 0.0])}
    >>> merge([two, two])
    {'loss_by_sigma': [3.0, None], 'count_by_sigma': [2, 0]}
    """
    sums, counts = (np.sum([part[name] for part in parts], axis=0) for name in (SUMS, COUNTS))
    return {
        SUMS: [float(f"{s / n:.6g}") if n else None for s, n in zip(sums, counts)],
        COUNTS: [int(n) for n in counts],
    }

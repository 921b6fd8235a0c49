"""Several training steps in one program, for networks that are done before the next is sent off."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from edm_jax.training.examples import Batch
from edm_jax.training.state import TrainState
from edm_jax.training.step import Metrics


def in_one_call(
    step: Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]],
) -> Callable[[TrainState, Sequence[Batch], jax.Array], tuple[TrainState, Metrics]]:
    """Makes one program of several steps.

    Args:
      step: (state, batch, key) -> (state, metrics), made by `make_train_step`.

    Returns:
      steps(state, batches, key) -> (state, metrics): a step with each of `batches` in turn, and
      the same numbers as one call for each; the metrics are stacked, [len(batches), ...].
    """

    def steps(
        state: TrainState, batches: Sequence[Batch], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        stacked = lambda parts: jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        if len(batches) == 1:
            state, metrics = step(state, batches[0], key)
            return state, stacked([metrics])
        return jax.lax.scan(lambda now, batch: step(now, batch, key), state, stacked(batches))

    return steps


def grouped(batches: Iterable[Any], start: int, size: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Puts together the batches of the steps that a call takes.

    Args:
      batches: of the steps after `start`.
      start: steps taken before.
      size: steps in a call; the first and the last call may have fewer.

    Yields:
      The last step of a call, a multiple of `size` or the run's last, and its batches.

    >>> list(grouped("abcde", 3, 2))
    [(4, ('a',)), (6, ('b', 'c')), (8, ('d', 'e'))]
    """
    taken: list[Any] = []
    for step, batch in enumerate(batches, start + 1):
        taken.append(batch)
        if step % size == 0:
            yield step, tuple(taken)
            taken.clear()
    if taken:
        yield step, tuple(taken)

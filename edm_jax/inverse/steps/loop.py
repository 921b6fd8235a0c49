"""The loop that step rules share: rows of numbers, and a step that is not linear in D and noise."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, randomness
from edm_jax.samplers import Loop

Start = Literal["noise", "measurement"]


def loop(
    rows: Mapping[str, Any],
    step: Callable[..., jax.Array],
    *,
    start: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    draws: int = 1,
    variance: bool = False,
) -> Loop:
    """A sampler of one step rule.

    Args:
      rows: name -> [K] float64 numbers, an entry a step; among them `sigma`, the descending level
        of each evaluation.
      step: (denoise, x, *draws, **row) -> x'.
      start: (noise, sigma_0) -> x; None is sigma_0 noise.
      draws: how many standard normal draws a step takes.
      variance: whether the denoiser returns (D, v).

    Returns:
      The loop.
    """
    nfe = len(rows["sigma"])

    def run(denoise, noise, keys):
        def body(x, row):
            index, numbers = row
            noises = draw(keys, index, x, draws) if draws else ()
            return jnp.asarray(step(denoise, x, *noises, **numbers), x.dtype), None

        numbers = {name: jnp.asarray(values, noise.dtype) for name, values in rows.items()}
        first = numbers["sigma"][0]
        x = first * noise if start is None else start(noise, first)
        x0 = jax.lax.scan(body, x, (jnp.arange(1, nfe + 1), numbers))[0]
        return x0, jnp.full(len(noise), nfe, jnp.int32)

    return Loop(run, nfe=nfe, stochastic=draws > 0, variance=variance)


def draw(keys: jax.Array, row: jax.Array, like: jax.Array, count: int) -> list[jax.Array]:
    """Standard normal noise of a row, from `fold_in(key, row)`; several fold in 0, 1, ... again."""
    keys = randomness.fold_in(keys, row)
    streams = [keys] if count == 1 else [randomness.fold_in(keys, i) for i in range(count)]
    return [randomness.normal_like(stream, like) for stream in streams]


def check_travel(length: int, repeats: int) -> None:
    """Raises ValueError unless both are positive integers."""
    for name, value in (("travel_length", length), ("travel_repeats", repeats)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def travel(
    levels: int, length: int, repeats: int, *, last: bool = False
) -> list[tuple[int, int, int]]:
    """The way of RePaint and DDNM down the levels, with jumps back up.

    At every `length`-th level from the end it goes up by `length`, `repeats` - 1 times.

    >>> travel(3, 1, 2)
    [(0, 1, 0), (0, 1, 1), (1, 2, 1), (1, 2, 2), (2, 3, 3)]

    Args:
      levels: N; level 0 is the start and level N is sigma = 0.
      length: of a jump.
      repeats: how often each stretch is gone through.
      last: whether it goes up from the end too, and not from `length` above it.

    Returns:
      (from, to, after the jump) of each evaluation; the last two are the same without a jump.
    """
    first = 0 if last else 1
    left = {levels - j: repeats - 1 for j in range(first, levels - length + 1, length)}
    here, path = 0, []
    while here < levels:
        to = after = here + 1
        if left.get(to, 0) > 0:
            left[to] -= 1
            after = to - length
        path.append((here, to, after))
        here = after
    return path


def check_grid(sigmas: Any, eta: float) -> np.ndarray:
    """Returns a grid that descends to 0, or above, and checks the amount of noise, in [0, 1]."""
    checks.between("eta", eta, 0.0, 1.0)
    return checks.descending(sigmas)

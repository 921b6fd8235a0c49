"""Randomness that belongs to the sample: one key per image, made from its seed.

Image i depends on seed i and on nothing else: not on the batch size, not on its neighbours, not
on the number of devices. Every draw below is made under `jax.vmap` from one typed key per sample,
and independent draws of one sample come from `fold_in(keys, index)`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from edm_jax.checks import check_keys

# Counter-based and indifferent to vmap. The hardware generators ("rbg") are not: under vmap a
# draw there depends on the neighbours, which is what this module exists to rule out.
IMPLEMENTATION = "threefry2x32"


def sample_keys(seeds: Sequence[int] | np.ndarray | jax.Array) -> jax.Array:
    """Makes one typed key per sample from integer seeds.

    Args:
      seeds: [B] integers in [0, 2**32). Traced seeds cannot be checked and wrap around.

    Returns:
      [B] typed keys.

    Raises:
      ValueError: `seeds` is not one-dimensional, not of integers, or out of range.

    >>> keys = sample_keys([7, 8, 9])
    >>> bool(jnp.array_equal(normal(keys, (2,))[1:2], normal(sample_keys([8]), (2,))))
    True
    """
    if not isinstance(seeds, jax.core.Tracer):
        # Python ints beyond int64 would become an object array: check them as they are.
        seeds = np.asarray(list(seeds) if isinstance(seeds, range) else seeds)
        if seeds.ndim != 1 or (seeds.size and seeds.dtype.kind not in "iu"):
            raise ValueError(
                f"seeds must be a one-dimensional sequence of integers in [0, 2**32), got {seeds!r}"
            )
        outside = [int(s) for s in seeds.ravel() if not 0 <= int(s) < 2**32]
        if outside:
            raise ValueError(f"seeds must lie in [0, 2**32), got {outside[0]}")
        seeds = seeds.astype(np.uint32)
    elif seeds.ndim != 1 or not jnp.issubdtype(seeds.dtype, jnp.integer):
        raise ValueError(f"seeds must be a one-dimensional array of integers, got {seeds.aval}")
    return _keys(jnp.asarray(seeds).astype(jnp.uint32))


def fold_in(keys: jax.Array, data: int | np.ndarray | jax.Array) -> jax.Array:
    """Derives new keys: key and data broadcast against each other.

    Args:
      keys: [] or [B] typed keys. They stay usable for other values of `data`.
      data: [] or [B] integers: the index of the draw, of the step, of the example.

    Returns:
      [] or [B] typed keys.

    >>> fold_in(jax.random.key(0), jnp.arange(3)).shape  # one key per example of a batch
    (3,)
    """
    check_keys(keys, dimensions=(0, 1))
    data = jnp.asarray(data)
    if not jnp.issubdtype(data.dtype, jnp.integer):
        raise ValueError(f"data must be integers, got dtype {data.dtype}")
    shape = jnp.broadcast_shapes(keys.shape, data.shape)
    if not shape:
        return jax.random.fold_in(keys, data)
    return _folded(keys, data)


def split(keys: jax.Array, count: int = 2) -> tuple[jax.Array, ...]:
    """Derives keys for draws that must not share theirs, such as a start and the path from it.

    >>> for_start, for_path = split(sample_keys([7, 8, 9]))
    >>> for_start.shape, bool((for_start == for_path).any())
    ((3,), False)

    Args:
      keys: [B] typed keys; consumed.
      count: How many keys to make of each, at least 1.

    Returns:
      `count` arrays of [B] typed keys; sample i of each depends on key i alone.

    Raises:
      ValueError: count is no positive integer, or keys are none.
    """
    check_keys(keys)
    if not (isinstance(count, (int, np.integer)) and count >= 1):
        raise ValueError(f"count must be a positive integer, got {count!r}")
    return _splits(keys, count)


def normal(keys: jax.Array, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Draws standard normal noise, each sample from its own key.

    Args:
      keys: [B] typed keys; consumed.
      shape: The shape of one sample, without the batch.
      dtype: A floating dtype.

    Returns:
      [B, *shape] standard normal values.
    """
    check_keys(keys)
    return _draw(keys, jax.random.normal, tuple(shape), dtype)


def normal_like(keys: jax.Array, like: Any) -> Any:
    """Draws standard normal noise like a state, each sample from its own key.

    Args:
      keys: [B] typed keys; consumed.
      like: An array [B, ...], or a tree of such, or their `jax.ShapeDtypeStruct`s.

    Returns:
      The same structure, shapes and dtypes. One array is `normal(keys, shape)`; of several, array
      i in the order of `jax.tree.leaves` is drawn from `fold_in(keys, i)`.
    """
    return leafwise(lambda keys, leaf: normal(keys, leaf.shape[1:], dtype=leaf.dtype), keys, like)


def leafwise(draw: Callable[[jax.Array, Any], Any], keys: jax.Array, like: Any) -> Any:
    """Draws for every array of a tree, each from keys of its own.

    Args:
      draw: (keys [B], one array of `like`) -> its draw.
      keys: [B] typed keys; consumed.
      like: An array [B, ...], or a tree of such.

    Returns:
      The same structure. A single array is drawn from the keys themselves; of several, array i in
      the order of `jax.tree.leaves` from `fold_in(keys, i)`.
    """
    leaves, structure = jax.tree.flatten(like)
    each = [keys] if len(leaves) == 1 else [fold_in(keys, i) for i in range(len(leaves))]
    return jax.tree.unflatten(structure, map(draw, each, leaves))


def uniform(
    keys: jax.Array,
    shape: Sequence[int] = (),
    *,
    dtype: DTypeLike = jnp.float32,
    minval: float = 0.0,
    maxval: float = 1.0,
) -> jax.Array:
    """Draws uniform values in [minval, maxval), each sample from its own key.

    Args:
      keys: [B] typed keys; consumed.
      shape: The shape of one sample, without the batch.
      dtype: A floating dtype.
      minval: The lower end, included.
      maxval: The upper end, excluded.

    Returns:
      [B, *shape] values.
    """
    check_keys(keys)
    return _draw(keys, jax.random.uniform, tuple(shape), dtype, minval, maxval)


def rademacher(
    keys: jax.Array, shape: Sequence[int], *, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Draws random signs, each sample from its own key: the probes of Hutchinson's trace.

    Args:
      keys: [B] typed keys; consumed.
      shape: The shape of one sample, without the batch.
      dtype: The dtype of the signs.

    Returns:
      [B, *shape] values, each -1 or 1.
    """
    check_keys(keys)
    return _draw(keys, jax.random.rademacher, tuple(shape), dtype)


# One program for each call outside `jax.jit`, and nothing of its own within.
_compiled = functools.partial(jax.jit, inline=True)


@_compiled
def _keys(seeds: jax.Array) -> jax.Array:
    return jax.vmap(lambda seed: jax.random.key(seed, impl=IMPLEMENTATION))(seeds)


@_compiled
def _folded(keys: jax.Array, data: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in)(*jnp.broadcast_arrays(keys, data))


@functools.partial(_compiled, static_argnums=1)
def _splits(keys: jax.Array, count: int) -> tuple[jax.Array, ...]:
    return tuple(jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys))


@functools.partial(_compiled, static_argnums=(1, 2, 3))
def _draw(
    keys: jax.Array, draw: Callable, shape: tuple[int, ...], dtype: DTypeLike, *limits: ArrayLike
) -> jax.Array:
    # Drawn flat: the same numbers, and XLA compiles them in a quarter of the time.
    values = jax.vmap(lambda key: draw(key, (math.prod(shape),), dtype, *limits))(keys)
    return values.reshape(*keys.shape, *shape)

"""How much each element of an example counts, and means over them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Weighted(NamedTuple):
    """Data whose elements do not count alike: latitudes, or a mask of what is known.

    A denoising objective draws its examples from it as from plain data. The loss of an example
    becomes the mean sum(w e) / sum(w) of its elements' losses e, and what is minimised their sum
    sum(w e). An example of no weight at all has the loss 0 and moves nothing.

    Attributes:
      y: [b, ...] data, or a pytree. The model sees all of it: it must be finite where the weight
        is 0.
      weight: w, not negative: of y's structure, each leaf broadcasting to y's.
    """

    y: Any
    weight: Any

    def split(self) -> tuple[Any, Any]:
        """y and its weights, of y's shapes, float32 (float64 for float64 data)."""
        if not same_structure(self.weight, self.y):
            raise ValueError(
                f"weight must have the structure of y, {jax.tree.structure(self.y)}, "
                f"got {jax.tree.structure(self.weight)}"
            )
        return self.y, jax.tree.map(_broadcast_weight, self.weight, self.y)


def _broadcast_weight(weight: Any, y: Any) -> jax.Array:
    weight, shape = jnp.asarray(weight, jnp.promote_types(y.dtype, jnp.float32)), y.shape
    fits = all(length in (1, whole) for length, whole in zip(weight.shape[::-1], shape[::-1]))
    if not fits or weight.ndim > len(shape):
        raise ValueError(f"weight must broadcast to the shape of y, {shape}, got {weight.shape}")
    return jnp.broadcast_to(weight, shape)


def same_structure(a: Any, b: Any) -> bool:
    """Whether two pytrees have one structure."""
    structure: Any = jax.tree.structure(a)
    return bool(structure == jax.tree.structure(b))


def weighted_mean(values: Any, *, weight: Any = None) -> tuple[jax.Array, jax.Array | int]:
    """The weighted mean over each example's elements, and the sum of their weights.

    Args:
      values: [b, ...], or a pytree of such arrays.
      weight: of the structure and shapes of `values`, not negative; None is 1 for every element.

    Returns:
      The mean [b], 0 where all weights are, and their sum: [b], or the number of elements.
    """
    if weight is None:
        size = sum(leaf[0].size for leaf in jax.tree.leaves(values))
        return _summed(values) / size, size
    total = _summed(weight)
    # Of no weight at all: 0 / 1, whose gradient is no NaN.
    mean = _summed(jax.tree.map(jnp.multiply, weight, values)) / jnp.where(total > 0, total, 1.0)
    return mean, total


def _summed(values: Any) -> jax.Array:
    """The sum over each example's elements, of [b, ...] or a pytree of such arrays: [b]."""
    sums = [leaf.sum(range(1, leaf.ndim)) for leaf in jax.tree.leaves(values)]
    return functools.reduce(jnp.add, sums)

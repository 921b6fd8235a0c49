"""What many functions ask of their arguments, and the shapes they share: written once, here."""

import difflib
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax.quoting import quoted

T = TypeVar("T")

# (x [B, ...], sigma [] or [B]) -> x0 of x's shape: the currency of this library.
Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
# (x, sigma) -> (x0, v), of x's shape both: a denoiser that also predicts a variance.
DenoiserWithVariance = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
# (x [B, ...], sigma [] or [B], rho likewise) -> D of x's shape, for a jump from sigma to rho.
FlowMap = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
# (x [B, ...], sigma [] or [B]) -> logits [B, L] of the classes that the clean data may be of.
Classifier = Callable[[jax.Array, jax.Array], jax.Array]


class Remembering(NamedTuple):
    """A denoiser that remembers something of its calls, from each row of a tableau to the next.

    Attributes:
      init: x `[B, ...]` -> the memory before the first call, any pytree.
      denoise: (x `[B, ...]`, sigma `[]`, memory) -> (x0 of x's shape, the memory after it, of the
        same structure and shapes).
    """

    init: Callable[[Any], Any]
    denoise: Callable[[Any, jax.Array, Any], tuple[Any, Any]]


def column(sigma: jax.Array, x: jax.Array) -> jax.Array:
    """Shapes noise levels so that they multiply a batch.

    Args:
      sigma: [] or [B], or other values of this shape.
      x: [B, ...] the batch.

    Returns:
      [] or [B, 1, ...], in x's dtype.

    Raises:
      ValueError: sigma has neither shape.
    """
    sigma = jnp.asarray(sigma, x.dtype)
    if not x.ndim or sigma.shape not in ((), x.shape[:1]):
        raise ValueError(f"sigma must have shape [] or {x.shape[:1]}, got {sigma.shape}")
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - 1) * sigma.ndim)


def spread(sigma: jax.Array, x: jax.Array) -> jax.Array:
    """Shapes noise levels so that they multiply a batch, be they one or several an example.

    Args:
      sigma: [] or [B]; or of x's dimensions, broadcasting to it: a level for every frame, channel
        or element.
      x: [B, ...] the batch.

    Returns:
      [], [B, 1, ...] or sigma's shape, in x's dtype.

    Raises:
      ValueError: sigma has another shape.
    """
    shape = jnp.shape(sigma)
    if len(shape) > 1 and len(shape) == x.ndim:
        if all(length in (1, whole) for length, whole in zip(shape, x.shape)):
            return jnp.asarray(sigma, x.dtype)
    elif x.ndim and shape in ((), x.shape[:1]):
        return column(sigma, x)
    raise ValueError(
        f"sigma must have shape [] or {x.shape[:1]}, or as many dimensions as {x.shape} and "
        f"broadcast to it, got {shape}"
    )


def inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """<a, b> of each sample, `[B, 1, ...]`, so that it multiplies them."""
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)), keepdims=True)


def check_keys(
    keys: Any, batch: int | None = None, *, dimensions: Sequence[int] = (1,), name: str = "keys"
) -> None:
    """Raises ValueError unless `keys` are typed keys of the right shape.

    Args:
      keys: what was given.
      batch: how many there must be; None is any number.
      dimensions: the allowed numbers of dimensions.
      name: what the message calls them.
    """
    dtype = getattr(keys, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"{name} must be typed keys (edm_jax.sample_keys or jax.random.key), "
            f"got {type(keys).__name__} of dtype {dtype}"
        )
    if keys.ndim not in dimensions:
        allowed = " or ".join("[B]" if d else "[]" for d in dimensions)
        raise ValueError(f"{name} must have shape {allowed}, got {keys.shape}")
    if batch is not None and keys.shape != (batch,):
        raise ValueError(f"{name} must have shape [B] = ({batch},), got {keys.shape}")


def check_positive(**arguments: float) -> None:
    """Raises ValueError unless every argument is a positive finite number."""
    for name, value in arguments.items():
        if not (value > 0.0 and np.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def check_range(sigma_min: float, sigma_max: float) -> None:
    """Raises ValueError unless 0 < sigma_min < sigma_max < inf."""
    check_positive(sigma_min=sigma_min, sigma_max=sigma_max)
    if not sigma_min < sigma_max:
        raise ValueError(f"sigma_min must be below sigma_max = {sigma_max}, got {sigma_min}")


def descending(sigmas: ArrayLike, *, name: str = "sigmas", zero: bool = True) -> np.ndarray:
    """Checks a grid of noise levels.

    >>> descending([2, 1, 0]).tolist()
    [2.0, 1.0, 0.0]

    Args:
      sigmas: `[N + 1]`, strictly descending, positive; the last may be 0.
      name: what the message calls it.
      zero: whether the last may be 0.

    Returns:
      float64 `[N + 1]`.

    Raises:
      ValueError: anything else.
    """
    levels = np.asarray(sigmas, np.float64)
    if levels.ndim != 1 or levels.size < 2:
        raise ValueError(f"{name} must be a list of at least two levels, got shape {levels.shape}")
    if not np.isfinite(levels).all():
        raise ValueError(f"{name} must be finite, got {levels}")
    if not (np.diff(levels) < 0).all():
        raise ValueError(f"{name} must descend strictly, got {levels}")
    if levels[-1] < 0 or (levels[-1] == 0 and not zero):
        allowed = "positive or 0" if zero else "positive"
        raise ValueError(f"the last of {name} must be {allowed}, got {levels[-1]}")
    return levels


def between(
    name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Checks that low <= value <= high (low < value if `open_low`), naming the argument."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {quoted(value)}") from None
    if not (low < number if open_low else low <= number) or not number <= high:
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} must lie in {bracket}{low}, {high}], got {value}")
    return number


def one_of(name: str, value: T, allowed: Collection[T]) -> T:
    """Checks that value is one of `allowed`, naming the argument and the nearest word."""
    if value not in allowed:
        words = [str(word) for word in allowed]
        near = difflib.get_close_matches(quoted(value).strip("'"), words, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {quoted(value)}{hint}")
    return value

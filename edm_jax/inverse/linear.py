"""Linear systems in the space of measurements, each sample's by itself."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edm_jax.checks import column, inner
from edm_jax.convolutions import fast_in_loops
from edm_jax.inverse.operators import Map, Operator
from edm_jax.inverse.spectral import Spectral


def _ratio(a: jax.Array, b: jax.Array, going: jax.Array) -> jax.Array:
    """a / b, or 0 where a sample is solved: what rounding has left has no direction."""
    going = going & (b > 0)
    return jnp.where(going, a / jnp.where(going, b, 1.0), 0.0)


def _solved(b: jax.Array) -> jax.Array:
    """The squared residual under which a sample is solved to rounding.

    A step from what rounding has left would add nothing, and its derivative is not finite.
    """
    return (100 * jnp.finfo(b.dtype).eps) ** 2 * inner(b, b)


def conjugate_gradients(matrix: Map, b: jax.Array, iterations: int) -> jax.Array:
    """Solves matrix(u) = b from u = 0, for a symmetric positive matrix.

    Args:
      matrix: u [B, ...] -> of the same shape, linear.
      b: [B, ...].
      iterations: a fixed number, so that it can be differentiated.

    Returns:
      u, of b's shape.
    """

    least = _solved(b)

    def step(_, state):
        u, r, p, size = state
        moved = matrix(p)
        going = size > least
        alpha = _ratio(size, inner(p, moved), going)
        u, r = u + alpha * p, r - alpha * moved
        after = inner(r, r)
        return u, r, r + _ratio(after, size, going) * p, after

    loop = fast_in_loops(functools.partial(jax.lax.fori_loop, 0, iterations, step))
    return loop((jnp.zeros_like(b), b, b, inner(b, b)))[0]


def gmres(matrix: Map, b: jax.Array, iterations: int) -> jax.Array:
    """Solves matrix(u) = b from u = 0 with the least residual, by generalised conjugate residuals.

    The iterates are those of GMRES. The matrix may lack symmetry, as a network's Jacobian does.

    Args:
      matrix: u [B, ...] -> of the same shape, linear.
      b: [B, ...].
      iterations: a fixed number, so that it can be differentiated; the memory grows with it.

    Returns:
      u, of b's shape.
    """
    least, eps = _solved(b), jnp.finfo(b.dtype).eps
    room = jnp.zeros((iterations, *b.shape), b.dtype)

    def step(i, state):
        u, r, directions, images = state
        p, q = r, matrix(r)
        whole = inner(q, q)

        def orthogonal(j, pair):
            p, q = pair
            share = inner(q, images[j])
            return p - share * directions[j], q - share * images[j]

        p, q = jax.lax.fori_loop(0, iterations, orthogonal, (p, q))  # those to come are 0
        size = inner(q, q)
        # Solved, or no direction is left but what rounding makes of those that there were.
        going = (inner(r, r) > least) & (size > eps * whole)
        scale = jnp.where(going, jax.lax.rsqrt(jnp.where(going, size, 1.0)), 0.0)
        p, q = scale * p, scale * q
        alpha = inner(r, q)
        return u + alpha * p, r - alpha * q, directions.at[i].set(p), images.at[i].set(q)

    loop = fast_in_loops(functools.partial(jax.lax.fori_loop, 0, iterations, step))
    return loop((jnp.zeros_like(b), b, room, room))[0]


def pull_back(
    operator: Operator,
    residual: jax.Array,
    push: Callable[[jax.Array], jax.Array],
    pull: Map,
    noise: ArrayLike,
    prior: ArrayLike,
    iterations: int,
) -> jax.Array:
    """A^T (noise I + prior A A^T)^-1 residual, exactly where the singular values are known.

    With noise = 0 and prior = 1 this is the pseudo-inverse.

    Args:
      operator: A.
      residual: [B, ...] in the space of measurements.
      push: x -> A x, of an operator that is not `Spectral`.
      pull: y -> A^T y, likewise.
      noise: [] or [B], not negative.
      prior: [] or [B], positive.
      iterations: of conjugate gradients where the singular values are not known.

    Returns:
      [B, ...], an image.
    """
    if isinstance(operator, Spectral):
        coordinates = operator.from_measurement(residual)
        a, b = _columns(coordinates, noise, prior)
        s = jnp.asarray(operator.values, residual.dtype)
        seen = s > 0
        shrunk = jnp.where(seen, s / jnp.where(seen, a + b * s * s, 1.0), 0.0)
        return operator.to_image(shrunk * coordinates)
    a, b = _columns(residual, noise, prior)
    matrix = lambda u: a * u + b * push(pull(u))
    return pull(conjugate_gradients(matrix, residual, iterations))


def _columns(like: jax.Array, *levels: ArrayLike) -> list[jax.Array]:
    return [column(jnp.asarray(level), like) for level in levels]

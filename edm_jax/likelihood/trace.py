"""The divergence of a vector field by forward-mode products: exactly, or by random probes."""

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, randomness

Probes = Literal["exact", "rademacher", "gaussian"]
PROBES = get_args(Probes)


def draw(
    probes: Probes | jax.Array, x: jax.Array, keys: jax.Array | None, num_probes: int
) -> jax.Array | None:
    """The probes of a batch; probe p of sample i is drawn from `fold_in(keys[i], p)`.

    Args:
      probes: "exact", "rademacher" or "gaussian", or the probes themselves, [P, B, ...].
      x: [B, ...] the batch.
      keys: [B] typed keys, for random probes.
      num_probes: P, how many to draw for each sample.

    Returns:
      [P, B, ...] in x's dtype; None is exact.

    Raises:
      ValueError: an unknown kind, probes of another shape, a missing key, or no probe.
    """
    if not isinstance(probes, str):
        given = jnp.asarray(probes, x.dtype)
        if given.shape[1:] != x.shape or not len(given):
            raise ValueError(f"probes must have shape [P, *{x.shape}], got {given.shape}")
        return given
    checks.one_of("probes", probes, PROBES)
    checks.between("num_probes", num_probes, 1)
    if probes == "exact":
        return None
    if keys is None:
        raise ValueError(f"keys must be given for {probes} probes: [B] typed keys, got None")
    checks.check_keys(keys, len(x))
    make = randomness.rademacher if probes == "rademacher" else randomness.normal
    each = lambda p: make(randomness.fold_in(keys, p), x.shape[1:], dtype=x.dtype)
    return jax.vmap(each)(jnp.arange(num_probes))


def divergence(
    field: Callable[[jax.Array], jax.Array],
    z: jax.Array,
    probes: jax.Array | None,
    *,
    chunk: int = 64,
) -> tuple[jax.Array, jax.Array]:
    """A field and its divergence, tr df/dz of each sample by itself.

    With probes, Hutchinson's estimate v . (df/dz) v (Grathwohl et al. 2019), one for each. Its
    variance for a symmetric J is 2 |J|^2 for Gaussian probes, and less by 2 sum_i J_ii^2 for
    random signs, which are exact where J is diagonal.

    Args:
      field: z [B, ...] -> of z's shape; sample i of z alone decides sample i of it.
      z: [B, ...].
      probes: [P, B, ...], or None for the exact trace: d products of the whole batch.
      chunk: products at once of the exact trace.

    Returns:
      (field(z), the estimates [P, B]; [1, B] for the exact trace).
    """

    def products(tangents):
        push = lambda v: jax.jvp(field, (z,), (v,))
        return jax.vmap(push, out_axes=(None, 0))(tangents)  # the field itself is computed once

    over = tuple(range(2, z.ndim + 1))
    if probes is not None:
        value, along = products(probes)
        return value, jnp.sum(probes * along, axis=over)

    size = int(np.prod(z.shape[1:]))
    count = -(-size // chunk)
    # Chunks of one size; of the directions beyond the last the products are 0.
    starts = np.arange(count) * min(chunk, size)

    def part(start):
        rows = start + jnp.arange(min(chunk, size))
        basis = jax.nn.one_hot(rows, size, dtype=z.dtype).reshape(-1, 1, *z.shape[1:])
        value, along = products(jnp.broadcast_to(basis, (len(rows), *z.shape)))
        return value, jnp.sum(basis * along, axis=(0, *over))

    if count == 1:
        value, trace = part(0)
        return value, trace[None]
    start = jnp.zeros_like(z), jnp.zeros(len(z), z.dtype)

    def add(total, first):
        value, trace = part(first)
        return (value, total[1] + trace), None

    (value, trace), _ = jax.lax.scan(add, start, jnp.asarray(starts))
    return value, trace[None]

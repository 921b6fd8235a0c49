"""The scan over a tableau's rows: any state, any noise, and a function of the registers between."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness
from edm_jax.checks import Remembering
from edm_jax.samplers.tableau import Tableau, is_traced

# What the keys of `between` are made with: no row has this index.
BETWEEN = np.array(2**32 - 1, np.uint32)


class ByRow(NamedTuple):
    """A draw of noise that knows its row, for `draw` of `sample`.

    Attributes:
      function: (row `[]`, keys `[B]`, like) -> noise like the state. Row 0 is the draw for the
        start, k + 1 that of row k; the keys are the samples' own, the same for every row.
    """

    function: Callable[[jax.Array, jax.Array, Any], Any]


def run(
    denoise: Callable[[Any, jax.Array], Any] | Remembering,
    tableau: Tableau,
    noise: Any,
    *,
    keys: jax.Array | None,
    started: bool,
    row_noise: Any,
    draw: Callable[[jax.Array, Any], Any] | ByRow | None,
    between: Callable[[jax.Array, jax.Array | None, tuple], tuple] | None,
    trajectory: bool | np.ndarray,
    unroll: int,
    remat: bool,
) -> Any:
    """Runs a tableau whose arguments are checked.

    Args:
      denoise: (x, sigma `[]`) -> x0, all of the state's structure; or a `Remembering`.
      tableau: concrete or traced.
      noise: the state to start from, a tree of `[B, ...]`.
      keys: `[B]` typed keys, or None where nothing asks for them.
      started: whether `noise` is the first register already, as with `start`.
      row_noise: a tree of `[K + 1, B, ...]`, or None.
      draw: (keys, like) -> noise, a `ByRow`, or None for standard normal noise.
      between: (row, keys, registers) -> registers, or None.
      trajectory: whether to return all states, or the indices of some.
      unroll: rows in one round of the compiled loop.
      remat: whether a gradient keeps few states and computes the others again.

    Returns:
      The sample; with `trajectory` also the states.

    Raises:
      ValueError: a denoiser, a draw or a hook that returns what is not like the state.
    """
    noisy = tableau.stochastic
    nfe, size = tableau.nfe, tableau.registers
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), noise)

    def drawn(row, keys):
        if isinstance(draw, ByRow):
            return draw.function(row, keys, like)
        return (draw or randomness.normal_like)(randomness.fold_in(keys, row), like)

    if draw is not None and noisy:
        _check_like("draw", jax.eval_shape(lambda k: drawn(0, k), keys), like)
    hook = None
    if between is not None:
        hook = _with_keys(between, keys)
        registers = (like,) * size
        _check_like("between", jax.eval_shape(hook, jnp.zeros((), int), registers), registers)
    chosen = None if isinstance(trajectory, bool) else _Chosen(trajectory, nfe)

    dtype = jnp.result_type(*jax.tree.leaves(noise))
    begin = _from_state(tableau) if started else tableau.start
    start, sigma, weights = (
        jnp.asarray(field, dtype) for field in (begin, tableau.sigma, tableau.weights)
    )
    if not noisy:
        start, weights = start[:, :1], weights[:, :, : size + 1]

    def noise_of(row, given):
        if not noisy:
            return ()
        if given is not None:
            return (given,)
        assert keys is not None  # `sample` asks a stochastic tableau for them
        return (drawn(row, keys),)

    def step(carry, row):
        registers, kept, memory = carry
        index, level, table, given = row
        if isinstance(denoise, Remembering):
            denoised, memory = denoise.denoise(registers[0], level, memory)
        else:
            denoised = denoise(registers[0], level)
        denoised = _as_state(denoised, noise)
        vectors = (*registers, denoised, *noise_of(index, given))
        if hook is None:
            registers = _combine(table, vectors)
        else:  # after the last row there is nothing to denoise
            unless_last = lambda r: jax.lax.cond(index < nfe, hook, lambda _, r: r, index, r)
            registers = _combine_around(unless_last, table, vectors, noisy)
        if chosen:
            kept = chosen.put(kept, index, registers[0])
        return (registers, kept, memory), (registers[0] if trajectory is True else None)

    row_noise = row_noise if noisy else None
    vectors = (noise, *noise_of(0, _part(row_noise, 0)))
    if hook is None:
        registers = _combine(start, vectors)
    else:
        at_start = lambda r: hook(jnp.zeros((), int), r)
        registers = _combine_around(at_start, start, vectors, noisy)
    given = _part(row_noise, slice(1, None))
    first = registers[0]
    kept = chosen.put(chosen.empty(like), 0, first) if chosen else ()
    memory = denoise.init(first) if isinstance(denoise, Remembering) else ()
    carry = (registers, kept, memory)
    table_rows = (jnp.arange(1, nfe + 1), sigma, weights, given)
    scan = _scan_in_chunks if remat else jax.lax.scan
    (registers, kept, _), states = scan(step, carry, table_rows, unroll=unroll)
    if chosen:
        return registers[0], chosen.get(kept)
    if trajectory:
        return registers[0], jax.tree.map(
            lambda one, more: jnp.concatenate([one[None], more]), first, states
        )
    return registers[0]


def _scan_in_chunks(step: Callable, carry: Any, rows: tuple, *, unroll: int) -> tuple[Any, Any]:
    """`jax.lax.scan` over K rows, the first of which are 1 ... K, for a gradient in little memory.

    It keeps one carry for each of about sqrt(K) chunks, and for one chunk at a time the carries of
    its rows (Chen et al. 2016).
    """
    count = len(rows[0])
    size = math.isqrt(count - 1) + 1
    padding = -count % size

    def cut(leaf):
        leaf = jnp.pad(leaf, [(0, padding)] + [(0, 0)] * (leaf.ndim - 1))
        return leaf.reshape(-1, size, *leaf.shape[1:])

    def join(leaf):
        return leaf.reshape(-1, *leaf.shape[2:])[:count]

    def unless_padding(carry, row):
        like = jax.eval_shape(step, carry, row)[1]
        skip = lambda carry, _: (carry, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like))
        return jax.lax.cond(row[0] > 0, step, skip, carry, row)

    # Inside of a scan nothing is merged with its repetition anyway.
    again = functools.partial(jax.checkpoint, prevent_cse=False)
    inner = again(unless_padding if padding else step)
    chunk = again(lambda carry, rows: jax.lax.scan(inner, carry, rows, unroll=unroll))
    carry, states = jax.lax.scan(chunk, carry, jax.tree.map(cut, rows))
    return carry, jax.tree.map(join, states)


class _Chosen:
    """Room for the states of some rows: memory of those alone."""

    def __init__(self, rows: np.ndarray, nfe: int):
        different, self.order = np.unique(rows, return_inverse=True)
        self.count = len(different)
        self.slots = np.full(nfe + 1, self.count, np.int32)  # out of range: not put anywhere
        self.slots[different] = np.arange(self.count)

    def empty(self, like):
        return jax.tree.map(lambda leaf: jnp.zeros((self.count, *leaf.shape), leaf.dtype), like)

    def put(self, kept, row, state):
        slot = jnp.asarray(self.slots)[row]
        return jax.tree.map(lambda room, x: room.at[slot].set(x, mode="drop"), kept, state)

    def get(self, kept):
        return jax.tree.map(lambda room: room[self.order], kept)


def _from_state(tableau: Tableau) -> Any:
    """`start` for a state in place of noise: its first column relative to the first register."""
    column = tableau.start[:, :1] / tableau.start[:1, :1]
    library = jnp if is_traced(tableau) else np
    return library.concatenate([column, tableau.start[:, 1:]], axis=1)


def _part(row_noise: Any, part: int | slice) -> Any:
    return jax.tree.map(lambda leaf: leaf[part], row_noise)


def _with_keys(between: Callable, keys: jax.Array | None) -> Callable:
    """(row, registers) -> registers, with keys of its own: those of no row."""
    if keys is None:
        return lambda row, registers: between(row, None, registers)
    own = randomness.fold_in(keys, BETWEEN)
    return lambda row, registers: between(row, randomness.fold_in(own, row), registers)


def _combine(table: jax.Array, vectors: tuple[Any, ...]) -> tuple[Any, ...]:
    """`table @ vectors` by multiply-adds: a dot would run in bfloat16 or TF32 on accelerators."""

    def row(i, first, *others):
        total = table[i, 0].astype(first.dtype) * first
        for j, vector in enumerate(others, start=1):
            total = total + table[i, j].astype(first.dtype) * vector
        return total

    return tuple(
        jax.tree.map(lambda *leaves, i=i: row(i, *leaves), *vectors) for i in range(table.shape[0])
    )


def _combine_around(
    hook: Callable, table: jax.Array, vectors: tuple[Any, ...], noisy: bool
) -> tuple[Any, ...]:
    """The same with a hook before the last of the vectors, the noise, is added."""
    if not noisy:
        return hook(_combine(table, vectors))
    *others, noise = vectors

    def add(weight, register):
        return jax.tree.map(lambda y, z: y + weight.astype(y.dtype) * z, register, noise)

    registers = hook(_combine(table[:, :-1], tuple(others)))
    return tuple(add(table[i, -1], register) for i, register in enumerate(registers))


def _as_state(denoised: Any, state: Any) -> Any:
    """What a denoiser returns, in the state's dtypes."""
    if not _same(denoised, state, jnp.shape):
        shapes, got = (jax.tree.map(jnp.shape, tree) for tree in (state, denoised))
        raise ValueError(f"denoise must return the shape of x, {shapes}, got {got}")
    return jax.tree.map(lambda d, leaf: jnp.asarray(d, leaf.dtype), denoised, state)


def _check_like(name: str, result: Any, like: Any) -> None:
    if not _same(result, like, lambda leaf: (leaf.shape, leaf.dtype)):
        what = "noise like the state" if name == "draw" else "registers like those it is given"
        raise ValueError(f"{name} must return {what}, {describe(like)}, got {describe(result)}")


def _same(one: Any, two: Any, aspect: Callable) -> bool:
    """Whether two trees agree in structure and in an aspect of their leaves."""
    structure: Any = jax.tree.structure(one)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two))
    return structure == jax.tree.structure(two) and all(aspect(a) == aspect(b) for a, b in pairs)


def describe(tree: Any) -> Any:
    """The dtypes and shapes of a tree, for messages: `float32[8, 3]`."""
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)

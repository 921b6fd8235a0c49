"""The one call that runs a sampler: the loop over a tableau's rows, or a loop of its own."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from edm_jax import randomness
from edm_jax.checks import Denoiser, check_keys
from edm_jax.samplers.tableau import Tableau, check, check_shapes, is_traced


@dataclasses.dataclass(frozen=True, repr=False)
class Loop:
    """A sampler that is no tableau: its steps are not linear, or not known beforehand.

    Attributes:
      run: (denoise, noise `[B, ...]`, keys `[B]` or None) -> (sample `[B, ...]`, the evaluations
        it took, int32 `[B]`).
      nfe: network evaluations; None where it depends on the sample.
      stochastic: whether it draws noise on the way, so that `sample` needs keys.
      variance: whether its denoiser returns (D, v), see `preconditioning.with_variance`.
    """

    run: Callable[[Callable[..., Any], jax.Array, jax.Array | None], tuple[jax.Array, jax.Array]]
    nfe: int | None
    stochastic: bool
    variance: bool = False

    def __repr__(self) -> str:
        about = f"nfe={self.nfe}, stochastic={self.stochastic}"
        return f"Loop({about}{', variance=True' if self.variance else ''})"


@overload
def sample(
    denoise: Denoiser,
    sampler: Tableau | Loop,
    noise: jax.Array,
    keys: jax.Array | None = None,
    *,
    row_noise: jax.Array | None = None,
    trajectory: Literal[False] = False,
) -> jax.Array: ...


@overload
def sample(
    denoise: Denoiser,
    sampler: Tableau | Loop,
    noise: jax.Array,
    keys: jax.Array | None = None,
    *,
    row_noise: jax.Array | None = None,
    trajectory: Literal[True],
) -> tuple[jax.Array, jax.Array]: ...


def sample(denoise, sampler, noise, keys=None, *, row_noise=None, trajectory=False):
    """Runs a sampler. A tableau is one `jax.lax.scan`, with the network in the program once.

        Y = start @ [noise; z]
        for every row:   D = denoise(Y[0], sigma),   Y <- weights @ [Y; D; z]

    Composes with `jit`, `vmap`, `grad` and `pmap`; sample i depends on `noise[i]` and `keys[i]`
    alone. A deterministic sampler draws no noise, so its result does not depend on the keys.

    >>> import numpy as np
    >>> tableau = Tableau(np.array([[2.0, 0.0]]), np.array([2.0]), np.array([[[0.0, 1.0, 0.0]]]))
    >>> denoise = lambda x, sigma: x / (1 + sigma**2)     # the ideal denoiser of data N(0, 1)
    >>> sample(denoise, tableau, jnp.ones((1, 2))).tolist()
    [[0.4000000059604645, 0.4000000059604645]]

    Args:
      denoise: (x `[B, ...]`, sigma `[]`, or `[B]` for some loops) -> denoised image, of the shape
        of x; with v for a loop whose `variance` is True.
      sampler: a tableau, concrete or traced as an argument of a jitted function; or a `Loop`.
      noise: `[B, ...]`, standard normal (or what the sampler starts from: its docstring says).
        Its floating dtype is that of the state.
      keys: `[B]` typed keys; only stochastic samplers need them. A tableau's draw for `start` is
        `fold_in(key, 0)`, the one for row k `fold_in(key, k + 1)`.
      row_noise: `[K + 1, B, ...]`, used in place of these draws: common random numbers, tests.
        Tableaux only.
      trajectory: whether to return the states too; they are not kept otherwise. Tableaux only.

    Returns:
      The sample `[B, ...]`; with `trajectory` also the states `[K + 1, B, ...]`: state k is where
      row k evaluates the denoiser, and the last one is the sample.

    Raises:
      ValueError: a malformed tableau, a stochastic sampler without keys, arguments of wrong shapes
        or not of this sampler.
    """
    if not isinstance(sampler, (Tableau, Loop)):
        raise ValueError(
            f"sampler must be a Tableau or a Loop, such as samplers.heun(sigmas), got {sampler!r}"
        )
    noise = jnp.asarray(noise)
    if noise.ndim < 1 or not jnp.issubdtype(noise.dtype, jnp.floating):
        raise ValueError(
            f"noise must be a floating array [B, ...], got {noise.dtype}{list(noise.shape)}"
        )
    if sampler.stochastic and keys is None and row_noise is None:
        kind = type(sampler).__name__
        raise ValueError(f"keys must be given for a stochastic {kind}: [B] typed keys, got None")
    if isinstance(sampler, Loop):
        if trajectory or row_noise is not None:
            name, value = ("trajectory", True) if trajectory else ("row_noise", "an array")
            raise ValueError(f"{name} must be left out for a Loop, got {value}")
        if sampler.stochastic:
            check_keys(keys, noise.shape[0])
        return sampler.run(denoise, noise, keys)[0]
    return _run_tableau(denoise, sampler, noise, keys, row_noise, trajectory)


def _run_tableau(
    denoise: Denoiser,
    tableau: Tableau,
    noise: jax.Array,
    keys: jax.Array | None,
    row_noise: jax.Array | None,
    trajectory: bool,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    if is_traced(tableau):
        check_shapes(tableau)
    else:
        tableau = check(tableau)
    noisy = tableau.stochastic
    nfe, size = tableau.nfe, tableau.registers
    if not noisy:
        row_noise = None
    elif row_noise is not None:
        row_noise = jnp.asarray(row_noise, noise.dtype)
        if row_noise.shape != (nfe + 1, *noise.shape):
            raise ValueError(
                f"row_noise must have shape [K + 1, B, ...] = {(nfe + 1, *noise.shape)}, "
                f"got {row_noise.shape}"
            )
    else:
        check_keys(keys, noise.shape[0])

    start, sigma, weights = (
        jnp.asarray(field, noise.dtype) for field in (tableau.start, tableau.sigma, tableau.weights)
    )
    if not noisy:
        start, weights = start[:, :1], weights[:, :, : size + 1]

    def draw(row, given):
        if not noisy:
            return ()
        if given is not None:
            return (given,)
        keys_of_row = randomness.fold_in(keys, row)
        return (randomness.normal(keys_of_row, noise.shape[1:], dtype=noise.dtype),)

    def step(registers, row):
        index, level, table, given = row
        denoised = jnp.asarray(denoise(registers[0], level), noise.dtype)
        if denoised.shape != noise.shape:
            raise ValueError(
                f"denoise must return the shape of x, {noise.shape}, got {denoised.shape}"
            )
        registers = _combine(table, (*registers, denoised, *draw(index, given)))
        return registers, (registers[0] if trajectory else None)

    registers = _combine(start, (noise, *draw(0, None if row_noise is None else row_noise[0])))
    given = None if row_noise is None else row_noise[1:]
    first = registers[0]
    registers, states = jax.lax.scan(
        step, registers, (jnp.arange(1, nfe + 1), sigma, weights, given)
    )
    if trajectory:
        return registers[0], jnp.concatenate([first[None], states])
    return registers[0]


def _combine(table: jax.Array, vectors: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """`table @ vectors` by multiply-adds: a dot would run in bfloat16 or TF32 on accelerators."""
    rows = []
    for i in range(table.shape[0]):
        total = table[i, 0] * vectors[0]
        for j, vector in enumerate(vectors[1:], start=1):
            total = total + table[i, j] * vector
        rows.append(total)
    return tuple(rows)

"""The one call that runs a sampler: the loop over a tableau's rows, or a loop of its own."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.checks import Remembering, check_keys
from edm_jax.convolutions import fast_in_loops
from edm_jax.samplers import rows
from edm_jax.samplers.tableau import Tableau, check, check_shapes, is_traced

State = TypeVar("State")  # jax.Array [B, ...], or a tree of such


@dataclasses.dataclass(frozen=True, repr=False)
class Loop:
    """A sampler that is no tableau: its steps are not linear, or not known beforehand.

    Attributes:
      run: (denoise, noise `[B, ...]`, keys `[B]` or None) -> (sample `[B, ...]`, the evaluations
        it took, int32 `[B]`).
      nfe: network evaluations; None where it depends on the sample.
      stochastic: whether it draws noise on the way, so that `sample` needs keys.
      variance: whether its denoiser returns (D, v) (`preconditioning.with_variance`).
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
    denoise: Callable[[State, jax.Array], Any] | Remembering,
    sampler: Tableau | Loop,
    noise: State | None = None,
    keys: jax.Array | None = None,
    *,
    start: State | None = None,
    row_noise: State | None = None,
    draw: Callable[[jax.Array, Any], State] | rows.ByRow | None = None,
    between: Callable[[jax.Array, Any, tuple[State, ...]], tuple[State, ...]] | None = None,
    trajectory: Literal[False] = False,
    unroll: int = 1,
    remat: bool = False,
) -> State:
    """Without the states on the way."""


@overload
def sample(
    denoise: Callable[[State, jax.Array], Any] | Remembering,
    sampler: Tableau | Loop,
    noise: State | None = None,
    keys: jax.Array | None = None,
    *,
    start: State | None = None,
    row_noise: State | None = None,
    draw: Callable[[jax.Array, Any], State] | rows.ByRow | None = None,
    between: Callable[[jax.Array, Any, tuple[State, ...]], tuple[State, ...]] | None = None,
    trajectory: Literal[True] | Sequence[int],
    unroll: int = 1,
    remat: bool = False,
) -> tuple[State, State]:
    """With all of the states on the way, or with those of some rows."""


def sample(
    denoise: Callable[[Any, jax.Array], Any] | Remembering,
    sampler: Tableau | Loop,
    noise: Any = None,
    keys: jax.Array | None = None,
    *,
    start: Any = None,
    row_noise: Any = None,
    draw: Callable[[jax.Array, Any], Any] | rows.ByRow | None = None,
    between: Callable[[jax.Array, Any, tuple], tuple] | None = None,
    trajectory: bool | Sequence[int] = False,
    unroll: int = 1,
    remat: bool = False,
) -> Any:
    """Runs a sampler. A tableau is one `jax.lax.scan`, with the network in the program once.

        Y = start @ [noise; z]
        for every row:   D = denoise(Y[0], sigma),   Y <- weights @ [Y; D; z]

    Composes with `jit`, `vmap`, `grad` and `pmap`; sample i depends on `noise[i]` and `keys[i]`
    alone. A deterministic sampler draws no noise, so its result does not depend on the keys.

    The state may be any tree of floating arrays `[B, ...]` with one B: what is said of an array
    below then holds for each leaf.

    >>> import numpy as np
    >>> tableau = Tableau(np.array([[2.0, 0.0]]), np.array([2.0]), np.array([[[0.0, 1.0, 0.0]]]))
    >>> denoise = lambda x, sigma: x / (1 + sigma**2)     # the ideal denoiser of data N(0, 1)
    >>> sample(denoise, tableau, jnp.ones((1, 2))).tolist()
    [[0.4000000059604645, 0.4000000059604645]]

    Args:
      denoise: (x `[B, ...]`, sigma `[]`, or `[B]` for some loops) -> denoised image, of the shape
        of x; with v for a loop whose `variance` is True. A denoiser that remembers its last call
        is a `samplers.Remembering`, for tableaux only.
      sampler: a tableau, concrete or traced as an argument of a jitted function; or a `Loop`,
        which takes `noise` and `keys` alone, and noise of one array.
      noise: `[B, ...]`, standard normal (or what the sampler starts from: its docstring says).
        Its floating dtype is that of the state. The sampler scales it to its first level, by
        sigma_0 for most.
      keys: `[B]` typed keys; only stochastic samplers need them. A tableau's draw for `start` is
        `fold_in(key, 0)`, the one for row k `fold_in(key, k + 1)`.
      start: `[B, ...]`, in place of noise: a state that is at the first level already, such as
        y + sigma_0 n for a start on the way. It is the first register, unscaled (for a scaled
        process x / s(t_0), as all states), the level is that of the grid, before any churn, and
        noise that the tableau adds at its start, such as churn's, is added to it. Further
        registers begin with the multiple of it that they would be of the first one.
      row_noise: `[K + 1, B, ...]`, used in place of these draws: common random numbers, tests.
      draw: (keys `[B]`, like) -> noise `[B, ...]` of mean 0 and variance 1, like the state in
        structure, shapes and dtypes, which `like` holds; in place of `randomness.normal_like`.
        The keys are those of the row; a deterministic tableau does not call it. For noise that
        depends on the row, a `samplers.ByRow`.
      between: (row `[]`, keys `[B]` or None, registers) -> registers, called before each
        evaluation, row = 0 ... K - 1, where the noise of that row is still to be added. Registers
        are a tuple of R states, of which the first goes to the denoiser. Its keys are a stream of
        their own, `fold_in(fold_in(key, 2**32 - 1), row)`.
      trajectory: whether to return the states too, or a list of the rows whose states to return;
        others are not kept.
      unroll: rows in one round of the compiled loop, of `jax.lax.scan`.
      remat: compute states again when a gradient is taken, rather than keep all K of them: memory
        grows with sqrt(K), for three evaluations of the denoiser forwards where there was one.

    Returns:
      The sample `[B, ...]`; with `trajectory` also the states `[K + 1, B, ...]`, or `[n, B, ...]`
      of n chosen rows: state k is where row k evaluates the denoiser, and state K is the sample.

    Raises:
      ValueError: a malformed tableau, a stochastic sampler without keys, arguments of wrong shapes
        or not of this sampler, leaves without a common B, a draw or a hook whose result is not
        like the state, rows that there are not.
    """
    if not isinstance(sampler, (Tableau, Loop)):
        raise ValueError(
            f"sampler must be a Tableau or a Loop, such as samplers.heun(sigmas), got {sampler!r}"
        )
    if (noise is None) == (start is None):
        raise ValueError(f"noise or start must be given, got {'none' if noise is None else 'both'}")
    name, state = ("noise", noise) if start is None else ("start", start)
    state, batch = _checked_state(name, state)
    if sampler.stochastic and keys is None and row_noise is None:
        kind = type(sampler).__name__
        raise ValueError(f"keys must be given for a stochastic {kind}: [B] typed keys, got None")
    needed = sampler.stochastic and row_noise is None
    if needed or (between is not None and keys is not None):
        check_keys(keys, batch)
    if isinstance(sampler, Loop):
        _check_left_out(start=start, row_noise=row_noise, draw=draw, between=between)
        _check_left_out(
            trajectory=None if trajectory is False else trajectory,
            unroll=None if unroll == 1 else unroll,
            remat=remat or None,
        )
        if isinstance(denoise, Remembering):
            raise ValueError("denoise must be a function for a Loop, got one that remembers")
        if not isinstance(state, jax.Array):
            raise ValueError(f"noise must be one array for a Loop, got {rows.describe(state)}")
        return fast_in_loops(functools.partial(sampler.run, denoise))(state, keys)[0]

    if is_traced(sampler):
        check_shapes(sampler)
    else:
        sampler = check(sampler)
        if start is not None and sampler.start[0, 0] == 0:
            shape = rows.describe(state)
            raise ValueError(f"start must be left out for a tableau that begins at 0, got {shape}")
    if row_noise is not None and draw is not None:
        raise ValueError("draw must be left out where row_noise is given, got both")
    if not isinstance(unroll, (int, np.integer)) or unroll < 1:
        raise ValueError(f"unroll must be a positive integer, got {unroll!r}")
    if row_noise is not None and sampler.stochastic:
        row_noise = _checked_row_noise(row_noise, state, sampler.nfe)
    run = functools.partial(
        rows.run,
        denoise,
        sampler,
        keys=keys,
        started=start is not None,
        row_noise=row_noise,
        draw=draw,
        between=between,
        trajectory=_checked_rows(trajectory, sampler.nfe),
        unroll=int(unroll),
        remat=remat,
    )
    return fast_in_loops(run)(state)


def _check_left_out(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            what = "an array" if hasattr(value, "shape") else repr(value)
            raise ValueError(f"{name} must be left out for a Loop, got {what}")


def _checked_state(name: str, state: Any) -> tuple[Any, int]:
    """A state of jax arrays, and its B."""
    state = jax.tree.map(jnp.asarray, state)
    leaves = jax.tree.leaves(state)
    fine = all(leaf.ndim and jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    if not fine or len({leaf.shape[0] for leaf in leaves}) != 1:
        raise ValueError(
            f"{name} must be a floating array [B, ...], or a tree of them with one B, "
            f"got {rows.describe(state)}"
        )
    return state, leaves[0].shape[0]


def _checked_row_noise(row_noise: Any, state: Any, nfe: int) -> Any:
    """Noise of every row in the state's dtypes."""
    expected = jax.tree.map(lambda leaf: (nfe + 1, *leaf.shape), state)
    got = jax.tree.map(jnp.shape, row_noise)
    if got != expected:
        raise ValueError(f"row_noise must have shape [K + 1, B, ...] = {expected}, got {got}")
    return jax.tree.map(lambda n, leaf: jnp.asarray(n, leaf.dtype), row_noise, state)


def _checked_rows(trajectory: Any, nfe: int) -> bool | np.ndarray:
    """Whether there are states to keep, or which."""
    if isinstance(trajectory, (bool, np.bool_)):
        return bool(trajectory)
    chosen = np.asarray(trajectory)
    if (
        chosen.ndim != 1
        or chosen.dtype.kind not in "iu"
        or not ((chosen >= 0) & (chosen <= nfe)).all()
    ):
        raise ValueError(
            f"trajectory must be True, False or a list of rows from 0 to {nfe}, got {trajectory!r}"
        )
    return chosen

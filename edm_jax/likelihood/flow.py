"""The probability-flow ODE between data and noise, on a fixed grid or with adaptive steps.

It is solved in the frame where Gaussian data of deviation sigma_data stand still,

    sigma = sigma_data tan t,    x = r z,  r = sigma_data / cos t = sqrt(sigma^2 + sigma_data^2)
    dz/dt = (sigma_data cos t z - D(r z; sigma)) / (sigma_data sin t)

whose right side is minus the F of EDM's preconditioning (Karras et al. 2022, table 1; the frame is
TrigFlow's, Lu and Song 2024). The linear part of x - D, which alone is singular at both ends, is
taken exactly: what is left is smooth, and 0 for such data.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.checks import Denoiser, column
from edm_jax.samplers import adaptive_steps

Solver = Literal["heun", "rk4", "dopri5", "adaptive"]
SOLVERS = get_args(Solver)
# A vector field of the frame: (t [] or [B], z [B, ...]) -> dz/dt.
Field = Callable[[jax.Array, jax.Array], jax.Array]


class Stages(NamedTuple):
    """An explicit Runge-Kutta method: k_i = f(y + h sum_j a_ij k_j), y' = y + h sum_i b_i k_i.

    Attributes:
      a: [S, S] below the diagonal; stage i is evaluated at the share sum_j a_ij of the step.
      b: [S].
    """

    a: np.ndarray
    b: np.ndarray


def _stages(rows: list[list[float]], b: list[float]) -> Stages:
    a = np.zeros((len(b), len(b)))
    for i, row in enumerate(rows, start=1):
        a[i, : len(row)] = row
    return Stages(a, np.array(b))


METHODS = {
    "heun": _stages([[1.0]], [0.5, 0.5]),
    "rk4": _stages([[0.5], [0.0, 0.5], [0.0, 0.0, 1.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    # Dormand and Prince 1980, the solution of order 5.
    "dopri5": _stages(
        [
            [1 / 5],
            [3 / 40, 9 / 40],
            [44 / 45, -56 / 15, 32 / 9],
            [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
            [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        ],
        [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ),
}


def field(denoise: Denoiser, sigma_data: float) -> Field:
    """dz/dt of the probability flow in the frame of this module.

    Args:
      denoise: (x, sigma) -> D.
      sigma_data: of the frame.

    Returns:
      (t [] or [B], z [B, ...]) -> of z's shape.
    """

    def slope(t, z):
        cos, sin = (column(f(t), z) for f in (jnp.cos, jnp.sin))
        denoised = jnp.asarray(denoise(sigma_data / cos * z, sigma_data * jnp.tan(t)), z.dtype)
        return (sigma_data * cos * z - denoised) / (sigma_data * sin)

    return slope


def radius(sigma: float, sigma_data: float) -> float:
    """r = sqrt(sigma^2 + sigma_data^2), by which z is smaller than x."""
    return float(np.hypot(sigma, sigma_data))


def levels(
    sigmas: ArrayLike, solver: str, tolerance: float | None, sigma_data: float
) -> np.ndarray:
    """Checks what all functions of the flow take.

    Args:
      sigmas: descending; a last 0 is left out.
      solver: one of `SOLVERS`.
      tolerance: of the adaptive solver, or None.
      sigma_data: of the frame.

    Returns:
      [N + 1] the positive levels, ascending.

    Raises:
      ValueError: a grid that does not descend, or an option out of range.
    """
    found = checks.descending(sigmas)
    checks.one_of("solver", solver, SOLVERS)
    checks.check_positive(sigma_data=sigma_data)
    if tolerance is not None:
        if solver != "adaptive":
            raise ValueError(
                f"tolerance must be left out with a fixed grid, got {tolerance} and {solver!r}"
            )
        checks.check_positive(tolerance=tolerance)
    return checks.descending(found[found > 0], name="positive sigmas")[::-1]


def solve(
    slope: Callable[[jax.Array, Any], Any],
    state: Any,
    sigmas: np.ndarray,
    solver: str,
    tolerance: float | None,
    sigma_data: float,
) -> Any:
    """Integrates along the angles t of noise levels, the right side once in the program.

    Args:
      slope: (t [] or [B], state) -> d state / dt.
      state: a tree of arrays [B, ...].
      sigmas: [N + 1] the levels, in the order of the way; an adaptive solver takes the ends alone.
      solver: one of `SOLVERS`.
      tolerance: relative and absolute, of the adaptive solver.
      sigma_data: of the frame.

    Returns:
      The state at the last level.
    """
    times = np.arctan(np.asarray(sigmas) / sigma_data)
    if solver != "adaptive":
        return _on_grid(slope, state, times, METHODS[solver])
    flat, unflatten = _flatten(state)
    error = 1e-5 if tolerance is None else tolerance
    run = adaptive_steps.integrator(rtol=error, atol=error)
    flat_slope = lambda t, y: _flatten(slope(t, unflatten(y)))[0]
    first_step = 0.1 * min(times[0], times[-1])
    return unflatten(run(flat_slope, flat, times[0], times[-1], first_step)[0])


def _on_grid(slope, state, times, method):
    count = len(method.b)
    dtype = jax.tree.leaves(state)[0].dtype
    h = np.diff(times)
    rows = h, times[:-1, None] + h[:, None] * method.a.sum(axis=1)

    def moved(state, h, weights, slopes):
        add = lambda y, k: y + h * jnp.tensordot(weights, k, 1, precision="highest")
        return jax.tree.map(add, state, slopes)

    def step(state, row):
        h, nodes = row

        def stage(slopes, row):
            index, weights, t = row
            found = slope(t, moved(state, h, weights, slopes))
            return jax.tree.map(lambda k, new: k.at[index].set(new), slopes, found), None

        slopes = jax.tree.map(lambda y: jnp.zeros((count, *y.shape), y.dtype), state)
        stages = jnp.arange(count), jnp.asarray(method.a, dtype), nodes
        slopes, _ = jax.lax.scan(stage, slopes, stages)
        return moved(state, h, jnp.asarray(method.b, dtype), slopes), None

    return jax.lax.scan(step, state, jax.tree.map(lambda a: jnp.asarray(a, dtype), rows))[0]


def _flatten(state):
    """A tree of [B, ...] in one array [B, n], and the way back."""
    leaves, structure = jax.tree.flatten(state)
    ends = np.cumsum([leaf[0].size for leaf in leaves])[:-1]
    flat = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)

    def unflatten(y):
        parts = jnp.split(y, ends, axis=1)
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves)]
        return jax.tree.unflatten(structure, shaped)

    return flat, unflatten


def encode(
    denoise: Denoiser,
    x: jax.Array,
    sigmas: ArrayLike,
    *,
    solver: Solver = "rk4",
    tolerance: float | None = None,
    sigma_data: float = 0.5,
) -> jax.Array:
    """Sends data to the noise that the probability flow makes them from.

    >>> from edm_jax import ideal, timesteps
    >>> denoise, sigmas = ideal.gaussian(0.0, 0.25), timesteps.edm(40)
    >>> latents = encode(denoise, jnp.full((1, 2), 0.1), sigmas)
    >>> bool(jnp.allclose(decode(denoise, latents, sigmas), 0.1, atol=1e-5))
    True

    Args:
      denoise: (x, sigma) -> D.
      x: [B, ...] data, taken as they are for samples at the lowest level.
      sigmas: [N + 1] descending noise levels; a last 0 is left out.
      solver: "heun" (order 2, 2 calls a step), "rk4" (4, 4 calls), "dopri5" (5, 6 calls), or
        "adaptive", of which only the ends of the grid count and the denoiser gets sigma as [B].
      tolerance: relative and absolute, of "adaptive" (1e-5).
      sigma_data: the deviation of the data, by which the frame is scaled; not exactly needed.

    Returns:
      Latents of x's shape, about standard normal: what samplers start from, x_max / sigma_max.

    Raises:
      ValueError: a grid that does not descend, or an option out of range.
    """
    ascending = levels(sigmas, solver, tolerance, sigma_data)
    end = float(ascending[-1])
    z = x / radius(ascending[0], sigma_data)
    z = solve(field(denoise, sigma_data), z, ascending, solver, tolerance, sigma_data)
    return z * (radius(end, sigma_data) / end)


def decode(
    denoise: Denoiser,
    latents: jax.Array,
    sigmas: ArrayLike,
    *,
    solver: Solver = "rk4",
    tolerance: float | None = None,
    sigma_data: float = 0.5,
) -> jax.Array:
    """Sends latents back to data: the inverse of `encode`, but for the error of the steps.

    Args:
      denoise: (x, sigma) -> D.
      latents: [B, ...] of `encode`, or standard normal noise.
      sigmas: [N + 1] descending noise levels; a last 0 is left out.
      solver: "heun", "rk4", "dopri5" or "adaptive".
      tolerance: relative and absolute, of "adaptive" (1e-5).
      sigma_data: as for `encode`.

    Returns:
      x at the lowest positive level, of the latents' shape.

    Raises:
      ValueError: a grid that does not descend, or an option out of range.
    """
    descending = levels(sigmas, solver, tolerance, sigma_data)[::-1]
    start = float(descending[0])
    z = latents * (start / radius(start, sigma_data))
    z = solve(field(denoise, sigma_data), z, descending, solver, tolerance, sigma_data)
    return z * radius(descending[-1], sigma_data)

"""The probability-flow ODE with adaptive steps: a tolerance instead of a number of steps."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers.sampling import Loop

METHODS = {"dopri5": "Dopri5", "tsit5": "Tsit5", "bosh3": "Bosh3", "dopri8": "Dopri8"}
# (times [B], states [B, ...]) -> slopes [B, ...]
Slope = Callable[[jax.Array, jax.Array], jax.Array]


def adaptive(
    sigmas: ArrayLike,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: Literal["dopri5", "tsit5", "bosh3", "dopri8"] = "dopri5",
    max_steps: int = 4096,
) -> Loop:
    """Solves dx / d log sigma = x - D(x; sigma) to a tolerance, each sample with its own steps.

    Song et al. 2021 solve the same ODE by RK45 (`dopri5`) at rtol = atol = 1e-5. The embedded
    pairs are diffrax's, the extra `adaptive`. The loop is not: there a batch has one step size, or
    under vmap a denoiser that sees one sample, which labels `[B]` do not allow. Here every
    evaluation is one of the whole batch at each sample's own sigma, samples do not see each
    other's steps, and the loop runs until the slowest is done. Works under jit, vmap and grad:
    for gradients in reverse it is the checkpointed while loop of `equinox.internal`, which is not
    of equinox's public interface, since `jax.lax.while_loop` has none and a `jax.lax.scan` would
    keep every one of `max_steps` states. Order 5 (`dopri5`). NFE by the tolerance.

    Args:
      sigmas: noise levels of which only the ends count: it starts at the first, goes to the lowest
        positive one, and where 0 follows returns D there, one evaluation more.
      rtol: relative tolerance of a step's error, root mean square over a sample.
      atol: absolute tolerance.
      method: "dopri5", "tsit5", "bosh3" or "dopri8".
      max_steps: attempts after which the solution fails, as NaN.

    Returns:
      The loop; it starts from standard normal noise. Its denoiser gets sigma as `[B]`.

    Raises:
      ImportError: diffrax is not installed.
      ValueError: a grid that does not descend, options out of range.
    """
    levels = checks.descending(sigmas)
    solve = integrator(rtol=rtol, atol=atol, method=method, max_steps=max_steps)
    positive = checks.descending(levels[levels > 0], name="positive sigmas")

    def run(denoise, noise, keys):
        del keys
        dtype, batch = noise.dtype, len(noise)
        slope = lambda u, x: x - jnp.asarray(denoise(x, jnp.exp(u)), dtype)
        x = jnp.asarray(positive[0], dtype) * noise
        x, calls = solve(slope, x, np.log(positive[0]), np.log(positive[-1]), 0.05)
        if levels[-1] == 0:
            low = jnp.full(batch, positive[-1], dtype)
            return jnp.asarray(denoise(x, low), dtype), calls + 1
        return x, calls

    return Loop(run, nfe=None, stochastic=False)


def integrator(
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: Literal["dopri5", "tsit5", "bosh3", "dopri8"] = "dopri5",
    max_steps: int = 4096,
) -> Callable[[Slope, jax.Array, float, float, float], tuple[jax.Array, jax.Array]]:
    """A solver of ODEs with adaptive steps, each sample's its own; what `adaptive` runs.

    Args:
      rtol: relative tolerance of a step's error, root mean square over a sample.
      atol: absolute tolerance.
      method: "dopri5", "tsit5", "bosh3" or "dopri8".
      max_steps: attempts after which the solution fails, as NaN.

    Returns:
      (slope, state `[B, ...]`, start, end, length of the first attempt) -> (the state at `end`,
      the evaluations of each sample, int32 `[B]`); `end` may lie before `start`.

    Raises:
      ImportError: diffrax is not installed.
      ValueError: options out of range.
    """
    checks.one_of("method", method, tuple(METHODS))
    checks.between("rtol", rtol, 0.0)
    checks.between("atol", atol, 0.0, open_low=True)
    checks.between("max_steps", max_steps, 1)
    try:
        import diffrax
        import equinox.internal as eqxi
    except ImportError as error:
        raise ImportError(
            "adaptive solvers need diffrax: pip install 'edm_jax[adaptive]'"
        ) from error
    pair = getattr(diffrax, METHODS[method])()
    table, order = pair.tableau, pair.order(None)
    stages = table.num_stages
    a = np.zeros((stages, stages))
    for row, lower in enumerate(table.a_lower, start=1):
        a[row, : len(lower)] = lower
    # "First same as last": a step's last slope is the first one of the next.
    first = 1 if table.fsal else 0
    nodes = np.append(0.0, table.c)

    def solve(slope, x, start, end, first_step):
        dtype, over = x.dtype, tuple(range(1, x.ndim))
        way = 1.0 if end > start else -1.0
        shaped = lambda v: v.reshape(-1, *[1] * len(over))
        combine = lambda weights, slopes: jnp.tensordot(
            jnp.asarray(weights, dtype), slopes, 1, precision="highest"
        )

        def attempt(state):
            """One step of every sample; each is kept or not, and sets the length of its next."""
            u, h, x, k, tries, going, done = state
            reached = way * (u + h) >= way * end
            h_now = jnp.where(reached, end - u, h)

            def stage(slopes, row):
                index, weights, node = row
                inner = x + shaped(h_now) * combine(weights, slopes)
                return slopes.at[index].set(slope(u + node * h_now, inner)), None

            slopes = jnp.zeros((stages, *x.shape), dtype).at[0].set(k)
            rows = jnp.arange(first, stages), jnp.asarray(a, dtype)[first:], nodes[first:]
            slopes, _ = jax.lax.scan(stage, slopes, rows)
            after = x + shaped(h_now) * combine(table.b_sol, slopes)
            wrong = shaped(h_now) * combine(table.b_error, slopes)
            scale = atol + rtol * jnp.maximum(jnp.abs(x), jnp.abs(after))
            error = jax.lax.stop_gradient(((wrong / scale) ** 2).mean(over))
            keep = going & (error < 1)
            factor = 0.9 * jnp.maximum(error, 1e-20) ** (-0.5 / order)
            factor = jnp.clip(factor, jnp.where(keep, 1.0, 0.2), jnp.where(keep, 10.0, 1.0))
            done |= keep & reached
            return (
                jnp.where(keep, u + h_now, u),
                jnp.where(going & ~done, h_now * factor, h),
                jnp.where(shaped(keep), after, x),
                jnp.where(shaped(keep), slopes[-1], k),
                tries + going,
                going & ~done & (tries + 1 < max_steps),
                done,
            )

        batch = len(x)
        u = jnp.full(batch, start, dtype)
        k = slope(u, x) if first else jnp.zeros_like(x)
        going, tries = jnp.ones(batch, bool), jnp.zeros(batch, jnp.int32)
        h = jnp.full(batch, way * first_step, dtype)
        state = u, h, x, k, tries, going, ~going
        _, _, x, _, tries, _, done = eqxi.while_loop(
            lambda state: state[5].any(),
            attempt,
            state,
            max_steps=int(max_steps),
            kind="checkpointed",
        )
        x = jnp.where(shaped(done), x, jnp.nan)
        return x, tries * (stages - first) + first

    return solve

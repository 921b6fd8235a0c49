"""Noise that is one path of Brownian motion, whatever the number of steps."""

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, randomness
from edm_jax.samplers.rows import ByRow
from edm_jax.samplers.tableau import Tableau, check

DEPTH = 16  # halvings of the path: 65,536 pieces, far more than there are steps
POWER = 7.0  # they are equal in sigma^(1/7), as the steps of EDM's grid


def brownian(tableau: Tableau, *, sigma_max: float | None = None, sigma_end: float = 0.0) -> ByRow:
    """Noise for `sample(…, draw=…)` that does not change with the number of steps.

        z = (W(sigma) - W(sigma')) / sqrt(sigma - sigma')       of the step from sigma to sigma'

    W is Brownian motion over [0, sigma_max], one path for each key: fewer or more steps, or another
    solver, see the same path, so that samples of one seed resemble each other and converge. The
    idea is k-diffusion's `BrownianTreeNoiseSampler`: W is built by halving an interval as often as
    needed, its middle drawn around the mean of its ends.

    A row's step is from the level of the last row that drew noise to that of the next row: the
    rows of an ancestral step share one piece, and the two draws of `dpmpp_sde` take one half each
    (its `correlation="tree"` is made for that).

    >>> from edm_jax import samplers, timesteps
    >>> tableau = samplers.euler_ancestral(timesteps.edm(10))
    >>> draw = samplers.brownian(tableau)

    Args:
      tableau: a stochastic one, without churn: its levels descend.
      sigma_max: where the path begins, its first level if left out. Grids that begin at different
        levels share a path only if this is given, at least the highest of them.
      sigma_end: the level that the last row leads to, for a grid that does not end at 0.

    Returns:
      The noise, for `draw`. A row takes 2 DEPTH draws, and no memory between rows.

    Raises:
      ValueError: a tableau that is traced or deterministic, draws noise at its start, or climbs.
    """
    tableau = check(tableau)
    levels = np.append(tableau.sigma, checks.between("sigma_end", sigma_end, 0.0))
    noisy = np.any(tableau.weights[:, :, -1] != 0, axis=1)
    if not noisy.any() or np.any(tableau.start[:, 1] != 0):
        raise ValueError(f"tableau must draw noise in its rows alone, got {tableau!r}")
    ends = 1 + np.flatnonzero(noisy)
    if np.any(np.diff(levels[np.append(0, ends)]) >= 0):
        raise ValueError(f"tableau must descend with every noisy row, got the levels {levels}")
    top = checks.between(
        "sigma_max", levels[0] if sigma_max is None else sigma_max, float(levels[0])
    )
    begins = np.zeros(tableau.nfe + 1, int)
    begins[ends] = np.append(0, ends[:-1])
    high, low = levels[begins], np.where(np.append(False, noisy), levels, 0.0)

    def draw(row, keys, like):
        def piece(keys, leaf):
            above, below = (jnp.asarray(ends, leaf.dtype)[row] for ends in (high, low))
            path = lambda sigma: _path(keys, sigma, top=top, shape=leaf.shape[1:], dtype=leaf.dtype)
            begin, end = jax.vmap(path)(jnp.stack([above, below]))
            return (begin - end) / jnp.sqrt(jnp.maximum(above - below, top * 2.0**-40))

        return randomness.leafwise(piece, keys, like)

    return ByRow(draw)


def _path(keys, sigma, *, top, shape, dtype):
    """W(sigma) of each key, `[B, *shape]`: 0 at 0, of variance sigma, on [0, top]."""
    at = lambda part: top * part**POWER  # the level at a part of the halved interval, in [0, 1]
    where = (sigma / top) ** (1.0 / POWER)
    normal = lambda node: randomness.normal(randomness.fold_in(keys, node), shape, dtype=dtype)
    spread = lambda a, b, t: jnp.sqrt(jnp.maximum((t - a) * (b - t) / (b - a), 0.0))

    def halve(_, state):
        node, left, width, first, last = state
        middle = left + 0.5 * width
        a, b, t = at(left), at(left + width), at(middle)
        drawn = first + (t - a) / (b - a) * (last - first) + spread(a, b, t) * normal(node)
        right = where >= middle
        return (
            2 * node + right,
            jnp.where(right, middle, left),
            0.5 * width,
            jnp.where(right, drawn, first),
            jnp.where(right, last, drawn),
        )

    end = jnp.sqrt(jnp.asarray(top, dtype)) * normal(0)
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    state = (jnp.ones((), jnp.uint32), zero, one, jnp.zeros_like(end), end)
    node, left, width, first, last = jax.lax.fori_loop(0, DEPTH, halve, state)
    a, b, t = at(left), at(left + width), jnp.clip(sigma, at(left), at(left + width))
    return first + (t - a) / (b - a) * (last - first) + spread(a, b, t) * normal(node)

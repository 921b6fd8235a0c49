"""The likelihood of data by the probability-flow ODE."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from edm_jax import ideal
from edm_jax.checks import Denoiser
from edm_jax.ideal import LogDensity
from edm_jax.likelihood import flow
from edm_jax.likelihood.flow import Solver
from edm_jax.likelihood.trace import Probes, divergence, draw


class LogProb(NamedTuple):
    """The log-likelihood of each sample.

    Attributes:
      nats: [B] log p(x; sigma_min).
      standard_error: [B] of the mean over probes: 0 for an exact trace, NaN for a single probe.
      latents: [B, ...] the noise that the flow sends x to, x_max / sigma_max.
    """

    nats: jax.Array
    standard_error: jax.Array
    latents: jax.Array


def log_prob(
    denoise: Denoiser,
    x: jax.Array,
    sigmas: ArrayLike,
    *,
    keys: jax.Array | None = None,
    probes: Probes | jax.Array = "exact",
    num_probes: int = 1,
    solver: Solver = "rk4",
    tolerance: float | None = None,
    prior: LogDensity | None = None,
    sigma_data: float = 0.5,
    chunk: int = 64,
) -> LogProb:
    """The log-likelihood of data under the probability flow of a denoiser, in nats.

        log p(x; sigma_min) = log p(x_max; sigma_max) + int (d - tr dD/dx) d log sigma,
        dx / d log sigma = x - D(x; sigma)

    Song et al. 2021 (score-SDE), section 4.3. The part of the integral that is known in closed
    form (d log r, r^2 = sigma^2 + sigma_data^2) is taken so, and the trace is of the rest: so
    Gaussian probes have no noise of it, and the result is exact for N(0, sigma_data^2) on any
    grid. The network is in the program once; its derivatives are forward products. Composes with
    `jit`, `vmap`, `grad` and `pmap`, and sample i depends on `x[i]` and `keys[i]` alone.

    It is the density at the lowest level, of data with that much noise: what is at hand without
    noise is a little beside it. In the frame x_t = s x of a schedule, log p_t(x_t) is this at
    x_t / s less d log s.

    >>> from edm_jax import timesteps
    >>> denoise = ideal.gaussian(0.0, 0.5)
    >>> found = log_prob(denoise, jnp.zeros((1, 1)), timesteps.edm(18))
    >>> round(float(found.nats[0]), 4)  # -log(2 pi (0.25 + 0.002^2)) / 2
    -0.2258

    Args:
      denoise: (x, sigma) -> D.
      x: [B, ...] floating; its dtype is that of all states and sums.
      sigmas: [N + 1] descending noise levels; a last 0 is left out.
      keys: [B] typed keys, for random probes.
      probes: "exact": the trace by d products. "rademacher" or "gaussian": Hutchinson's estimate
        with random probes, each kept along the whole path. Or the probes themselves, [P, B, ...].
      num_probes: how many random probes are averaged.
      solver: "heun" (order 2, 2 calls a step), "rk4" (4, 4 calls), "dopri5" (5, 6 calls), or
        "adaptive", of which only the ends of the grid count and the denoiser gets sigma as [B].
      tolerance: relative and absolute, of "adaptive" (1e-5).
      prior: the density at sigma_max, (x, sigma) -> [B]: what the data become there, such as
        `ideal.gaussian_log_prob(mean, covariance=...)`; None is N(0, sigma_max^2 + sigma_data^2).
        Of data with another mean or spread that is off by what they differ relative to sigma_max.
      sigma_data: the deviation of the data, by which the frame is scaled; not exactly needed.
      chunk: products at once of the exact trace.

    Returns:
      The log-likelihoods, their standard errors, and the latents.

    Raises:
      ValueError: a grid that does not descend, x that is not floating, missing keys, or an option
        that is unknown or out of range.
    """
    levels = flow.levels(sigmas, solver, tolerance, sigma_data)
    x = jnp.asarray(x)
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating [B, ...], got {x.dtype} {x.shape}")
    vectors = draw(probes, x, keys, num_probes)
    low, high = (flow.radius(level, sigma_data) for level in (levels[0], levels[-1]))
    velocity = flow.field(denoise, sigma_data)

    def slope(t, state):
        value, trace = divergence(lambda z: velocity(t, z), state[0], vectors, chunk=chunk)
        return value, trace.T

    counts = 1 if vectors is None else len(vectors)
    start = x / low, jnp.zeros((len(x), counts), x.dtype)
    z, integral = flow.solve(slope, start, levels, solver, tolerance, sigma_data)
    if prior is None:
        prior = ideal.gaussian_log_prob(0.0, sigma_data)
    last = high * z
    known = x[0].size * math.log(high / low)
    nats = prior(last, levels[-1]) + known + jnp.mean(integral, axis=1)
    if vectors is None:
        error = jnp.zeros_like(nats)
    elif counts == 1:
        error = jnp.full_like(nats, jnp.nan)
    else:
        error = jnp.std(integral, axis=1, ddof=1) / math.sqrt(counts)
    return LogProb(nats, error, last / float(levels[-1]))

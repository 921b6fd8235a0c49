"""Improved DDPM: ancestral sampling with a variance that the network has learned."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, randomness
from edm_jax.samplers.first_order import ddpm
from edm_jax.samplers.sampling import Loop


def improved_ddpm(sigmas: ArrayLike) -> Loop:
    """DDPM's ancestral step with learned variance (Nichol and Dhariwal 2021, eq. 15).

        x' = (sigma'^2 / sigma^2) x + (1 - sigma'^2 / sigma^2) D + n z
        log n^2 = v log n_large^2 + (1 - v) log n_small^2

    with the variances "large" and "small" of `ddpm`, for the step as strided. v = 0 and v = 1
    are `ddpm`'s own two, with the same draws. The last step, to 0, returns D. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.

    Returns:
      The loop; it starts from standard normal noise. Its denoiser returns (D, v), both of the
      shape of x, v in [0, 1] (`preconditioning.with_variance`). Row k draws from
      `fold_in(key, k + 1)`.

    Raises:
      ValueError: a grid that does not descend.
    """
    small, large = ddpm(sigmas, variance="small"), ddpm(sigmas, variance="large")
    levels = checks.descending(sigmas)
    low, high = small.weights[:, 0, 2], large.weights[:, 0, 2]
    with np.errstate(divide="ignore"):
        logs = np.where(levels[1:] > 0, np.log([low, high]), 0.0)

    def run(denoise, noise, keys):
        def step(x, row):
            index, sigma, weights, (log_low, log_high), noisy = row
            denoised, v = denoise(x, sigma)
            denoised, v = jnp.asarray(denoised, x.dtype), jnp.asarray(v, x.dtype)
            z = randomness.normal(randomness.fold_in(keys, index), x.shape[1:], dtype=x.dtype)
            deviation = noisy * jnp.exp(v * log_high + (1 - v) * log_low)
            return weights[0] * x + weights[1] * denoised + deviation * z, None

        rows = (
            jnp.arange(1, small.nfe + 1),
            jnp.asarray(small.sigma, noise.dtype),
            jnp.asarray(small.weights[:, 0], noise.dtype),
            tuple(jnp.asarray(log, noise.dtype) for log in logs),
            jnp.asarray(levels[1:] > 0, noise.dtype),
        )
        x0 = jax.lax.scan(step, levels[0].astype(noise.dtype) * noise, rows)[0]
        return x0, jnp.full(len(noise), small.nfe, jnp.int32)

    return Loop(run, nfe=small.nfe, stochastic=True, variance=True)

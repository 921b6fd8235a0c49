"""The Fokker-Planck equation, as a test of a denoiser."""

import jax
import jax.numpy as jnp

from edm_jax.checks import Denoiser
from edm_jax.likelihood.trace import Probes, divergence, draw


def fokker_planck_residual(
    denoise: Denoiser,
    x: jax.Array,
    sigma: jax.Array | float,
    *,
    keys: jax.Array | None = None,
    probes: Probes | jax.Array = "exact",
    num_probes: int = 1,
    chunk: int = 64,
) -> jax.Array:
    """By how much a denoiser is none of any data: 0 where one density is behind all its levels.

    Noise makes p(x; sigma) obey the heat equation dp/dsigma = sigma Laplacian p, the Fokker-Planck
    equation of dx = sqrt(2 sigma) dw. In terms of the score, (D - x) / sigma^2, and of D:

        sigma dD/dsigma  =  sigma^2 grad tr(dD/dx) + 2 (dD/dx)^T (D - x)

    (Lai et al. 2023 train with the score's form of it.) The residual is the left side less the
    right one, in the data's units: what D's level should change by with log sigma, and does not.
    It knows nothing of the data: a denoiser of other data has none either.

    >>> from edm_jax import ideal
    >>> x = jnp.array([[0.5, -0.25]])
    >>> bool(jnp.abs(fokker_planck_residual(ideal.gaussian(0.1, 0.5), x, 0.3)).max() < 1e-6)
    True

    Args:
      denoise: (x, sigma) -> D, differentiable in both.
      x: [B, ...] noisy, floating.
      sigma: [] or [B], positive.
      keys: [B] typed keys, for random probes.
      probes: of the trace: "exact", "rademacher" or "gaussian", or [P, B, ...].
      num_probes: how many random probes are averaged; the residual is unbiased, its size is not.
      chunk: products at once of the exact trace.

    Returns:
      Of x's shape.

    Raises:
      ValueError: x that is not floating, missing keys, or an option that is unknown or out of
        range.
    """
    x = jnp.asarray(x)
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating [B, ...], got {x.dtype} {x.shape}")
    level = jnp.asarray(sigma, x.dtype)
    vectors = draw(probes, x, keys, num_probes)
    at = lambda x, level: jnp.asarray(denoise(x, level), x.dtype)
    denoised, change = jax.jvp(lambda level: at(x, level), (level,), (level,))
    gap = denoised - x

    def right(x):
        """What has the right side for its gradient; the gap is held."""
        value, traces = divergence(lambda x: at(x, level), x, vectors, chunk=chunk)
        return jnp.sum(level**2 * jnp.mean(traces, axis=0)) + 2.0 * jnp.sum(gap * value)

    return change - jax.grad(right)(x)

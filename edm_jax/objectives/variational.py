"""The variational bound of a discrete-time model with learned variance (improved DDPM).

Written in the frame of EDM, x = y + sigma n, where the posterior of a step from sigma to sigma' is

    q(x' | x, y) = N(r x + (1 - r) y, sigma'^2 (1 - r)),    r = sigma'^2 / sigma^2

and Kullback-Leibler divergences are those of the scaled process.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.objectives.denoising import perturbed


class Bound(NamedTuple):
    """What the bound needs of each of T levels, [T] float64 on the host.

    log_small: ln of the posterior's variance, the lower end of the learned one.
    log_large: ln of beta's variance, its upper end.
    shift: (1 - r)^2, what a squared error of the denoiser becomes in the step's mean.
    """

    log_small: np.ndarray
    log_large: np.ndarray
    shift: np.ndarray


def bound(levels: np.ndarray) -> Bound:
    """The bound of a table of noise levels.

    Args:
      levels: [T] noise levels, positive and ascending; T at least 2.

    Raises:
      ValueError: no such table.
    """
    s = np.asarray(levels, dtype=np.float64)
    if s.ndim != 1 or len(s) < 2 or not s[0] > 0 or not (np.diff(s) > 0).all():
        raise ValueError(f"levels must be [T] ascending positive noise levels, got {s}")
    before = np.append(0.0, s[:-1])
    r = before**2 / s**2
    large = (s**2 - before**2) * (1.0 + before**2) / (1.0 + s**2)
    small = before**2 * (1.0 - r)
    # The first posterior has no variance. Its place takes the next one's, in the scale of the data.
    small[0] = small[1] / (1.0 + s[0] ** 2)
    return Bound(np.log(small), np.log(large), (1.0 - r) ** 2)


def terms(bound: Bound, level: jax.Array, denoised: jax.Array, v: jax.Array, y: jax.Array):
    """The terms L_k of the bound for every element, in bits (Nichol and Dhariwal 2021, 3.1).

        ln S = v ln S_large + (1 - v) ln S_small
        L_k = KL(q(x' | x, y) || N(r x + (1 - r) D, S)),    L_0 = -ln p(y)

    p is the Gaussian of mean D and variance S, integrated over the 256 levels of a pixel.

    Args:
      bound: of the table of noise levels.
      level: [B] indices k into it.
      denoised: [B, ...] D(x; sigma_k).
      v: [B, ...] the interpolation between the two variances, in [0, 1].
      y: [B, ...] the data, in [-1, 1].

    Returns:
      Of y's shape. The sum of L_k over k, averaged over elements, is bits per dimension less the
      constant of the last level.
    """
    at = lambda table: jnp.asarray(table, y.dtype)[level].reshape(-1, *[1] * (y.ndim - 1))
    small, large, shift = (at(table) for table in bound)
    log_s = v * large + (1.0 - v) * small
    error = shift * (denoised - y) ** 2
    divergence = 0.5 * (log_s - small - 1.0 + jnp.exp(small - log_s) + error * jnp.exp(-log_s))
    first = -discretized_log_likelihood(y, denoised, 0.5 * log_s)
    is_first = (level == 0).reshape(small.shape)
    return jnp.where(is_first, first, divergence) / np.log(2.0)


def discretized_log_likelihood(y: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """ln of a Gaussian's mass on the pixel value that y is, of 256 in [-1, 1], the ends open.

    Args:
      y: values k / 127.5 - 1.
      mean: of y's shape.
      log_std: ln of the standard deviation, of y's shape.

    Returns:
      Of y's shape.
    """
    scale = jnp.exp(-log_std)
    above = jax.scipy.stats.norm.logcdf((y + 1.0 / 255.0 - mean) * scale)
    below = jax.scipy.stats.norm.logcdf((mean - y + 1.0 / 255.0) * scale)  # of the other tail
    inside = jnp.exp(above) + jnp.exp(below) - 1.0
    inside = jnp.log(jnp.maximum(inside, 1e-12))
    return jnp.where(y < -0.999, above, jnp.where(y > 0.999, below, inside))


def hybrid_loss(
    denoise: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    y: jax.Array,
    sigma: jax.Array,
    noise: jax.Array,
    weight: Callable[[jax.Array], jax.Array],
    bound: Bound,
    level: jax.Array,
    bound_weight: float = 1e-3,
) -> jax.Array:
    """L_hybrid = L_simple + bound_weight L_vlb of every element (Nichol and Dhariwal 2021, eq. 16).

    L_vlb is T L_k, whose mean over levels is the bound; in it the mean of a step is held fixed, so
    that it teaches the variance alone.

    Args:
      denoise: (x, sigma) -> (D, v); see `preconditioning.with_variance`.
      y: [B, ...] data.
      sigma: [B] noise levels.
      noise: [B, ...] standard normal.
      weight: lambda of L_simple, see `objectives.loss`.
      bound: of the table of levels.
      level: [B] which level `sigma` is.
      bound_weight: the weight of L_vlb.

    Returns:
      Of y's shape.
    """
    x, sigma, column, y = perturbed(y, sigma, noise)
    x0, v = denoise(x, sigma)
    simple = weight(column) * (x0 - y) ** 2
    learned = terms(bound, level, jax.lax.stop_gradient(x0), v, y)
    return simple + bound_weight * len(bound.shift) * learned

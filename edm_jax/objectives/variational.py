"""The variational bound of a discrete-time model with learned variance (improved DDPM).

Written in the frame of EDM, x = y + sigma n, where the posterior of a step from sigma to sigma' is

    q(x' | x, y) = N(r x + (1 - r) y, sigma'^2 (1 - r)),    r = sigma'^2 / sigma^2

and Kullback-Leibler divergences are those of the scaled process.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


def terms(
    bound: Bound, level: jax.Array, denoised: jax.Array, v: jax.Array, y: jax.Array
) -> jax.Array:
    """The terms L_k of the bound for every element, in bits (Nichol and Dhariwal 2021, 3.1).

        ln S = v ln S_large + (1 - v) ln S_small
        L_k = KL(q(x' | x, y) || N(r x + (1 - r) D, S)),    L_0 = -ln p(y)

    p is the Gaussian of mean D and variance S, integrated over the 256 levels of a pixel, and
    1e-12 at least.

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
    step = divergence(small, log_s, shift * (denoised - y) ** 2)
    # As in training: a pixel has a mass of 1e-12 at least.
    first = -jnp.maximum(discretized_log_likelihood(y, denoised, 0.5 * log_s), np.log(1e-12))
    is_first = (level == 0).reshape(small.shape)
    return jnp.where(is_first, first, step) / np.log(2.0)


def divergence(log_from: jax.Array, log_to: jax.Array, error: jax.Array) -> jax.Array:
    """KL(N(a, S_from) || N(b, S_to)) of every element, in nats.

    Args:
      log_from: ln S_from.
      log_to: ln S_to.
      error: (a - b)^2.

    Returns:
      Of the shape to which the three broadcast.
    """
    ratio = log_from - log_to
    return 0.5 * (jnp.expm1(ratio) - ratio + error * jnp.exp(-log_to))


def discretized_log_likelihood(y: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """ln of a Gaussian's mass on the pixel value that y is, of 256 in [-1, 1], the ends open.

    Args:
      y: values k / 127.5 - 1.
      mean: of y's shape.
      log_std: ln of the standard deviation, of y's shape.

    Returns:
      Of y's shape.
    """
    scale, half = jnp.exp(-log_std), 1.0 / 255.0
    above = jax.scipy.stats.norm.logcdf((y + half - mean) * scale)
    below = jax.scipy.stats.norm.logcdf((mean - y + half) * scale)  # of the other tail
    # Between two logarithms of the tail that y is in: neither 1 - 1 nor a mass that is 0.
    distance = jnp.abs(y - mean)
    near = jax.scipy.stats.norm.logcdf((half - distance) * scale)
    far = jax.scipy.stats.norm.logcdf(-(half + distance) * scale)
    inside = near + jnp.log(-jnp.expm1(far - near))
    return jnp.where(y < -0.999, above, jnp.where(y > 0.999, below, inside))

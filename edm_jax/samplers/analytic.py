"""The mean posterior variance of data at every noise level, measured: what Analytic-DPM needs."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, randomness


class PosteriorVariance(NamedTuple):
    """V(sigma) = E |y - D(x; sigma)|^2 / d: what x = y + sigma n leaves open of a pixel of y.

    It is called with a noise level, so it serves as the `posterior_variance` of `analytic_dpm`. It
    is kept as 1 - V / sigma^2, which for the exact denoiser is E |eps|^2 / d, eps = (x - D) / sigma
    (Bao et al. 2022, eq. 8).

    Attributes:
      sigma: `[M]` descending noise levels, positive.
      value: `[M]` 1 - V / sigma^2 there, float64.
    """

    sigma: np.ndarray
    value: np.ndarray

    def __call__(self, sigma: float, *, limit: float = 1.0) -> float:
        """V(sigma), at any level.

        Between levels log c^2 is linear in log sigma, with c^2 the variance of the Gaussian data
        that have this V = sigma^2 c^2 / (sigma^2 + c^2); outside of them it is constant.

        Args:
          sigma: a noise level.
          limit: the largest variance possible: ((b - a)/2)^2 for data in [a, b].

        Returns:
          The variance, in [0, limit].
        """
        levels, value = self.sigma[::-1], np.clip(self.value[::-1], 1e-12, 1 - 1e-12)
        logs = 2 * np.log(levels) + np.log1p(-value) - np.log(value)
        c2 = np.exp(np.interp(np.log(sigma), np.log(levels), logs))
        return float(np.clip(sigma**2 * c2 / (sigma**2 + c2), 0.0, limit))


def estimate(
    denoise: Callable[..., jax.Array],
    batches: Iterable[jax.Array | tuple],
    sigmas: ArrayLike,
    key: jax.Array,
) -> PosteriorVariance:
    """Measures the posterior variance in one pass over data, with any denoiser.

        x = y + sigma n,   V(sigma) = E |y - D(x; sigma)|^2 / d

    For a denoiser with errors this is the variance that goes best with the mean it gives (Bao et
    al. 2022, "Estimating the optimal covariance with imperfect mean"). sigma^2 (1 - E |eps|^2 / d)
    would be the wrong one: it takes an error of D times sigma, and above some sigma leaves no
    variance at all.

    Example i of the pass draws from `fold_in(key, i)`: batch sizes change the result by rounding.

    Args:
      denoise: (x `[B, ...]`, sigma `[]`, *rest) -> denoised image.
      batches: of data `[B, ...]` in the scale of the denoiser, or of tuples of these and the
        arguments `rest`, such as labels and parameters; all but the last of one size, or each
        size is compiled.
      sigmas: descending noise levels; a final 0 is left out.
      key: a typed key.

    Returns:
      The variance at the positive levels.

    Raises:
      ValueError: a grid that does not descend, no data.
    """
    levels = checks.descending(sigmas)
    levels = levels[levels > 0]

    @jax.jit
    def errors(first, y, *rest):
        keys = randomness.fold_in(key, first + jnp.arange(y.shape[0]))

        def at(row):
            index, sigma = row
            n = randomness.normal(randomness.fold_in(keys, index), y.shape[1:], dtype=y.dtype)
            gap = y - jnp.asarray(denoise(y + sigma * n, sigma, *rest), y.dtype)
            return (gap * gap).mean(tuple(range(1, y.ndim)))

        return jax.lax.map(at, (jnp.arange(levels.size), jnp.asarray(levels, y.dtype)))

    total, count = np.zeros(levels.size), 0
    for batch in batches:
        y, *rest = batch if isinstance(batch, tuple) else (batch,)
        y = jnp.asarray(y)
        total += np.asarray(errors(count, y, *rest), np.float64).sum(1)
        count += y.shape[0]
    if not count:
        raise ValueError("batches must hold at least one example, got none")
    return PosteriorVariance(levels, 1.0 - total / count / levels**2)

"""Analytic-DPM's Gamma: the mean posterior variance at every noise level, measured on data."""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness
from edm_jax.samplers import grid


class Gamma(NamedTuple):
    """Gamma(sigma) = E |eps|^2 / d, eps = (x - D(x; sigma)) / sigma (Bao et al. 2022, eq. 8).

    Attributes:
      sigma: `[M]` descending noise levels, positive.
      value: `[M]` Gamma there, float64.
    """

    sigma: np.ndarray
    value: np.ndarray

    def posterior_variance(self, sigma: float, limit: float = 1.0) -> float:
        """E Var[y | x] / d = sigma^2 (1 - Gamma(sigma)): what `analytic_dpm` asks for.

        Between levels log c^2 is linear in log sigma, with c^2 the variance of the Gaussian data
        that have this Gamma, 1 - Gamma = c^2 / (c^2 + sigma^2); outside of them it is constant.

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

    def save(self, path: str | os.PathLike) -> None:
        """Writes an .npz file."""
        with open(path, "wb") as file:
            np.savez(file, sigma=self.sigma, value=self.value)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Gamma":
        """Reads what `save` wrote; a ValueError names a file that is something else."""
        with open(path, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise ValueError(f"{path} is no .npz file of a Gamma")
        with np.load(path) as arrays:
            if not {"sigma", "value"} <= set(arrays.files):
                raise ValueError(f"{path} must hold sigma and value, got {arrays.files}")
            return cls(arrays["sigma"], arrays["value"])


def estimate(
    denoise: Callable[..., jax.Array],
    batches: Iterable[jax.Array | tuple],
    sigmas,
    key: jax.Array,
) -> Gamma:
    """Measures Gamma in one pass over data, with any denoiser.

        x = y + sigma n,   eps = (x - D) / sigma,   Gamma(sigma) = E |eps|^2 / d

    At large sigma eps is nearly n, and 1 - Gamma, of which the variance is made, drowns in the
    noise of |n|^2. So |eps|^2 is compared with |e|^2 of the guess D = w x, w = v / (v + sigma^2)
    with v the mean square of the example, whose mean over n is known:
    (1 - w)^2 (1 + y^2 / sigma^2). The expectation stays, most of the variance goes.

    Example i of the pass draws from `fold_in(key, i)`: batch sizes change the result by rounding.

    Args:
      denoise: (x `[B, ...]`, sigma `[]`, *rest) -> denoised image.
      batches: of data `[B, ...]` in the scale of the denoiser, or of tuples of these and the
        arguments `rest`, such as labels and parameters; all but the last of one size, or each
        size is compiled.
      sigmas: descending noise levels; a final 0 is left out.
      key: a typed key.

    Returns:
      Gamma at the positive levels.

    Raises:
      ValueError: a grid that does not descend, no data.
    """
    levels = grid.descending(sigmas)
    levels = levels[levels > 0]

    @jax.jit
    def excess(first, y, *rest):
        keys = randomness.fold_in(key, first + jnp.arange(y.shape[0]))
        event = tuple(range(1, y.ndim))

        def at(row):
            index, sigma = row
            n = randomness.normal(randomness.fold_in(keys, index), y.shape[1:], y.dtype)
            x = y + sigma * n
            v = (y * y).mean(event, keepdims=True)
            w = v / (v + sigma * sigma)
            gap = (w * x - jnp.asarray(denoise(x, sigma, *rest), y.dtype)) / sigma
            guess = (1 - w) * x / sigma
            known = w * (w - 2) + ((1 - w) * y / sigma) ** 2  # the guess's mean, less 1
            return (gap * (gap + 2 * guess) + known).mean(event)

        return jax.lax.map(at, (jnp.arange(levels.size), jnp.asarray(levels, y.dtype)))

    total, count = np.zeros(levels.size), 0
    for batch in batches:
        y, *rest = batch if isinstance(batch, tuple) else (batch,)
        y = jnp.asarray(y)
        total += np.asarray(excess(count, y, *rest), np.float64).sum(1)
        count += y.shape[0]
    if not count:
        raise ValueError("batches must hold at least one example, got none")
    return Gamma(levels, 1.0 + total / count)

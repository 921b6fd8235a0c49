"""Analytic-DPM's Gamma: the mean posterior variance at every noise level, measured on data."""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, randomness


class Gamma(NamedTuple):
    """Gamma(sigma) = 1 - E |y - D(x; sigma)|^2 / (d sigma^2), what data y leave to be explained.

    For the exact denoiser it is Bao et al.'s E |eps|^2 / d, eps = (x - D) / sigma (2022, eq. 8).

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

        x = y + sigma n,   Gamma(sigma) = 1 - E |y - D(x; sigma)|^2 / (d sigma^2)

    For a denoiser with errors E |y - D|^2 is the variance that goes best with the mean it gives
    (Bao et al. 2022, "Estimating the optimal covariance with imperfect mean"). E |eps|^2 would
    be the wrong one: it takes an error of D times sigma, and leaves none above some sigma.

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
    levels = checks.descending(sigmas)
    levels = levels[levels > 0]

    @jax.jit
    def errors(first, y, *rest):
        keys = randomness.fold_in(key, first + jnp.arange(y.shape[0]))

        def at(row):
            index, sigma = row
            n = randomness.normal(randomness.fold_in(keys, index), y.shape[1:], y.dtype)
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
    return Gamma(levels, 1.0 - total / count / levels**2)

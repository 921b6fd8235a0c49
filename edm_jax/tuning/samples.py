"""The samples that a search asks about: some noise, its denoiser, and where its flow goes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edm_jax.samplers import Tableau
from edm_jax.tuning.paths import Path, reference, run
from edm_jax.tuning.refine import mean_distance


class Samples(NamedTuple):
    """Some of the samples.

    Attributes:
      denoise: (x `[b, ...]`, sigma, rows) -> x0, numpy float64.
      rows: which of all samples they are.
      noise: `[b, ...]`, standard normal.
      path: the flow from it.
    """

    denoise: Callable[[np.ndarray, float, slice], np.ndarray]
    rows: slice
    noise: np.ndarray
    path: Path

    @classmethod
    def of(
        cls,
        denoise: Callable[[np.ndarray, float, slice], np.ndarray],
        rows: slice,
        noise: np.ndarray,
        sigmas: np.ndarray,
    ) -> "Samples":
        """Draws the reference paths of some samples on a fine grid."""
        path = reference(lambda x, sigma: denoise(x, sigma, rows), noise[rows], sigmas)
        return cls(denoise, rows, noise[rows], path)

    def first(self, count: int) -> "Samples":
        """The first ones, at most `count`."""
        part = slice(0, min(count, len(self.noise)))
        rows = slice(self.rows.start, self.rows.start + part.stop)
        return Samples(self.denoise, rows, self.noise[part], self.path.some(part))

    def ask(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """The denoised images of x `[b, ...]`, these samples' states."""
        return self.denoise(x, sigma, self.rows)

    def missed(self, end: np.ndarray) -> np.ndarray:
        """`[b, d]`: what samples `[b, ...]` miss the flow's end by."""
        return (end - self.path.end).reshape(len(end), -1)

    def drawn(self, tableau: Tableau) -> np.ndarray:
        """The samples `[b, ...]` that a tableau makes."""
        return run(self.ask, tableau, self.noise)[0][-1]

    def error(self, tableau: Tableau) -> float:
        """The mean distance of what a tableau makes from the flow's end."""
        return mean_distance(self.missed(self.drawn(tableau)))

"""The samples that a search asks about: some noise, its denoiser, and where its flow goes."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edm_jax.samplers import Tableau
from edm_jax.tuning.paths import Path, reference, run
from edm_jax.tuning.refine import mean_distance

KEPT = 2**28  # bytes of what was said


class Asked:
    """A denoiser that is asked once, and keeps what it said last."""

    def __init__(self, denoise: Callable[..., np.ndarray], dtype: np.dtype) -> None:
        """Keeps nothing yet.

        Args:
          denoise: (x `[b, ...]`, sigma, rows) -> x0, in `dtype`.
          dtype: what x and sigma are rounded to.
        """
        self._denoise, self._dtype = denoise, dtype
        self._said: dict[tuple, np.ndarray] = {}
        self._size = 0

    def __call__(self, x: np.ndarray, sigma: float, rows: slice) -> np.ndarray:
        """x0 `[b, ...]`, numpy float64."""
        x, level = x.astype(self._dtype), self._dtype.type(sigma)
        key = rows.start, rows.stop, level, hashlib.blake2b(x.tobytes()).digest()
        said = self._said.pop(key, None)
        if said is None:
            said = self._denoise(x, level, rows)
            self._size += said.nbytes
            while self._size > KEPT and self._said:
                self._size -= self._said.pop(next(iter(self._said))).nbytes
        self._said[key] = said
        return said.astype(np.float64)


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

"""Reference paths: where a denoiser's own flow goes from given noise, and at what slope."""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import samplers
from edm_jax.checks import descending, one_of
from edm_jax.samplers import SOLVERS, Tableau

# (x [B, ...], sigma) -> x0, numpy float64 both: a denoiser as the search calls it.
HostDenoiser = Callable[[np.ndarray, float], np.ndarray]


class Path(NamedTuple):
    """The flow from some noise, at descending noise levels.

    Attributes:
      sigmas: `[N]` descending noise levels, the last may be 0.
      states: `[N, B, ...]`, x at each level.
      slopes: `[N - 1, B, ...]`, dx/dsigma = (x - D) / sigma at each level but the last.
    """

    sigmas: np.ndarray
    states: np.ndarray
    slopes: np.ndarray

    @property
    def end(self) -> np.ndarray:
        """`[B, ...]`, where the flow ends."""
        return self.states[-1]

    def at(self, sigma: float) -> np.ndarray:
        """x `[B, ...]` at any level: the cubic through two states with their slopes (Hermite).

        Args:
          sigma: a level between the first and the last; after the last slope it is Euler's step.
        """
        # The interval [sigmas[i], sigmas[i + 1]] that sigma lies in.
        i = int(np.searchsorted(-self.sigmas, -sigma, side="right")) - 1
        i = min(max(i, 0), len(self.slopes) - 1)
        step = self.sigmas[i + 1] - self.sigmas[i]
        u = (sigma - self.sigmas[i]) / step
        x, slope = self.states[i], self.slopes[i]
        if i + 1 == len(self.slopes):
            return x + u * step * slope
        y, other = self.states[i + 1], self.slopes[i + 1]
        v = 1.0 - u
        return (
            v**2 * (1 + 2 * u) * x + u**2 * (1 + 2 * v) * y + u * v * step * (v * slope - u * other)
        )

    def some(self, chosen: slice) -> "Path":
        """The path of some of the samples."""
        return Path(self.sigmas, self.states[:, chosen], self.slopes[:, chosen])


def run(
    denoise: HostDenoiser, tableau: Tableau, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a deterministic tableau from the host, in float64 but for the denoiser.

    It is `samplers.sample` for a denoiser that no program can hold, such as one that lays its
    batch over devices; nothing of it depends on how many there are.

    Args:
      denoise: the denoiser.
      tableau: without noise on the way.
      noise: `[B, ...]`, standard normal.

    Returns:
      (states `[K + 1, B, ...]`: where each row evaluates the denoiser, and the sample; what it
      said there, `[K, B, ...]`).

    Raises:
      ValueError: a tableau that draws noise.
    """
    if tableau.stochastic:
        raise ValueError(f"tableau must draw no noise on the way, got {tableau!r}")
    noise = np.asarray(noise, np.float64)
    registers = [weight * noise for weight in tableau.start[:, 0]]
    states, said = [registers[0]], []
    for sigma, weights in zip(tableau.sigma, tableau.weights):
        said.append(denoise(registers[0], float(sigma)))
        vectors = (*registers, said[-1])
        registers = [_combine(row, vectors) for row in weights]
        states.append(registers[0])
    return np.stack(states), np.stack(said)


def _combine(weights: np.ndarray, vectors: tuple[np.ndarray, ...]) -> np.ndarray:
    total = np.zeros_like(vectors[0])
    for weight, vector in zip(weights, vectors):
        if weight:
            total += weight * vector
    return total


def reference(
    denoise: HostDenoiser, noise: np.ndarray, sigmas: ArrayLike, *, solver: str = "ipndm"
) -> Path:
    """Follows the flow of a denoiser by a solver on a fine grid.

    The solver evaluates the denoiser on the path at every level. It takes no analytical first
    step, which would spoil the first slope.

    Args:
      denoise: the denoiser.
      noise: `[B, ...]`, standard normal.
      sigmas: `[N]` descending noise levels, the last may be 0.
      solver: a key of `samplers.SOLVERS` without noise, of one or two calls a step.

    Returns:
      The path; for a solver of two calls its slopes are those at the start of each step.

    Raises:
      ValueError: a grid that does not descend, or a solver that is not such a one.
    """
    levels = descending(sigmas)
    one_of("solver", solver, [name for name, s in SOLVERS.items() if not s.stochastic])
    calls = SOLVERS[solver].nfe_per_step or 1
    tableau = cast(Tableau, samplers.build(solver, levels))
    states, said = run(denoise, tableau, noise)
    steps = np.arange(len(levels))
    at = np.minimum(calls * steps, tableau.nfe)
    states, starts = states[at], at[:-1]
    if not np.allclose(tableau.sigma[starts], levels[:-1], rtol=1e-12):
        raise ValueError(f"solver must evaluate the path at every level, got {solver!r}")
    over = levels[:-1].reshape(-1, *(1,) * np.ndim(noise))
    return Path(levels, states, (states[:-1] - said[starts]) / over)

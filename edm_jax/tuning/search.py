"""The search for one number of calls: what is tried on which grids, and how it goes on."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from edm_jax.samplers import Tableau
from edm_jax.timesteps import rounded
from edm_jax.tuning.candidates import Choice, Grid, Learned, choices, fixed_grids
from edm_jax.tuning.dynamic import METRICS, cheapest, costs
from edm_jax.tuning.refine import mean_distance, refine
from edm_jax.tuning.samples import Samples

GAMMAS = (1.0, 1.15, 1.3)
FEW, MORE = 16, 32  # samples that show who is far behind, and where levels should go
SOLVERS_KEPT, FIXED_KEPT, STARTS_KEPT = 8, 6, 2
FIRST_ROUNDS, LAST_ROUNDS = 2, 6  # of `refine` from each start, and from the best of them


class _Trial(NamedTuple):
    error: float
    choice: Choice | Learned
    grid: Grid
    sigmas: np.ndarray


class Search:
    """Finds the samplers nearest to the flow of some samples."""

    def __init__(
        self,
        samples: Samples,
        sigma_min: float,
        sigma_max: float,
        round_sigma: Callable | None = None,
    ) -> None:
        """Measures the costs of jumps along the paths.

        Args:
          samples: that it is tuned on.
          sigma_min: the lowest noise level.
          sigma_max: the first noise level.
          round_sigma: levels -> the nearest ones that the denoiser knows; None is any level.
        """
        self.samples, self.round_sigma = samples, round_sigma
        self.low = sigma_min
        self.fixed = list(fixed_grids(sigma_min, sigma_max))
        self.found = list(_gits_grids(samples))

    def of(self, nfe: int) -> Iterator[tuple[str, Tableau]]:
        """The best with so many calls, by name: on fixed grids, on searched levels, learned.

        Args:
          nfe: the number of calls.

        Returns:
          An iterator of three names with their tableaux.
        """
        few, more = (self.samples.first(count) for count in (FEW, MORE))
        usual = [grid for grid in self.fixed if grid.name.startswith("edm rho=7")]
        solvers = choices(on_levels=self.round_sigma is not None)
        first = self._tried(few, nfe, solvers, usual)
        kept = list(dict.fromkeys(trial.choice for trial in first))[:SOLVERS_KEPT]
        on_fixed = self._tried(few, nfe, kept, self.fixed)
        fixed = self._best(nfe, on_fixed[:FIXED_KEPT])
        yield f"{fixed.choice} on {fixed.grid.name}", self._tableau(fixed, nfe)

        starts = on_fixed + self._tried(few, nfe, kept, self.found)
        searched = self._moved(more, nfe, [fixed, *_different(starts)])
        yield f"{searched.choice} on searched levels", self._tableau(searched, nfe)

        known = Grid("searched", functools.partial(_resampled, searched.sigmas), "zero")
        rows = (Learned(), Learned(analytic=True))
        starts = self._tried(few, nfe, rows, [known, *self.fixed, *self.found])
        learned = self._moved(more, nfe, [*_different(starts), starts[1]])
        yield str(learned.choice), self._tableau(learned, nfe)

    def _drawn(
        self, samples: Samples, choice: Choice | Learned, sigmas: np.ndarray, nfe: int
    ) -> tuple[Tableau, np.ndarray] | None:
        """A tableau of `nfe` calls and what the samples miss the flow's end by; or None."""
        found = choice.drawn(samples, rounded(sigmas, self.round_sigma))
        if found is None or found[0].nfe != nfe:
            return None
        return found[0], samples.missed(found[1])

    def _tableau(self, trial: _Trial, nfe: int) -> Tableau:
        found = self._drawn(self.samples, trial.choice, trial.sigmas, nfe)
        assert found is not None  # it was drawn before
        return found[0]

    def _error(
        self, samples: Samples, choice: Choice | Learned, sigmas: np.ndarray, nfe: int
    ) -> float:
        found = self._drawn(samples, choice, sigmas, nfe)
        return mean_distance(None if found is None else found[1])

    def _tried(
        self,
        samples: Samples,
        nfe: int,
        each: Sequence[Choice | Learned],
        grids: Sequence[Grid],
    ) -> list[_Trial]:
        """Every choice on every grid, the best first."""
        found = []
        for choice in each:
            for grid in grids:
                if (steps := choice.steps(nfe, grid.end)) is not None:
                    sigmas = grid.make(steps)
                    error = self._error(samples, choice, sigmas, nfe)
                    found.append(_Trial(error, choice, grid, sigmas))
        return sorted(found, key=lambda trial: trial.error)

    def _best(self, nfe: int, trials: Sequence[_Trial]) -> _Trial:
        """The best of some trials by all of the samples."""
        error = lambda t: self._error(self.samples, t.choice, t.sigmas, nfe)
        return min((t._replace(error=error(t)) for t in trials), key=lambda t: t.error)

    def _moved(self, samples: Samples, nfe: int, starts: Sequence[_Trial]) -> _Trial:
        """The best of some trials after their levels were moved; at last by all of the samples."""
        first = [self._refined(samples, nfe, trial, FIRST_ROUNDS) for trial in starts]
        best = self._best(nfe, first)
        return self._refined(self.samples, nfe, best, LAST_ROUNDS)

    def _refined(self, samples: Samples, nfe: int, trial: _Trial, iterations: int) -> _Trial:
        end = trial.sigmas[-1]

        def residuals(levels: np.ndarray) -> np.ndarray | None:
            found = self._drawn(samples, trial.choice, np.append(levels, end), nfe)
            return None if found is None else found[1]

        levels, error = refine(residuals, trial.sigmas[:-1], self.low, iterations=iterations)
        return trial._replace(error=error, sigmas=np.append(levels, end))


def _gits_grids(samples: Samples) -> Iterator[Grid]:
    for metric in METRICS:
        cost = costs(samples.path, metric=metric)
        for gamma in GAMMAS:
            make = functools.partial(_cheapest, samples.path.sigmas, cost, gamma)
            yield Grid(f"GITS {metric} gamma={gamma:g}", make, "zero")


def _cheapest(levels: np.ndarray, cost: np.ndarray, gamma: float, steps: int) -> np.ndarray:
    return levels[cheapest(cost, steps, gamma=gamma)[0]]


def _resampled(sigmas: np.ndarray, steps: int) -> np.ndarray:
    """A grid of so many steps to 0 that is spaced like another one."""
    own = sigmas[:-1]
    places = np.linspace(0, len(own) - 1, steps)
    return np.append(np.exp(np.interp(places, np.arange(len(own)), np.log(own))), 0.0)


def _different(trials: Sequence[_Trial]) -> list[_Trial]:
    """The best trials of the best different choices."""
    best: dict[Choice | Learned, _Trial] = {}
    for trial in sorted(trials, key=lambda t: t.error):
        best.setdefault(trial.choice, trial)
    return list(best.values())[:STARTS_KEPT]

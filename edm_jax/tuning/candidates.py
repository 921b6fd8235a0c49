"""What is compared: solvers of the registry, with or without an analytical first step, on grids."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from edm_jax import samplers, timesteps
from edm_jax.samplers import SOLVERS, Tableau
from edm_jax.tuning.learned import analytic_first_step, fit
from edm_jax.tuning.samples import Samples

# The fixed grids: name, options.
GRIDS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("edm", {"rho": rho}) for rho in (3.0, 5.0, 7.0, 10.0)),
    ("exponential", {}),
)
ENDS = ("zero", "sigma_min")
_MOST_STEPS_MORE = 2  # than calls: an analytical first step, and a step that needs none


class Choice(NamedTuple):
    """A solver of the registry as the search takes it.

    Attributes:
      solver: a key of `samplers.SOLVERS`.
      options: what it takes beside its grid.
      analytic: whether its first step is `analytic_first_step`.
    """

    solver: str
    options: tuple[tuple[str, Any], ...] = ()
    analytic: bool = False

    def __str__(self) -> str:
        words = [self.solver, *(f"{name}={value}" for name, value in self.options)]
        return " ".join([*words, "analytic first step"] if self.analytic else words)

    def tableau(self, sigmas: np.ndarray) -> Tableau | None:
        """The tableau on a grid; None where the solver makes none of it."""
        try:
            made = samplers.build(self.solver, sigmas, **dict(self.options))
            assert isinstance(made, Tableau)
            return analytic_first_step(made) if self.analytic else made
        except ValueError:  # a grid of too few steps for it
            return None

    def steps(self, nfe: int, end: str) -> int | None:
        """How many steps of a grid with that end take `nfe` calls; None where none do."""
        return _steps(self, nfe, end)

    def drawn(self, samples: Samples, sigmas: np.ndarray) -> tuple[Tableau, np.ndarray] | None:
        """The tableau on a grid and the samples it makes; None where it makes no tableau."""
        made = self.tableau(sigmas)
        return None if made is None else (made, samples.drawn(made))


class Learned(NamedTuple):
    """Rows by least squares, as a choice beside the solvers of the registry.

    Attributes:
      analytic: whether the first step is `analytic_first_step`.
    """

    analytic: bool = False

    def __str__(self) -> str:
        return "learned rows" + (" analytic first step" if self.analytic else "")

    def steps(self, nfe: int, end: str) -> int | None:
        """How many steps of a grid with that end take `nfe` calls; None unless it ends at 0."""
        return nfe + self.analytic if end == "zero" else None

    def drawn(self, samples: Samples, sigmas: np.ndarray) -> tuple[Tableau, np.ndarray] | None:
        """The tableau that is learned of the samples on a grid, and what it makes of them."""
        return fit(samples.ask, samples.path, sigmas, analytic=self.analytic)


@functools.cache
def _steps(choice: Choice, nfe: int, end: str) -> int | None:
    for steps in range(1, nfe + _MOST_STEPS_MORE + 1):
        made = choice.tableau(timesteps.build("edm", steps, final=end))
        if made is not None and made.nfe == nfe:
            return steps
    return None


@functools.cache
def choices(*, on_levels: bool = False) -> tuple[Choice, ...]:
    """Every solver of the registry that needs a denoiser alone and draws no noise.

    A solver with an order counts once for each; of those that agree on a grid only one is kept.

    Args:
      on_levels: only those that evaluate the denoiser at levels of the grid, none between them.
    """
    found: list[Choice] = []
    seen: list[Tableau] = []
    sigmas = timesteps.edm(9, final="sigma_min")
    for name, solver in SOLVERS.items():
        if solver.stochastic or solver.needs or solver.nfe_per_step is None:
            continue
        orders = solver.options["order"].choices if "order" in solver.options else ()
        each: list[tuple[tuple[str, Any], ...]] = [(("order", order),) for order in orders]
        for options in each or [()]:
            made = Choice(name, options).tableau(sigmas)
            if made is None or any(_agree(made, other) for other in seen):
                continue
            if on_levels and not set(made.sigma) <= set(sigmas):
                continue
            seen.append(made)
            both = (False, True) if solver.nfe_per_step == 1 else (False,)
            found += [Choice(name, options, analytic) for analytic in both]
    return tuple(found)


def _agree(one: Tableau, other: Tableau) -> bool:
    """Whether two tableaux make the same of noise, whatever their registers hold."""
    if one.nfe != other.nfe or not np.allclose(one.sigma, other.sigma, rtol=1e-9):
        return False
    return np.allclose(_responses(one), _responses(other), rtol=0, atol=1e-9)


def _responses(tableau: Tableau) -> np.ndarray:
    """`[K, K + 1]`: the multiples of the noise and of each D that make the states."""
    size = tableau.nfe
    registers = np.zeros((tableau.registers, size + 1))
    registers[:, 0] = tableau.start[:, 0]
    found = []
    for k, weights in enumerate(tableau.weights):
        said = np.eye(size + 1)[k + 1]
        registers = weights[:, :-1] @ np.vstack([registers, said])
        found.append(registers[0])
    return np.array(found)


class Grid(NamedTuple):
    """Noise levels for any number of steps, by what they are called.

    Attributes:
      name: in words.
      make: steps -> noise levels `[steps + 1]`.
      end: "zero" or "sigma_min", where it ends.
    """

    name: str
    make: Callable[[int], np.ndarray]
    end: str


def fixed_grids(sigma_min: float, sigma_max: float) -> Iterator[Grid]:
    """The grids that a tuned one is compared with, between two noise levels."""
    for name, options in GRIDS:
        for end in ENDS:
            words = " ".join([name, *(f"{key}={value:g}" for key, value in options.items())])
            make = functools.partial(
                timesteps.build, name, bounds=(sigma_min, sigma_max), final=end, **options
            )
            yield Grid(words if end == "zero" else f"{words} to sigma_min", make, end)

"""Every solver by its name: what the command line, the documentation and the tests read."""

import difflib
import inspect
from collections.abc import Callable
from typing import NamedTuple

from edm_jax.samplers import runge_kutta
from edm_jax.samplers.tableau import Tableau


class Solver(NamedTuple):
    """A solver of the registry.

    Attributes:
      make: (sigmas, **options) -> Tableau.
      order: order of convergence, weak order where noise enters; None where it approaches no
        limit of small steps.
      nfe_per_step: network evaluations a step, before what the docstring says of the ends.
      stochastic: whether its defaults draw noise, so that `sample` needs keys.
      source: where it was published.
    """

    make: Callable[..., Tableau]
    order: int | None
    nfe_per_step: int
    stochastic: bool
    source: str


EDM = "Karras et al. 2022"

SOLVERS: dict[str, Solver] = {
    "euler": Solver(runge_kutta.euler, 1, 1, False, f"{EDM}, algorithm 2 without correction"),
    "heun": Solver(runge_kutta.heun, 2, 2, False, f"{EDM}, algorithms 1 and 2"),
}


def build(name: str, sigmas, **options) -> Tableau:
    """Builds a solver of the registry by its name.

    >>> build("heun", [80.0, 1.0, 0.0], alpha=0.5).nfe
    3

    Args:
      name: a key of `SOLVERS`.
      sigmas: `[N + 1]` descending noise levels (`edm_jax.timesteps`).
      **options: what the solver takes beside its grid.

    Returns:
      The tableau.

    Raises:
      ValueError: an unknown name, with the nearest ones; an option that the solver does not take,
        or one that it cannot do without; what the solver says of the options' values.
    """
    solver = find(name)
    parameters = list(inspect.signature(solver.make).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known:
            allowed = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"{name} has no option {option!r}: {allowed}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ValueError(f"{name} needs the option {parameter.name!r}")
    return solver.make(sigmas, **options)


def find(name: str) -> Solver:
    """Looks a solver up; a ValueError names the nearest ones."""
    if name in SOLVERS:
        return SOLVERS[name]
    near = difflib.get_close_matches(name, SOLVERS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "see edm_jax.samplers.SOLVERS"
    raise ValueError(f"there is no solver {name!r}; {hint}")

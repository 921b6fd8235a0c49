"""Langevin dynamics at fixed noise levels: the sampler of NCSN."""

import math

from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers.tableau import Tableau, symbols


def annealed_langevin(
    sigmas: ArrayLike,
    *,
    steps_per_level: int = 100,
    step_size: float | None = None,
    start_std: float | None = None,
) -> Tableau:
    """Annealed Langevin dynamics (Song and Ermon 2019, algorithm 1; NCSNv2, 2020).

        x <- x + eta_i score + sqrt(2 eta_i) z,   `steps_per_level` times at each sigma_i
        eta_i = step_size sigma_i^2 / sigma_L^2,   sigma_L the lowest positive level

    This is the form of the official code, twice the step of the paper's algorithm. NCSN: 10
    levels, geometric from 1 to 0.01, 100 steps, step_size 2e-5, no final 0, uniform start. NCSNv2
    for CIFAR-10: 232 levels from 50 to 0.01, 5 steps, step_size 6.2e-6, final 0. It samples each
    level's distribution up to a deviation that small steps remove, and converges to nothing as
    the grid is refined: no order. NFE steps_per_level times the positive levels, plus 1 if the
    grid ends at 0.

    Args:
      sigmas: descending noise levels; if the last is 0, D at the lowest level is returned.
      steps_per_level: T.
      step_size: epsilon; None is 0.1 sigma_L^2.
      start_std: deviation of the first state; None is the first level.

    Returns:
      The tableau; it starts from standard normal noise (or what is given for it) times start_std.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    levels = checks.descending(sigmas)
    checks.between("steps_per_level", steps_per_level, 1)
    positive = levels[levels > 0]
    if step_size is None:
        step_size = 0.1 * positive[-1] ** 2
    checks.between("step_size", step_size, 0.0, open_low=True)
    start_std = positive[0] if start_std is None else checks.between("start_std", start_std, 0.0)
    Y, D, z = symbols(1)
    relative = step_size / positive[-1] ** 2  # eta / sigma^2, the same at every level
    rows = []
    for sigma in positive:
        step = Y[0] + relative * (D - Y[0]) + sigma * math.sqrt(2 * relative) * z
        rows += [(sigma, [step])] * int(steps_per_level)
    if levels[-1] == 0:
        rows.append((positive[-1], [D]))
    return Tableau.from_rows([[start_std, 0.0]], rows)

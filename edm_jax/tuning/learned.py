"""Rows that are learned: linear combinations of what was denoised, by least squares along a path.

    x' = (s'/s) x + sum_j c_j D_j,     sum_j c_j = 1 - s'/s

Every linear multistep method is such a row, its coefficients computed from the noise levels alone.
Here they are those that bring the samples nearest to the flow at s', in closed form, row by row.
The sum is that of the exact solution for one point of data, D = y, which stays exact therefore.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.checks import descending
from edm_jax.samplers import Tableau, symbols
from edm_jax.tuning.paths import HostDenoiser, Path


def analytic_first_step(tableau: Tableau) -> Tableau:
    """Takes the first row without the network: its slope is set to x / sqrt(1 + s^2).

        D = x - s x / sqrt(1 + s^2)

    At the first noise level, where x is almost noise alone, that is nearly the slope of any data
    (Dockhorn et al. 2022, GENIE). The state after it is a multiple of the noise, so the row is
    absorbed into `start`.

    Args:
      tableau: without noise on the way, of at least two rows; its first evaluation is at the start.

    Returns:
      The same sampler with one row less.

    Raises:
      ValueError: noise on the way, or a single row.
    """
    if tableau.stochastic or tableau.nfe < 2:
        raise ValueError(f"tableau must have two rows or more and no noise, got {tableau!r}")
    sigma, scale = float(tableau.sigma[0]), float(tableau.start[0, 0])
    denoised = scale * (1.0 - sigma / math.sqrt(1.0 + sigma**2))
    begin = np.append(tableau.start[:, 0], denoised)
    start = np.stack([tableau.weights[0, :, :-1] @ begin, np.zeros(tableau.registers)], axis=1)
    return Tableau(start, tableau.sigma[1:], tableau.weights[1:])


def fit(
    denoise: HostDenoiser,
    path: Path,
    sigmas: ArrayLike,
    *,
    memory: int = 4,
    analytic: bool = False,
) -> tuple[Tableau, np.ndarray]:
    """Learns the rows of a tableau on a grid: the first is Euler's, each other is fitted.

    The states are those that the rows before lead to, not those of the path, so that each row
    mends what the ones before it missed. It takes as many calls as drawing the samples.

    Args:
      denoise: the denoiser.
      path: its flow, from the samples' noise, at levels that hold those of the grid.
      sigmas: `[N + 1]` descending noise levels, the last may be 0; the first is the path's.
      memory: how many denoised images a row combines, the newest ones.
      analytic: whether the first step is `analytic_first_step`'s.

    Returns:
      (the tableau of `memory` registers; the samples `[B, ...]` that it makes).

    Raises:
      ValueError: a grid that does not descend, `memory` below 1, or an analytic first step that
        is the only one.
    """
    levels = descending(sigmas)
    if memory < 1:
        raise ValueError(f"memory must be at least 1, got {memory}")
    if analytic and len(levels) < 3:
        raise ValueError(f"sigmas must make 2 steps or more for analytic, got {levels}")
    Y, D, _ = symbols(memory)
    first = np.zeros((memory, 2))
    x = path.states[0]
    if analytic:
        step = levels[1] - levels[0]
        grown = 1.0 + step / math.sqrt(1.0 + levels[0] ** 2)
        x, first[0, 0], levels = grown * x, grown * levels[0], levels[1:]
    else:
        first[0, 0] = levels[0]
    said: list[np.ndarray] = []
    rows = []
    for i, (sigma, after) in enumerate(zip(levels, levels[1:]), start=2):
        said = [denoise(x, float(sigma)), *said][:memory]
        keep = after / sigma
        euler = keep * x + (1.0 - keep) * said[0]
        goal = path.end if i == len(levels) else path.at(float(after))
        differences = [old - said[0] for old in said[1:]]
        coefficients = _least_squares(differences, goal - euler)
        x = euler + sum(c * d for c, d in zip(coefficients, differences))
        row = keep * Y[0] + (1.0 - keep - sum(coefficients)) * D
        row = row + sum(c * y for c, y in zip(coefficients, Y[1:]))
        rows.append((float(sigma), [row, D, *Y[1:-1]][:memory]))
    return Tableau.from_rows(first, rows), x


def _least_squares(columns: list[np.ndarray], goal: np.ndarray) -> list[float]:
    if not columns:
        return []
    matrix = np.stack([column.ravel() for column in columns], axis=1)
    return [float(c) for c in np.linalg.lstsq(matrix, goal.ravel(), rcond=1e-8)[0]]

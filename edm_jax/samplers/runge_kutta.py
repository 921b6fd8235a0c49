"""The samplers of EDM: Euler and the two-stage Runge-Kutta family, any sigma(t) and s(t), churn.

Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models",
2022 (arXiv 2206.00364), algorithms 1 to 3.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, schedules, timesteps
from edm_jax.samplers.churn import Churn, raised
from edm_jax.samplers.tableau import Tableau, symbols


def heun(
    sigmas: ArrayLike,
    *,
    alpha: float = 1.0,
    schedule: schedules.Schedule | None = None,
    churn: Churn | None = None,
    round_sigma: Callable | None = None,
) -> Tableau:
    """Two-stage second-order steps in sigma, with churn: the sampler of EDM (algorithm 2).

        sigma^ = sigma + gamma sigma,  x^ = x + s_noise sqrt(sigma^^2 - sigma^2) z
        h = sigma' - sigma^,           d = (x^ - D(x^; sigma^)) / sigma^
        x_m = x^ + alpha h d,          sigma_m = sigma^ + alpha h,   d_m likewise at (x_m, sigma_m)
        x' = x^ + h [(1 - 1/(2 alpha)) d + 1/(2 alpha) d_m];   the step to sigma' = 0 is x^ + h d

    With a schedule the steps are in its time t (algorithm 1): h = t' - t^ and d = dx/dt of

        dx/dt = (sigma'(t)/sigma + s'(t)/s) x - (sigma'(t) s / sigma) D(x / s; sigma)

    and the tableau is in the frame x / s. Order 2. NFE 2N - 1 on a grid that ends at 0, 2N on one
    that does not.

    >>> heun([80.0, 10.0, 1.0, 0.0]).nfe
    5

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      alpha: where the second evaluation is: 1 Heun, 2/3 Ralston, 1/2 midpoint; in (0, 1].
      schedule: sigma(t) and s(t) of the ODE; None is sigma = t, s = 1.
      churn: noise; None for the deterministic sampler.
      round_sigma: sigma -> the nearest level that the network knows, where it has a table. Levels
        that become equal make a step of length 0.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    schedule = schedule or schedules.edm()
    return _churned(checks.descending(sigmas), None, schedule, "heun", alpha, churn, round_sigma)


def euler(
    sigmas: ArrayLike,
    *,
    schedule: schedules.Schedule | None = None,
    churn: Churn | None = None,
    round_sigma: Callable | None = None,
    step_scale: float = 1.0,
) -> Tableau:
    """Euler's steps in sigma, with churn (algorithm 2 without its correction).

        x' = x^ + step_scale h d;   x^, h and d as in `heun`

    Without churn and schedule this is DDIM, DPM-Solver-1, the transfer step of PNDM. Order 1.
    NFE N.

    A step_scale above 1, AlphaFold 3's 1.5, goes further than the next level asks for, and the
    samples keep nearer together than the data: it is a temperature (examples/alphafold3.py).

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      schedule: sigma(t) and s(t) of the ODE; None is sigma = t, s = 1.
      churn: noise; None for the deterministic sampler.
      round_sigma: sigma -> the nearest level that the network knows, where it has a table. Levels
        that become equal make a step of length 0.
      step_scale: length of a step relative to the way to the next level, positive; in the time of
        the schedule, where there is one.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    checks.between("step_scale", step_scale, 0.0, open_low=True)
    return _churned(
        checks.descending(sigmas),
        None,
        schedule or schedules.edm(),
        "euler",
        1.0,
        churn,
        round_sigma,
        step_scale=step_scale,
    )


def ode(
    times: ArrayLike,
    schedule: schedules.Schedule,
    *,
    solver: Literal["heun", "euler"] = "heun",
    alpha: float = 1.0,
    churn: Churn | None = None,
    round_sigma: Callable | None = None,
) -> Tableau:
    """The general sampler of EDM on a grid of times: any sigma(t), any s(t), with churn.

        x' = x^ + h dx/dt;   x^, h and dx/dt as in `heun`, h = t' - t^

    Karras et al. 2022, algorithm 1, and with churn algorithm 2 for any schedule. `heun` and `euler`
    are the same on a grid of noise levels. Order 2 (`heun`) or 1 (`euler`). NFE 2N - 1 or N on a
    grid that ends at sigma = 0.

    >>> ode([1.0, 0.5, 0.0], schedules.vp())
    Tableau(nfe=3, registers=2, stochastic=False)

    Args:
      times: `[N + 1]` descending; sigma(t) is finite, and 0 at most at the last.
      schedule: sigma(t) and s(t) of the ODE.
      solver: "heun", the two-stage steps, or "euler".
      alpha: where the second evaluation is: 1 Heun, 2/3 Ralston, 1/2 midpoint; in (0, 1].
      churn: noise; None for the deterministic sampler.
      round_sigma: sigma -> the nearest level that the network knows, where it has a table. Levels
        that become equal make a step of length 0.

    Returns:
      The tableau, in the frame x / s; it starts from standard normal noise.

    Raises:
      ValueError: times that do not descend or where sigma does not, options out of range.
    """
    grid = np.asarray(times, np.float64)
    if grid.ndim != 1 or grid.size < 2 or not (np.diff(grid) < 0).all():
        raise ValueError(f"times must be at least two that descend strictly, got {times!r}")
    sigmas = checks.descending(schedule.sigma(grid), name="sigma(times)")
    return _churned(sigmas, grid, schedule, solver, alpha, churn, round_sigma)


def _churned(
    sigmas: np.ndarray,
    times: np.ndarray | None,
    schedule: schedules.Schedule,
    solver: str,
    alpha: float,
    churn: Churn | None,
    round_sigma: Callable | None,
    *,
    step_scale: float = 1.0,
) -> Tableau:
    """Algorithms 1 and 2; times of None are those of the levels."""
    checks.one_of("solver", solver, ("heun", "euler"))
    checks.between("alpha", alpha, 0.0, 1.0, open_low=True)
    sigmas = timesteps.rounded(sigmas, round_sigma, keep_repeated=True)
    if times is None or round_sigma is not None:
        times = schedules.times(schedule, sigmas)
    above, added = raised(sigmas, churn, round_sigma=round_sigma)
    starts = np.where(above == sigmas[:-1], times[:-1], schedule.sigma_inv(above))
    legs = [Leg(*leg) for leg in zip(starts, above, times[1:], sigmas[1:], added)]
    return integrate(
        legs, schedule, alpha if solver == "heun" else None, sigmas[0], step_scale=step_scale
    )


class Leg(NamedTuple):
    """One step of a Runge-Kutta sampler.

    Attributes:
      start: time of its first evaluation.
      sigma_start: noise level there.
      end: time it reaches.
      sigma_end: noise level there; 0 makes the step Euler's.
      noise: deviation of the noise that is added before it, in the frame x / s.
    """

    start: float
    sigma_start: float
    end: float
    sigma_end: float
    noise: float


def integrate(
    legs: list[Leg],
    schedule: schedules.Schedule,
    alpha: float | None,
    start_std: float,
    *,
    step_scale: float = 1.0,
) -> Tableau:
    """The tableau of a list of steps, each of two rows (one for Euler's and for steps to 0).

    Args:
      legs: the steps, in order.
      schedule: of the ODE.
      alpha: where the second evaluation is, as a share of the step; None is Euler's step.
      start_std: deviation of the first state, before the first leg's noise.
      step_scale: length of Euler's steps relative to their legs.

    Returns:
      The tableau; it starts from standard normal noise.
    """
    stages = 1 if alpha is None else 2
    Y, D, z = symbols(stages)
    unused = [0.0 * z] * (stages - 1)
    rows = []
    for leg, following in zip(legs, [*legs[1:], None]):
        noise = (following.noise if following else 0.0) * z
        h = leg.end - leg.start
        scale, scale_end = schedule.scale(leg.start), schedule.scale(leg.end)
        slope = _slope(schedule, leg.start, leg.sigma_start, Y[0], D)
        if alpha is None or leg.sigma_end == 0:
            after = (scale / scale_end) * (Y[0] + step_scale * h * slope)
            rows.append((leg.sigma_start, [after + noise, *unused]))
            continue
        middle = leg.end if alpha == 1 else leg.start + alpha * h
        sigma_middle = leg.sigma_end if alpha == 1 else float(schedule.sigma(middle))
        scale_middle = schedule.scale(middle)
        inner = (scale / scale_middle) * (Y[0] + alpha * h * slope)
        base = (scale / scale_end) * (Y[0] + (1 - 0.5 / alpha) * h * slope)
        rows.append((leg.sigma_start, [inner, base]))
        slope = _slope(schedule, middle, sigma_middle, Y[0], D)
        after = Y[1] + (scale_middle / scale_end) * (0.5 / alpha) * h * slope
        rows.append((sigma_middle, [after + noise, *unused]))
    return Tableau.from_rows([[start_std, legs[0].noise]] + [[0.0, 0.0]] * (stages - 1), rows)


def _slope(schedule, t, sigma, x, denoised):
    """(dx/dt) / s(t) at the state s(t) x."""
    pull = schedule.sigma_dot(t) / sigma
    stretch = schedule.scale_dot(t) / schedule.scale(t)
    return (pull + stretch) * x - pull * denoised

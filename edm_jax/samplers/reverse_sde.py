"""The samplers of score-based SDEs (Song et al. 2021) that are linear: two discretisations."""

import math

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, schedules
from edm_jax.samplers import numerics
from edm_jax.samplers.tableau import Tableau, symbols


def euler_maruyama(
    sigmas: ArrayLike,
    *,
    schedule: schedules.Schedule | None = None,
    denoise_last: bool = True,
) -> Tableau:
    """Euler-Maruyama steps of the reverse SDE, in the time of any schedule.

        dx = [f x - g^2 score] dt + g dw backwards:   f = s'/s,  g^2 = 2 s^2 sigma sigma'
        x' = x + h (f x - g^2 score) + g sqrt(-h) z,  h = t' - t < 0

    `schedules.vp()`, `sub_vp()`, `ve_geometric()` are Song et al.'s processes. With +g^2 score
    this would be the forward SDE: run backwards it does not reach the data. Weak order 1. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      schedule: the process and its time; None is `schedules.vp()`.
      denoise_last: leave the noise out of the last step ("noise removal").

    Returns:
      The tableau, in the frame x / s; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, or ends at 0 where the schedule does not.
    """
    sigmas = checks.descending(sigmas)
    schedule = schedule or schedules.vp()
    if sigmas[-1] == 0 and schedule.sigma(0.0) != 0:
        raise ValueError(
            f"sigmas must end above 0 for a schedule with sigma(0) = {schedule.sigma(0.0)}, got 0"
        )
    times = schedules.times(schedule, sigmas)
    Y, D, z = symbols(1)
    rows = []
    for t, target, sigma in zip(times, times[1:], sigmas):
        h = target - t
        scale, rate = schedule.scale(t), schedule.sigma_dot(t) / sigma
        stretch = schedule.scale_dot(t) / scale
        ratio = scale / schedule.scale(target)
        noise = ratio * sigma * math.sqrt(-2.0 * h * rate)
        after = ratio * (Y[0] + h * (stretch * Y[0] + 2.0 * rate * (Y[0] - D)))
        rows.append((sigma, [after + noise * z]))
    return _end(sigmas, rows, denoise_last)


def reverse_diffusion(
    sigmas: ArrayLike,
    *,
    schedule: schedules.Schedule | None = None,
    denoise_last: bool = True,
) -> Tableau:
    """The reverse-diffusion predictor: the discrete forward chain, reversed (appendix E).

        x_t = a x_t' + b z forwards, with a = s / s' and b^2 = s^2 (sigma^2 - sigma'^2), becomes
        x' = (2 - a) x + b^2 score + b z

    With s = 1 this is SMLD's chain, with s = 1 / sqrt(1 + sigma^2) DDPM's. Song et al. give other
    processes (sub-VP) the chain of their Euler-Maruyama steps: there it is `euler_maruyama`. It
    adds more noise than the posterior: deviation too large by a term of order 1. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      schedule: the process; None is s = 1, a variance-exploding one.
      denoise_last: leave the noise out of the last step ("noise removal").

    Returns:
      The tableau, in the frame x / s; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend.
    """
    sigmas = checks.descending(sigmas)
    schedule = schedule or schedules.edm()
    scales = schedule.scale(schedules.times(schedule, sigmas))
    preserving = np.allclose(scales * np.hypot(1.0, sigmas), 1.0, rtol=1e-6)
    if not (preserving or np.all(scales == 1.0)):
        return euler_maruyama(sigmas, schedule=schedule, denoise_last=denoise_last)
    Y, D, z = symbols(1)
    rows = []
    for i, (sigma, target) in enumerate(zip(sigmas, sigmas[1:])):
        jump = float(numerics.difference_of_squares(sigma, target))
        ratio = scales[i] / scales[i + 1]
        # In the frame x / s: score = (D - x) / (sigma^2 s), and a division by s'.
        pull = (jump / sigma) ** 2 * ratio
        after = (2 - ratio) * ratio * Y[0] + pull * (D - Y[0]) + jump * ratio * z
        rows.append((sigma, [after]))
    return _end(sigmas, rows, denoise_last)


def _end(sigmas: np.ndarray, rows: list, denoise_last: bool) -> Tableau:
    if denoise_last:
        rows[-1][1][0][-1] = 0.0
    return Tableau.from_rows([[sigmas[0], 0.0]], rows)

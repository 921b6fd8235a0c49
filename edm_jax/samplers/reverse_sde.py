"""The samplers of score-based SDEs (Song et al. 2021) that are linear: two discretisations."""

import math

import numpy as np

from edm_jax import checks, schedules
from edm_jax.samplers import numerics
from edm_jax.samplers.tableau import Tableau, assemble, symbols

PROCESSES = ("ve", "vp", "sub_vp")


def euler_maruyama(
    sigmas, schedule: schedules.Schedule | None = None, denoise_last: bool = True
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
            "sigmas must end above 0 for a schedule that never reaches it: "
            f"sigma(0) = {schedule.sigma(0.0)}"
        )
    times = np.append(schedule.sigma_inv(sigmas[:-1]), 0.0)
    if sigmas[-1] > 0:
        times[-1] = schedule.sigma_inv(sigmas[-1])
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


def reverse_diffusion(sigmas, process: str = "ve", denoise_last: bool = True) -> Tableau:
    """The reverse-diffusion predictor: the discrete forward chain, reversed (appendix E).

        ve:  x' = x + (sigma^2 - sigma'^2) score + sqrt(sigma^2 - sigma'^2) z
        vp:  x' = (2 - sqrt(1 - b)) x + b score + sqrt(b) z,  1 - b = (1 + sigma'^2)/(1 + sigma^2)
        sub_vp:  its chain is the Euler-Maruyama one: `euler_maruyama(sigmas, sub_vp())`

    Adds more noise than the posterior: deviation too large by a term of order 1. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      process: "ve", "vp" or "sub_vp".
      denoise_last: leave the noise out of the last step ("noise removal").

    Returns:
      The tableau, in the frame x / s; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, an unknown process.
    """
    checks.one_of("process", process, PROCESSES)
    if process == "sub_vp":
        return euler_maruyama(sigmas, schedules.sub_vp(), denoise_last)
    sigmas = checks.descending(sigmas)
    Y, D, z = symbols(1)
    rows = []
    for sigma, target in zip(sigmas, sigmas[1:]):
        jump = float(numerics.difference_of_squares(sigma, target))
        if process == "ve":
            after = Y[0] + (jump / sigma) ** 2 * (D - Y[0]) + jump * z
        else:
            # x_t = s x with s^2 = 1 / (1 + sigma^2); b = jump^2 s^2; score_t = (D - x)/(sigma^2 s)
            ratio = math.sqrt((1 + target**2) / (1 + sigma**2))  # s / s' = sqrt(1 - b)
            pull = (jump / sigma) ** 2 * ratio
            after = (2 - ratio) * ratio * Y[0] + pull * (D - Y[0]) + jump * ratio * z
        rows.append((sigma, [after]))
    return _end(sigmas, rows, denoise_last)


def _end(sigmas, rows, denoise_last: bool) -> Tableau:
    if denoise_last:
        rows[-1][1][0][-1] = 0.0
    return assemble([[sigmas[0], 0.0]], rows)

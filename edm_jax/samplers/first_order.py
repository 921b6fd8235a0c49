"""One-evaluation steps without memory: DDIM, DDPM, ancestral, Analytic-DPM, inversion.

In the frame x / s(t) all of them are one rule (with r = sigma'/sigma):

    x' = D + sigma_down (x - D) / sigma + sigma_up z,     sigma_down^2 + sigma_up^2 = sigma'^2

sigma_down = sigma' is Euler's step, DDIM at eta = 0; sigma_down = sigma'^2 / sigma is DDPM with
the small variance, DDIM at eta = 1, Euler-ancestral.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers import numerics
from edm_jax.samplers.tableau import Tableau, symbols

Convention = Literal["ddim", "dpm", "linear"]
CONVENTIONS = get_args(Convention)


def down_and_up(
    sigma: float, target: float, eta: float, *, convention: Convention = "ddim"
) -> tuple[float, float]:
    """Splits a step to `target` into a deterministic part and fresh noise.

    Three conventions of eta are in use; they agree at 0 and at 1 only:

        ddim:    up = eta sigma' sqrt(1 - r^2), at most sigma'       DDIM, k-diffusion's ancestral
        dpm:     down = sigma' r^eta                                 SDE-DPM-Solver++, SA-Solver
        linear:  down = sigma' (1 - eta + eta r)                     a blend of the two means

    >>> [round(float(v), 6) for v in down_and_up(2.0, 1.0, 1.0)]
    [0.5, 0.866025]

    Args:
      sigma: the level the step starts from, positive.
      target: sigma', the level it ends at.
      eta: 0 is the ODE, 1 the DDPM posterior.
      convention: one of `CONVENTIONS`.

    Returns:
      (sigma_down, sigma_up), with squares that add to sigma'^2.
    """
    if target == 0:
        return 0.0, 0.0
    r = target / sigma
    if convention == "ddim":
        up = min(target, eta * target * numerics.difference_of_squares(1.0, r))
        if eta <= 1:  # the same as sqrt(sigma'^2 - up^2), without its cancellation
            return target * math.sqrt((1 - eta) * (1 + eta) + (eta * r) ** 2), up
        return float(numerics.difference_of_squares(target, up)), up
    if convention == "dpm":
        return target * r**eta, target * math.sqrt(-math.expm1(2 * eta * math.log(r)))
    down = target * (1 - eta + eta * r)
    return down, float(numerics.difference_of_squares(target, down))


def _steps(sigmas: np.ndarray, downs, noises) -> Tableau:
    """x' = (down / sigma) x + (1 - down / sigma) D + noise z."""
    Y, D, z = symbols(1)
    rows = []
    for sigma, down, noise in zip(sigmas, downs, noises):
        after = (down / sigma) * Y[0] + ((sigma - down) / sigma) * D + noise * z
        rows.append((sigma, [after]))
    return Tableau.from_rows([[sigmas[0], 0.0]], rows)


def ddim(sigmas: ArrayLike, *, eta: float = 0.0, convention: Convention = "ddim") -> Tableau:
    """DDIM (Song, Meng, Ermon 2021, eq. 12) with any amount of noise.

        x' = D + sigma_down (x - D) / sigma + sigma_up z        (`down_and_up`)

    eta = 0 is Euler's method in sigma, eta = 1 the DDPM ancestral step. Order 1 (weakly so for
    eta > 0). NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1].
      convention: what eta means between 0 and 1: "ddim", "dpm" or "linear".

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, eta out of range, an unknown convention.
    """
    sigmas = checks.descending(sigmas)
    checks.between("eta", eta, 0.0, 1.0)
    checks.one_of("convention", convention, CONVENTIONS)
    parts = [down_and_up(s, t, eta, convention=convention) for s, t in zip(sigmas, sigmas[1:])]
    return _steps(sigmas, *zip(*parts))


def euler_ancestral(sigmas: ArrayLike, *, eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """Euler's step to sigma_down, then noise up to sigma' (k-diffusion's `sample_euler_ancestral`).

        x' = x + (sigma_down - sigma) (x - D) / sigma + s_noise sigma_up z

    At eta = 1 it is DDPM's ancestral sampling; `ddim` with noise that may be scaled and an eta
    that may exceed 1 (then sigma_up is cut at sigma'). Weak order 1. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, not negative.
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    checks.between("eta", eta, 0.0)
    checks.between("s_noise", s_noise, 0.0)
    downs, ups = zip(*(down_and_up(s, t, eta) for s, t in zip(sigmas, sigmas[1:])))
    return _steps(sigmas, downs, [s_noise * up for up in ups])


def ddpm(
    sigmas: ArrayLike,
    *,
    variance: Literal["small", "large", "analytic"] = "small",
    posterior_variance: Callable[[float], float] | None = None,
) -> Tableau:
    """DDPM's ancestral sampling (Ho, Jain, Abbeel 2020, algorithm 2), on any grid.

        x' = (sigma'^2 / sigma^2) x + (1 - sigma'^2 / sigma^2) D + n z
        small:     n^2 = sigma'^2 (1 - sigma'^2 / sigma^2)         exact for data that are a point
        large:     n^2 = (sigma^2 - sigma'^2) (1 + sigma'^2) / (1 + sigma^2)      exact for N(0, I)
        analytic:  that of `analytic_dpm`; exact for every Gaussian

    The last step, to 0, returns D. Weak order 1. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      variance: "small" (beta-tilde), "large" (beta) or "analytic".
      posterior_variance: for "analytic": sigma -> mean posterior variance of a pixel.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, an unknown variance.
    """
    checks.one_of("variance", variance, ("small", "large", "analytic"))
    if (variance == "analytic") != (posterior_variance is not None):
        raise ValueError(
            "posterior_variance must be given with variance='analytic' and only then, "
            f"got variance={variance!r}"
        )
    if posterior_variance is not None:
        return analytic_dpm(sigmas, posterior_variance=posterior_variance)
    sigmas = checks.descending(sigmas)
    downs, ups = zip(*(down_and_up(s, t, 1.0) for s, t in zip(sigmas, sigmas[1:])))
    if variance == "large":
        high, low = sigmas[:-1], sigmas[1:]
        ups = numerics.difference_of_squares(high, low) * np.sqrt((1 + low**2) / (1 + high**2))
        ups = np.where(low > 0, ups, 0.0)
    return _steps(sigmas, downs, ups)


def analytic_dpm(
    sigmas: ArrayLike,
    *,
    posterior_variance: Callable[[float], float],
    eta: float = 1.0,
    last_noise: float = math.inf,
) -> Tableau:
    """Analytic-DPM and Analytic-DDIM (Bao, Li, Zhu, Zhang 2022): the optimal noise of each step.

        n^2 = sigma_up^2 + (1 - sigma_down / sigma)^2 Var(sigma),    Var = E Var[y | x] / d

    The mean is DDIM's at `eta`. For Gaussian data the output is exact on any grid. The last step
    adds Var too: for images the authors cap its deviation at sqrt(pi/2) times two grey levels.
    Weak order 1. NFE N, once Var is known (`analytic.estimate`).

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      posterior_variance: sigma -> Var, such as an `analytic.PosteriorVariance`.
      eta: 1 is Analytic-DDPM, 0 Analytic-DDIM.
      last_noise: cap on the deviation of the last step's noise; 2/255 * 2 * sqrt(pi/2) = 0.0197
        for images in [-1, 1].

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range, a negative Var.
    """
    sigmas = checks.descending(sigmas)
    checks.between("eta", eta, 0.0, 1.0)
    checks.between("last_noise", last_noise, 0.0)
    downs, noises = [], []
    for sigma, target in zip(sigmas, sigmas[1:]):
        down, up = down_and_up(sigma, target, eta)
        spread = float(posterior_variance(sigma))
        if not spread >= 0:
            raise ValueError(f"posterior_variance({sigma}) must not be negative, got {spread}")
        downs.append(down)
        noises.append(math.hypot(up, (sigma - down) / sigma * math.sqrt(spread)))
    noises[-1] = min(noises[-1], last_noise)
    return _steps(sigmas, downs, noises)


def ddim_inversion(sigmas: ArrayLike) -> Tableau:
    """Data to noise: DDIM's steps up the grid (Song, Meng, Ermon 2021, section 4.3).

        x' = x + (sigma' - sigma) (x - D(x; sigma)) / sigma,   sigma' > sigma

    `sample(denoise, ddim_inversion(sigmas), data)` is noise from which `ddim(sigmas)` returns
    near the data: for Gaussian data, prod cos^2(dtheta) of the way, theta = atan(sigma / c). The
    data are taken to be at the lowest positive level. Order 1. NFE N - 1 on a grid that ends at
    0, where the denoiser cannot be asked; N on one that does not.

    Args:
      sigmas: `[N + 1]` descending noise levels of the sampler to invert.

    Returns:
      The tableau. It starts from data, and its result is x / sigma[0], on the scale of noise.

    Raises:
      ValueError: a grid that does not descend, or has fewer than two positive levels.
    """
    levels = checks.descending(sigmas)
    levels = checks.descending(levels[levels > 0], name="positive sigmas")[::-1]
    Y, D, _ = symbols(1)
    rows = [
        (low, [Y[0] + (high - low) / low * (Y[0] - D)]) for low, high in zip(levels, levels[1:])
    ]
    rows[-1] = (rows[-1][0], [rows[-1][1][0] / levels[-1]])
    return Tableau.from_rows([[1.0, 0.0]], rows)

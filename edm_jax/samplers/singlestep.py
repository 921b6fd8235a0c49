"""Steps of two or three evaluations without memory: DPM-Solver, DPM-Solver++(2S), their SDEs.

They step in lambda = -log sigma, h = log(sigma / sigma'), with the middle where lambda is halved.
A step to sigma' = 0 has no middle: it is Euler's, one evaluation, and returns D.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers.churn import Churn, raised
from edm_jax.samplers.first_order import down_and_up
from edm_jax.samplers.numerics import phi
from edm_jax.samplers.runge_kutta import euler
from edm_jax.samplers.tableau import Tableau, symbols


def dpm_solver_1(sigmas: ArrayLike) -> Tableau:
    """DPM-Solver-1 (Lu et al. 2022a): exponential Euler for eps, which is `euler`, DDIM.

    Order 1. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend.
    """
    return euler(sigmas)


def dpm_solver_2(sigmas: ArrayLike, *, r: float = 0.5) -> Tableau:
    """DPM-Solver-2 (Lu et al. 2022a, algorithm 1), one step of two evaluations.

        m = sigma e^(-r h),  u = x + (m - sigma) e(x; sigma),   e = (x - D) / sigma
        x' = x + (sigma' - sigma) [(1 - 1/(2r)) e(x; sigma) + 1/(2r) e(u; m)]

    r = 1/2 is `dpm_2`, the midpoint rule in lambda. Order 2. NFE 2N - 1 on a grid that ends at
    0, else 2N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      r: where the second evaluation is, in (0, 1].

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, r out of range.
    """
    sigmas = checks.descending(sigmas)
    checks.between("r", r, 0.0, 1.0, open_low=True)
    return _midpoint(sigmas, 0.0, 1.0, r)


def dpm_2(sigmas: ArrayLike) -> Tableau:
    """DPM-Solver-2 with the geometric midpoint, k-diffusion's `sample_dpm_2` without churn.

    Order 2. NFE 2N - 1 on a grid that ends at 0, else 2N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend.
    """
    return dpm_solver_2(sigmas)


def dpm_2_ancestral(sigmas: ArrayLike, *, eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """A `dpm_2` step to sigma_down, then noise up to sigma' (k-diffusion).

    Weak order 2 for the deviation of Gaussian data. NFE 2N - 1 on a grid that ends at 0, else 2N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]; 0 is the ODE.
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    return _midpoint(checks.descending(sigmas), *_noise(eta, s_noise), 0.5)


def dpm_solver_3(sigmas: ArrayLike) -> Tableau:
    """DPM-Solver-3 (Lu et al. 2022a, algorithm 2) with r1 = 1/3, r2 = 2/3: three evaluations.

        s1 = sigma e^(-h/3),  s2 = sigma e^(-2h/3),   e_0, e_1, e_2 = e at x, u1, u2
        u1 = x + (s1 - sigma) e_0
        u2 = x + (s2 - sigma) e_0 - 2 s2 ((e^(2h/3) - 1)/(2h/3) - 1) (e_1 - e_0)
        x' = x + (sigma' - sigma) e_0 - 3/2 sigma' ((e^h - 1)/h - 1) (e_2 - e_0)

    Order 3. NFE 3N - 2 on a grid that ends at 0, else 3N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend.
    """
    sigmas = checks.descending(sigmas)
    Y, D, z = symbols(3)
    rows = []
    for s, t in zip(sigmas, sigmas[1:]):
        e = (Y[0] - D) / s
        if t == 0:
            rows.append((s, [D, 0 * z, 0 * z]))
            continue
        h = math.log(s / t)
        s1, s2 = s * math.exp(-h / 3), s * math.exp(-2 * h / 3)
        second = 2 * s2 * (2 * h / 3) * phi(2, 2 * h / 3)
        third = 1.5 * t * h * phi(2, h)
        x = Y[0]
        rows.append((s, [x + (s1 - s) * e, x + (s2 - s + second) * e, x + (t - s + third) * e]))
        rows.append((s1, [Y[1] - second * (Y[0] - D) / s1, Y[2], 0 * z]))
        rows.append((s2, [Y[1] - third * (Y[0] - D) / s2, 0 * z, 0 * z]))
    return Tableau.from_rows([[sigmas[0], 0.0], [0.0, 0.0], [0.0, 0.0]], rows)


def dpmpp_2s(sigmas: ArrayLike, *, churn: Churn | None = None) -> Tableau:
    """DPM-Solver++(2S) (Lu et al. 2022b, algorithm 1) with r = 1/2, and GenCast's churn.

        sigma^ = sigma + gamma sigma,  x^ = x + s_noise sqrt(sigma^^2 - sigma^2) z
        m = sqrt(sigma^ sigma'),  u = (m/sigma^) x^ + (1 - m/sigma^) D(x^; sigma^)
        x' = (sigma'/sigma^) x^ + (1 - sigma'/sigma^) D(u; m)

    Order 2. NFE 2N - 1 on a grid that ends at 0, else 2N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      churn: noise; None for the deterministic sampler.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    above, added = raised(sigmas, churn)
    return _two_stages([sigmas[0], added[0]], above, sigmas[1:], [*added[1:], 0.0])


def dpmpp_2s_ancestral(sigmas: ArrayLike, *, eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """A `dpmpp_2s` step to sigma_down, then noise up to sigma' (k-diffusion).

        m = sqrt(sigma sigma_down),  x' = (sigma_down/sigma) x + (1 - sigma_down/sigma) D(u; m)
                                          + s_noise sigma_up z

    Weak order 2 for the deviation of Gaussian data. NFE 2N - 1 on a grid that ends at 0.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]; 0 is the ODE.
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    eta, s_noise = _noise(eta, s_noise)
    downs, ups = zip(*(down_and_up(s, t, eta) for s, t in zip(sigmas, sigmas[1:])))
    return _two_stages([sigmas[0], 0.0], sigmas[:-1], downs, [s_noise * up for up in ups])


def _two_stages(start, levels, targets, noises) -> Tableau:
    """Steps of `dpmpp_2s` from levels to targets, each with noise added at its end."""
    Y, D, z = symbols(2)
    rows = []
    for s, t, noise in zip(levels, targets, noises):
        if t == 0:
            rows.append((s, [D + noise * z, 0 * z]))
            continue
        m = math.sqrt(s * t)
        rows.append((s, [(m / s) * Y[0] + ((s - m) / s) * D, (t / s) * Y[0]]))
        rows.append((m, [Y[1] + ((s - t) / s) * D + noise * z, 0 * z]))
    return Tableau.from_rows([start, [0.0, 0.0]], rows)


def dpmpp_sde(
    sigmas: ArrayLike,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    correlation: Literal["exact", "tree", "independent"] = "exact",
) -> Tableau:
    """SDE-DPM-Solver++ with a middle evaluation, k-diffusion's `sample_dpmpp_sde` (r = 1/2).

        m = sqrt(sigma sigma'),  (d1, u1), (d, u) = down_and_up to m and to sigma' ("dpm")
        y  = (d1/sigma) x + (1 - d1/sigma) D(x; sigma) + u1 z1
        x' = (d/sigma) x + (1 - d/sigma) D(y; m) + u (rho z1 + sqrt(1 - rho^2) z2)

    The two draws belong to one Brownian path. rho = (sigma'/m) e^(-eta h/2) u1/u is its exact
    correlation, sqrt((sigma - m)/(sigma - sigma')) that of k-diffusion's Brownian tree;
    independent draws (rho = 0) fall to weak order 1. Weak order 2. NFE 2N - 1 on a grid that
    ends at 0, else 2N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1].
      s_noise: scale of the noise.
      correlation: "exact", "tree" or "independent".

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    eta, s_noise = _noise(eta, s_noise)
    checks.one_of("correlation", correlation, ("exact", "tree", "independent"))
    Y, D, z = symbols(2)
    rows = []
    for s, t in zip(sigmas, sigmas[1:]):
        if t == 0:
            rows.append((s, [D, 0 * z]))
            continue
        m = math.sqrt(s * t)
        down_1, up_1 = down_and_up(s, m, eta, convention="dpm")
        down, up = down_and_up(s, t, eta, convention="dpm")
        rho = 0.0
        if correlation == "exact" and up > 0:
            rho = min(1.0, (t / m) * (t / s) ** (eta / 2) * up_1 / up)
        elif correlation == "tree":
            rho = math.sqrt((s - m) / (s - t))
        inner = (down_1 / s) * Y[0] + ((s - down_1) / s) * D + s_noise * up_1 * z
        rows.append((s, [inner, (down / s) * Y[0] + s_noise * up * rho * z]))
        fresh = s_noise * up * math.sqrt((1 - rho) * (1 + rho))
        rows.append((m, [Y[1] + ((s - down) / s) * D + fresh * z, 0 * z]))
    return Tableau.from_rows([[sigmas[0], 0.0], [0.0, 0.0]], rows)


def _midpoint(sigmas: np.ndarray, eta: float, s_noise: float, r: float) -> Tableau:
    Y, D, z = symbols(2)
    rows = []
    for s, t in zip(sigmas, sigmas[1:]):
        if t == 0:
            rows.append((s, [D, 0 * z]))
            continue
        down, up = down_and_up(s, t, eta)
        m = s * (down / s) ** r
        e = (Y[0] - D) / s
        rows.append((s, [Y[0] + (m - s) * e, Y[0] + (1 - 0.5 / r) * (down - s) * e]))
        after = Y[1] + (0.5 / r) * (down - s) * (Y[0] - D) / m
        rows.append((m, [after + s_noise * up * z, 0 * z]))
    return Tableau.from_rows([[sigmas[0], 0.0], [0.0, 0.0]], rows)


def _noise(eta: float, s_noise: float) -> tuple[float, float]:
    return checks.between("eta", eta, 0.0, 1.0), checks.between("s_noise", s_noise, 0.0)

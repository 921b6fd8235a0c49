"""Multistep methods on D in lambda = -log sigma: DPM-Solver++ 2M and 3M, and SA-Solver.

    x' = e^-H x + int A e^-A(lambda' - l) D(l) dl + sigma' sqrt(1 - e^(-2 eta h)) z
    h = log(sigma / sigma'),  A = 1 + eta,  H = A h

exact but for D(l), which is extrapolated from the last evaluations. eta = 0 is the ODE, eta = 1
the SDE of DDPM. A step to sigma' = 0 is of infinite length: it returns D.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.samplers.numerics import lagrange, phi
from edm_jax.samplers.tableau import Tableau, symbols


def dpmpp_2m(
    sigmas: ArrayLike,
    *,
    eta: float = 0.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
    s_noise: float = 1.0,
) -> Tableau:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), and with eta > 0 its SDE.

        x' = e^-H x + (1 - e^-H) D_i + k (D_i - D_(i-1)) / r + noise,   r = h_(i-1) / h
        midpoint:  k = (1 - e^-H) / 2;     heun:  k = 1 - (1 - e^-H) / H

    The first step is of order 1. "heun" is SA-Solver's predictor of order 2. Order 2. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]: the convention "dpm" of `first_order.down_and_up`.
      solver_type: "midpoint" or "heun".
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    checks.one_of("solver_type", solver_type, ("midpoint", "heun"))

    def weights(i, steps, total):
        if i == 0:
            return _first(total)
        k = 0.5 * total * phi(1, -total) if solver_type == "midpoint" else total * phi(2, -total)
        k *= steps[i] / steps[i - 1]
        return _first(total) + [k, -k]

    return _multistep(sigmas, 2, weights, eta, s_noise)


def dpmpp_2m_sde(
    sigmas: ArrayLike,
    *,
    eta: float = 1.0,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
    s_noise: float = 1.0,
) -> Tableau:
    """`dpmpp_2m` with noise: SDE-DPM-Solver++(2M), k-diffusion's `sample_dpmpp_2m_sde`.

    Weak order 2. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]: the convention "dpm" of `first_order.down_and_up`.
      solver_type: "midpoint" or "heun".
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    return dpmpp_2m(sigmas, eta=eta, solver_type=solver_type, s_noise=s_noise)


def dpmpp_3m(
    sigmas: ArrayLike,
    *,
    eta: float = 0.0,
    s_noise: float = 1.0,
    low_orders: Literal["start", "both"] = "start",
) -> Tableau:
    """DPM-Solver++(3M) as published and as k-diffusion and diffusers run it: of order 2.

        d10 = (D_i - D_(i-1)) / r0,  d11 = (D_(i-1) - D_(i-2)) / r1,   r_j = h_(i-1-j) / h
        d1 = d10 + (d10 - d11) r0 / (r0 + r1),   d2 = (d10 - d11) / (r0 + r1)
        x' = e^-H x + (1 - e^-H) D_i + H phi_2(-H) d1 + H phi_3(-H) d2 + noise

    d2 is h^2 D''/2, where Taylor asks for h^2 D'': the formula is of order 2, though at practical
    N it is no worse than `dpmpp_3m_third_order`. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]: the convention "dpm" of `first_order.down_and_up`.
      s_noise: scale of the noise.
      low_orders: "start": the first two steps are of order 1 and 2. "both": the last two are of
        order 2 and 1 too, and steps of order 2 are those of `dpmpp_2m`, which is what the
        authors' own program does.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    checks.one_of("low_orders", low_orders, ("start", "both"))

    def weights(i, steps, total):
        second = total * phi(2, -total)
        left = steps.size - i if low_orders == "both" else 3
        if i == 0 or left == 1:
            return _first(total, 3)
        r0 = steps[i - 1] / steps[i]
        d10 = np.array([1.0, -1.0, 0.0]) / r0
        if i == 1 or left == 2:
            slope = second if low_orders == "start" else 0.5 * total * phi(1, -total)
            return _first(total, 3) + slope * d10
        r1 = steps[i - 2] / steps[i]
        d11 = np.array([0.0, 1.0, -1.0]) / r1
        d2 = (d10 - d11) / (r0 + r1)
        return _first(total, 3) + second * (d10 + r0 * d2) + total * phi(3, -total) * d2

    return _multistep(sigmas, 3, weights, eta, s_noise)


def dpmpp_3m_sde(sigmas: ArrayLike, *, eta: float = 1.0, s_noise: float = 1.0) -> Tableau:
    """`dpmpp_3m` with noise, k-diffusion's `sample_dpmpp_3m_sde`. Unstable below some 20 steps.

    Weak order 2. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]: the convention "dpm" of `first_order.down_and_up`.
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    return dpmpp_3m(sigmas, eta=eta, s_noise=s_noise)


def dpmpp_3m_third_order(sigmas: ArrayLike, *, eta: float = 0.0, s_noise: float = 1.0) -> Tableau:
    """`dpmpp_3m` with the factor 2 that its d2 lacks: D extrapolated as a parabola in lambda.

    The same as the SA-Solver predictor and UniP of order 3. Order 3. NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1]: the convention "dpm" of `first_order.down_and_up`.
      s_noise: scale of the noise.

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    return _multistep(sigmas, 3, _lagrange_weights(checks.descending(sigmas), 3, eta), eta, s_noise)


def sa_solver(
    sigmas: ArrayLike,
    *,
    predictor_order: Literal[1, 2, 3, 4] = 2,
    corrector_order: Literal[0, 1, 2, 3, 4] = 2,
    tau: float = 1.0,
    sigma_low: float = 0.0,
    sigma_high: float = math.inf,
) -> Tableau:
    """SA-Solver (Xue et al. 2023): stochastic Adams, predictor and corrector, noise in a window.

        x_p = e^-(1+tau^2)h x + sum_j c_j D_(i-j) + sigma' sqrt(1 - e^(-2 tau^2 h)) z
        x'  = the same with D(x_p; sigma') among the nodes, and the same z
        c_j = int (1+tau^2) e^-(1+tau^2)(lambda'-l) L_j(l) dl

    tau^2 is the eta of `dpmpp_2m_sde`. The corrector takes the evaluation of the next step, so it
    is free. Orders 3 and 3 are the authors' for CIFAR-10, 2 and 2 those of diffusers; with noise
    and few steps (10) the third order overshoots the deviation by a factor. Order (of the ODE,
    tau = 0) min(corrector_order, predictor_order + 1), or predictor_order without corrector.
    NFE N.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      predictor_order: denoised images in the predictor, 1 to 4.
      corrector_order: denoised images in the corrector, the new one included, 1 to 4; 0 is none.
      tau: amount of noise, not negative.
      sigma_low, sigma_high: noise enters steps that start at sigma_low <= sigma <= sigma_high
        (the authors: 0.05 to 1 for CIFAR-10, 0.05 to 50 for ImageNet-64).

    Returns:
      The tableau; it starts from standard normal noise.

    Raises:
      ValueError: a grid that does not descend, options out of range.
    """
    sigmas = checks.descending(sigmas)
    checks.one_of("predictor_order", predictor_order, (1, 2, 3, 4))
    checks.one_of("corrector_order", corrector_order, (0, 1, 2, 3, 4))
    checks.between("tau", tau, 0.0)
    checks.between("sigma_high", sigma_high, checks.between("sigma_low", sigma_low, 0.0))
    inside = (sigma_low <= sigmas[:-1]) & (sigmas[:-1] <= sigma_high)
    etas = np.where(inside, tau**2, 0.0)
    if not corrector_order:
        weights = _lagrange_weights(sigmas, predictor_order, etas)
        return _multistep(sigmas, predictor_order, weights, etas)

    past = max(predictor_order, corrector_order - 1) - 1
    Y, D, z = symbols(2 + past)
    history = [D, *Y[2:]]
    correction = 0.0
    rows = []
    for i, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
        x = Y[1] + correction * D if i else Y[0]
        if t == 0:
            rows.append((s, [D, *[0 * z] * (1 + past)]))
            break
        h, eta = math.log(s / t), etas[i]
        fixed = math.exp(-(1 + eta) * h) * x + t * math.sqrt(-math.expm1(-2 * eta * h)) * z
        available = 1 + min(i, past)
        known = -np.log(sigmas[[i - j for j in range(available)]])
        count = min(predictor_order, available)
        predictor = _exponential(known[:count], s, t, eta)
        count = min(corrector_order - 1, available)
        correction, *others = _exponential(np.append(-math.log(t), known[:count]), s, t, eta)
        rows.append(
            (
                s,
                [
                    fixed + sum(c * d for c, d in zip(predictor, history)),
                    fixed + sum(c * d for c, d in zip(others, history)),
                    *history[:past],
                ],
            )
        )
    if sigmas[-1] > 0:
        # No evaluation follows the last step: it stays as predicted.
        rows[-1][1][1:] = [0 * z] * (1 + past)
    return Tableau.from_rows([[sigmas[0], 0.0]] + [[0.0, 0.0]] * (1 + past), rows)


def _multistep(sigmas, order: int, weights: Callable, eta, s_noise: float = 1.0) -> Tableau:
    """x' = e^-H x + weights(i, steps, H) . (D_i, D_(i-1), ...) + noise."""
    sigmas = checks.descending(sigmas)
    if np.ndim(eta) == 0:
        checks.between("eta", eta, 0.0, 1.0)
    checks.between("s_noise", s_noise, 0.0)
    etas = np.broadcast_to(eta, sigmas.size - 1)
    with np.errstate(divide="ignore"):
        steps = -np.diff(np.log(sigmas))
    Y, D, z = symbols(order)
    history = [D, *Y[1:]]
    rows = []
    for i, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
        if t == 0:
            after = D
        else:
            total = (1 + etas[i]) * steps[i]
            noise = s_noise * t * math.sqrt(-math.expm1(-2 * etas[i] * steps[i]))
            after = math.exp(-total) * Y[0] + noise * z
            after = after + sum(c * d for c, d in zip(weights(i, steps, total), history))
        rows.append((s, [after, *history[: order - 1]]))
    return Tableau.from_rows([[sigmas[0], 0.0]] + [[0.0, 0.0]] * (order - 1), rows)


def _lagrange_weights(sigmas, order: int, eta) -> Callable:
    etas = np.broadcast_to(eta, sigmas.size - 1)

    def weights(i, steps, total):
        nodes = -np.log(sigmas[[i - j for j in range(min(order, i + 1))]])
        return _exponential(nodes, sigmas[i], sigmas[i + 1], etas[i])

    return weights


def _exponential(nodes, s: float, t: float, eta: float) -> np.ndarray:
    """int A e^-A(lambda' - l) L_j(l) dl over a step, A = 1 + eta: weights of D at the nodes."""
    a, end = 1.0 + eta, -math.log(t)
    return lagrange(nodes, -math.log(s), end, weight=lambda u: a * np.exp(-a * (end - u)))


def _first(total: float, size: int = 2) -> np.ndarray:
    """The weights of a step of order 1: (1 - e^-H) D_i."""
    weights = np.zeros(size)
    weights[0] = total * phi(1, -total)
    return weights

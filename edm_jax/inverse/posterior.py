"""Denoisers of the posterior p(x0 | y), y = A(x0) + sigma_y n: maps from denoiser to denoiser.

With r = y - A(D) and J = dD / dx, most of them are

    D_y = D + sigma^2 J^T A^T u

which is the exact E[x0 | x, y] for Gaussian data if (sigma_y^2 I + sigma^2 A J A^T) u = r, since
sigma^2 J is the covariance of x0 given x. They differ in u. The rest leave out J, and cost no
gradient of the network. An operator that is not linear stands for its derivative at D.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from edm_jax import checks
from edm_jax.checks import Denoiser, column
from edm_jax.inverse import linear
from edm_jax.inverse.measurement import (
    Residual,
    check_iterations,
    check_noise,
    check_prior,
    denoised_and_pull,
    residual,
)
from edm_jax.inverse.operators import Operator

Noise = float | jax.Array


def dps(denoise: Denoiser, operator: Operator, y: jax.Array, sigma_y: Noise) -> Denoiser:
    """Diffusion posterior sampling as a score (Chung et al. 2023, eq. 10 with theorem 1).

        u = r / sigma_y^2

    The likelihood of y is taken at D, as if x0 had no variance given x. Its score is too large by
    far at high noise: samplers with few steps diverge. `steps.dps` is the authors' sampler, whose
    step does not depend on sigma_y. Costs a forward and a backward pass of the network.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, positive: a number or [B].

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: sigma_y not positive; from the denoiser, a measurement of another shape.
    """
    check_noise(sigma_y, positive=True)

    def image(x, sigma, parts, pull):
        return parts.pull(parts.value / column(_square(sigma_y, x), parts.value))

    return _with_jacobian(denoise, operator, y, image)


def pigdm(
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    sigma_y: Noise,
    *,
    prior_variance: float = 1.0,
    iterations: int = 30,
) -> Denoiser:
    """Pseudo-inverse guidance, as a score (Song et al. 2023, eq. 7).

        (sigma_y^2 I + rho^2 A A^T) u = r,   rho^2 = 1 / (1 / prior_variance + 1 / sigma^2)

    rho^2 is the variance of x0 given x for data N(0, prior_variance I), and for these it is exact.
    Costs a forward and a backward pass of the network.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, not negative: a number or [B].
      prior_variance: of the data; the paper's 1.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: an option out of range; from the denoiser, a measurement of another shape.
    """
    check_noise(sigma_y)
    check_prior(prior_variance)

    def image(x, sigma, parts, pull):
        return parts.invert(_square(sigma_y, x), _given_x(sigma, x, prior_variance))

    return _with_jacobian(denoise, operator, y, image, iterations)


def mmps(
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    sigma_y: Noise,
    *,
    iterations: int = 5,
    solver: Literal["gmres", "cg"] = "gmres",
) -> Denoiser:
    """Moment matching posterior sampling (Rozet et al. 2024, algorithm 3).

        (sigma_y^2 I + sigma^2 A J A^T) u = r     by some iterations from u = 0

    Converged it is the exact posterior of Gaussian data. Costs a forward pass of the network and
    1 + iterations backward passes.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, not negative: a number or [B].
      iterations: of the solver.
      solver: "gmres" bears a Jacobian that is not symmetric, "cg" needs less memory.

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: an option out of range; from the denoiser, a measurement of another shape.
    """
    check_noise(sigma_y)
    check_iterations(iterations)
    checks.one_of("solver", solver, ("gmres", "cg"))
    solve = linear.gmres if solver == "gmres" else linear.conjugate_gradients

    def image(x, sigma, parts, pull):
        noise, level = column(_square(sigma_y, x), parts.value), column(sigma, x)
        matrix = lambda u: noise * u + parts.push(level**2 * pull(parts.pull(u)))
        return parts.pull(solve(matrix, parts.value, iterations))

    return _with_jacobian(denoise, operator, y, image)


def tmpd(denoise: Denoiser, operator: Operator, y: jax.Array, sigma_y: Noise) -> Denoiser:
    """Tweedie moment projected diffusion (Boys et al. 2023).

        u = r / (sigma_y^2 + sigma^2 A J A^T 1)     elementwise

    The covariance is taken to be diagonal, with its row sums in the diagonal; where data are
    negatively correlated the sums may vanish, and samples diverge. Costs a forward and two
    backward passes of the network.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, not negative: a number or [B].

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: sigma_y out of range; from the denoiser, a measurement of another shape.
    """
    check_noise(sigma_y)

    def image(x, sigma, parts, pull):
        sums = parts.push(column(sigma, x) ** 2 * pull(parts.pull(jnp.ones_like(parts.value))))
        return parts.pull(parts.value / (column(_square(sigma_y, x), sums) + sums))

    return _with_jacobian(denoise, operator, y, image)


def jfps(
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    sigma_y: Noise,
    *,
    prior_variance: float = 1.0,
    iterations: int = 30,
) -> Denoiser:
    """Jacobian-free posterior sampling: that of data with independent pixels.

        D_y = D + c A^T (sigma_y^2 I + c A A^T)^-1 r,   c = 1 / (1 / prior_variance + 1 / sigma^2)

    Costs no more of the network than D.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, not negative: a number or [B].
      prior_variance: of the data, a pixel's.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: an option out of range; from the denoiser, a measurement of another shape.
    """
    check_noise(sigma_y)
    check_prior(prior_variance)

    def move(x, sigma, parts):
        variance = _given_x(sigma, x, prior_variance)
        return column(variance, x) * parts.invert(_square(sigma_y, x), variance)

    return _without_jacobian(denoise, operator, y, move, iterations)


def diffpir(
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    sigma_y: Noise,
    *,
    strength: float = 10.0,
    iterations: int = 30,
) -> Denoiser:
    """The proximal step of DiffPIR (Zhu et al. 2023, eq. 13).

        D_y = argmin_x0  |y - A x0|^2 / sigma_y^2 + strength |x0 - D|^2 / sigma^2
            = D + c A^T (sigma_y^2 I + c A A^T)^-1 r,   c = sigma^2 / strength

    Costs no more of the network than D.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, not negative: a number or [B].
      strength: lambda, how much D is trusted.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: an option out of range; from the denoiser, a measurement of another shape.
    """
    check_noise(sigma_y)
    checks.check_positive(strength=strength)

    def move(x, sigma, parts):
        variance = _square(sigma, x) / strength
        return column(variance, x) * parts.invert(_square(sigma_y, x), variance)

    return _without_jacobian(denoise, operator, y, move, iterations)


def projection(
    denoise: Denoiser, operator: Operator, y: jax.Array, *, iterations: int = 30
) -> Denoiser:
    """Replaces what the measurement knows: D_y = D + A^+ (y - A D), so that A D_y = y.

    For measurements without noise; for a mask it is inpainting by replacement. Costs no more of
    the network than D.

    Args:
      denoise: (x, sigma) -> D.
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The conditioned denoiser.

    Raises:
      ValueError: iterations not positive; from the denoiser, a measurement of another shape.
    """
    move = lambda x, sigma, parts: parts.invert(0.0, 1.0)
    return _without_jacobian(denoise, operator, y, move, iterations)


def _with_jacobian(
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    image: Callable[..., jax.Array],
    iterations: int = 1,
) -> Denoiser:
    """D + sigma^2 J^T image, where image (x, sigma, parts, pull) is A^T u."""
    check_iterations(iterations)

    def conditioned(x, sigma):
        denoised, pull = denoised_and_pull(denoise, x, sigma)
        parts = residual(denoised, operator, y, iterations=iterations)
        return denoised + column(sigma, x) ** 2 * pull(image(x, sigma, parts, pull))

    return conditioned


def _without_jacobian(
    denoise: Denoiser,
    operator: Operator,
    y: jax.Array,
    move: Callable[[jax.Array, jax.Array, Residual], jax.Array],
    iterations: int,
) -> Denoiser:
    check_iterations(iterations)

    def conditioned(x, sigma):
        denoised = jnp.asarray(denoise(x, sigma), x.dtype)
        parts = residual(denoised, operator, y, iterations=iterations)
        return denoised + move(x, sigma, parts)

    return conditioned


def _square(level: Noise, x: jax.Array) -> jax.Array:
    return jnp.asarray(level, x.dtype) ** 2


def _given_x(sigma: jax.Array, x: jax.Array, prior_variance: float) -> jax.Array:
    """The variance of x0 given x for data N(0, prior_variance I), of sigma's shape."""
    return prior_variance * _square(sigma, x) / (prior_variance + _square(sigma, x))

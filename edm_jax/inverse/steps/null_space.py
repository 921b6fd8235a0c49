"""Steps in the range and the null space of a linear operator: DDNM, DDNM+ and DDRM.

None of them needs a gradient of the network. Their eta is the part of the noise at sigma' that is
fresh, whatever the step: sigma' (sqrt(1 - eta^2) (x - D) / sigma + eta z).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.inverse.measurement import (
    check_iterations,
    check_measurement,
    check_noise,
    check_spectral,
    residual,
)
from edm_jax.inverse.operators import Operator
from edm_jax.inverse.spectral import Spectral
from edm_jax.inverse.steps.loop import check_grid, check_travel, loop, travel
from edm_jax.samplers import Loop


def ddnm(
    operator: Operator,
    y: jax.Array,
    sigmas: ArrayLike,
    *,
    eta: float = 0.85,
    travel_length: int = 1,
    travel_repeats: int = 1,
    iterations: int = 30,
) -> Loop:
    """Denoising diffusion null-space model (Wang, Yu, Zhang 2023, algorithms 1 and 2).

        x' = D + A^+ r + sigma' (eta z + sqrt(1 - eta^2) (x - D) / sigma)

    for a measurement without noise: what it knows of D is replaced. A jump of the time travel goes
    up to x = D + sigma z, with the D of the last step. NFE N, more with travel. The official
    setting is 100 steps, eta 0.85.

    Args:
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1].
      travel_length: levels of a jump back up, one at every such level.
      travel_repeats: how often each stretch is gone through; 1 is no travel.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an option out of range; from `sample`, a measurement of another shape.
    """
    sigmas = check_grid(sigmas, eta)
    check_travel(travel_length, travel_repeats)
    check_iterations(iterations)
    path = travel(len(sigmas) - 1, travel_length, travel_repeats)
    here, to, after = (sigmas[list(places)] for places in zip(*path))
    falls = np.array([there == end for _, there, end in path])
    rows = {
        "sigma": here,
        "keep": np.where(falls, math.sqrt((1 - eta) * (1 + eta)) * to / here, 0.0),
        "up": np.where(falls, eta * to, after),
        "project": falls,
    }

    def step(denoise, x, *z, sigma, keep, up, project):
        denoised = jnp.asarray(denoise(x, sigma), x.dtype)
        found = residual(denoised, operator, y, iterations=iterations).invert(0.0, 1.0)
        x = denoised + project * found + keep * (x - denoised)
        return x + sum(up * one for one in z)

    return loop(rows, step, draws=int(np.any(rows["up"] > 0)))


def ddnm_plus(
    operator: Spectral, y: jax.Array, sigmas: ArrayLike, sigma_y: float, *, eta: float = 0.85
) -> Loop:
    """DDNM for a noisy measurement (Wang, Yu, Zhang 2023, section 3.3).

    In the coordinates of V, with s the singular values: the steps of `ddrm` at eta_b = 1, to which
    they are equal, from standard normal noise. NFE N. (The official code rotates the noise by V
    without V^T first, for all but masks, and doubles sigma_y.)

    Args:
      operator: A, with its singular values.
      y: [B, ...], the measurement of each sample.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      sigma_y: deviation of the measurement's noise, not negative.
      eta: amount of noise, in [0, 1].

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an operator without singular values, an option out of range.
    """
    return _spectral(operator, y, sigmas, sigma_y, eta, 1.0, informed=False)


def ddrm(
    operator: Spectral,
    y: jax.Array,
    sigmas: ArrayLike,
    sigma_y: float,
    *,
    eta: float = 0.85,
    eta_b: float = 1.0,
) -> Loop:
    """Denoising diffusion restoration model (Kawar et al. 2022, eq. 7 and 8).

    In the coordinates of V, with s the singular values, y' = U^T y and l = sigma_y / s:

        s = 0:        D + sigma' (sqrt(1 - eta^2) (x - D) / sigma + eta z)
        sigma' < l:   D + sigma' (sqrt(1 - eta^2) (y' - s D) / sigma_y + eta z)
        sigma' >= l:  (1 - eta_b) D + eta_b y' / s + sqrt(sigma'^2 - eta_b^2 l^2) z

    It starts from y' / s + sqrt(sigma_0^2 - l^2) z where sigma_0 > l. NFE N. The official setting
    is 20 steps, eta 0.85, eta_b 1. (The official code doubles sigma_y, given for data in [0, 1].)

    Args:
      operator: A, with its singular values.
      y: [B, ...], the measurement of each sample.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      sigma_y: deviation of the measurement's noise, not negative.
      eta: amount of noise where the measurement knows less than x, in [0, 1].
      eta_b: trust in the measurement where it knows more, in [0, 1].

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an operator without singular values, an option out of range.
    """
    checks.between("eta_b", eta_b, 0.0, 1.0)
    return _spectral(operator, y, sigmas, sigma_y, eta, eta_b, informed=True)


def _spectral(operator, y, sigmas, sigma_y, eta, eta_b, *, informed):
    operator, sigmas = check_spectral(operator), check_grid(sigmas, eta)
    sigma_y = checks.between("sigma_y", check_noise(sigma_y), 0.0)
    s = operator.values
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s > 0)
    level = np.where(s > 0, sigma_y * inverse, np.inf)  # l, where x knows as much
    old = math.sqrt((1 - eta) * (1 + eta))

    def tables(target, before):
        """What D, x - D, y' and z count for in each coordinate."""
        known, unseen = target >= level, s == 0
        noisy = ~known & ~unseen
        pull = np.where(noisy, old * target / sigma_y if sigma_y else 0.0, 0.0)
        fresh = np.sqrt(np.maximum(target**2 - (eta_b * np.where(known, level, 0.0)) ** 2, 0.0))
        return {
            "take": np.where(known, 1 - eta_b, 1.0 - pull * s),
            "keep": np.where(unseen, old * target / before, 0.0),
            "measured": np.where(known, eta_b * inverse, pull),
            "fresh": np.where(known, fresh, eta * target),
        }

    each = [tables(target, before) for before, target in zip(sigmas, sigmas[1:])]
    rows = {name: np.stack([row[name] for row in each]) for name in each[0]}

    def measurement(x):
        return operator.from_measurement(check_measurement(operator, x, y))

    def step(denoise, x, z, *, sigma, take, keep, measured, fresh):
        denoised = jnp.asarray(denoise(x, sigma), x.dtype)
        d, e, n = (operator.from_image(image) for image in (denoised, x - denoised, z))
        return operator.to_image(take * d + keep * e + measured * measurement(x) + fresh * n)

    above = sigmas[0] > level
    free = np.sqrt(sigmas[0] ** 2 - np.where(above, level, 0.0) ** 2)
    seen = np.where(above, inverse, 0.0)

    def start(noise, sigma):
        at_once, random = jnp.asarray(seen, noise.dtype), jnp.asarray(free, noise.dtype)
        return operator.to_image(at_once * measurement(noise) + random * operator.from_image(noise))

    return loop({"sigma": sigmas[:-1], **rows}, step, start=start if informed else None)

"""Steps with a gradient of the residual through the network: DPS, and pseudo-inverse guidance."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.checks import inner
from edm_jax.inverse.measurement import check_iterations, denoised_and_pull, residual
from edm_jax.inverse.operators import Operator
from edm_jax.inverse.steps.loop import Start, check_grid, loop
from edm_jax.samplers import Loop
from edm_jax.samplers.first_order import ddpm, down_and_up


def dps(
    operator: Operator,
    y: jax.Array,
    sigmas: ArrayLike,
    *,
    step_size: float = 0.3,
    noise: Literal["gaussian", "poisson"] = "gaussian",
    variance: Literal["small", "large", "learned"] = "small",
    frame: Literal["vp", "edm"] = "vp",
) -> Loop:
    """Diffusion posterior sampling, by its authors' steps (Chung et al. 2023, algorithms 1 and 2).

        x' = DDPM step - step_size f grad_x |r|,     grad_x |r| = -J^T A^T r / |r|
        f = sqrt((1 + sigma^2) (1 + sigma'^2)) in the frame "vp", 1 in "edm"

    The norm is each sample's own (the official code takes the batch's). For Poisson noise the
    gradient is that of |r| mean(1 / |y|). Official settings, images in [-1, 1]: 1000 steps of
    DDPM's grid, learned variance, clipped D (`guidance.clip`), step_size 0.3 for blurs and
    super-resolution, 0.5 for inpainting, 1 for phase retrieval. NFE N; each a forward and a
    backward pass.

    Args:
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      step_size: zeta, not negative.
      noise: of the measurement, "gaussian" or "poisson".
      variance: of DDPM's step; for "learned" the denoiser returns (D, v).
      frame: that in which step_size counts: x / sqrt(1 + sigma^2), DDPM's own, or x.

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an option out of range; from `sample`, a measurement of another shape.
    """
    sigmas = checks.descending(sigmas)
    checks.between("step_size", step_size, 0.0)
    checks.one_of("noise", noise, ("gaussian", "poisson"))
    checks.one_of("variance", variance, ("small", "large", "learned"))
    checks.one_of("frame", frame, ("vp", "edm"))
    small, large = (ddpm(sigmas, variance=kind).weights[:, 0] for kind in ("small", "large"))
    factor = np.hypot(1.0, sigmas[:-1]) * np.hypot(1.0, sigmas[1:]) if frame == "vp" else 1.0
    low, high = {
        "small": (small[:, 2], small[:, 2]),
        "large": (large[:, 2], large[:, 2]),
        "learned": (small[:, 2], large[:, 2]),
    }[variance]
    rows = {
        "sigma": sigmas[:-1],
        "keep": small[:, 0],
        "take": small[:, 1],
        "low": low,
        "ratio": np.divide(high, low, out=np.ones_like(low), where=low > 0),
        "size": step_size * factor * np.ones_like(low),
    }

    def step(denoise, x, z, *, sigma, keep, take, low, ratio, size):
        if variance == "learned":
            denoised, vjp, v = jax.vjp(lambda x: denoise(x, sigma), x, has_aux=True)
            pull = lambda g: vjp(g)[0]
            deviation = low * ratio**v  # the deviation's logarithm is linear in v
        else:
            denoised, pull = denoised_and_pull(denoise, x, sigma)
            deviation = low
        parts = residual(denoised, operator, y)
        r = parts.value
        squared = inner(r, r)
        unit = jnp.where(squared > 0, r / jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
        ascent = pull(parts.pull(unit))
        if noise == "poisson":
            over = tuple(range(1, r.ndim))
            weight = jnp.mean(1.0 / jnp.abs(jnp.asarray(y, x.dtype)), axis=over)
            ascent = checks.column(weight, x) * ascent
        return keep * x + take * denoised + deviation * z + size * ascent

    return loop(rows, step, variance=variance == "learned")


def pigdm(
    operator: Operator,
    y: jax.Array,
    sigmas: ArrayLike,
    *,
    eta: float = 1.0,
    adaptive_weight: bool = True,
    start: Start = "noise",
    iterations: int = 30,
) -> Loop:
    """Pseudo-inverse guidance of DDIM (Song et al. 2023, algorithm 1), for y without noise.

        x' = D + sigma_down (x - D) / sigma + sigma_up z + w J^T A^+ r

    w = 1 with the adaptive weight; without it w = 1 - sigma_down / sigma, which is DDIM with
    D + J^T A^+ r. NFE N; each a forward and a backward pass. The paper takes 100 steps, eta 1.

    Args:
      operator: A, any function of x [B, ...].
      y: [B, ...], the measurement of each sample.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      eta: amount of noise, in [0, 1] (that of `samplers.ddim`).
      adaptive_weight: whether w = 1.
      start: "noise", sigma_0 noise, or "measurement", A^+ y added to that.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an option out of range; from `sample`, a measurement of another shape.
    """
    sigmas = check_grid(sigmas, eta)
    checks.one_of("start", start, ("noise", "measurement"))
    check_iterations(iterations)
    downs, ups = np.transpose([down_and_up(s, t, eta) for s, t in zip(sigmas, sigmas[1:])])
    shares = downs / sigmas[:-1]
    rows = {
        "sigma": sigmas[:-1],
        "keep": shares,
        "take": (sigmas[:-1] - downs) / sigmas[:-1],
        "up": ups,
        "weight": np.ones_like(ups) if adaptive_weight else 1.0 - shares,
    }

    def step(denoise, x, *z, sigma, keep, take, up, weight):
        denoised, pull = denoised_and_pull(denoise, x, sigma)
        image = residual(denoised, operator, y, iterations=iterations).invert(0.0, 1.0)
        return keep * x + take * denoised + weight * pull(image) + sum(up * one for one in z)

    def from_measurement(noise, sigma):
        nothing = residual(jnp.zeros_like(noise), operator, y, iterations=iterations)
        return nothing.invert(0.0, 1.0) + sigma * noise

    begin = from_measurement if start == "measurement" else None
    return loop(rows, step, start=begin, draws=int(eta > 0))

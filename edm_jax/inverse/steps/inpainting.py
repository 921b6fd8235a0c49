"""What is known replaced between the steps: RePaint, and Song et al.'s predictor-corrector."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, randomness
from edm_jax.inverse.measurement import check_iterations, check_measurement, residual
from edm_jax.inverse.operators import Operator
from edm_jax.inverse.steps.loop import check_travel, loop, travel
from edm_jax.samplers import Loop, Tableau, predictor_corrector
from edm_jax.samplers.first_order import ddpm
from edm_jax.schedules import Schedule


def repaint(
    operator: Operator,
    y: jax.Array,
    sigmas: ArrayLike,
    *,
    travel_length: int = 10,
    travel_repeats: int = 10,
    travel_last: bool = False,
    iterations: int = 30,
) -> Loop:
    """RePaint (Lugmayr et al. 2022, algorithm 1): known pixels replaced, with jumps back up.

        x' = DDPM step,   or x' + sqrt(sigma_+^2 - sigma'^2) z after a jump up to sigma_+
        x' <- x' + A^+ (y + sigma A z' - A x')    at the level of x': known pixels are y + sigma z'

    For an operator that is not a mask, its range is replaced in the same way. The result is D of
    the last step: where y must be met exactly, use `projection` on it. The paper takes 250 levels,
    length 10, repeats 10: 2,410 evaluations. Azula's RePaint is length 1 with `travel_last`. NFE N
    without repeats.

    Args:
      operator: A, `inverse.mask` or another linear operator.
      y: [B, ...], the measurement of each sample, without noise.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      travel_length: levels of a jump back up, one at every such level.
      travel_repeats: how often each stretch is gone through; 1 is no jump.
      travel_last: whether jumps go up from the end of the grid as well.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an option out of range; from `sample`, a measurement of another shape.
    """
    sigmas = checks.descending(sigmas)
    check_travel(travel_length, travel_repeats)
    check_iterations(iterations)
    path = np.array(travel(len(sigmas) - 1, travel_length, travel_repeats, last=travel_last))
    here, to, after = path.T
    weights = ddpm(sigmas).weights[here, 0]
    rows = {
        "sigma": sigmas[here],
        "keep": weights[:, 0],
        "take": weights[:, 1],
        "up": np.sqrt(weights[:, 2] ** 2 + sigmas[after] ** 2 - sigmas[to] ** 2),
        "level": sigmas[after],
        "replace": np.arange(len(path)) < len(path) - 1,
    }

    def step(denoise, x, z, known, *, sigma, keep, take, up, level, replace):
        x = keep * x + take * jnp.asarray(denoise(x, sigma), x.dtype) + up * z
        return x + replace * _to_known(x, operator, y, level, known, iterations)

    return loop(rows, step, draws=2)


def score_sde(
    operator: Operator,
    y: jax.Array,
    sigmas: ArrayLike,
    *,
    schedule: Schedule | None = None,
    predictor: Tableau | None = None,
    corrector: Literal["langevin", "ald"] = "langevin",
    snr: float = 0.16,
    corrector_steps: int = 1,
    iterations: int = 30,
) -> Loop:
    """Inpainting and colourisation of score SDEs (Song et al. 2021, appendix I.2).

        x <- x + A^+ (y + sigma A z - A x)    before and after each step of the predictor

    between the steps of `samplers.predictor_corrector`: what is known is replaced by itself at the
    noise level. With `inverse.mask` this is their inpainting, with `inverse.gray` their
    colourisation. As in their code the level is that at which the step begins, so that the
    corrector sees known pixels with the noise of one level above its own; at the end they are y.
    Their VP chain of N steps needs N > 20: its 1 - beta is negative below, and the corrector NaN.
    Here that number is (s / s')^2 of the schedule, which is positive on every grid. The result
    does not converge to the posterior. NFE N (1 + corrector_steps).

    Args:
      operator: A, `inverse.mask`, `inverse.gray` or another linear operator.
      y: [B, ...], the measurement of each sample, without noise.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      schedule: the process; None is a variance-exploding one.
      predictor: a tableau of one register on the same grid; None is `samplers.reverse_diffusion`.
      corrector: "langevin" or "ald".
      snr: the size of its steps.
      corrector_steps: how many of them a level has; 0 is no corrector.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The loop; it starts from standard normal noise and A^+ y.

    Raises:
      ValueError: an option out of range; from `sample`, a measurement of another shape.
    """
    check_iterations(iterations)

    def constrain(x, sigma, keys):
        noise = randomness.normal_like(keys, x)
        return x + _to_known(x, operator, y, sigma, noise, iterations)

    plain = predictor_corrector(
        sigmas,
        schedule=schedule,
        predictor=predictor,
        corrector=corrector,
        snr=snr,
        corrector_steps=corrector_steps,
        constrain=constrain,
    )
    top = float(np.asarray(sigmas, np.float64)[0])

    def run(denoise, noise, keys):
        nothing = jnp.zeros_like(noise)
        known = _to_known(nothing, operator, y, 0.0, nothing, iterations)
        return plain.run(denoise, noise + known / top, keys)

    return dataclasses.replace(plain, run=run)


def _to_known(x, operator, y, level, noise, iterations):
    """A^+ (y + level A noise - A x): from x to what is known of it, at a noise level."""
    noisy = check_measurement(operator, x, y) + level * operator(noise)
    return residual(x, operator, noisy, iterations=iterations).invert(0.0, 1.0)

"""What is known replaced between the steps: RePaint."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.inverse.measurement import check_iterations, residual
from edm_jax.inverse.operators import Operator
from edm_jax.inverse.steps.loop import check_travel, loop, travel
from edm_jax.samplers import Loop
from edm_jax.samplers.first_order import ddpm


def repaint(
    operator: Operator,
    y: jax.Array,
    sigmas: ArrayLike,
    *,
    travel_length: int = 10,
    travel_repeats: int = 10,
    iterations: int = 30,
) -> Loop:
    """RePaint (Lugmayr et al. 2022, algorithm 1): known pixels replaced, with jumps back up.

        x' = DDPM step,   or x' + sqrt(sigma_+^2 - sigma'^2) z after a jump up to sigma_+
        x' <- x' + A^+ (y + sigma A z' - A x')    at the level of x': known pixels are y + sigma z'

    For an operator that is not a mask, its range is replaced in the same way. The result is D of
    the last step: where y must be met exactly, use `projection` on it. The paper takes 250 levels,
    length 10, repeats 10: 2,410 evaluations. NFE N without repeats.

    Args:
      operator: A, `inverse.mask` or another linear operator.
      y: [B, ...], the measurement of each sample, without noise.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      travel_length: levels of a jump back up, one at every such level.
      travel_repeats: how often each stretch is gone through; 1 is no jump.
      iterations: of conjugate gradients, where A is not `Spectral`.

    Returns:
      The loop; it starts from standard normal noise.

    Raises:
      ValueError: an option out of range; from `sample`, a measurement of another shape.
    """
    sigmas = checks.descending(sigmas)
    check_travel(travel_length, travel_repeats)
    check_iterations(iterations)
    path = np.array(travel(len(sigmas) - 1, travel_length, travel_repeats))
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
        noisy = jnp.asarray(y, x.dtype) + level * operator(known)
        return x + replace * residual(x, operator, noisy, iterations=iterations).invert(0.0, 1.0)

    return loop(rows, step, draws=2)

"""Song et al.'s predictor-corrector: a Langevin step whose size depends on the data."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, randomness, schedules
from edm_jax.samplers.reverse_sde import reverse_diffusion
from edm_jax.samplers.rows import BETWEEN
from edm_jax.samplers.sampling import Loop
from edm_jax.samplers.tableau import Tableau, check


def predictor_corrector(
    sigmas: ArrayLike,
    *,
    schedule: schedules.Schedule | None = None,
    predictor: Tableau | None = None,
    corrector: Literal["langevin", "ald"] = "langevin",
    snr: float = 0.16,
    corrector_steps: int = 1,
    constrain: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None,
) -> Loop:
    """Langevin steps at each level, then the predictor's step to the next (Song et al. 2021).

        x <- x + eta score + sqrt(2 eta) z,   score = (D - x) / sigma^2
        langevin:  eta = 2 alpha (snr |z| / |score|)^2     (algorithms 4 and 5)
        ald:       eta = 2 alpha (snr sigma)^2             (annealed Langevin)

    alpha = (s / s')^2 is 1 for VE and 1 - beta for VP; all of it in the frame x / s, where eta has
    the same form. The corrector comes first, as in the official code. Norms are those of each
    sample (the official code averages them over the batch, which couples its images). It does not
    converge: the corrector's own variance is (1 + snr^2) too large. NFE N (1 + corrector_steps),
    in one loop with the network once in the program.

    Args:
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      schedule: the process, of alpha and of the default predictor; None is s = 1, a
        variance-exploding one.
      predictor: a tableau of one register on the same grid; None is `reverse_diffusion`.
      corrector: "langevin" or "ald".
      snr: r; Song et al. take 0.16 for VE on CIFAR-10, 0.15 at 1024 pixels.
      corrector_steps: Langevin steps a level.
      constrain: (x, sigma [], keys [B]) -> x, called before and after each predictor's step, both
        times with the level that the step begins at, and after the last one with 0. None is
        nothing.

    Returns:
      The loop; it starts from standard normal noise. Evaluation j draws from
      `fold_in(key, j + 1)`, `constrain` from a stream of its own.

    Raises:
      ValueError: a grid that does not descend, options out of range, a predictor of another grid.
    """
    sigmas = checks.descending(sigmas)
    checks.one_of("corrector", corrector, ("langevin", "ald"))
    checks.between("snr", snr, 0.0)
    repeats = 1 + int(checks.between("corrector_steps", corrector_steps, 0))
    schedule = schedule or schedules.edm()
    table = check(reverse_diffusion(sigmas, schedule=schedule) if predictor is None else predictor)
    if table.registers != 1 or not np.array_equal(table.sigma, sigmas[:-1]):
        raise ValueError(
            "predictor must have one register and the levels of sigmas, got "
            f"{table.registers} registers at {table.sigma}"
        )
    scales = schedule.scale(schedules.times(schedule, sigmas))
    alphas = (scales[:-1] / scales[1:]) ** 2
    count = repeats * table.nfe

    def run(denoise, noise, keys):
        def held(x, level, index, correcting):
            if constrain is None:
                return x
            own = randomness.fold_in(randomness.fold_in(keys, BETWEEN), index)
            return jax.lax.cond(correcting, lambda: x, lambda: constrain(x, level, own))

        def step(x, row):
            index, correcting, sigma, end, alpha, weights = row
            x = held(x, sigma, 2 * index, correcting)
            denoised = jnp.asarray(denoise(x, sigma), x.dtype)
            z = randomness.normal(randomness.fold_in(keys, index), x.shape[1:], dtype=x.dtype)
            score = (denoised - x) / (sigma * sigma)
            size = _norm(z) / _norm(score) if corrector == "langevin" else sigma
            eta = 2 * alpha * (snr * size) ** 2
            corrected = x + eta * score + jnp.sqrt(2 * eta) * z
            predicted = weights[0] * x + weights[1] * denoised + weights[2] * z
            x = jnp.where(correcting, corrected, predicted)
            return held(x, end, 2 * index + 1, correcting), None

        def each(values):
            return jnp.asarray(np.repeat(values, repeats, axis=0), noise.dtype)

        rows = (
            jnp.arange(1, count + 1),
            jnp.arange(count) % repeats != repeats - 1,
            each(table.sigma),
            each(np.append(table.sigma[:-1], 0.0)),
            each(alphas),
            each(table.weights[:, 0]),
        )
        start = jnp.asarray(table.start[0, 0], noise.dtype) * noise
        x0 = jax.lax.scan(step, start, rows)[0]
        return x0, jnp.full(len(noise), count, jnp.int32)

    return Loop(run, nfe=count, stochastic=True)


def _norm(a: jax.Array) -> jax.Array:
    """Of each sample, [B, 1, ...]."""
    return jnp.sqrt(jnp.maximum(checks.inner(a, a), 1e-30))

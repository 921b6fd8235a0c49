"""Song et al.'s predictor-corrector: a Langevin step whose size depends on the data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, randomness
from edm_jax.samplers import reverse_sde
from edm_jax.samplers.tableau import Tableau, check

CORRECTORS = ("langevin", "ald")


def predictor_corrector(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    sigmas,
    noise: jax.Array,
    keys: jax.Array,
    *,
    process: str = "ve",
    predictor: Tableau | None = None,
    corrector: str = "langevin",
    snr: float = 0.16,
    corrector_steps: int = 1,
) -> jax.Array:
    """Langevin steps at each level, then the predictor's step to the next (Song et al. 2021).

        x <- x + eta score + sqrt(2 eta) z,   score = (D - x) / sigma^2
        langevin:  eta = 2 alpha (snr |z| / |score|)^2     (algorithms 4 and 5)
        ald:       eta = 2 alpha (snr sigma)^2             (annealed Langevin)

    alpha is 1 for "ve" and 1 - beta = (1 + sigma'^2)/(1 + sigma^2) for "vp"; all of it in the
    frame x / s, where eta has the same form. The corrector comes first, as in the official code.
    Norms are those of each sample (the official code averages them over the batch, which couples
    its images). It does not converge: the corrector's own variance is (1 + snr^2) too large. NFE
    N (1 + corrector_steps), in one loop with the network once in the program.

    Args:
      denoise: (x `[B, ...]`, sigma `[]`) -> denoised image.
      sigmas: `[N + 1]` descending noise levels, the last may be 0.
      noise: `[B, ...]` standard normal.
      keys: `[B]` typed keys; evaluation j draws from `fold_in(key, j + 1)`.
      process: "ve" or "vp": of alpha and of the default predictor.
      predictor: a tableau of one register on the same grid; None is
        `reverse_diffusion(sigmas, process)`.
      corrector: "langevin" or "ald".
      snr: r; Song et al. take 0.16 for VE on CIFAR-10, 0.15 at 1024 pixels.
      corrector_steps: Langevin steps a level.

    Returns:
      The sample `[B, ...]`.

    Raises:
      ValueError: a grid that does not descend, options out of range, a predictor of another grid.
    """
    sigmas = checks.descending(sigmas)
    checks.one_of("process", process, ("ve", "vp"))
    checks.one_of("corrector", corrector, CORRECTORS)
    checks.between("snr", snr, 0.0)
    repeats = 1 + int(checks.between("corrector_steps", corrector_steps, 0))
    predictor = check(
        reverse_sde.reverse_diffusion(sigmas, process) if predictor is None else predictor
    )
    if predictor.registers != 1 or not np.array_equal(predictor.sigma, sigmas[:-1]):
        raise ValueError(
            "predictor must have one register and the levels of sigmas, got "
            f"{predictor.registers} registers at {predictor.sigma}"
        )
    if process == "vp":
        alphas = (1 + sigmas[1:] ** 2) / (1 + sigmas[:-1] ** 2)
    else:
        alphas = np.ones(sigmas.size - 1)
    noise = jnp.asarray(noise)
    over = tuple(range(1, noise.ndim))

    def norm(a):
        return jnp.sqrt(jnp.maximum((a * a).sum(over, keepdims=True), 1e-30))

    def step(x, row):
        index, correcting, sigma, alpha, weights = row
        denoised = jnp.asarray(denoise(x, sigma), x.dtype)
        z = randomness.normal(randomness.fold_in(keys, index), x.shape[1:], x.dtype)
        score = (denoised - x) / (sigma * sigma)
        size = norm(z) / norm(score) if corrector == "langevin" else sigma
        eta = 2 * alpha * (snr * size) ** 2
        corrected = x + eta * score + jnp.sqrt(2 * eta) * z
        predicted = weights[0] * x + weights[1] * denoised + weights[2] * z
        return jnp.where(correcting, corrected, predicted), None

    def each(values):
        return jnp.asarray(np.repeat(values, repeats, axis=0), noise.dtype)

    count = repeats * predictor.nfe
    rows = (
        jnp.arange(1, count + 1),
        jnp.arange(count) % repeats != repeats - 1,
        each(predictor.sigma),
        each(alphas),
        each(predictor.weights[:, 0]),
    )
    start = jnp.asarray(predictor.start[0, 0], noise.dtype) * noise
    return jax.lax.scan(step, start, rows)[0]

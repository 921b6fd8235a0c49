"""The evidence lower bound of a denoiser's Markov chain: a hierarchical VAE whose encoder is noise.

Grid sigma_N > ... > sigma_1 > 0. The encoder adds noise, x_i = y + sigma_i n. The decoder begins at
the prior, goes down the grid by Gaussians whose mean comes from D, and ends at p(y | x_1):

    -log p(y) <= L_T + sum_i L_i + L_0
    L_T = KL(N(y, sigma_N^2) || prior)
    L_i = KL(q(x_{i-1} | x_i, y) || N(r x_i + (1 - r) D(x_i; sigma_i), S_i))
    L_0 = -log p(y | x_1)

Ho et al. 2020, eq. 5; in the frame of EDM r = (sigma_{i-1} / sigma_i)^2, and q has the variance
sigma_{i-1}^2 (1 - r).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks, randomness
from edm_jax.objectives import variational

Variance = Literal["small", "large", "learned", "continuous"]
Decoder = Literal["discretized", "gaussian"]
VARIANCES, DECODERS = get_args(Variance), get_args(Decoder)


class Elbo(NamedTuple):
    """The terms of the bound of each sample, in nats; their sum is an upper bound of -log p(y).

    Attributes:
      prior: [B] L_T.
      steps: [N - 1, B] L_i of the levels in the grid's order, from the highest down.
      decoder: [B] L_0: of a probability (discretized) or of a density (gaussian).
    """

    prior: jax.Array
    steps: jax.Array
    decoder: jax.Array

    def total(self) -> jax.Array:
        """[B] their sum."""
        return self.prior + jnp.sum(self.steps, axis=0) + self.decoder


def elbo(
    denoise: Callable[[jax.Array, jax.Array], Any],
    y: jax.Array,
    sigmas: ArrayLike,
    keys: jax.Array | None = None,
    *,
    variance: Variance | Callable[[float], float] = "small",
    decoder: Decoder = "discretized",
    decoder_variance: float | None = None,
    prior_mean: jax.Array | float = 0.0,
    prior_std: jax.Array | float = 0.5,
    noise: jax.Array | None = None,
) -> Elbo:
    """Estimates every term of the bound with one draw of noise for each level.

    Unbiased, with the network once in the program and N calls of it. Sample i depends on `y[i]`
    and `keys[i]` alone. The variances S_i of the chain:

        small       sigma_{i-1}^2 (1 - r), that of q (DDPM)
        large       (sigma_i^2 - sigma_{i-1}^2) (1 + sigma_{i-1}^2) / (1 + sigma_i^2), beta (DDPM)
        learned     between their logarithms, by v of (D, v) (improved DDPM)
        a function  of sigma, V = E|y - D|^2 / d: small + (1 - r)^2 V, the best one (Analytic-DPM)
        continuous  the limit of infinitely many steps between the ends, where all agree:
                    int E|y - D|^2 / sigma^2 d log sigma (Kingma et al. 2021, VDM), with one level
                    drawn evenly in each interval of the grid

    With the last the grid says how finely the integral is sampled, and biases nothing.

    >>> from edm_jax import ideal, sample_keys, timesteps
    >>> y, keys = jnp.zeros((1, 2)), sample_keys([0])
    >>> found = elbo(ideal.gaussian(0.0, 0.5), y, timesteps.edm(100), keys, decoder="gaussian")
    >>> found.steps.shape
    (99, 1)

    Args:
      denoise: (x, sigma [] or [B]) -> D; for "learned" -> (D, v) (`preconditioning.with_variance`).
      y: [B, ...] floating data; for the discretized decoder values k / 127.5 - 1.
      sigmas: [N + 1] descending noise levels; a last 0 is left out, and N is at least 2.
      keys: [B] typed keys; consumed. Row k, in the grid's order, draws from `fold_in(keys, k)`.
      variance: "small", "large", "learned", "continuous", or V(sigma), such as a
        `samplers.analytic.PosteriorVariance`.
      decoder: "discretized": the mass of a Gaussian on the value of a pixel, of 256, the outer
        cells open (Ho et al. 2020, eq. 13). "gaussian": its density.
      decoder_variance: of p(y | x_1); None is sigma_1^2 / (1 + sigma_1^2), that of y given x_1
        where data have unit variance; V(sigma_1) where V is given, and what "learned" says.
      prior_mean: m of the prior N(m, sigma_N^2 + s^2).
      prior_std: s.
      noise: [N, B, ...], used in place of the draws of noise: common random numbers, tests.

    Returns:
      The terms; `bits_per_dim(-terms.total(), d, cell=1)` for the discretized decoder.

    Raises:
      ValueError: a grid that does not descend, missing keys, or an unknown option.
    """
    grid = checks.descending(sigmas)
    levels = checks.descending(grid[grid > 0], name="positive sigmas")
    if not callable(variance):
        checks.one_of("variance", variance, VARIANCES)
    checks.one_of("decoder", decoder, DECODERS)
    if decoder_variance is not None:
        checks.check_positive(decoder_variance=decoder_variance)
    y = jnp.asarray(y)
    if y.ndim < 2 or not jnp.issubdtype(y.dtype, jnp.floating):
        raise ValueError(f"y must be floating [B, ...], got {y.dtype} {y.shape}")
    if noise is None or variance == "continuous":
        checks.check_keys(keys, len(y))
    if noise is not None and jnp.shape(noise) != (levels.size, *y.shape):
        raise ValueError(
            f"noise must have shape [N, B, ...] = {(levels.size, *y.shape)}, got {jnp.shape(noise)}"
        )
    # The rows of the table, from the highest level to the decoder's.
    small, large, shift = (part[::-1] for part in variational.bound(levels[::-1]))
    fixed = _log_variances(variance, levels, small, large, shift)
    if decoder_variance is not None:
        fixed[-1] = math.log(decoder_variance)
    lengths = np.append(np.log(levels[:-1] / levels[1:]), 0.0)
    over = tuple(range(1, y.ndim))
    key_of = lambda draw: randomness.fold_in(cast(jax.Array, keys), draw)

    def row(table):
        index, level, length, log_small, log_large, step_shift, log_s, given = table
        if given is None:
            given = randomness.normal(key_of(index), y.shape[1:], dtype=y.dtype)
        sigma = level
        if variance == "continuous":
            # Apart from the noise's draws; of length 0 in the decoder's row.
            place = randomness.uniform(key_of(levels.size + index), dtype=y.dtype)
            sigma = level * jnp.exp(-length * place)
        found = denoise(y + checks.column(sigma, y) * given, sigma)
        denoised = found[0] if variance == "learned" else found
        error = (jnp.asarray(denoised, y.dtype) - y) ** 2
        if variance == "learned":
            between = found[1] * log_large + (1.0 - found[1]) * log_small
            use = (index == levels.size - 1) & (decoder_variance is not None)
            log_s = jnp.where(use, log_s, between)
        if variance == "continuous":
            step = length * error / checks.column(sigma, y) ** 2
        else:
            step = variational.divergence(log_small, log_s, step_shift * error)
        if decoder == "gaussian":
            last = 0.5 * (math.log(2.0 * math.pi) + log_s + error * jnp.exp(-log_s))
        else:
            last = -variational.discretized_log_likelihood(y, denoised, 0.5 * log_s)
        return jnp.sum(jnp.where(index == levels.size - 1, last, step), axis=over)

    columns = levels, lengths, small, large, shift, fixed
    table = [jnp.asarray(column, y.dtype) for column in columns]
    given = None if noise is None else jnp.asarray(noise, y.dtype)
    rows = jax.lax.map(row, (jnp.arange(levels.size), *table, given))
    top = 2.0 * jnp.log(jnp.asarray(levels[0], y.dtype))
    spread = jnp.asarray(np.log(np.asarray(prior_std) ** 2 + levels[0] ** 2), y.dtype)
    centred = (y - jnp.asarray(prior_mean, y.dtype)) ** 2
    prior = jnp.sum(variational.divergence(top, spread, centred), axis=over)
    return Elbo(prior, rows[:-1], rows[-1])


def _log_variances(variance, levels, small, large, shift) -> np.ndarray:
    """[N] ln S of every row, the decoder's last; of learned ones what no row uses."""
    if not callable(variance):
        found = np.array(small if variance == "small" else large)
        found[-1] = large[-1]
        return found
    best = np.array([float(variance(sigma)) for sigma in levels])
    if not (best > 0).all():
        raise ValueError(f"variance must be positive at every level, got {best}")
    found = np.log(np.exp(small) + shift * best)
    found[-1] = np.log(best[-1])
    return found

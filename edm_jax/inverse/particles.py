"""Particle filters through a sampler: posteriors that are exact as the particles grow many.

Every other method here changes the denoiser and is left with the error of that. These draw P
particles of each sample, weigh them, and draw them anew by their weights between the rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks, randomness
from edm_jax.checks import Denoiser
from edm_jax.inverse.measurement import check_measurement, check_noise, check_prior, check_spectral
from edm_jax.inverse.operators import Operator
from edm_jax.samplers import Tableau, sample
from edm_jax.samplers.tableau import check

# (D [B, ...], sigma []) -> log p(y | D) [B], or any log-reward.
Potential = Callable[[jax.Array, jax.Array], jax.Array]


class Particles(NamedTuple):
    """Weighted draws of each sample's posterior.

    Attributes:
      x0: [B, P, ...].
      log_weights: [B, P], of which the exponentials sum to 1.
      log_evidence: [B], log p(y): the exponential is without bias, whatever P.
    """

    x0: jax.Array
    log_weights: jax.Array
    log_evidence: jax.Array

    def draw(self, keys: jax.Array) -> jax.Array:
        """One particle of each sample, by its weight.

        Args:
          keys: [B] typed keys; consumed.

        Returns:
          [B, ...].
        """
        checks.check_keys(keys, len(self.x0))
        chosen = jax.vmap(jax.random.categorical)(keys, self.log_weights)
        return jax.vmap(lambda x0, i: x0[i])(self.x0, chosen)


def log_likelihood(
    operator: Operator,
    y: jax.Array,
    sigma_y: float | jax.Array,
    *,
    prior_variance: float | None = None,
) -> Potential:
    """log p(y | x0) of a measurement with Gaussian noise, in terms of D.

        log N(y; A D, sigma_y^2 I + rho^2 A A^T),  rho^2 = 1 / (1 / prior_variance + 1 / sigma^2)

    Without `prior_variance` rho is 0: right at the end, and far too narrow at high noise, where
    nearly all particles are lost. With it, the variance of x0 given x is counted in, as in
    `pigdm`; it vanishes with sigma.

    Args:
      operator: A, any function of x [B, ...]; with `prior_variance` one that is `Spectral`.
      y: [B, ...], the measurement of each sample.
      sigma_y: deviation of the measurement's noise, positive: a number or [B].
      prior_variance: of the data, a pixel's; None leaves it out.

    Returns:
      (D [B, ...], sigma []) -> [B].

    Raises:
      ValueError: an option out of range; from the function, a measurement of another shape.
    """
    check_noise(sigma_y, positive=True)
    if prior_variance is not None:
        check_prior(prior_variance)
        spectral = check_spectral(operator)

    def value(denoised, sigma):
        measured = check_measurement(operator, denoised, y)
        r = measured - operator(denoised)
        noise = checks.column(jnp.asarray(sigma_y), r) ** 2
        if prior_variance is None:
            terms = r**2 / noise + jnp.log(2 * jnp.pi * noise)
            return -0.5 * terms.sum(tuple(range(1, r.ndim)))
        r, s = spectral.from_measurement(r), jnp.asarray(spectral.values, r.dtype)
        noise = checks.column(jnp.asarray(sigma_y), r) ** 2
        rho2 = 1.0 / (1.0 / prior_variance + 1.0 / jnp.asarray(sigma, r.dtype) ** 2)
        variance = noise + rho2 * s**2
        terms = jnp.where(s > 0, r**2 / variance + jnp.log(2 * jnp.pi * variance), 0.0)
        return -0.5 * terms.sum(tuple(range(1, r.ndim)))

    return value


def particle_filter(
    denoise: Denoiser,
    potential: Potential,
    tableau: Tableau,
    noise: jax.Array,
    keys: jax.Array,
    *,
    gradient: bool = True,
    threshold: float = 0.5,
) -> Particles:
    """Twisted diffusion sampling, and Feynman-Kac steering (Wu et al. 2023; Singhal et al. 2025).

        l = potential(D(x), sigma),    D_y = D + sigma^2 grad_x l     (with `gradient`)
        log w = l + carried,   carried' = log N(x'; step of D) - log N(x'; step of D_y) - l

    Before each row adds its noise, samples whose effective size is below `threshold` P draw their
    particles anew by w. The weighted particles tend to p(x0) exp(potential) as P grows, p(x0)
    being what the sampler makes of the denoiser. With the gradient this is TDS, and steps that
    follow it are corrected in the weights; without it Feynman-Kac steering, whose potential is the
    difference of l between rows. Costs P times the sampler, with the gradient a backward pass for
    each evaluation too.

    >>> from edm_jax import ideal, samplers
    >>> operator, keys = lambda x: x[:, :1], randomness.sample_keys([0])
    >>> potential = log_likelihood(operator, jnp.array([[1.0]]), 0.5)
    >>> tableau = samplers.ddpm([10.0, 3.0, 1.0, 0.3, 0.1, 0.0])
    >>> noise = randomness.normal(keys, (64, 2))
    >>> particle_filter(ideal.gaussian(0.0, 1.0), potential, tableau, noise, keys).x0.shape
    (1, 64, 2)

    Args:
      denoise: (x [B, ...], sigma) -> D, of the prior. It is mapped over the particles.
      potential: (D [B, ...], sigma []) -> [B]: `log_likelihood`, or any reward of an image. At the
        last evaluation it is what the result is weighed by.
      tableau: a stochastic sampler whose last row returns D, as on a grid that ends at 0. With the
        gradient it has one register, and noise in every row but the last, such as
        `samplers.ddpm` or `samplers.euler_ancestral`.
      noise: [B, P, ...], standard normal.
      keys: [B] typed keys; consumed.
      gradient: whether particles move up the potential's gradient.
      threshold: in [0, 1]; 1 draws anew before every row, 0 never (importance sampling).

    Returns:
      The particles. Those of sample i depend on noise[i] and keys[i] alone.

    Raises:
      ValueError: a tableau of another kind, an option out of range, arguments of wrong shapes.
    """
    checks.between("threshold", threshold, 0.0, 1.0)
    noise = jnp.asarray(noise)
    if noise.ndim < 2:
        raise ValueError(f"noise must have shape [B, P, ...], got {noise.shape}")
    table = _check_tableau(tableau, gradient)
    size, count = table.registers, noise.shape[1]
    take, spread = (jnp.asarray(table.weights[:, 0, i], noise.dtype) for i in (size, -1))
    # No constants: the compiler would take seconds to work out the first row's weights.
    still = 0.0 * noise
    zeros = still.reshape(*noise.shape[:2], -1)[..., 0]
    spare = {"kick": still, "pull": still} if gradient else {}
    state = {"x": noise, "log": zeros, "potential": zeros, **spare}

    def evaluate(x, sigma):
        """(l, D) of [B, ...]."""
        denoised = jnp.asarray(denoise(x, sigma), x.dtype)
        value = jnp.asarray(potential(denoised, sigma), x.dtype)
        if value.shape != x.shape[:1]:
            raise ValueError(f"potential must return shape {x.shape[:1]}, got {value.shape}")
        return value, denoised

    def moved(x, sigma):
        value, back, denoised = jax.vjp(lambda x: evaluate(x, sigma), x, has_aux=True)
        return value, denoised, sigma**2 * back(jnp.ones_like(value))[0]

    def weigh(particles, sigma):
        """D_y, log w and l at the particles' x."""
        over = lambda function: jax.vmap(lambda x: function(x, sigma), 1, 1)(particles["x"])
        if not gradient:
            value, denoised = over(evaluate)
            log = particles["log"] + value
            return {"x": denoised, "log": log, "potential": value}
        value, denoised, shift = over(moved)
        correction = _inner(particles["kick"], particles["pull"])
        log = particles["log"] + value - correction
        return {"x": denoised + shift, "log": log, "potential": value,
                "kick": jnp.zeros_like(shift), "pull": shift}  # fmt: skip

    def between(row, keys, registers):
        *registers, last = registers
        log, value = last["log"], last["potential"]
        few = effective_size(log) < threshold * count
        own = jnp.arange(count)
        ancestors = jax.vmap(systematic)(keys, log)
        ancestors = jnp.where(few[:, None], ancestors, own)
        registers, shift, value = jax.tree.map(
            lambda leaf: jax.vmap(lambda one, i: one[i])(leaf, ancestors),
            (registers, last.get("pull"), value),
        )
        carried = jnp.where(few[:, None], _mean(log)[:, None], log) - value
        first = {**registers[0], "log": carried, "potential": zeros}
        if gradient:  # of the row before: x' = mean + take shift + spread z
            step = take[row - 1] * shift
            variance = jnp.where(row > 0, spread[row - 1] ** 2, 1.0)
            first["pull"] = step / variance
            first["log"] = carried - 0.5 * _inner(step, step) / variance
            first["kick"] = jnp.zeros_like(step)
        return (first, *registers[1:], last)

    def draw(keys, like):
        z = randomness.normal_like(keys, like["x"])
        silent = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in like.items()}
        return {**silent, "x": z, **({"kick": z} if gradient else {})}

    end = sample(weigh, _with_denoised(table), state, keys, draw=draw, between=between)
    x0 = end["x"] - end["pull"] if gradient else end["x"]
    evidence = _mean(end["log"])
    normalised = end["log"] - evidence[:, None] - np.log(count)
    return Particles(x0, normalised, evidence)


def effective_size(log_weights: jax.Array) -> jax.Array:
    """How many particles of equal weight the weighted ones stand for: (sum w)^2 / sum w^2.

    >>> effective_size(jnp.log(jnp.array([0.5, 0.5, 0.0]))).tolist()
    2.0

    Args:
      log_weights: [..., P], up to a constant.

    Returns:
      [...], from 1 to P.
    """
    log = jax.nn.log_softmax(log_weights)
    return jnp.exp(-jax.nn.logsumexp(2 * log, axis=-1))


def systematic(key: jax.Array, log_weights: jax.Array) -> jax.Array:
    """Draws particles by their weights, from one uniform number (Kitagawa 1996).

    Particle i is drawn P w_i times, rounded up or down, and on average exactly so often.

    Args:
      key: one typed key; consumed.
      log_weights: [P], up to a constant.

    Returns:
      [P] indices, ascending.
    """
    count = len(log_weights)
    ends = jnp.cumsum(jax.nn.softmax(log_weights))
    points = (jnp.arange(count) + jax.random.uniform(key, dtype=ends.dtype)) / count
    return jnp.minimum(jnp.searchsorted(ends, points * ends[-1], side="right"), count - 1)


def _mean(log_weights: jax.Array) -> jax.Array:
    """log mean exp."""
    return jax.nn.logsumexp(log_weights, axis=-1) - np.log(log_weights.shape[-1])


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of each particle, [B, P]."""
    return (a * b).sum(tuple(range(2, a.ndim)))


def _with_denoised(tableau: Tableau) -> Tableau:
    """The same sampler with one more register, that keeps what the denoiser returned."""
    size = tableau.registers
    weights = np.insert(tableau.weights, size, 0.0, axis=2)
    row = np.zeros((tableau.nfe, 1, size + 3))
    row[:, :, size + 1] = 1.0
    start = np.concatenate([tableau.start, np.zeros((1, 2))])
    return Tableau(start, tableau.sigma, np.concatenate([weights, row], axis=1))


def _check_tableau(tableau: Any, gradient: bool) -> Tableau:
    tableau = check(tableau)
    last = tableau.weights[-1, 0]
    if last[tableau.registers] != 1.0 or np.count_nonzero(last) != 1:
        raise ValueError(
            "tableau must return D of its last row, as on a grid that ends at 0, got "
            f"weights {last.tolist()} there"
        )
    if not tableau.stochastic:
        raise ValueError("tableau must draw noise, for particles to differ, got none in it")
    silent = np.flatnonzero(tableau.weights[:-1, 0, -1] == 0)
    if gradient and (tableau.registers != 1 or silent.size):
        raise ValueError(
            "tableau must have one register and noise in all rows but the last with gradient, got "
            f"{tableau.registers} registers and none in rows {silent.tolist()}"
        )
    return tableau

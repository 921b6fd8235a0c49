"""Guidance by the gradient of a classifier, or of any log-probability of the noisy state."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from edm_jax import checks
from edm_jax.checks import Classifier, Denoiser, column
from edm_jax.guidance.scales import Scale, at, check_scale

# (x [B, ...], sigma [] or [B]) -> log p(y | x; sigma) [B]
LogProb = Callable[[jax.Array, jax.Array], jax.Array]


def log_prob(classifier: Classifier, class_labels: jax.Array) -> LogProb:
    """log p(y | x; sigma) of the labels under a classifier, with the labels closed over.

    Args:
      classifier: (x [B, ...], sigma [] or [B]) -> logits [B, L].
      class_labels: [B, L] one-hot rows; the value of a row of zeros, no label, is the constant 0.

    Returns:
      (x, sigma) -> [B]. It raises ValueError for labels of another shape than the logits.
    """

    def of_labels(x, sigma):
        logits = classifier(x, sigma)
        if class_labels.shape != logits.shape:
            raise ValueError(
                f"class_labels must have the shape of the classifier's logits, {logits.shape}, "
                f"got {class_labels.shape}"
            )
        return (class_labels * jax.nn.log_softmax(logits)).sum(-1)

    return of_labels


def classifier(denoise: Denoiser, log_prob: LogProb, scale: Scale = 1.0) -> Denoiser:
    """Classifier guidance (Dhariwal and Nichol 2021), in the form of the score.

        D_g = D + w sigma^2 grad_x log p(y | x; sigma)

    The exact p gives the exact posterior denoiser at w = 1. ADM's DDIM sampler does this; its DDPM
    sampler shifts the mean (`mean_shift`). To clip, clip `denoise`: the shifted D is not
    clipped again. Costs a forward and a backward pass of the classifier.

    Args:
      denoise: (x, sigma) -> D.
      log_prob: (x [B, ...], sigma [] or [B]) -> log p(y | x; sigma) [B], differentiable: of the
        noisy x, not of D.
      scale: w: a number, [B] numbers, or a function of sigma to either.

    Returns:
      The guided denoiser.

    Raises:
      ValueError: a scale that is not finite; from the denoiser, a log_prob of another shape.
    """
    scale = check_scale(scale)

    def guided(x, sigma):
        shift = at(scale, sigma, x) * column(sigma, x) ** 2
        return denoise(x, sigma) + shift * gradient(log_prob, x, sigma)

    return guided


def mean_shift(
    denoise: Callable,
    log_prob: LogProb,
    scale: float,
    sigmas: ArrayLike,
    *,
    variance: Literal["small", "large", "learned"] = "small",
) -> Callable:
    """Classifier guidance as ADM's DDPM sampler has it: the mean of each step is shifted.

        mean <- mean + w n^2 (s' / s) grad_x log p(y | x; sigma),   s = 1 / sqrt(1 + sigma^2)

    n^2 is the variance of the step in the frame x / s: Dhariwal and Nichol 2021, algorithm 1. As
    the mean is linear in D, this too is a denoiser, of one grid and one variance; use it with
    `samplers.ddpm(sigmas, variance=variance)`, or with `samplers.improved_ddpm(sigmas)` for
    "learned". The last step, to 0, has no noise and yet a shift, except for "small".

    Args:
      denoise: (x, sigma) -> D, or (D, v) for "learned".
      log_prob: (x [B, ...], sigma []) -> log p(y | x; sigma) [B], differentiable.
      scale: w.
      sigmas: [N + 1] descending noise levels, the last 0, of the sampler.
      variance: "small", "large" or "learned": that of the sampler.

    Returns:
      (x, sigma []) -> the guided D, or (D, v). Only for the levels of the grid.

    Raises:
      ValueError: a scale that is not finite, a grid that does not descend, an unknown variance.
    """
    checks.one_of("variance", variance, ("small", "large", "learned"))
    checks.between("scale", scale, float("-inf"))
    levels = checks.descending(sigmas)
    here, below = levels[:-1], levels[1:]
    small = below**2 * (1.0 - below**2 / here**2)
    large = (here**2 - below**2) * (1.0 + below**2) / (1.0 + here**2)
    if below[-1] == 0.0:
        # The variances of ADM's first training step, which nothing else is left of at the end.
        before = here[-2] if len(here) > 1 else np.inf
        posterior = here[-1] ** 2 * (1.0 - here[-1] ** 2 / before**2) / (1.0 + here[-1] ** 2)
        if variance == "large":
            large[-1] = posterior
        elif variance == "learned":
            small[-1] = posterior
    with np.errstate(divide="ignore"):
        logs = np.where(small > 0, np.log(np.stack([small, large])), -np.inf)
    # The mean is (1 - b) x + b D with b = 1 - sigma'^2 / sigma^2.
    factor = scale * np.sqrt((1.0 + here**2) / (1.0 + below**2)) / (1.0 - (below / here) ** 2)

    def guided(x, sigma):
        row = jnp.argmin(jnp.abs(jnp.asarray(here, x.dtype) - sigma))
        result = denoise(x, sigma)
        shift = jnp.asarray(factor, x.dtype)[row] * gradient(log_prob, x, sigma)
        if variance != "learned":
            step = jnp.asarray(small if variance == "small" else large, x.dtype)[row]
            return result + step * shift
        denoised, v = result
        low, high = (jnp.asarray(log, x.dtype)[row] for log in logs)
        return denoised + jnp.exp(v * high + (1.0 - v) * low) * shift, v

    return guided


def gradient(log_prob: LogProb, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """grad_x log p(y | x; sigma) of each sample, of x's shape.

    Raises:
      ValueError: log_prob does not return one number for each sample.
    """

    def total(x):
        values = log_prob(x, sigma)
        if values.shape != x.shape[:1]:
            raise ValueError(f"log_prob must return shape {x.shape[:1]}, got {values.shape}")
        return values.sum()

    return jax.grad(total)(x)

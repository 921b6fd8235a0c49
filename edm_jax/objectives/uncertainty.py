"""Learned uncertainty: a loss that weighs every noise level by how well it can be denoised.

    L / e^u(sigma) + u(sigma),    whose least value over u is at u = ln E[L | sigma]

(Kendall et al. 2018; Karras et al. 2024, EDM2, eq. 14 and 15.) u is linear in Fourier features of
ln(sigma) / 4. It belongs to the network, as in EDM2, or is learned beside it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from edm_jax.objectives.record import Model

FEATURES = 128


def initial() -> jax.Array:
    """[FEATURES] weights: u = 0 at every noise level, which is the loss without it."""
    return jnp.zeros(FEATURES)


def log_variance(weights: jax.Array, sigma: jax.Array) -> jax.Array:
    """u(sigma) = w . sqrt(2) cos(f ln(sigma) / 4 + p) / sqrt(FEATURES).

    The frequencies f are the quantiles of N(0, (2 pi)^2), the phases p spread by the golden ratio:
    EDM2 draws both.

    Args:
      weights: [FEATURES].
      sigma: [B] noise levels.

    Returns:
      [B].
    """
    index = np.arange(FEATURES)
    frequency = 2 * jnp.pi * ndtri((jnp.asarray(index, jnp.float32) + 0.5) / FEATURES)
    phase = 2 * np.pi * (index * 0.6180339887498949 % 1.0)
    angle = jnp.log(sigma)[:, None] / 4 * frequency + phase
    return (jnp.cos(angle) * weights).sum(1) * np.sqrt(2.0 / FEATURES)


def loss(u: jax.Array, each: jax.Array) -> jax.Array:
    """L / e^u + u for every example.

    Args:
      u: [B] at its noise level.
      each: [B] the losses L there, each a mean over the example's elements.

    Returns:
      [B].
    """
    return each * jnp.exp(-u) + u


class Uncertainty(NamedTuple):
    """Whose u(sigma) is.

    Attributes:
      init: () -> what is trained beside the network.
      log_variance: (model, what is trained, sigma [B]) -> u [B].
    """

    init: Callable[[], Any]
    log_variance: Callable[[Model, Any, jax.Array], jax.Array]


def _of_network(model: Model, trained: Any, sigma: jax.Array) -> jax.Array:
    assert model.log_variance is not None, "chosen for networks that have one"
    return model.log_variance(sigma)


BESIDE = Uncertainty(initial, lambda model, weights, sigma: log_variance(weights, sigma))
OF_NETWORK = Uncertainty(tuple, _of_network)

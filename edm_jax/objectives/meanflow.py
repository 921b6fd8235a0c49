"""MeanFlow: the mean velocity between any two times, learned by its own identity."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from edm_jax.checks import between, check_positive, column, one_of
from edm_jax.objectives.denoising import noise_like, perturbed
from edm_jax.objectives.elements import weighted_mean
from edm_jax.objectives.noise import NoiseDistribution
from edm_jax.objectives.record import Losses, Model, Objective, State, unchanged


class Jumps(NamedTuple):
    """What MeanFlow learns from: points of paths, and how far to go from each.

    Attributes:
      y: [b, ...] data.
      sigma: [b] noise levels of the points.
      rho: [b] those where the jumps end, at most sigma.
      noise: standard normal, of y's shape.
      conditions: what the model is given, by name.
    """

    y: jax.Array
    sigma: jax.Array
    rho: jax.Array
    noise: jax.Array
    conditions: dict[str, Any]


def ends(
    one: jax.Array,
    two: jax.Array,
    coin: jax.Array,
    *,
    ratio: float = 0.75,
    order: Literal["least", "sorted"] = "least",
) -> tuple[jax.Array, jax.Array]:
    """Where jumps begin and end, of two drawn noise levels and a toss of a coin.

    Args:
      one, two: [b] noise levels.
      coin: [b] uniform in [0, 1).
      ratio: the probability that the two ends may differ, in [0, 1].
      order: "least": a jump begins at the first level, and ends there too where the second is
        higher (the authors' program). "sorted": it begins at the higher one (the paper).

    Returns:
      sigma and rho, of their shape.
    """
    if order == "sorted":
        one, two = jnp.maximum(one, two), jnp.minimum(one, two)
    return one, jnp.where(coin >= 1.0 - ratio, jnp.minimum(one, two), one)


def meanflow(
    noise: NoiseDistribution,
    end_noise: NoiseDistribution,
    *,
    ratio: float = 0.75,
    order: Literal["least", "sorted"] = "least",
    p: float = 0.75,
    epsilon: float = 1e-3,
) -> Objective:
    """The mean over jumps, data and noise of w |u - (v - (t - r) du/dt)|^2.

        z = (1 - t) y + t n,   v = n - y,   u(z; r, t) = (z - D(z; t, r)) / t
        w = 1 / (|.|^2 + epsilon)^p

    Geng et al. 2025 (MeanFlow). The mean velocity u from t to r < t is the one for which this is
    0 in the mean; du/dt is its derivative along the path, by the tangent (v, 0, 1), and it, v and
    w are held fixed. With t = sigma / (1 + sigma) and r = rho / (1 + rho), the denoiser of a jump
    is D of `preconditioning.flow_map`, so that any preconditioner will do; of `flow` u is the
    network's own output.

    Args:
      noise: of the levels sigma.
      end_noise: of the levels rho.
      ratio, order: of `ends`, which makes pairs of them.
      p: 0 is the squared error itself; 1 gives every example one weight.
      epsilon: positive, beside the sum over an example's elements.

    Returns:
      The objective; its examples are `Jumps`. It logs the mean square of an element, not weighed.

    Raises:
      ValueError: an argument out of range.
    """
    between("ratio", ratio, 0.0, 1.0)
    one_of("order", order, ("least", "sorted"))
    between("p", p, 0.0)
    check_positive(epsilon=epsilon)

    def draw(state: State, keys: jax.Array, y: Any, conditions: dict[str, Any]) -> Jumps:
        three = jax.vmap(lambda key: jax.random.split(key, 3))(keys[:, 0])
        one = jax.vmap(lambda key: noise(key))(three[:, 0])
        two = jax.vmap(lambda key: end_noise(key))(three[:, 1])
        coin = jax.vmap(jax.random.uniform)(three[:, 2])
        sigma, rho = ends(one, two, coin, ratio=ratio, order=order)
        return Jumps(y, sigma, rho, noise_like(keys[:, 1], y), conditions)

    def loss(model: Model, state: State, e: Jumps) -> Losses:
        x, sigma, y = perturbed(e.y, e.sigma, e.noise)
        n, rho = jnp.asarray(e.noise, x.dtype), jnp.asarray(e.rho, x.dtype)
        mapped = model.flow_map(**e.conditions)

        def u(x, sigma):
            level = column(sigma, x)
            return (x - (1.0 + level) * mapped(x, sigma, rho)) / level

        # (t - r) d/dt, along the path, on which dx / d sigma is n.
        length = (sigma - rho) * (1.0 + sigma) / (1.0 + rho)
        found, change = jax.jvp(u, (x, sigma), (column(length, x) * n, length))
        target = jax.lax.stop_gradient(n - y - change)
        mean, size = weighted_mean((found - target) ** 2)
        total = mean * size
        return Losses(total / (jax.lax.stop_gradient(total) + epsilon) ** p, mean, mean, sigma)

    return Objective(State, draw, loss, unchanged)

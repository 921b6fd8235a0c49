"""Easy consistency tuning: from a diffusion model to a consistency function, in stages."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from edm_jax.checks import between, check_positive, column
from edm_jax.objectives.denoising import data_and_weight, noise_like, perturbed
from edm_jax.objectives.elements import weighted_mean
from edm_jax.objectives.noise import NoiseDistribution
from edm_jax.objectives.record import Losses, Model, Objective, State
from edm_jax.objectives.weighting import one_number
from edm_jax.schedules import Function


class Stage(NamedTuple):
    """How far a run has come; a count of all its images would overflow.

    Attributes:
      number: [] int32, from 0.
      images: [] int32, those seen since the stage began.
    """

    number: jax.Array
    images: jax.Array


class Pairs(NamedTuple):
    """What consistency tuning learns from: two points of one path an example.

    Attributes:
      y: [b, ...] data, or a pytree.
      t: [b] noise levels of the points that are mapped.
      r: [b] those of the points whose images they must meet, below t; 0 is the data.
      noise: standard normal, of y's structure and shapes; both points have it.
      conditions: what the model is given, by name.
      element_weight: how much each element counts, of y's structure and shapes; None is alike.
    """

    y: Any
    t: jax.Array
    r: jax.Array
    noise: Any
    conditions: dict[str, Any]
    element_weight: Any = None


def nearer(
    t: jax.Array, stage: jax.Array | int, *, q: float = 2.0, k: float = 8.0, b: float = 1.0
) -> jax.Array:
    """r(t), the noise level whose image that of t must meet; from stage to stage it nears t.

        r = max(0, t (1 - (1 + k / (1 + e^(b t))) / q^(s + 1)))

    Geng et al. 2024 (ECT), section 3.3. Where r is 0 the image must be the data.

    Args:
      t: noise levels, positive.
      stage: s, from 0.
      q: by how much a stage divides the distance, above 1.
      k: how much farther apart they are at low levels; 0 is the same ratio everywhere.
      b: where low levels begin.

    Returns:
      Of t's shape.

    >>> nearer(jnp.array([1.0, 80.0]), 0).tolist(), nearer(jnp.array([80.0]), 3).tolist()
    ([0.0, 40.0], [75.0])
    """
    return jnp.maximum(0.0, t * (1.0 - (1.0 + k * jax.nn.sigmoid(-b * t)) * q ** (-1.0 - stage)))


def ect(
    noise: NoiseDistribution,
    *,
    weight: Function | None = None,
    q: float = 2.0,
    k: float = 8.0,
    b: float = 1.0,
    c: float = 0.0,
    stage_kimg: float = 3200.0,
) -> Objective:
    """The mean over levels, data and noise of w (sqrt(|D(x_t; t) - D(x_r; r)|^2 + c^2) - c).

    Geng et al. 2024 (ECT): x_t = y + t n and x_r = y + r n share their noise, and the two calls
    their dropout. No gradient passes through D(x_r; r), which is y where r is 0.

    Args:
      noise: of the levels t.
      weight: w, t -> weight of its shape; None is 1 / (t - r).
      q, k, b: of `nearer`, which makes r of t and the stage.
      c: of the pseudo-Huber norm, not negative; 0 is the norm itself.
      stage_kimg: thousands of images in a stage; 0 is one stage without end.

    Returns:
      The objective; its examples are `Pairs`. What is minimised and logged is the norm; by noise
      level, the mean squared error of an element.

    Raises:
      ValueError: an argument out of range.
    """
    between("q", q, 1.0, open_low=True)
    between("k", k, 0.0)
    between("c", c, 0.0)
    between("stage_kimg", stage_kimg, 0.0, (2**31 - 1) / 2e3)
    check_positive(b=b)
    if weight is not None:
        one_number(weight)
    length = round(1e3 * stage_kimg)

    def init() -> State:
        return State(kept=Stage(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)))

    def draw(state: State, keys: jax.Array, y: Any, conditions: dict[str, Any]) -> Pairs:
        y, counts = data_and_weight(y)
        t = jax.vmap(lambda key: noise(key))(keys[:, 0])
        r = nearer(t, state.kept.number, q=q, k=k, b=b)
        return Pairs(y, t, r, noise_like(keys[:, 1], y), conditions, counts)

    def loss(model: Model, state: State, e: Pairs) -> Losses:
        # One denoiser for both: the keys of its dropout are in it.
        denoise = model.denoiser(**e.conditions)
        x_t, t, y = perturbed(e.y, e.t, e.noise)
        # In place of 0 a level that the network can be asked at: its answer is not used.
        x_r, r, _ = perturbed(e.y, jnp.where(e.r > 0, e.r, 1.0), e.noise)
        met = lambda y, x0: jax.lax.stop_gradient(jnp.where(column(e.r, y) > 0, x0, y))
        target = jax.tree.map(met, y, denoise(x_r, r))
        squares = jax.tree.map(lambda x0, goal: (x0 - goal) ** 2, denoise(x_t, t), target)
        mean, total = weighted_mean(squares, weight=e.element_weight)
        factor = 1.0 / (t - e.r) if weight is None else weight(t)
        counted = factor * pseudo_huber(mean * total, c)
        return Losses(counted, counted, mean, t)

    def update(state: State, e: Pairs, losses: Losses, gather: Callable[[Any], Any]) -> State:
        number, images = state.kept
        images += len(gather(losses.each))
        if not length:
            return state
        return State(kept=Stage(number + images // length, images % length))

    return Objective(init, draw, loss, update)


def pseudo_huber(squares: jax.Array, c: float) -> jax.Array:
    """sqrt(s + c^2) - c of sums of squares s, without a loss of digits and with a gradient at 0.

    Args:
      squares: s, not negative.
      c: not negative.

    Returns:
      Of their shape.
    """
    inside = squares + c**2
    return squares / (jnp.sqrt(jnp.where(inside > 0, inside, 1.0)) + c)

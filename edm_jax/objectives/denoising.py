"""The denoising loss, lambda(sigma) |D(y + sigma n; sigma) - y|^2, and the objectives of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from edm_jax import randomness
from edm_jax.checks import Denoiser, DenoiserWithVariance, column, spread
from edm_jax.objectives import uncertainty, variational
from edm_jax.objectives.elements import Weighted, same_structure, weighted_mean
from edm_jax.objectives.levels import Levels
from edm_jax.objectives.record import Losses, Objective, State
from edm_jax.schedules import Function


def loss(denoise: Denoiser, y: Any, sigma: Any, noise: Any, weight: Function) -> Any:
    """The weighted squared error of every element: lambda(sigma) (D(y + sigma n; sigma) - y)^2.

    Karras et al. 2022, eq. 2. Nothing is averaged; the expectation over n and sigma is the
    caller's mean, in which elements may be weighed or masked.

    Args:
      denoise: (x [B, ...], sigma) -> x0 of x's shape.
      y: [B, ...] clean data, in [-1, 1] for images; or a pytree of such arrays, which `denoise`
        takes and returns whole.
      sigma: noise levels, positive: [] or [B], or of y's dimensions and broadcasting to it (a
        level for every frame or channel); or a pytree of these, of y's structure. `denoise` gets
        it as it is.
      noise: standard normal n, of y's structure and shapes.
      weight: lambda, sigma -> weight of its shape.

    Returns:
      The structure and shapes of y, float32 (float64 for float64 data).

    Raises:
      ValueError: shapes that do not fit.
    """
    x, sigma, y = perturbed(y, sigma, noise)
    error = lambda x0, y, sigma: weight(sigma) * (x0.astype(y.dtype) - y) ** 2
    return jax.tree.map(error, denoise(x, sigma), y, by_leaf(sigma, y))


def hybrid_loss(
    denoise: DenoiserWithVariance,
    y: jax.Array,
    sigma: jax.Array,
    noise: jax.Array,
    weight: Function,
    *,
    bound: variational.Bound,
    level: jax.Array,
    bound_weight: float = 1e-3,
) -> jax.Array:
    """L_hybrid = L_simple + bound_weight L_vlb of every element (Nichol and Dhariwal 2021, eq. 16).

    L_vlb is T L_k, whose mean over levels is the bound; in it the mean of a step is held fixed, so
    that it teaches the variance alone.

    Args:
      denoise: (x, sigma) -> (D, v), both of x's shape; v in [0, 1] says where between its bounds
        the logarithm of the variance is.
      y: [B, ...] data.
      sigma: [B] noise levels.
      noise: [B, ...] standard normal.
      weight: lambda of L_simple, sigma -> weight of its shape.
      bound: what `variational.bound` makes of the table of levels.
      level: [B] which level `sigma` is.
      bound_weight: the weight of L_vlb.

    Returns:
      Of y's shape.

    Raises:
      ValueError: shapes that do not fit.
    """
    x, sigma, y = perturbed(y, sigma, noise)
    x0, v = denoise(x, sigma)
    simple = weight(column(sigma, y)) * (x0 - y) ** 2
    learned = variational.terms(bound, level, jax.lax.stop_gradient(x0), v, y)
    return simple + bound_weight * len(bound.shift) * learned


def perturbed(y: Any, sigma: Any, noise: Any) -> tuple[Any, Any, Any]:
    """What every loss begins with: x = y + sigma n, after a look at the shapes.

    Args:
      y: [B, ...] clean data, or a pytree.
      sigma: of the shapes that `loss` takes, positive.
      noise: standard normal n, of y's structure and shapes.

    Returns:
      x, sigma and y; float32 (float64 for float64 data).

    Raises:
      ValueError: shapes that do not fit.
    """
    dtype = jnp.promote_types(jnp.result_type(*jax.tree.leaves(y)), jnp.float32)
    if not same_structure(sigma, y):
        try:
            sigma = jnp.asarray(sigma, dtype)
        except TypeError:
            raise ValueError(
                f"sigma must be an array or have the structure of y, {jax.tree.structure(y)}, "
                f"got {jax.tree.structure(sigma)}"
            ) from None
    y, sigma, noise = jax.tree.map(lambda a: jnp.asarray(a, dtype), (y, sigma, noise))
    shapes, given = (jax.tree.map(lambda a: a.shape, tree) for tree in (y, noise))
    if shapes != given:
        raise ValueError(f"noise must have the shape of y, {shapes}, got {given}")
    return jax.tree.map(lambda y, s, n: y + s * n, y, by_leaf(sigma, y), noise), sigma, y


def by_leaf(sigma: Any, y: Any) -> Any:
    """The noise levels of every leaf of y, shaped to multiply it; sigma is one array or a tree."""
    if same_structure(sigma, y):
        return jax.tree.map(spread, sigma, y)
    return jax.tree.map(lambda leaf: spread(sigma, leaf), y)


def data_and_weight(y: Any) -> tuple[Any, Any]:
    """The data of a batch, and how much each of its elements counts: None is alike."""
    return y.split() if isinstance(y, Weighted) else (y, None)


def noise_like(keys: jax.Array, y: Any) -> Any:
    """Standard normal noise of y's structure and shapes, float32, each example from its own key."""
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), y)
    return randomness.normal_like(keys, like)


def without_dropout(conditions: dict[str, Any]) -> dict[str, Any]:
    """What a teacher is told of the conditions that a model is given."""
    return {name: value for name, value in conditions.items() if name != "dropout_keys"}


class Examples(NamedTuple):
    """What a denoising objective learns from: data and every draw.

    Attributes:
      y: [b, ...] data, or a pytree.
      sigma: [b] noise levels.
      noise: standard normal, of y's structure and shapes.
      conditions: what the model is given, by name.
      level: [b] int32, which level of a table sigma is; None for continuous ones.
      factor: [b] factors of the loss that undo how the levels were chosen, or None.
      element_weight: how much each element counts, of y's structure and shapes; None is alike.
    """

    y: Any
    sigma: jax.Array
    noise: Any
    conditions: dict[str, Any]
    level: jax.Array | None = None
    factor: jax.Array | None = None
    element_weight: Any = None


def denoising(
    levels: Levels,
    weight: Function,
    *,
    bound: variational.Bound | None = None,
    bound_weight: float = 1e-3,
    learned: uncertainty.Uncertainty | None = None,
) -> Objective:
    """The objective of a denoiser: the mean of `loss` over noise levels, data and noise.

    Args:
      levels: how noise levels are chosen.
      weight: lambda, sigma -> weight of its shape.
      bound: what `variational.bound` makes of the table of levels; teaches the variance by
        `hybrid_loss`. None for a network that predicts none.
      bound_weight: the weight of the bound beside the loss.
      learned: weigh every level by how well it can be denoised (`uncertainty.loss`); None is not.

    Returns:
      The objective; its examples are `Examples`, drawn from plain data or from `Weighted`.
    """

    def init() -> State:
        return State(learned.init() if learned else (), levels.init())

    def draw(state: State, keys: jax.Array, y: Any, conditions: dict[str, Any]) -> Examples:
        y, counts = data_and_weight(y)
        sigma, level, factor = levels.draw(state.kept, keys[:, 0])
        return Examples(y, sigma, noise_like(keys[:, 1], y), conditions, level, factor, counts)

    def errors(model, e: Examples) -> Any:
        if bound is None:
            return loss(model.denoiser(**e.conditions), e.y, e.sigma, e.noise, weight)
        if e.level is None:
            raise ValueError("levels must be a table's where there is a bound, got continuous")
        both = model.denoiser_with_variance(**e.conditions)
        given = (e.y, e.sigma, e.noise, weight)
        return hybrid_loss(both, *given, bound=bound, level=e.level, bound_weight=bound_weight)

    def losses(model, state: State, e: Examples) -> Losses:
        each, total = weighted_mean(errors(model, e), weight=e.element_weight)
        counted = each
        if learned is not None:
            u = learned.log_variance(model, state.trained, e.sigma)
            counted = uncertainty.loss(u, each)
        factor = 1.0 if e.factor is None else e.factor
        return Losses(total * (counted * factor), each * factor, each, e.sigma)

    def update(state: State, e: Examples, losses: Losses, gather) -> State:
        return state._replace(kept=levels.update(state.kept, e.level, losses.each, gather))

    return Objective(init, draw, losses, update)

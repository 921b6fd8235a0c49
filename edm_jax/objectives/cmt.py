"""Consistency mid-training: from a diffusion model to where consistency tuning begins."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from edm_jax import samplers
from edm_jax.checks import one_of
from edm_jax.objectives.denoising import (
    data_and_weight,
    noise_like,
    perturbed,
    without_dropout,
)
from edm_jax.objectives.ect import pseudo_huber
from edm_jax.objectives.elements import weighted_mean
from edm_jax.objectives.record import Losses, Model, Objective, State, unchanged
from edm_jax.objectives.weighting import one_number
from edm_jax.samplers import Tableau
from edm_jax.schedules import Function


class OnPaths(NamedTuple):
    """What mid-training learns from: states on a teacher's paths.

    Attributes:
      x: [b, ...] where the teacher was asked, or a pytree.
      sigma: [b] noise levels of these states.
      end: where the path of each ends, of x's structure and shapes.
      conditions: what the model is given, by name.
      element_weight: how much each element counts, of x's structure and shapes; None is alike.
    """

    x: Any
    sigma: jax.Array
    end: Any
    conditions: dict[str, Any]
    element_weight: Any = None


def cmt(
    tableau: Tableau,
    teacher: Any,
    *,
    weight: Function | None = None,
    metric: Literal["squared", "norm"] = "squared",
) -> Objective:
    """The mean over a teacher's paths, and all states on them, of w |D(x_k; sigma_k) - x_K|^2.

    Hu et al. 2025 (CMT): x_0 = y + sigma_0 n, and x_1 ... x_K are what a solver makes of it with
    the teacher's denoiser. So every state of a path learns the same end, at a cost of one call of
    the teacher for each. Of K examples in a row the first gives data, noise and conditions, and
    the path; they learn its K states, each with its own dropout.

    Args:
      tableau: the solver, K rows without noise.
      teacher: a denoiser's model that is a pytree, such as `edm_jax.Model`; it has no dropout.
      weight: w, sigma -> weight of its shape; None is 1.
      metric: "squared", or "norm": w |D - x_K|.

    Returns:
      The objective; its examples are `OnPaths`. By noise level it logs the mean squared error of
      an element. It draws from a multiple of K examples alone.

    Raises:
      ValueError: a solver that is no tableau or draws noise, or another argument out of range.
    """
    if not isinstance(tableau, Tableau) or tableau.stochastic:
        raise ValueError(f"tableau must be one without noise, such as euler's, got {tableau!r}")
    one_of("metric", metric, ("squared", "norm"))
    if weight is not None:
        one_number(weight)
    calls = tableau.nfe

    def draw(state: State, keys: jax.Array, y: Any, conditions: dict[str, Any]) -> OnPaths:
        if len(keys) % calls:
            raise ValueError(
                f"batch_size must give each device a multiple of the {calls} calls of the "
                f"teacher, got {len(keys)} images"
            )
        y, counts = data_and_weight(y)
        first = lambda tree: jax.tree.map(lambda a: a[::calls], tree)
        again = lambda tree: jax.tree.map(lambda a: jnp.repeat(a, calls, axis=0), tree)
        told, y = first(without_dropout(conditions)), first(y)
        x, _, _ = perturbed(y, float(tableau.sigma[0]), noise_like(keys[::calls, 1], y))
        denoise = state.kept.denoiser(**told)
        end, states = samplers.sample(denoise, tableau, start=x, trajectory=True)
        in_order = lambda a: jnp.moveaxis(a[:-1], 0, 1).reshape(-1, *a.shape[2:])
        levels = jnp.asarray(tableau.sigma, jax.tree.leaves(end)[0].dtype)
        return OnPaths(
            jax.tree.map(in_order, states),
            jnp.tile(levels, len(keys) // calls),
            again(end),
            conditions | again(told),
            again(first(counts)),
        )

    def loss(model: Model, state: State, e: OnPaths) -> Losses:
        x0 = model.denoiser(**e.conditions)(e.x, e.sigma)
        squares = jax.tree.map(lambda x0, end: (x0 - end) ** 2, x0, e.end)
        mean, total = weighted_mean(squares, weight=e.element_weight)
        factor = 1.0 if weight is None else weight(e.sigma)
        if metric == "norm":
            norm = factor * pseudo_huber(mean * total, 0.0)
            return Losses(norm, norm, mean, e.sigma)
        return Losses(factor * mean * total, factor * mean, mean, e.sigma)

    return Objective(lambda: State(kept=teacher), draw, loss, unchanged)

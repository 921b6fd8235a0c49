"""Objectives by name, for a model: what a configuration chooses from."""

import functools
from collections.abc import Callable
from typing import Any, Literal, cast

from edm_jax import samplers, timesteps
from edm_jax.objectives import levels, variational
from edm_jax.objectives.classification import classification
from edm_jax.objectives.cmt import cmt
from edm_jax.objectives.denoising import denoising
from edm_jax.objectives.ect import ect
from edm_jax.objectives.meanflow import meanflow
from edm_jax.objectives.noise import log_normal
from edm_jax.objectives.recipes import RECIPES, call, recipe, weight_of
from edm_jax.objectives.record import Model, Objective
from edm_jax.objectives.scm import scm
from edm_jax.objectives.uncertainty import BESIDE, OF_NETWORK, Uncertainty


def _denoising(
    name: str,
    model: Model,
    *,
    weight: str | None = None,
    weight_arguments: dict[str, float] | None = None,
    uncertainty: bool = False,
    variance_weight: float = 0.0,
    importance: bool = False,
    **arguments: Any,
) -> Objective:
    made = recipe(
        name,
        model.preconditioner,
        weight=weight,
        weight_arguments=weight_arguments,
        **arguments,
    )
    if variance_weight < 0:
        raise ValueError(f"variance_weight must not be negative, got {variance_weight}")
    bound = None
    if made.levels is None:
        for option, value in (("variance_weight", variance_weight), ("importance", importance)):
            if value:
                raise ValueError(
                    f"{option} must be left out for the objective {name!r}, which has no table "
                    f"of levels as iddpm and ddpm have, got {value}"
                )
        chosen = levels.continuous(made.noise)
    else:
        chosen = (levels.by_importance if importance else levels.uniform)(made.levels)
        if variance_weight:
            bound = variational.bound(made.levels)
    return denoising(
        chosen,
        made.weight,
        bound=bound,
        bound_weight=variance_weight,
        learned=_learned(model) if uncertainty else None,
    )


def _learned(model: Model) -> Uncertainty:
    return BESIDE if model.log_variance is None else OF_NETWORK


def _classification(model: Model, *, noise: str = "edm", **arguments: Any) -> Objective:
    made = call("noise", RECIPES, noise, model.preconditioner, **arguments)
    table = made.levels
    return classification(levels.continuous(made.noise) if table is None else levels.uniform(table))


def _ect(
    model: Model,
    *,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    weight: str | None = None,
    weight_arguments: dict[str, float] | None = None,
    q: float = 2.0,
    k: float = 8.0,
    b: float = 1.0,
    c: float = 0.0,
    stage_kimg: float = 3200.0,
) -> Objective:
    placed = weight_of(weight, weight_arguments, model.preconditioner)
    noise = log_normal(p_mean, p_std)
    return ect(noise, weight=placed, q=q, k=k, b=b, c=c, stage_kimg=stage_kimg)


def _cmt(
    model: Model,
    *,
    teacher: Any = None,
    solver: str = "dpmpp_3m",
    solver_options: dict[str, Any] | None = None,
    num_steps: int = 16,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    metric: Literal["squared", "norm"] = "squared",
    weight: str | None = None,
    weight_arguments: dict[str, float] | None = None,
) -> Objective:
    if teacher is None:
        raise ValueError("teacher must be the model whose paths are learned, got none")
    sigmas = timesteps.exponential(
        num_steps, sigma_min=sigma_min, sigma_max=sigma_max, final="sigma_min"
    )
    made = samplers.build(solver, sigmas, **solver_options or {})
    placed = weight_of(weight, weight_arguments, model.preconditioner)
    return cmt(cast(samplers.Tableau, made), teacher, weight=placed, metric=metric)


def _meanflow(
    model: Model,
    *,
    p_mean: float = -0.6,
    p_std: float = 1.6,
    end_mean: float = -4.0,
    end_std: float = 1.6,
    ratio: float = 0.75,
    order: Literal["least", "sorted"] = "least",
    p: float = 0.75,
    epsilon: float = 1e-3,
) -> Objective:
    model.flow_map()  # says so at once of a network that does not jump
    noise, end_noise = log_normal(p_mean, p_std), log_normal(end_mean, end_std)
    return meanflow(noise, end_noise, ratio=ratio, order=order, p=p, epsilon=epsilon)


def _scm(
    model: Model,
    *,
    p_mean: float = -1.0,
    p_std: float = 1.4,
    teacher: Any = None,
    warmup_kimg: float = 5120.0,
    form: Literal["scm", "rcm"] = "scm",
    norm: Literal["l2", "rms"] = "l2",
    weight: str | None = None,
    weight_arguments: dict[str, float] | None = None,
    uncertainty: bool = False,
) -> Objective:
    return scm(
        log_normal(p_mean, p_std),
        model.preconditioner,
        teacher=teacher,
        warmup_kimg=warmup_kimg,
        form=form,
        norm=norm,
        weight=weight_of(weight, weight_arguments, model.preconditioner),
        learned=_learned(model) if uncertainty else None,
    )


# What a configuration chooses from: name -> (model, **arguments) -> objective.
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    name: functools.partial(_denoising, name) for name in RECIPES
} | {
    "classification": _classification,
    "cmt": _cmt,
    "ect": _ect,
    "meanflow": _meanflow,
    "scm": _scm,
}


def build(name: str, model: Model, **arguments: Any) -> Objective:
    """An objective by name.

    Args:
      name: a key of `OBJECTIVES`.
      model: what is to be trained with it; its parameters are not used.
      **arguments: of that objective. "classification" takes noise, a key of `RECIPES` ("edm"
        without it), and the arguments of its noise levels as below. "ect" takes p_mean, p_std,
        weight and weight_arguments, and q, k, b, c, stage_kimg of `ect`; "scm" p_mean, p_std,
        weight, weight_arguments, uncertainty, and teacher, warmup_kimg, form, norm of `scm`; "cmt"
        teacher, weight, weight_arguments, metric of `cmt`, solver, a key of `samplers.SOLVERS`,
        solver_options, and num_steps, sigma_min, sigma_max of its grid, `timesteps.exponential`
        that ends at sigma_min; "meanflow" p_mean, p_std of sigma and end_mean, end_std of rho, both
        log-normal, and ratio, order, p, epsilon of `meanflow`. The others take
        weight, weight_arguments: a key of `WEIGHTS` in place of its own weight, and its arguments;
        uncertainty: learn how much each noise level counts (Karras et al. 2024), by the network's
        own u(sigma) where it has one;
        variance_weight: of L_vlb beside the loss, which teaches the variance; needs a table of
        levels and a network that predicts one;
        importance: draw levels of large loss more often; needs a table of levels;
        and those of its noise levels: "edm" and "flow" p_mean, p_std ("edm" also sigma_data),
        "karras" sigma_min, sigma_max, rho, sigma_data,
        "vp" beta_d, beta_min, epsilon_t, "ve" sigma_min, sigma_max, "iddpm" num_train_steps, c_1,
        c_2, "ddpm" betas, num_train_steps, "v" sigma_min, sigma_max, sigma_data.

    Raises:
      ValueError: an unknown name or argument, a value out of range, arguments that do not go
        together, or a sigma_data that is not the model's.

    >>> import jax, jax.numpy as jnp
    >>> from edm_jax import preconditioning
    >>> from edm_jax.objectives import Wrapped
    >>> model = Wrapped(lambda x, c_noise: 0.0 * x, preconditioning.edm())
    >>> objective = build("edm", model, p_mean=-0.4, p_std=1.0)
    >>> @jax.jit
    ... def losses(key, y):
    ...     keys = jax.random.split(key, (len(y), 2))
    ...     examples = objective.draw(objective.init(), keys, y, {})
    ...     return objective.loss(model, objective.init(), examples).minimised
    >>> losses(jax.random.key(0), jnp.ones((8, 4, 4, 3))).shape
    (8,)
    """
    return call("name", OBJECTIVES, name, model, **arguments)

"""Objectives by name, for a model: its own noise levels and weight, with what may replace them."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from edm_jax import tables
from edm_jax.checks import one_of
from edm_jax.objectives import levels, variational
from edm_jax.objectives.classification import classification
from edm_jax.objectives.denoising import denoising
from edm_jax.objectives.ect import ect
from edm_jax.objectives.noise import (
    NoiseDistribution,
    cosine,
    discrete,
    karras,
    log_normal,
    ve,
    vp,
)
from edm_jax.objectives.record import Model, Objective
from edm_jax.objectives.scm import scm
from edm_jax.objectives.uncertainty import BESIDE, OF_NETWORK, Uncertainty
from edm_jax.objectives.weighting import (
    edm_weight,
    flow_weight,
    inverse_square_weight,
    min_snr_weight,
    unit_weight,
    v_weight,
)
from edm_jax.preconditioning import Preconditioner
from edm_jax.preconditioning.coefficients import per_channel
from edm_jax.schedules import Function

_Made = TypeVar("_Made")


class Recipe(NamedTuple):
    """Which noise levels a denoiser is trained at, and how much each counts.

    Attributes:
      noise: the distribution of noise levels.
      weight: lambda, sigma -> weight of its shape.
      levels: [T] ascending, where `noise` is uniform over a table of them; else None.
    """

    noise: NoiseDistribution
    weight: Function
    levels: np.ndarray | None = None


SigmaData = float | Sequence[float] | None


def _sigma_data(asked: SigmaData, preconditioner: Preconditioner) -> float | tuple[float, ...]:
    """That of the weight: the preconditioner's, or one that does not contradict it."""
    its = preconditioner.sigma_data
    if asked is None:
        return 0.5 if its is None else its
    asked = per_channel(asked)
    if its is not None and asked != its:
        raise ValueError(
            f"sigma_data of the weight must be that of the preconditioner, {its}, got {asked}"
        )
    return asked


def _edm(
    preconditioner: Preconditioner,
    p_mean: float = -1.2,
    p_std: float = 1.2,
    sigma_data: SigmaData = None,
) -> Recipe:
    weight = edm_weight(_sigma_data(sigma_data, preconditioner))
    return Recipe(log_normal(p_mean, p_std), weight)


def _karras(
    preconditioner: Preconditioner,
    sigma_min: float = 0.02,
    sigma_max: float = 88.0,
    rho: float = 7.0,
    sigma_data: SigmaData = None,
) -> Recipe:
    weight = edm_weight(_sigma_data(sigma_data, preconditioner))
    return Recipe(karras(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho), weight)


def _vp(_: Preconditioner, beta_d=19.9, beta_min=0.1, epsilon_t=1e-5) -> Recipe:
    return Recipe(vp(beta_d, beta_min, epsilon_t=epsilon_t), inverse_square_weight())


def _ve(_: Preconditioner, sigma_min=0.02, sigma_max=100.0) -> Recipe:
    return Recipe(ve(sigma_min, sigma_max), inverse_square_weight())


def _iddpm(_: Preconditioner, num_train_steps=1000, c_1=0.001, c_2=0.008) -> Recipe:
    table = tables.iddpm(num_train_steps, c_1=c_1, c_2=c_2, variant="network")[-2::-1]
    return Recipe(discrete(table), inverse_square_weight(), np.asarray(table, np.float64))


def _ddpm(_: Preconditioner, betas="linear", num_train_steps=1000) -> Recipe:
    table = tables.sigmas(tables.alphas_cumprod(betas, num_train_steps=num_train_steps))
    return Recipe(discrete(table), inverse_square_weight(), table)


def _flow(_: Preconditioner, p_mean=0.0, p_std=1.0) -> Recipe:
    return Recipe(log_normal(p_mean, p_std), flow_weight())


def _v(_: Preconditioner, sigma_min=0.002, sigma_max=80.0, sigma_data=1.0) -> Recipe:
    return Recipe(cosine(sigma_min, sigma_max, sigma_data=sigma_data), v_weight())


# What denoisers are trained at (edm, vp, ve, iddpm: Karras et al. 2022, table 1). "karras" is edm
# with the levels of GenCast; "flow" and "v" weigh the error of what their networks predict.
RECIPES: dict[str, Callable[..., Recipe]] = {
    "edm": _edm,
    "karras": _karras,
    "vp": _vp,
    "ve": _ve,
    "iddpm": _iddpm,
    "ddpm": _ddpm,
    "flow": _flow,
    "v": _v,
}

# Weights that may take the place of an objective's own.
WEIGHTS: dict[str, Callable[..., Function]] = {
    "edm": edm_weight,
    "epsilon": inverse_square_weight,
    "x0": unit_weight,
    "v": v_weight,
    "flow": flow_weight,
    "min_snr": min_snr_weight,
}


def recipe(
    name: str,
    preconditioner: Preconditioner,
    *,
    weight: str | None = None,
    weight_arguments: dict[str, float] | None = None,
    **arguments: Any,
) -> Recipe:
    """The noise levels and the weight of a denoising objective.

    Args:
      name: a key of `RECIPES`.
      preconditioner: of the model; where the weight has a sigma_data, it is this one's.
      weight: a key of `WEIGHTS`, in place of the objective's own weight.
      weight_arguments: of that weight, such as `limit` of "min_snr".
      **arguments: of the noise levels; "edm" takes p_mean, p_std, sigma_data.

    Raises:
      ValueError: an unknown name or argument, a value out of range, or a sigma_data that is not
        the preconditioner's.

    >>> from edm_jax import preconditioning
    >>> float(recipe("edm", preconditioning.edm(sigma_data=1.0)).weight(1.0))
    2.0
    >>> float(recipe("edm", preconditioning.edm(), weight="min_snr").weight(0.1))
    5.0
    """
    made = _call("name", RECIPES, name, preconditioner, **arguments)
    placed = _weight(weight, weight_arguments, preconditioner)
    return made if placed is None else made._replace(weight=placed)


def _weight(
    name: str | None, arguments: dict[str, float] | None, preconditioner: Preconditioner
) -> Function | None:
    """The weight of a name, or None without one."""
    given: dict[str, Any] = dict(arguments or {})
    if name is None:
        if given:
            raise ValueError(
                f"weight_arguments must be empty where no weight is named, got {arguments}"
            )
        return None
    if name == "edm":
        given["sigma_data"] = _sigma_data(given.get("sigma_data"), preconditioner)
    return _call("weight", WEIGHTS, name, **given)


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
    made = _call("noise", RECIPES, noise, model.preconditioner, **arguments)
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
    placed = _weight(weight, weight_arguments, model.preconditioner)
    noise = log_normal(p_mean, p_std)
    return ect(noise, weight=placed, q=q, k=k, b=b, c=c, stage_kimg=stage_kimg)


def _scm(
    model: Model,
    *,
    p_mean: float = -1.0,
    p_std: float = 1.4,
    teacher: Any = None,
    warmup_kimg: float = 5120.0,
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
        norm=norm,
        weight=_weight(weight, weight_arguments, model.preconditioner),
        learned=_learned(model) if uncertainty else None,
    )


# What a configuration chooses from: name -> (model, **arguments) -> objective.
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    name: functools.partial(_denoising, name) for name in RECIPES
} | {"classification": _classification, "ect": _ect, "scm": _scm}


def build(name: str, model: Model, **arguments: Any) -> Objective:
    """An objective by name.

    Args:
      name: a key of `OBJECTIVES`.
      model: what is to be trained with it; its parameters are not used.
      **arguments: of that objective. "classification" takes noise, a key of `RECIPES` ("edm"
        without it), and the arguments of its noise levels as below. "ect" takes p_mean, p_std,
        weight and weight_arguments, and q, k, b, c, stage_kimg of `ect`; "scm" p_mean, p_std,
        weight, weight_arguments, uncertainty, and teacher, warmup_kimg, norm of `scm`. The others
        take
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
    >>> keys = jax.random.split(jax.random.key(0), (8, 2))
    >>> examples = objective.draw(objective.init(), keys, jnp.ones((8, 4, 4, 3)), {})
    >>> objective.loss(model, objective.init(), examples).minimised.shape
    (8,)
    """
    return _call("name", OBJECTIVES, name, model, **arguments)


def _call(
    what: str, table: dict[str, Callable[..., _Made]], name: str, *given: Any, **arguments: Any
) -> _Made:
    make = table[one_of(what, name, tuple(table))]
    known = inspect.signature(make).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        names = list(known)[len(given) :]
        for argument in arguments:
            if argument not in names:
                raise ValueError(
                    f"the arguments of {name!r} must be among {', '.join(names) or 'none'}, "
                    f"got {argument!r}"
                )
    return make(*given, **arguments)

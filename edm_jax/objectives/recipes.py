"""What denoisers are trained at by name: noise levels and weights, with what may replace them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from edm_jax import tables
from edm_jax.checks import one_of
from edm_jax.objectives.noise import (
    NoiseDistribution,
    cosine,
    discrete,
    karras,
    log_normal,
    ve,
    vp,
)
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
    made = call("name", RECIPES, name, preconditioner, **arguments)
    placed = weight_of(weight, weight_arguments, preconditioner)
    return made if placed is None else made._replace(weight=placed)


def weight_of(
    name: str | None, arguments: dict[str, float] | None, preconditioner: Preconditioner
) -> Function | None:
    """The weight of a name.

    Args:
      name: a key of `WEIGHTS`, or None.
      arguments: of that weight.
      preconditioner: of the model; where the weight has a sigma_data, it is this one's.

    Returns:
      sigma -> weight; None without a name.

    Raises:
      ValueError: an unknown name or argument, a value out of range, arguments without a name, or
        a sigma_data that is not the preconditioner's.
    """
    given: dict[str, Any] = dict(arguments or {})
    if name is None:
        if given:
            raise ValueError(
                f"weight_arguments must be empty where no weight is named, got {arguments}"
            )
        return None
    if name == "edm":
        given["sigma_data"] = _sigma_data(given.get("sigma_data"), preconditioner)
    return call("weight", WEIGHTS, name, **given)


def call(
    what: str, table: dict[str, Callable[..., _Made]], name: str, *given: Any, **arguments: Any
) -> _Made:
    """Calls what a table has of a name, and refuses arguments that it does not take.

    Args:
      what: what the keys are called, in messages.
      table: name -> function.
      name: a key of it.
      *given: what comes before the arguments.
      **arguments: of the function, by name.

    Returns:
      What the function does.

    Raises:
      ValueError: an unknown name or argument, or what the function says of a value.
    """
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

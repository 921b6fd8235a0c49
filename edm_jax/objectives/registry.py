"""Objectives by name: a distribution of noise levels and a weight; any goes with any."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from edm_jax import tables
from edm_jax.objectives.denoising import (
    edm_weight,
    flow_weight,
    inverse_square_weight,
    min_snr_weight,
    unit_weight,
    v_weight,
)
from edm_jax.objectives.noise import NoiseDistribution, cosine, discrete, log_normal, ve, vp
from edm_jax.schedules import Function


class Objective(NamedTuple):
    """What is trained: which noise levels, and how much each counts.

    draw: (key, shape=()) -> sigma; one key per example under `jax.vmap`.
    weight: sigma -> lambda.
    levels: [T] ascending, where `draw` is uniform over a table of them; else None.
    """

    draw: Callable[..., jax.Array]
    weight: Function
    levels: np.ndarray | None = None


def _edm(p_mean: float = -1.2, p_std: float = 1.2, sigma_data: float = 0.5) -> Objective:
    return Objective(log_normal(p_mean, p_std), edm_weight(sigma_data))


def _flow(p_mean: float = 0.0, p_std: float = 1.0) -> Objective:
    return Objective(log_normal(p_mean, p_std), flow_weight())


def _v(sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 1.0) -> Objective:
    return Objective(cosine(sigma_min, sigma_max, sigma_data), v_weight())


def _noise_prediction(distribution: Callable[..., NoiseDistribution]) -> Callable[..., Objective]:
    return lambda **arguments: Objective(distribution(**arguments), inverse_square_weight())


def _iddpm(num_train_steps: int = 1000, c_1: float = 0.001, c_2: float = 0.008) -> Objective:
    levels = tables.iddpm(num_train_steps, c_1=c_1, c_2=c_2, variant="network")[-2::-1]
    return Objective(discrete(levels), inverse_square_weight(), np.asarray(levels, np.float64))


def _ddpm(betas: str = "linear", num_train_steps: int = 1000) -> Objective:
    levels = tables.sigmas(tables.alphas_cumprod(betas, num_train_steps))
    return Objective(discrete(levels), inverse_square_weight(), levels)


# What a configuration chooses from: name -> constructor (edm, vp, ve, iddpm: Karras et al. 2022,
# table 1). "flow" and "v" weigh the error of what their networks predict.
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "edm": _edm,
    "vp": _noise_prediction(vp),
    "ve": _noise_prediction(ve),
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


def objective(
    name: str = "edm",
    *,
    weight: str | None = None,
    weight_arguments: dict[str, float] | None = None,
    **arguments: float,
) -> Objective:
    """An objective by name.

    Args:
      name: A key of `OBJECTIVES`.
      weight: A key of `WEIGHTS`, in place of the objective's own weight.
      weight_arguments: Of that weight, such as gamma of "min_snr".
      **arguments: Of the noise distribution of that name; "edm" takes p_mean, p_std, sigma_data.

    Raises:
      ValueError: unknown name or argument, or a value out of range.

    >>> import jax.numpy as jnp
    >>> sigma = jnp.float32(0.1)
    >>> float(objective("edm", sigma_data=1.0).weight(jnp.float32(1.0)))
    2.0
    >>> float(objective("edm", weight="min_snr").weight(sigma))
    5.0
    """
    made = _construct("name", "objective", OBJECTIVES, name, arguments)
    if weight is None:
        if weight_arguments:
            raise ValueError(f"weight_arguments is {weight_arguments}, but no weight is named")
        return made
    arguments = weight_arguments or {}
    return made._replace(weight=_construct("weight", "weight", WEIGHTS, weight, arguments))


def _construct(argument: str, what: str, table: dict[str, Callable], name: str, arguments: dict):
    if name not in table:
        raise ValueError(f"{argument} must be one of {sorted(table)}, got {name!r}")
    try:
        return table[name](**arguments)
    except TypeError as error:
        raise ValueError(f"arguments of the {what} {name!r}: {error}") from None

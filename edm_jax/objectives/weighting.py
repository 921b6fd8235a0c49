"""Weights lambda(sigma): how much the squared error of a denoiser counts at each noise level."""

from collections.abc import Sequence

import numpy as np

from edm_jax.checks import check_positive
from edm_jax.preconditioning.coefficients import per_channel, spread_over_channels
from edm_jax.schedules import Function, host_or_device


def edm_weight(sigma_data: float | Sequence[float] = 0.5) -> Function:
    """lambda = (sigma^2 + sd^2) / (sigma sd)^2 = 1 / c_out^2 of `preconditioning.edm`.

    It gives the network's own output unit weight at every noise level (Karras et al. 2022, eq. 8).

    Args:
      sigma_data: sd, positive; or `[C]`, one for each channel of the last axis.

    Raises:
      ValueError: sigma_data <= 0.

    >>> float(edm_weight(0.5)(1.0))
    5.0
    """
    each = per_channel(sigma_data)
    # As a sum: (sigma sd)^2 would leave float32's range where 1/sigma^2 does not.
    return host_or_device(
        lambda xp, sigma: 1.0 / sigma**2 + 1.0 / spread_over_channels(each, xp, sigma) ** 2
    )


def inverse_square_weight() -> Function:
    """lambda = 1 / sigma^2: the squared error of the predicted noise (VP, VE, DDPM)."""
    return host_or_device(lambda xp, sigma: 1.0 / sigma**2)


def unit_weight() -> Function:
    """lambda = 1: the squared error of the predicted data."""
    return host_or_device(lambda xp, sigma: xp.ones_like(sigma))


def min_snr_weight(limit: float = 5.0) -> Function:
    """lambda = min(1 / sigma^2, limit) (Hang et al. 2023, who call the limit gamma).

    Args:
      limit: The largest weight, positive.

    Raises:
      ValueError: limit <= 0.
    """
    check_positive(limit=limit)
    return host_or_device(lambda xp, sigma: xp.minimum(1.0 / sigma**2, limit))


def flow_weight() -> Function:
    """lambda = ((1 + sigma) / sigma)^2: the squared error of rectified flow's velocity n - y."""
    return host_or_device(lambda xp, sigma: (1.0 / sigma + 1.0) ** 2)


def v_weight() -> Function:
    """lambda = (1 + sigma^2) / sigma^2: the squared error of v (Salimans and Ho 2022)."""
    return edm_weight(1.0)


def one_number(weight: Function) -> None:
    """Raises ValueError where a weight differs between channels: a norm has one."""
    if np.shape(weight(np.ones((1, 1)))) != (1, 1):
        raise ValueError("weight must be one number at a level, got one for each channel")

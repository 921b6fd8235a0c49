"""Preconditioners of networks that were trained on a table of noise levels."""

from typing import Literal, get_args

import numpy as np

from edm_jax import tables
from edm_jax.checks import one_of
from edm_jax.preconditioning.coefficients import EPSILON, rsqrt, unit_c_in
from edm_jax.preconditioning.record import Preconditioner
from edm_jax.schedules.functions import Function, host_or_device, identity, one, zero

# How a level of a table is found: by sigma, by log sigma, or between two, by log sigma.
Nearest = Literal["linear", "log", "interpolate"]


def iddpm(
    u: np.ndarray | None = None,
    *,
    c_1: float = 0.001,
    c_2: float = 0.008,
    num_train_steps: int = 1000,
) -> Preconditioner:
    """iDDPM and ADM: the network predicts the noise at the nearest of M levels u_j.

        c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(1 + sigma^2),
        c_noise = M - 1 - argmin_j |u_j - sigma|      (Karras et al. 2022, table 1)

    Args:
      u: [M + 1] the levels, descending to 0, as a pretrained network brings them; None computes
        them in float32 (`tables.iddpm`), which may differ in the last digit.
      c_1: C_1 of the table, where u is None.
      c_2: C_2 of the table, where u is None.
      num_train_steps: M, where u is None.

    Returns:
      The preconditioner; its round_sigma returns the nearest u_j, in float32 precision.

    Raises:
      ValueError: u is no descending table ending in 0.
    """
    if u is None:
        u = tables.iddpm(num_train_steps, c_1=c_1, c_2=c_2, variant="network")
    u = np.asarray(u, dtype=np.float32)
    if u.ndim != 1 or len(u) < 2 or u[-1] != 0.0 or not (np.diff(u) < 0).all():
        raise ValueError(f"u must be [M + 1] noise levels descending to 0, got {u}")
    last = len(u) - 2
    return Preconditioner(
        *EPSILON,
        c_noise=host_or_device(lambda xp, s: _float(xp, last - _nearest(xp, u, s), s)),
        sigma_min=float(u[-2]),
        sigma_max=float(u[0]),
        round_sigma=host_or_device(lambda xp, s: xp.asarray(u, s.dtype)[_nearest(xp, u, s)]),
    )


def epsilon(
    levels: tables.Betas | np.ndarray = "linear",
    *,
    nearest: Nearest = "linear",
    c_noise: Function | None = None,
) -> Preconditioner:
    """The network predicts the noise: D = x - sigma F(x / sqrt(1 + sigma^2); c_noise).

    Args:
      levels: The noise levels of the training steps k = 0 .. T-1: [T] ascending, or a name of
        `tables.alphas_cumprod`. c_noise is the index k that belongs to sigma.
      nearest: How k is found: "linear" or "log", the nearest level by sigma or log sigma, to
        which `round_sigma` then rounds; or "interpolate", fractional in log sigma.
      c_noise: sigma -> conditioning, in place of the index (the range remains that of `levels`).

    Returns:
      The preconditioner.

    Raises:
      ValueError: levels or nearest not of these.
    """
    return _discrete(*EPSILON, levels, nearest, c_noise)


def x0(
    levels: tables.Betas | np.ndarray = "linear",
    *,
    nearest: Nearest = "linear",
    c_noise: Function | None = None,
) -> Preconditioner:
    """The network predicts the data: D = F(x / sqrt(1 + sigma^2); c_noise).

    Args:
      levels: The noise levels of the training steps k = 0 .. T-1: [T] ascending, or a name of
        `tables.alphas_cumprod`. c_noise is the index k that belongs to sigma.
      nearest: How k is found: "linear" or "log", the nearest level by sigma or log sigma, to
        which `round_sigma` then rounds; or "interpolate", fractional in log sigma.
      c_noise: sigma -> conditioning, in place of the index (the range remains that of `levels`).

    Returns:
      The preconditioner.

    Raises:
      ValueError: levels or nearest not of these.
    """
    return _discrete(zero, one, unit_c_in, levels, nearest, c_noise)


def v(
    levels: tables.Betas | np.ndarray = "linear",
    *,
    nearest: Nearest = "linear",
    c_noise: Function | None = None,
) -> Preconditioner:
    """The network predicts v = (n - sigma y) / sqrt(1 + sigma^2) (Salimans and Ho 2022).

        c_skip = 1 / (1 + sigma^2),  c_out = -sigma / sqrt(1 + sigma^2) = -sigma c_in

    This is EDM with sigma_data = 1 and the sign of F turned.

    Args:
      levels: The noise levels of the training steps k = 0 .. T-1: [T] ascending, or a name of
        `tables.alphas_cumprod`. c_noise is the index k that belongs to sigma.
      nearest: How k is found: "linear" or "log", the nearest level by sigma or log sigma, to
        which `round_sigma` then rounds; or "interpolate", fractional in log sigma.
      c_noise: sigma -> conditioning, in place of the index (the range remains that of `levels`).

    Returns:
      The preconditioner.

    Raises:
      ValueError: levels or nearest not of these.
    """
    c_skip = host_or_device(lambda xp, s: 1.0 / (1.0 + s**2))
    c_out = host_or_device(lambda xp, s: -s * rsqrt(xp, 1.0 + s**2))
    made = _discrete(c_skip, c_out, unit_c_in, levels, nearest, c_noise)
    return made._replace(sigma_data=1.0)


def _discrete(
    c_skip: Function,
    c_out: Function,
    c_in: Function,
    levels: tables.Betas | np.ndarray,
    nearest: Nearest,
    c_noise: Function | None,
) -> Preconditioner:
    """The preconditioner of a network that was trained on a table of levels."""
    if isinstance(levels, str):
        levels = tables.sigmas(tables.alphas_cumprod(levels))
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim != 1 or not len(levels) or levels[0] <= 0 or not (np.diff(levels) > 0).all():
        raise ValueError(f"levels must be [T] ascending positive noise levels, got {levels}")
    one_of("nearest", nearest, get_args(Nearest))

    def index(xp, s):
        if nearest == "linear":
            return _nearest(xp, levels, s)
        return _nearest(xp, np.log(levels), xp.log(s))

    def fractional(xp, s):
        table = xp.asarray(np.log(levels), s.dtype)
        return xp.interp(xp.log(s), table, xp.arange(len(levels), dtype=s.dtype))

    rounded = host_or_device(lambda xp, s: xp.asarray(levels, s.dtype)[index(xp, s)])
    by_index = host_or_device(lambda xp, s: _float(xp, index(xp, s), s))
    if nearest == "interpolate":
        rounded, by_index = identity, host_or_device(fractional)
    ends = float(levels[0]), float(levels[-1])
    return Preconditioner(c_skip, c_out, c_in, c_noise or by_index, *ends, rounded)


def _nearest(xp, table: np.ndarray, value):
    """The index of the entry of `table` nearest to each value, the first on ties."""
    dtype = np.float32 if table.dtype == np.float32 else value.dtype
    distance = xp.abs(xp.asarray(value, dtype)[..., None] - xp.asarray(table, dtype))
    return xp.argmin(distance, axis=-1)


def _float(xp, index, like):
    return xp.asarray(index, dtype=like.dtype)

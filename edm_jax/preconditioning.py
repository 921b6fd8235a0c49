"""Preconditioning: D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), any network as a denoiser.

Every row of table 1 of Karras et al. 2022, and the other things networks are trained to predict
(noise, data, velocity), is a choice of c_skip, c_out, c_in and c_noise. Coefficients are computed
in float32 on the device (float64 for float64 arrays) and in float64 on the host.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import schedules, tables
from edm_jax.checks import (
    Denoiser,
    DenoiserWithVariance,
    check_positive,
    check_range,
    one_of,
    spread,
)
from edm_jax.schedules import Function, host_or_device

Network = Callable[[jax.Array, jax.Array], jax.Array]
# How a level of a table is found: by sigma, by log sigma, or between two, by log sigma.
Nearest = Literal["linear", "log", "interpolate"]


class Preconditioner(NamedTuple):
    """How a raw network becomes a denoiser, and the noise levels it knows.

    c_skip: sigma -> the weight of x in D.
    c_out: sigma -> the weight of the network's output in D.
    c_in: sigma -> the scale of the network's input.
    c_noise: sigma -> the network's conditioning.
    sigma_min: the lowest noise level the network was made for.
    sigma_max: the highest.
    round_sigma: sigma -> the nearest level the network knows; the identity for continuous ones.
    sigma_data: the standard deviation of the data that it assumes, or None.
    """

    c_skip: Function
    c_out: Function
    c_in: Function
    c_noise: Function
    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    round_sigma: Function = host_or_device(lambda xp, sigma: sigma)
    sigma_data: float | None = None


def denoiser(network: Network, preconditioner: Preconditioner) -> Denoiser:
    """Wraps a network into a denoiser: D = c_skip x + c_out F(c_in x; c_noise).

    Args:
      network: (x_in [B, ...], c_noise [B]) -> F, of x's shape or with more channels, of which
        the first x.shape[-1] are used (networks that also predict a variance).
      preconditioner: The coefficients.

    Returns:
      (x [B, ...], sigma [] or [B]) -> D of x's shape, in float32, or float64 for a float64 x. A
      sigma of x's dimensions that broadcasts to it (a level for every frame or channel) is taken
      too; the network's c_noise then has the shape of sigma. It raises ValueError for another
      shape of sigma or of the network's output.

    >>> zero = lambda x, c_noise: jnp.zeros_like(x)
    >>> float(denoiser(zero, edm(sigma_data=0.5))(jnp.ones((1, 1)), 0.5)[0, 0])
    0.5
    """

    def denoise(x, sigma):
        denoised, _ = _evaluate(network, preconditioner, x, sigma)
        return denoised

    return denoise


def with_variance(network: Network, preconditioner: Preconditioner) -> DenoiserWithVariance:
    """Wraps a network that also predicts a variance (improved DDPM) into (x, sigma) -> (D, v).

    The first half of its channels is preconditioned to D as by `denoiser`; the second, in [-1, 1],
    becomes v = (o + 1) / 2, the place of ln variance between its two bounds.

    Args:
      network: (x_in [B, ..., C], c_noise [B]) -> [B, ..., 2 C].
      preconditioner: The coefficients of the first half.

    Returns:
      (x [B, ..., C], sigma [] or [B]) -> (D, v), both of x's shape. It raises ValueError for
      another shape of sigma or of the network's output.
    """

    def denoise(x, sigma):
        denoised, rest = _evaluate(network, preconditioner, x, sigma)
        if rest.shape != denoised.shape:
            raise ValueError(
                f"the network's output must have {2 * denoised.shape[-1]} channels to predict a "
                f"variance, got {denoised.shape[-1] + rest.shape[-1]}"
            )
        return denoised, 0.5 * (rest + 1.0)

    return denoise


def _evaluate(network, preconditioner, x, sigma) -> tuple[jax.Array, jax.Array]:
    """D(x; sigma) of x's shape, and the network's further channels as they are."""
    dtype = jnp.promote_types(jnp.result_type(x), jnp.float32)
    x, sigma = jnp.asarray(x, dtype), jnp.asarray(sigma, dtype)
    # A scalar stays one for the coefficients, so that XLA computes them once.
    level = spread(sigma, x)
    c_noise = preconditioner.c_noise(sigma)
    if sigma.ndim < 2:
        c_noise = jnp.broadcast_to(c_noise, x.shape[:1])
    f = network(preconditioner.c_in(level) * x, c_noise).astype(dtype)
    if f.ndim != x.ndim or f.shape[:-1] != x.shape[:-1] or f.shape[-1] < x.shape[-1]:
        raise ValueError(
            f"the network's output must have x's shape {x.shape} or more channels, got {f.shape}"
        )
    channels = x.shape[-1]
    denoised = preconditioner.c_skip(level) * x + preconditioner.c_out(level) * f[..., :channels]
    return denoised, f[..., channels:]


def edm(
    sigma_data: float = 0.5, *, sigma_min: float = 0.0, sigma_max: float = float("inf")
) -> Preconditioner:
    """EDM: input and training target of the network have unit variance at every sigma.

        c_skip = sd^2 / (sigma^2 + sd^2)         c_in = 1 / sqrt(sigma^2 + sd^2)
        c_out = sigma sd / sqrt(sigma^2 + sd^2)  c_noise = ln(sigma) / 4

    Karras et al. 2022, table 1. With F = 0 this is the ideal denoiser of N(0, sd^2).

    Args:
      sigma_data: sd, the standard deviation of the data, positive.
      sigma_min: The lowest noise level the network is used at.
      sigma_max: The highest.

    Returns:
      The preconditioner.

    Raises:
      ValueError: sigma_data <= 0, or not 0 <= sigma_min < sigma_max.
    """
    check_positive(sigma_data=sigma_data)
    if not 0.0 <= sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min and sigma_max must satisfy 0 <= sigma_min < sigma_max, got {sigma_min} "
            f"and {sigma_max}"
        )
    sd = float(sigma_data)
    return Preconditioner(
        sigma_min=float(sigma_min),
        sigma_max=float(sigma_max),
        c_skip=host_or_device(lambda xp, s: sd**2 / (s**2 + sd**2)),
        c_out=host_or_device(lambda xp, s: s * sd * _rsqrt(xp, s**2 + sd**2)),
        c_in=host_or_device(lambda xp, s: _rsqrt(xp, s**2 + sd**2)),
        c_noise=host_or_device(lambda xp, s: xp.log(s) / 4.0),
        sigma_data=sd,
    )


def vp(
    *,
    beta_d: float = 19.9,
    beta_min: float = 0.1,
    num_train_steps: int = 1000,
    epsilon_t: float = 1e-5,
) -> Preconditioner:
    """VP: the network of score-SDE's DDPM++ predicts the noise (Karras et al. 2022, table 1).

        c_skip = 1,  c_out = -sigma,  c_in = 1 / sqrt(1 + sigma^2),  c_noise = (M - 1) t(sigma)

    t(sigma) is the inverse of `schedules.vp`, by log1p: the original's float32 ln(1 + sigma^2)
    is off by 1.3 % at sigma = 0.002, which moves D by less than its rounding.

    Args:
      beta_d: The slope of beta(t).
      beta_min: beta(0).
      num_train_steps: M.
      epsilon_t: The least time seen in training, in (0, 1): sigma_min = sigma(epsilon_t).

    Returns:
      The preconditioner.

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < epsilon_t < 1.0:
        raise ValueError(f"epsilon_t must lie in (0, 1), got {epsilon_t}")
    schedule = schedules.vp(beta_d=beta_d, beta_min=beta_min)
    return Preconditioner(
        *_EPSILON,
        c_noise=host_or_device(lambda xp, s: (num_train_steps - 1) * schedule.sigma_inv(s)),
        sigma_min=float(schedule.sigma(epsilon_t)),
        sigma_max=float(schedule.sigma(1.0)),
    )


def ve(*, sigma_min: float = 0.02, sigma_max: float = 100.0) -> Preconditioner:
    """VE: the network of score-SDE's NCSN++ (Karras et al. 2022, table 1).

        c_skip = 1,  c_out = sigma,  c_in = 1,  c_noise = ln(sigma / 2)

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.

    Returns:
      The preconditioner.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max.
    """
    check_range(sigma_min, sigma_max)
    return Preconditioner(
        c_skip=_ONE,
        c_out=host_or_device(lambda xp, s: s),
        c_in=_ONE,
        c_noise=host_or_device(lambda xp, s: xp.log(0.5 * s)),
        sigma_min=float(sigma_min),
        sigma_max=float(sigma_max),
    )


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
        *_EPSILON,
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
    return _discrete(*_EPSILON, levels, nearest, c_noise)


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
    return _discrete(_ZERO, _ONE, _unit_c_in, levels, nearest, c_noise)


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
    c_out = host_or_device(lambda xp, s: -s * _rsqrt(xp, 1.0 + s**2))
    made = _discrete(c_skip, c_out, _unit_c_in, levels, nearest, c_noise)
    return made._replace(sigma_data=1.0)


def flow(time_scale: float = 1.0) -> Preconditioner:
    """The network predicts the velocity n - y of rectified flow at x_t = (1 - t) y + t n.

        c_skip = c_in = 1 / (1 + sigma) = 1 - t,  c_out = -t,  c_noise = time_scale t

    Args:
      time_scale: The conditioning at t = 1; 1000 for Stable Diffusion 3 and its kin.

    Returns:
      The preconditioner.

    Raises:
      ValueError: time_scale <= 0.
    """
    check_positive(time_scale=time_scale)
    kept = host_or_device(lambda xp, s: 1.0 / (1.0 + s))
    return Preconditioner(
        c_skip=kept,
        c_out=host_or_device(lambda xp, s: -s / (1.0 + s)),
        c_in=kept,
        c_noise=host_or_device(lambda xp, s: time_scale * s / (1.0 + s)),
    )


def trigflow(sigma_data: float = 0.5) -> Preconditioner:
    """TrigFlow: EDM by the angle t = atan(sigma / sd), with the sign of F turned.

        c_skip = cos^2 t,  c_out = -sd sin t,  c_in = cos t / sd,  c_noise = t

    Lu and Song 2024.

    Args:
      sigma_data: sd, positive.

    Returns:
      The preconditioner.

    Raises:
      ValueError: sigma_data <= 0.
    """
    row, sd = edm(sigma_data), float(sigma_data)
    return row._replace(
        c_out=host_or_device(lambda xp, s: -row.c_out(s)),
        c_noise=host_or_device(lambda xp, s: xp.arctan(s / sd)),
    )


def consistency(sigma_data: float = 0.5, *, sigma_min: float = 0.002) -> Preconditioner:
    """A consistency function: the identity at sigma_min (Song et al. 2023, appendix C).

        c_skip = sd^2 / ((sigma - sigma_min)^2 + sd^2)     c_in = 1 / sqrt(sigma^2 + sd^2)
        c_out = (sigma - sigma_min) sd / sqrt(sigma^2 + sd^2)     c_noise = 250 ln sigma

    Args:
      sigma_data: sd, positive.
      sigma_min: The boundary, positive.

    Returns:
      The preconditioner.

    Raises:
      ValueError: an argument is not positive.
    """
    check_positive(sigma_data=sigma_data, sigma_min=sigma_min)
    sd, low = float(sigma_data), float(sigma_min)
    return edm(sd)._replace(
        c_skip=host_or_device(lambda xp, s: sd**2 / ((s - low) ** 2 + sd**2)),
        c_out=host_or_device(lambda xp, s: (s - low) * sd * _rsqrt(xp, s**2 + sd**2)),
        c_noise=host_or_device(lambda xp, s: 250.0 * xp.log(s)),
        sigma_min=low,
    )


def _rsqrt(xp, x):
    """1 / sqrt(x). Spelled with a division, the compiler rewrites it in one program and not in
    another, and the same image comes out differently on one device and on two."""
    return 1.0 / np.sqrt(x) if xp is np else jax.lax.rsqrt(x)


_ONE = host_or_device(lambda xp, s: xp.ones_like(s))
_ZERO = host_or_device(lambda xp, s: xp.zeros_like(s))
_unit_c_in = host_or_device(lambda xp, s: _rsqrt(xp, 1.0 + s**2))
_EPSILON = (_ONE, host_or_device(lambda xp, s: -s), _unit_c_in)  # c_skip, c_out, c_in

# What a configuration chooses from: name -> constructor.
PRECONDITIONERS: dict[str, Callable[..., Preconditioner]] = {
    "edm": edm,
    "vp": vp,
    "ve": ve,
    "iddpm": iddpm,
    "epsilon": epsilon,
    "x0": x0,
    "v": v,
    "flow": flow,
    "trigflow": trigflow,
    "consistency": consistency,
}


def build(name: str, **arguments: Any) -> Preconditioner:
    """The preconditioner of a name, one object for equal arguments: under jit it is static.

    >>> build("edm", sigma_data=0.5) is build("edm", sigma_data=0.5)
    True

    Args:
      name: One of `PRECONDITIONERS`.
      **arguments: Its own, in the types of JSON.

    Returns:
      The preconditioner.

    Raises:
      ValueError: an unknown name, or arguments that it does not take.
    """
    one_of("preconditioner", name, tuple(PRECONDITIONERS))
    return _build(name, json.dumps(arguments, sort_keys=True))


@functools.lru_cache(maxsize=64)
def _build(name: str, arguments: str) -> Preconditioner:
    try:
        return PRECONDITIONERS[name](**json.loads(arguments))
    except TypeError as error:
        raise ValueError(f"preconditioner_arguments of {name!r}: {error}") from None


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
        rounded, by_index = host_or_device(lambda xp, s: s), host_or_device(fractional)
    ends = float(levels[0]), float(levels[-1])
    return Preconditioner(c_skip, c_out, c_in, c_noise or by_index, *ends, rounded)


def _nearest(xp, table: np.ndarray, value):
    """The index of the entry of `table` nearest to each value, the first on ties."""
    dtype = np.float32 if table.dtype == np.float32 else value.dtype
    distance = xp.abs(xp.asarray(value, dtype)[..., None] - xp.asarray(table, dtype))
    return xp.argmin(distance, axis=-1)


def _float(xp, index, like):
    return xp.asarray(index, dtype=like.dtype)

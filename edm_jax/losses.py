"""The denoising loss: lambda(sigma) |D(y + sigma n; sigma) - y|^2, with its choices of sigma.

An objective is a distribution of noise levels and a weight lambda(sigma); any goes with any. A
distribution is its quantile function, so a draw is one uniform number pushed through it, and
moments, stratified draws and tests come from the same function.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import schedules, tables
from edm_jax.schedules import Function, check_positive, check_range, host_or_device

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


def loss(
    denoise: Denoiser, y: jax.Array, sigma: jax.Array, noise: jax.Array, weight: Function
) -> jax.Array:
    """The weighted squared error of every element: lambda(sigma) (D(y + sigma n; sigma) - y)^2.

    Karras et al. 2022, eq. 2. Nothing is averaged; the expectation over n and sigma is the
    caller's mean.

    Args:
      denoise: (x [B, ...], sigma [B]) -> x0 of x's shape.
      y: [B, ...] clean data, in [-1, 1] for images.
      sigma: [] or [B] noise levels, positive.
      noise: [B, ...] standard normal n.
      weight: lambda, sigma -> weight of its shape.

    Returns:
      The shape of y, float32 (float64 for float64 data).

    Raises:
      ValueError: shapes that do not fit.
    """
    dtype = jnp.promote_types(jnp.result_type(y), jnp.float32)
    y, sigma, noise = (jnp.asarray(a, dtype) for a in (y, sigma, noise))
    if noise.shape != y.shape:
        raise ValueError(f"noise must have the shape of y, {y.shape}, got {noise.shape}")
    if sigma.shape not in ((), y.shape[:1]):
        raise ValueError(f"sigma must have shape [] or {y.shape[:1]}, got {sigma.shape}")
    column = sigma.reshape(sigma.shape + (1,) * (y.ndim - 1) * sigma.ndim)
    x0 = denoise(y + column * noise, sigma).astype(dtype)
    return weight(column) * (x0 - y) ** 2


class NoiseDistribution(NamedTuple):
    """A distribution of noise levels, as (key, shape) -> sigma.

    quantile: (0, 1) -> sigma, increasing: the inverse of the cumulative distribution.
    """

    quantile: Function

    def __call__(self, key: jax.Array, shape: Sequence[int] = ()) -> jax.Array:
        """Draws noise levels: shape [*shape], float32. The key is consumed."""
        # Centred between the 2^23 values that float32 offers: never 0, where log sigma = -inf.
        return self.quantile(jax.random.uniform(key, tuple(shape)) + 2.0**-24)


def log_normal(p_mean: float = -1.2, p_std: float = 1.2) -> NoiseDistribution:
    """EDM's: ln sigma ~ N(p_mean, p_std^2) (Karras et al. 2022, table 1).

    In rectified flow's time t = sigma / (1 + sigma) this is the logit-normal distribution of
    Stable Diffusion 3; p_mean = 0, p_std = 1 are its defaults.

    Args:
      p_mean: The mean of ln sigma.
      p_std: The standard deviation of ln sigma, positive.

    Raises:
      ValueError: p_std <= 0.

    >>> round(float(log_normal().quantile(jnp.float32(0.5))), 4)  # exp(-1.2)
    0.3012
    """
    check_positive(p_std=p_std)
    normal_quantile = lambda u: jax.scipy.special.ndtri(jnp.asarray(u))
    return NoiseDistribution(lambda u: jnp.exp(p_mean + p_std * normal_quantile(u)))


def vp(beta_d: float = 19.9, beta_min: float = 0.1, epsilon_t: float = 1e-5) -> NoiseDistribution:
    """VP's: sigma = sigma(t) of `schedules.vp`, t uniform in (epsilon_t, 1).

    Args:
      beta_d: The slope of beta(t).
      beta_min: beta(0).
      epsilon_t: The least time, in (0, 1).

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < epsilon_t < 1.0:
        raise ValueError(f"epsilon_t must lie in (0, 1), got {epsilon_t}")
    sigma = schedules.vp(beta_d, beta_min).sigma
    return NoiseDistribution(
        host_or_device(lambda xp, u: sigma(epsilon_t + (1.0 - epsilon_t) * u))
    )


def ve(sigma_min: float = 0.02, sigma_max: float = 100.0) -> NoiseDistribution:
    """VE's: ln sigma uniform between ln sigma_min and ln sigma_max.

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max.
    """
    return NoiseDistribution(schedules.ve_geometric(sigma_min, sigma_max).sigma)


def discrete(levels: np.ndarray) -> NoiseDistribution:
    """Uniform over the levels of a table (DDPM: `tables.sigmas(tables.alphas_cumprod())`).

    Args:
      levels: [T] positive noise levels, in any order.

    Raises:
      ValueError: no table of positive levels.
    """
    levels = np.sort(np.asarray(levels, dtype=np.float64))
    if levels.ndim != 1 or not levels.size or not (levels[0] > 0 and np.isfinite(levels[-1])):
        raise ValueError(f"levels must be [T] positive noise levels, got {levels}")

    def quantile(xp, u):
        index = xp.clip((u * len(levels)).astype(int), 0, len(levels) - 1)
        return xp.asarray(levels, dtype=u.dtype)[index]

    return NoiseDistribution(host_or_device(quantile))


def iddpm(
    u: np.ndarray | None = None,
    c_1: float = 0.001,
    c_2: float = 0.008,
    num_train_steps: int = 1000,
) -> NoiseDistribution:
    """iDDPM's: sigma = u_j, j uniform in 0 .. M-1 (Karras et al. 2022, table 1).

    Args:
      u: [M + 1] the levels, descending to 0; None computes them (`tables.iddpm`).
      c_1: C_1 of the table, where u is None.
      c_2: C_2 of the table, where u is None.
      num_train_steps: M, where u is None.

    Raises:
      ValueError: u is no such table.
    """
    if u is None:
        u = tables.iddpm(num_train_steps, c_1, c_2, variant="network")
    u = np.asarray(u, dtype=np.float64)
    if u.ndim != 1 or len(u) < 2 or u[-1] != 0.0:
        raise ValueError(f"u must be [M + 1] noise levels descending to 0, got {u}")
    return discrete(u[:-1])


def cosine(
    sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 1.0
) -> NoiseDistribution:
    """The angle atan(sigma / sigma_data) uniform: the cosine schedule, and TrigFlow's time.

    Args:
      sigma_min: The lowest noise level, positive.
      sigma_max: The highest.
      sigma_data: The scale of the angle, positive.

    Raises:
      ValueError: an argument out of range.
    """
    check_range(sigma_min, sigma_max)
    check_positive(sigma_data=sigma_data)
    low, high = (float(np.arctan(s / sigma_data)) for s in (sigma_min, sigma_max))
    return NoiseDistribution(
        host_or_device(lambda xp, u: sigma_data * xp.tan(low + (high - low) * u))
    )


def edm_weight(sigma_data: float = 0.5) -> Function:
    """lambda = (sigma^2 + sd^2) / (sigma sd)^2 = 1 / c_out^2 of `preconditioning.edm`.

    It gives the network's own output unit weight at every noise level (Karras et al. 2022, eq. 8).

    Args:
      sigma_data: sd, positive.

    Raises:
      ValueError: sigma_data <= 0.

    >>> float(edm_weight(0.5)(1.0))
    5.0
    """
    check_positive(sigma_data=sigma_data)
    # As a sum: (sigma sd)^2 would leave float32's range where 1/sigma^2 does not.
    return host_or_device(lambda xp, sigma: 1.0 / sigma**2 + 1.0 / sigma_data**2)


def inverse_square_weight() -> Function:
    """lambda = 1 / sigma^2: the squared error of the predicted noise (VP, VE, DDPM)."""
    return host_or_device(lambda xp, sigma: 1.0 / sigma**2)


def unit_weight() -> Function:
    """lambda = 1: the squared error of the predicted data."""
    return host_or_device(lambda xp, sigma: xp.ones_like(sigma))


def min_snr_weight(gamma: float = 5.0) -> Function:
    """lambda = min(1 / sigma^2, gamma) (Hang et al. 2023).

    Args:
      gamma: The largest weight, positive.

    Raises:
      ValueError: gamma <= 0.
    """
    check_positive(gamma=gamma)
    return host_or_device(lambda xp, sigma: xp.minimum(1.0 / sigma**2, gamma))


def flow_weight() -> Function:
    """lambda = ((1 + sigma) / sigma)^2: the squared error of rectified flow's velocity n - y."""
    return host_or_device(lambda xp, sigma: (1.0 / sigma + 1.0) ** 2)


def v_weight() -> Function:
    """lambda = (1 + sigma^2) / sigma^2: the squared error of v (Salimans and Ho 2022)."""
    return edm_weight(1.0)


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
    levels = tables.iddpm(num_train_steps, c_1, c_2, variant="network")[-2::-1]
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

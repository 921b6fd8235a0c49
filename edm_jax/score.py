"""Tweedie's formula and its relatives: everything a denoiser says.

D(x; sigma) = E[y | x] for x = y + sigma n determines the score, the noise, the velocity and the
drift of every process that transports noise to data. All are linear in (x, D), and are written
here in the frame of x (s = 1) unless they name a schedule.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from edm_jax.checks import Denoiser, column
from edm_jax.schedules import Schedule, drift_and_diffusion

Field = Callable[[jax.Array, jax.Array], jax.Array]


def _score(x, x0, sigma):
    return (x0 - x) / sigma**2


def _epsilon(x, x0, sigma):
    return (x - x0) / sigma


def _v(x, x0, sigma):
    return (x - (1.0 + sigma**2) * x0) / (sigma * jnp.sqrt(1.0 + sigma**2))


def _velocity(x, x0, sigma):
    return (x - (1.0 + sigma) * x0) / sigma


# prediction -> (from D, to D), each of (x, value, sigma).
_CONVERSIONS = {
    "x0": (lambda x, x0, sigma: x0, lambda x, x0, sigma: x0),
    "score": (_score, lambda x, score, sigma: x + sigma**2 * score),
    "epsilon": (_epsilon, lambda x, epsilon, sigma: x - sigma * epsilon),
    "v": (_v, lambda x, v, sigma: x / (1.0 + sigma**2) - sigma / jnp.sqrt(1.0 + sigma**2) * v),
    "velocity": (_velocity, lambda x, velocity, sigma: (x - sigma * velocity) / (1.0 + sigma)),
}
PREDICTIONS = tuple(_CONVERSIONS)


def from_denoiser(denoise: Denoiser, prediction: str) -> Field:
    """What a denoiser predicts, in another form.

        score     (D - x) / sigma^2                   grad log p(x; sigma), Tweedie's formula
        epsilon   (x - D) / sigma                     the noise
        v         (epsilon - sigma D) / sqrt(1 + sigma^2)     Salimans and Ho 2022
        velocity  epsilon - D                         of rectified flow
        x0        D

    Args:
      denoise: (x, sigma) -> D.
      prediction: One of `PREDICTIONS`.

    Returns:
      (x [B, ...], sigma [] or [B], positive) -> the prediction, of x's shape.

    Raises:
      ValueError: unknown prediction.

    >>> from edm_jax import ideal
    >>> score = from_denoiser(ideal.gaussian(0.0, 1.0), "score")
    >>> float(score(jnp.ones((1, 1)), 1.0)[0, 0])  # -x / (1 + sigma^2)
    -0.5
    """
    convert = _conversion(prediction)[0]
    return lambda x, sigma: convert(x, denoise(x, sigma), column(sigma, x))


def to_denoiser(predict: Field, prediction: str) -> Denoiser:
    """The denoiser that a prediction implies: the inverse of `from_denoiser`.

    For a raw network, whose input is scaled and whose conditioning is no sigma, use
    `preconditioning.denoiser`.

    Args:
      predict: (x, sigma) -> the prediction, of x's shape, as a function of x = y + sigma n.
      prediction: One of `PREDICTIONS`.

    Returns:
      (x [B, ...], sigma [] or [B]) -> D.

    Raises:
      ValueError: unknown prediction.
    """
    convert = _conversion(prediction)[1]
    return lambda x, sigma: convert(x, predict(x, sigma), column(sigma, x))


def score(denoise: Denoiser) -> Field:
    """The score of p(x; sigma): grad log p = (D - x) / sigma^2 (Karras et al. 2022, eq. 3).

    Args:
      denoise: (x, sigma) -> D.

    Returns:
      (x [B, ...], sigma [] or [B], positive) -> the score, of x's shape.
    """
    return from_denoiser(denoise, "score")


def scaled_score(denoise: Denoiser, schedule: Schedule) -> Field:
    """The score of x_t = s(t) (y + sigma(t) n): (D(x_t/s; sigma) - x_t/s) / (s sigma^2).

    Args:
      denoise: (x, sigma) -> D, in the frame s = 1.
      schedule: s(t) and sigma(t).

    Returns:
      (x_t [B, ...], t [] or [B]) -> grad log p_t(x_t), of x_t's shape.
    """

    def field(x_t, t):
        t = jnp.asarray(t, x_t.dtype)
        s, sigma = column(schedule.scale(t), x_t), column(schedule.sigma(t), x_t)
        x = x_t / s
        return (denoise(x, schedule.sigma(t)) - x) / (s * sigma**2)

    return field


def probability_flow(denoise: Denoiser, schedule: Schedule) -> Field:
    """The right side of the probability flow ODE (Karras et al. 2022, eq. 81).

        dx_t/dt = (sigma'/sigma + s'/s) x_t - (sigma' s / sigma) D(x_t/s; sigma)

    Args:
      denoise: (x, sigma) -> D, in the frame s = 1.
      schedule: s(t) and sigma(t).

    Returns:
      (x_t [B, ...], t [] or [B], sigma(t) > 0) -> dx_t/dt. Integrated from high to low t it
      generates; from low to high it encodes.
    """

    def drift(x_t, t):
        t = jnp.asarray(t, x_t.dtype)
        s, sigma = column(schedule.scale(t), x_t), column(schedule.sigma(t), x_t)
        s_dot = column(schedule.scale_dot(t), x_t)
        sigma_dot = column(schedule.sigma_dot(t), x_t)
        x = x_t / s
        return s_dot * x + sigma_dot * s / sigma * (x - denoise(x, schedule.sigma(t)))

    return drift


def reverse_sde(
    denoise: Denoiser, schedule: Schedule, *, stochasticity: float = 1.0
) -> tuple[Field, Callable[[jax.Array], jax.Array]]:
    """The reverse-time SDE: dx = [f x - (1 + e^2)/2 g^2 score] dt + e g dw, with t decreasing.

    e = 1 is Anderson's reversal (Song et al. 2021, eq. 6), e = 0 the probability flow ODE; every
    e has the same marginals. In Karras et al. 2022, eq. 6, beta(t) = e^2 sigma'/sigma. f and g
    as in `schedules.drift_and_diffusion`. Mind the sign: the drift multiplies dt < 0.

    Args:
      denoise: (x, sigma) -> D, in the frame s = 1.
      schedule: s(t) and sigma(t).
      stochasticity: e, not negative.

    Returns:
      (drift, diffusion): drift(x_t [B, ...], t [] or [B]) -> x_t's shape, and diffusion(t) ->
      t's shape.

    Raises:
      ValueError: stochasticity < 0.
    """
    if not stochasticity >= 0.0:
        raise ValueError(f"stochasticity must not be negative, got {stochasticity}")
    flow_drift, score_t = probability_flow(denoise, schedule), scaled_score(denoise, schedule)
    _, g = drift_and_diffusion(schedule)

    def drift(x_t, t):
        t = jnp.asarray(t, x_t.dtype)
        extra = 0.5 * stochasticity**2 * column(g(t), x_t) ** 2
        return flow_drift(x_t, t) - extra * score_t(x_t, t)

    return drift, lambda t: stochasticity * g(jnp.asarray(t))


def _conversion(prediction: str):
    if prediction not in _CONVERSIONS:
        raise ValueError(f"prediction must be one of {PREDICTIONS}, got {prediction!r}")
    return _CONVERSIONS[prediction]

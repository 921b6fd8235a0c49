"""Tweedie's formula and its relatives: everything a denoiser says.

D(x; sigma) = E[y | x] for x = y + sigma n determines the score, the noise, the velocity and the
drift of every process that transports noise to data. All are linear in (x, D), and are written
here in the frame of x (s = 1) unless they name a schedule.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.schedules import Schedule, drift_and_diffusion

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
Field = Callable[[jax.Array, jax.Array], jax.Array]


def column(values: jax.Array, x: jax.Array) -> jax.Array:
    """Shapes [] or [B] values so that they multiply x [B, ...], in x's dtype.

    Raises:
      ValueError: values have neither shape.
    """
    values = jnp.asarray(values, x.dtype)
    if values.shape not in ((), x.shape[:1]):
        raise ValueError(f"expected shape [] or {x.shape[:1]}, got {values.shape}")
    return values.reshape(values.shape + (1,) * (x.ndim - 1) * values.ndim)


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

    >>> score = from_denoiser(gaussian(0.0, 1.0), "score")
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
    """The score of p(x; sigma): grad log p = (D - x) / sigma^2 (Karras et al. 2022, eq. 3)."""
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
    denoise: Denoiser, schedule: Schedule, stochasticity: float = 1.0
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


def gaussian(
    mean: jax.Array | float,
    std: jax.Array | float | None = None,
    covariance: jax.Array | None = None,
) -> Denoiser:
    """The ideal denoiser of Gaussian data: D = mean + C (C + sigma^2 I)^-1 (x - mean).

    With a diagonal C this is (std^2 x + sigma^2 mean) / (std^2 + sigma^2). Its probability flow
    is known too: x - mean scales with sqrt(std^2 + sigma^2).

    Args:
      mean: Broadcastable to x's shape without the batch.
      std: Likewise: the standard deviation of every element, not negative. std or covariance.
      covariance: [d, d], symmetric, of the flattened elements.

    Returns:
      (x [B, ...], sigma [] or [B]) -> D of x's shape.

    Raises:
      ValueError: not exactly one of std and covariance, or one that is no such thing.

    >>> float(gaussian(0.0, 0.5)(jnp.ones((1, 1)), 0.5)[0, 0])
    0.5
    """
    if (std is None) == (covariance is None):
        raise ValueError(f"give either std or covariance, got {std!r} and {covariance!r}")
    if covariance is None:
        std = np.asarray(std, np.float64)
        if not (std >= 0).all():
            raise ValueError(f"std must not be negative, got {std}")

        def denoise(x, sigma):
            variance, noise = jnp.asarray(std**2, x.dtype), column(sigma, x) ** 2
            return (variance * x + noise * jnp.asarray(mean, x.dtype)) / (variance + noise)

        return denoise

    covariance = np.asarray(covariance, np.float64)
    if covariance.ndim != 2 or not np.array_equal(covariance, covariance.T):
        raise ValueError(f"covariance must be a symmetric matrix, got {covariance}")
    eigenvalues, basis = np.linalg.eigh(covariance)
    if eigenvalues[0] < -1e-9 * abs(eigenvalues[-1]):
        raise ValueError(f"covariance must have no negative eigenvalue, got {eigenvalues[0]}")
    eigenvalues = np.maximum(eigenvalues, 0.0)

    def denoise_coupled(x, sigma):
        q, values = jnp.asarray(basis, x.dtype), jnp.asarray(eigenvalues, x.dtype)
        centre = jnp.broadcast_to(jnp.asarray(mean, x.dtype), x.shape[1:])
        flat = (x - centre).reshape(len(x), -1)
        shrink = values / (values + column(sigma, flat) ** 2)
        # Full precision: the default of TPUs and GPUs for float32 is bfloat16 or TF32.
        rotated = jnp.matmul(flat, q, precision="highest") * shrink
        return centre + jnp.matmul(rotated, q.T, precision="highest").reshape(x.shape)

    return denoise_coupled


def mixture(means: jax.Array, stds: jax.Array, weights: jax.Array) -> Denoiser:
    """The ideal denoiser of a mixture of isotropic Gaussians.

    Component k has posterior mean m_k + (c_k^2 / v_k) (x - m_k), v_k = c_k^2 + sigma^2, and
    log-weight log w_k - |x - m_k|^2 / (2 v_k) - (d/2) log v_k; D is their softmax-weighted mean.

    Args:
      means: [K, ...] m_k.
      stds: [K] c_k, not negative.
      weights: [K] w_k, positive; normalised here.

    Returns:
      (x [B, ...], sigma [] or [B]) -> D of x's shape.

    Raises:
      ValueError: lengths that differ, a negative std, or a weight that is not positive.
    """
    means, stds, weights = (np.asarray(a, np.float64) for a in (means, stds, weights))
    if not (means.ndim >= 1 and stds.shape == weights.shape == means.shape[:1]):
        raise ValueError(
            "means, stds and weights must be [K, ...], [K] and [K], "
            f"got {means.shape}, {stds.shape} and {weights.shape}"
        )
    if not ((stds >= 0).all() and (weights > 0).all()):
        raise ValueError(f"stds must be >= 0 and weights > 0, got {stds} and {weights}")

    def denoise(x, sigma):
        flat = x.reshape(len(x), 1, -1)
        m = jnp.asarray(means, x.dtype).reshape(len(means), -1)
        c2 = jnp.asarray(stds**2, x.dtype)
        variance = c2 + column(sigma, flat[..., 0]) ** 2  # [1 or B, K]
        offset = flat - m  # [B, K, d]
        distance = jnp.sum(offset**2, axis=-1)
        logits = (
            jnp.asarray(np.log(weights), x.dtype)
            - 0.5 * distance / variance
            - 0.5 * m.shape[-1] * jnp.log(variance)
        )
        posterior = m + (c2 / variance)[..., None] * offset
        r = jax.nn.softmax(logits, axis=-1)
        return jnp.sum(r[..., None] * posterior, axis=1).reshape(x.shape)

    return denoise


def dataset(images: jax.Array, chunk: int = 512) -> Denoiser:
    """The ideal denoiser of a finite data set, exact: D = sum_i softmax_i(-|x-y_i|^2/2sigma^2) y_i.

    Karras et al. 2022, eq. 57. The images pass by in chunks with a running maximum and running
    sums, so memory does not grow with their number, and distances are sums of squared
    differences: |x|^2 - 2xy + |y|^2 would lose the logits at small sigma.

    The denoiser is a pytree that holds the images. Called by itself, or passed to a jitted
    function as an argument, it compiles at once; one that a jitted function closes over makes
    the images a constant of the program, and compiling takes as long as copying them there.

    Args:
      images: [N, ...] data: floating, or uint8, which stays so in memory and means
        value / 127.5 - 1.
      chunk: Images per pass, positive.

    Returns:
      (x [B, ...], sigma [] or [B], positive) -> D of x's shape. Forward-mode derivatives cost no
      memory; reverse mode keeps every chunk's weights.

    Raises:
      ValueError: no images, or chunk < 1.
    """
    images = jnp.asarray(images)
    if images.ndim < 2 or not len(images):
        raise ValueError(f"images must be [N, ...] with N >= 1, got {images.shape}")
    if chunk < 1:
        raise ValueError(f"chunk must be positive, got {chunk}")
    posterior_mean = functools.partial(_posterior_mean, chunk=min(chunk, len(images)))
    return jax.tree_util.Partial(posterior_mean, images)


@functools.partial(jax.jit, static_argnames="chunk")
def _posterior_mean(images, x, sigma, chunk):
    flat = x.reshape(len(x), -1)
    scale = 0.5 / column(sigma, flat) ** 2  # [] or [B, 1]
    whole = len(images) // chunk

    def visit(carry, y):
        top, total, mean = carry
        if y.dtype == jnp.uint8:
            y = y.astype(x.dtype) / 127.5 - 1.0
        y = y.reshape(len(y), -1).astype(x.dtype)
        logits = -scale * jnp.sum((flat[:, None] - y) ** 2, axis=-1)
        new = jax.lax.stop_gradient(jnp.maximum(top, logits.max(axis=1, keepdims=True)))
        kept, weights = jnp.exp(top - new), jnp.exp(logits - new)
        total = total * kept + weights.sum(axis=1, keepdims=True)
        # Full precision: the default of TPUs and GPUs for float32 is bfloat16 or TF32.
        return new, total, mean * kept + jnp.matmul(weights, y, precision="highest")

    def step(carry, i):
        return visit(carry, jax.lax.dynamic_slice_in_dim(images, i * chunk, chunk)), None

    zero = jnp.zeros_like(flat[:, :1])
    carry = (zero - jnp.inf, zero, jnp.zeros_like(flat))
    carry, _ = jax.lax.scan(step, carry, jnp.arange(whole))
    if len(images) % chunk:
        carry = visit(carry, images[whole * chunk :])
    _, total, mean = carry
    return (mean / total).reshape(x.shape)

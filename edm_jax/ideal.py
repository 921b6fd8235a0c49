"""Ideal denoisers: D(x; sigma) = E[y | x] of a Gaussian, a mixture and a finite set.

And the densities p(x; sigma) that they belong to, of x = y + sigma n.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.checks import Denoiser, column

# (x [B, ...], sigma [] or [B]) -> log p(x; sigma) in nats, [B].
LogDensity = Callable[[jax.Array, jax.Array], jax.Array]


def gaussian(
    mean: jax.Array | float,
    std: jax.Array | float | None = None,
    *,
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
    variances, basis = _variances(std, covariance)

    def denoise(x, sigma):
        variance, noise = jnp.asarray(variances, x.dtype), column(sigma, x) ** 2
        return (variance * x + noise * jnp.asarray(mean, x.dtype)) / (variance + noise)

    def denoise_coupled(x, sigma):
        q, values = jnp.asarray(basis, x.dtype), jnp.asarray(variances, x.dtype)
        centre = jnp.broadcast_to(jnp.asarray(mean, x.dtype), x.shape[1:])
        flat = (x - centre).reshape(len(x), -1)
        shrink = values / (values + column(sigma, flat) ** 2)
        # Full precision: the default of TPUs and GPUs for float32 is bfloat16 or TF32.
        rotated = jnp.matmul(flat, q, precision="highest") * shrink
        return centre + jnp.matmul(rotated, q.T, precision="highest").reshape(x.shape)

    return denoise if basis is None else denoise_coupled


def gaussian_log_prob(
    mean: jax.Array | float,
    std: jax.Array | float | None = None,
    *,
    covariance: jax.Array | None = None,
) -> LogDensity:
    """The density of Gaussian data with noise: log N(x; mean, C + sigma^2 I).

    Args:
      mean: Broadcastable to x's shape without the batch.
      std: Likewise: the standard deviation of every element, not negative. std or covariance.
      covariance: [d, d], symmetric, of the flattened elements.

    Returns:
      (x [B, ...], sigma [] or [B]) -> [B] nats.

    Raises:
      ValueError: not exactly one of std and covariance, or one that is no such thing.

    >>> float(gaussian_log_prob(0.0, 1.0)(jnp.zeros((1, 1)), 0.0)[0])  # -log(2 pi) / 2
    -0.9189385175704956
    """
    variances, basis = _variances(std, covariance)

    def log_prob(x, sigma):
        values = jnp.asarray(variances, x.dtype)
        centred = x - jnp.asarray(mean, x.dtype)
        if basis is not None:
            q = jnp.asarray(basis, x.dtype)
            centred = jnp.matmul(centred.reshape(len(x), -1), q, precision="highest")
        variance = values + column(sigma, centred) ** 2
        terms = centred**2 / variance + jnp.log(variance) + math.log(2.0 * math.pi)
        return -0.5 * jnp.sum(terms, axis=tuple(range(1, terms.ndim)))

    return log_prob


def _variances(std, covariance):
    """(std^2, None), or (the eigenvalues, the eigenvectors) of a covariance."""
    if (std is None) == (covariance is None):
        raise ValueError(
            f"std or covariance must be given, not both, got {std!r} and {covariance!r}"
        )
    if covariance is None:
        std = np.asarray(std, np.float64)
        if not (std >= 0).all():
            raise ValueError(f"std must not be negative, got {std}")
        return std**2, None
    covariance = np.asarray(covariance, np.float64)
    if covariance.ndim != 2 or not np.array_equal(covariance, covariance.T):
        raise ValueError(f"covariance must be a symmetric matrix, got {covariance}")
    eigenvalues, basis = np.linalg.eigh(covariance)
    if eigenvalues[0] < -1e-9 * abs(eigenvalues[-1]):
        raise ValueError(f"covariance must have no negative eigenvalue, got {eigenvalues[0]}")
    return np.maximum(eigenvalues, 0.0), basis


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
    components = _components(means, stds, weights)

    def denoise(x, sigma):
        logits, shrink, m, offset = components(x, sigma)
        posterior = m + shrink[..., None] * offset
        r = jax.nn.softmax(logits, axis=-1)
        return jnp.sum(r[..., None] * posterior, axis=1).reshape(x.shape)

    return denoise


def mixture_log_prob(means: jax.Array, stds: jax.Array, weights: jax.Array) -> LogDensity:
    """The density of a mixture with noise: log sum_k w_k N(x; m_k, (c_k^2 + sigma^2) I).

    With images for means and c_k = 0 this is the kernel estimate of their density, of width sigma.

    Args:
      means: [K, ...] m_k.
      stds: [K] c_k, not negative.
      weights: [K] w_k, positive; normalised here.

    Returns:
      (x [B, ...], sigma [] or [B]) -> [B] nats.

    Raises:
      ValueError: lengths that differ, a negative std, or a weight that is not positive.
    """
    components = _components(means, stds, weights)
    total = math.log(np.sum(np.asarray(weights, np.float64)))

    def log_prob(x, sigma):
        logits, _, m, _ = components(x, sigma)
        constant = 0.5 * m.shape[-1] * math.log(2.0 * math.pi) + total
        return jax.scipy.special.logsumexp(logits, axis=-1) - constant

    return log_prob


def _components(means, stds, weights):
    """(x, sigma) -> log-weights [B, K], c^2 / v [B, K], means [K, d], offsets from them [B, K, d].

    Of every component alone; sigma of one level is B = 1.
    """
    means, stds, weights = (np.asarray(a, np.float64) for a in (means, stds, weights))
    if not (means.ndim >= 1 and stds.shape == weights.shape == means.shape[:1]):
        raise ValueError(
            "means, stds and weights must be [K, ...], [K] and [K], "
            f"got {means.shape}, {stds.shape} and {weights.shape}"
        )
    if not ((stds >= 0).all() and (weights > 0).all()):
        raise ValueError(f"stds must be >= 0 and weights > 0, got {stds} and {weights}")

    def components(x, sigma):
        flat = x.reshape(len(x), 1, -1)
        m = jnp.asarray(means, x.dtype).reshape(len(means), -1)
        c2 = jnp.asarray(stds**2, x.dtype)
        variance = c2 + column(sigma, flat[..., 0]) ** 2  # [1 or B, K]
        offset = flat - m
        distance = jnp.sum(offset**2, axis=-1)
        logits = (
            jnp.asarray(np.log(weights), x.dtype)
            - 0.5 * distance / variance
            - 0.5 * m.shape[-1] * jnp.log(variance)
        )
        return logits, c2 / variance, m, offset

    return components


def dataset(images: jax.Array, *, chunk: int = 512) -> Denoiser:
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

"""What a preconditioner is, and the two denoisers that it makes of a network."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from edm_jax.checks import Classifier, Denoiser, DenoiserWithVariance, FlowMap, spread
from edm_jax.schedules.functions import Function, identity

Network = Callable[[jax.Array, jax.Array], jax.Array]


class Preconditioner(NamedTuple):
    """How a raw network becomes a denoiser, and the noise levels it knows.

    c_skip: sigma -> the weight of x in D.
    c_out: sigma -> the weight of the network's output in D.
    c_in: sigma -> the scale of the network's input.
    c_noise: sigma -> the network's conditioning.
    sigma_min: the lowest noise level the network was made for.
    sigma_max: the highest.
    round_sigma: sigma -> the nearest level the network knows; the identity for continuous ones.
    sigma_data: the standard deviation of the data that it assumes, of all or [C] of each channel;
      or None.
    """

    c_skip: Function
    c_out: Function
    c_in: Function
    c_noise: Function
    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    round_sigma: Function = identity
    sigma_data: float | tuple[float, ...] | None = None


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
    >>> from edm_jax import preconditioning
    >>> float(denoiser(zero, preconditioning.edm(sigma_data=0.5))(jnp.ones((1, 1)), 0.5)[0, 0])
    0.5
    """

    def denoise(x, sigma):
        denoised, _ = _evaluate(network, preconditioner, x, sigma)
        return denoised

    return denoise


def flow_map(network: Callable[[jax.Array], Network], preconditioner: Preconditioner) -> FlowMap:
    """Wraps a network that is told how far to jump into a map along the paths of the flow.

        x(rho) = (rho / sigma) x + (1 - rho / sigma) D(x; sigma, rho)

    So D is the denoiser where rho is sigma, and the consistency function where rho is 0. With
    t = sigma / (1 + sigma), r = rho / (1 + rho), z = x / (1 + sigma), it is z - t u(z; r, t) of
    MeanFlow (Geng et al. 2025). The network is told t - r.

    Args:
      network: jump [B], in [0, 1] -> (x_in [B, ...], c_noise [B]) -> F, of x's shape.
      preconditioner: The coefficients at sigma.

    Returns:
      (x [B, ...], sigma [] or [B], rho likewise, at most sigma) -> D of x's shape, in float32, or
      float64 for a float64 x.
    """

    def mapped(x, sigma, rho):
        dtype = jnp.promote_types(jnp.result_type(x), jnp.float32)
        t, r = (jnp.asarray(level, dtype) / (1.0 + level) for level in (sigma, rho))
        jump = jnp.broadcast_to(t - r, jnp.shape(x)[:1])
        return denoiser(network(jump), preconditioner)(x, sigma)

    return mapped


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


def classifier(network: Network, preconditioner: Preconditioner) -> Classifier:
    """Wraps a network that tells classes apart: logits = F(c_in x; c_noise).

    Args:
      network: (x_in [B, ...], c_noise [B]) -> logits [B, L].
      preconditioner: What the network is given; c_skip and c_out have no part in it.

    Returns:
      (x [B, ...], sigma [] or [B]) -> [B, L], in float32, or float64 for a float64 x. It raises
      ValueError for another shape of sigma or of the network's output.
    """

    def logits(x, sigma):
        f, x, _ = _asked(network, preconditioner, x, sigma)
        if f.ndim != 2 or len(f) != len(x):
            raise ValueError(
                f"the network's output must be logits [{len(x)}, L] of a classifier, got {f.shape}"
            )
        return f

    return logits


def _asked(network, preconditioner, x, sigma) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The network's output, x, and sigma shaped to multiply it, in one type."""
    dtype = jnp.promote_types(jnp.result_type(x), jnp.float32)
    x, sigma = jnp.asarray(x, dtype), jnp.asarray(sigma, dtype)
    each = preconditioner.sigma_data
    if isinstance(each, tuple) and x.shape[-1:] != (len(each),):
        raise ValueError(
            f"x must have a channel for each of the {len(each)} of sigma_data, got {x.shape}"
        )
    # A scalar stays one for the coefficients, so that XLA computes them once.
    level = spread(sigma, x)
    c_noise = preconditioner.c_noise(sigma)
    if sigma.ndim < 2:
        c_noise = jnp.broadcast_to(c_noise, x.shape[:1])
    return network(preconditioner.c_in(level) * x, c_noise).astype(dtype), x, level


def _evaluate(network, preconditioner, x, sigma) -> tuple[jax.Array, jax.Array]:
    """D(x; sigma) of x's shape, and the network's further channels as they are."""
    f, x, level = _asked(network, preconditioner, x, sigma)
    if f.ndim != x.ndim or f.shape[:-1] != x.shape[:-1] or f.shape[-1] < x.shape[-1]:
        raise ValueError(
            f"the network's output must have x's shape {x.shape} or more channels, got {f.shape}"
        )
    channels = x.shape[-1]
    denoised = preconditioner.c_skip(level) * x + preconditioner.c_out(level) * f[..., :channels]
    return denoised, f[..., channels:]

"""Closed-form denoisers, and a tableau run in numpy: what the sampler tests measure against."""

import jax
import numpy as np
from scipy.integrate import solve_ivp


def run(tableau, denoise, noise, row_noise=None):
    """A tableau in numpy float64. `row_noise[k]` enters `start` (k = 0) or row k - 1."""
    noise = np.asarray(noise, np.float64)
    if row_noise is None:
        row_noise = np.zeros((tableau.nfe + 1, *noise.shape))
    registers = np.tensordot(tableau.start, np.stack([noise, row_noise[0]]), 1)
    for sigma, weights, z in zip(tableau.sigma, tableau.weights, row_noise[1:]):
        denoised = denoise(registers[0], sigma)
        registers = np.tensordot(weights, np.concatenate([registers, [denoised, z]]), 1)
    return registers[0]


def mixture(means, stds, weights, xp=np):
    """The ideal denoiser of a mixture of isotropic Gaussians: means [M, ...], x [B, ...]."""
    means, stds, weights = (xp.asarray(a) for a in (means, stds, weights))
    event = tuple(range(2, means.ndim + 1))
    size = int(np.prod(means.shape[1:]))
    tail = (...,) + (None,) * (means.ndim - 1)

    def denoise(x, sigma):
        v = stds**2 + sigma**2
        gap = x[:, None] - means
        logits = xp.log(weights) - (gap**2).sum(event) / (2 * v) - 0.5 * size * xp.log(v)
        top = logits.max(1, keepdims=True)
        if xp is not np:
            # A derivative of the maximum divides by how many are equal to it: by none, where the
            # compiler rounds the two sides apart.
            top = jax.lax.stop_gradient(top)
        share = xp.exp(logits - top)
        share = share / share.sum(1, keepdims=True)
        each = means + (stds**2 / v)[tail] * gap
        return (share[tail] * each).sum(1)

    return denoise


def gaussian(mean, std):
    """The ideal denoiser of N(mean, std^2)."""
    return lambda x, sigma: mean + std**2 / (std**2 + sigma**2) * (x - mean)


def toy(xp=np):
    """One-dimensional data of three components: x of shape [B, 1]."""
    return mixture([[-1.0], [0.2], [1.3]], [0.1, 0.3, 0.2], [0.3, 0.45, 0.25], xp)


def exact_flow(denoise, x, high, low):
    """The probability-flow ODE from sigma = high to low: dx / d log sigma = x - D."""
    slope = lambda u, y: y - denoise(y.reshape(x.shape), np.exp(u)).ravel()
    solved = solve_ivp(
        slope, (np.log(high), np.log(low)), x.ravel(), method="DOP853", rtol=1e-13, atol=1e-14
    )
    return solved.y[:, -1].reshape(x.shape)

"""Samplers of Gaussian data, exactly: what a tableau makes of a mean and a variance."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from edm_jax.samplers.tableau import Tableau, check


def moments(
    tableau: Tableau,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    gain: Callable | None = None,
    start_mean: ArrayLike = 0.0,
    start_variance: ArrayLike = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact mean and variance of a tableau's output for Gaussian data.

    For data N(mean, variance) the denoiser is linear, D = mean + g (x - mean) with
    g = variance / (variance + sigma^2), so registers stay jointly Gaussian: their mean and
    covariance follow the rows. History and noise are included; there is no Monte Carlo.

    >>> euler = Tableau(np.array([[2.0, 0.0]]), np.array([2.0]), np.array([[[0.0, 1.0, 0.0]]]))
    >>> mean, variance = moments(euler, 0.5, 4.0)     # one step to 0 returns D, here half of x
    >>> float(mean), float(variance)
    (0.25, 1.0)

    Args:
      tableau: K rows.
      mean: mean of the data, any shape.
      variance: variance of the data, of a shape that broadcasts with `mean`; 0 is a point mass.
      gain: sigma -> slope g of the denoiser, where it is not the ideal one.
      start_mean: mean of the `noise` argument of `sample`.
      start_variance: variance of the `noise` argument of `sample`.

    Returns:
      Mean and variance of the output, float64, of the common shape of `mean` and `variance`.
    """
    tableau = check(tableau)
    mean, variance = np.broadcast_arrays(
        np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    )
    if (variance < 0).any():
        raise ValueError(f"variance must not be negative, got {variance}")
    size, start = tableau.registers, tableau.start
    state = np.broadcast_to(start[:, 0] * start_mean, (*mean.shape, size))
    # The registers as combinations of independent unit normals, one column each. Their products,
    # the covariance, would lose the small variances that are left of large ones.
    factor = start * np.array([np.sqrt(start_variance), 1.0])
    factor = np.broadcast_to(factor, (*mean.shape, size, 2))
    for sigma, weights in zip(tableau.sigma, tableau.weights):
        g = variance / (variance + sigma**2) if gain is None else gain(sigma)
        g = np.broadcast_to(g, mean.shape)
        of_denoised, of_noise = weights[:, size], weights[:, size + 1]
        step = np.broadcast_to(weights[:, :size], (*mean.shape, size, size)).copy()
        step[..., :, 0] += g[..., None] * of_denoised
        state = (step @ state[..., None])[..., 0] + ((1 - g) * mean)[..., None] * of_denoised
        factor = step @ factor
        if of_noise.any():
            fresh = np.broadcast_to(of_noise[:, None], (*mean.shape, size, 1))
            factor = np.concatenate([factor, fresh], axis=-1)
    return state[..., 0], (factor[..., 0, :] ** 2).sum(-1)

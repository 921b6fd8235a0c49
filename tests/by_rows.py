"""A tableau's rows on the host, so that a denoiser is compiled once for all tableaus."""

import numpy as np


def sampled(denoise, tableau, noise, row_noise=None):
    """What `samplers.sample` returns, in float64 but for the denoiser.

    Args:
      denoise: (x [B, ...] of the noise's type, sigma []) -> x0.
      tableau: of any solver.
      noise: [B, ...], standard normal.
      row_noise: [K + 1, B, ...]; None for a tableau that takes none.
    """
    if row_noise is None:
        row_noise = np.zeros((tableau.nfe + 1, *np.shape(noise)))
    registers = np.tensordot(tableau.start, np.stack([noise, row_noise[0]]), 1)
    for sigma, weights, z in zip(tableau.sigma, tableau.weights, row_noise[1:]):
        denoised = np.asarray(denoise(registers[0].astype(noise.dtype), float(sigma)))
        registers = np.tensordot(weights, np.stack([*registers, denoised, z]), 1)
    return registers[0]

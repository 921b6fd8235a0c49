"""Inverse problems: denoisers of the posterior of an image given y = A(x0) + sigma_y n."""

from edm_jax.inverse import steps
from edm_jax.inverse.operators import (
    adjoint,
    blur,
    fourier_mask,
    motion_kernel,
    phase_retrieval,
)
from edm_jax.inverse.particles import (
    Particles,
    effective_size,
    log_likelihood,
    particle_filter,
    systematic,
)
from edm_jax.inverse.posterior import diffpir, dps, jfps, mmps, pigdm, projection, tmpd
from edm_jax.inverse.spectral import (
    Spectral,
    bicubic_downsample,
    box_downsample,
    from_matrix,
    gaussian_blur,
    gray,
    mask,
    separable,
)

__all__ = [
    "Particles",
    "Spectral",
    "adjoint",
    "bicubic_downsample",
    "blur",
    "box_downsample",
    "diffpir",
    "dps",
    "effective_size",
    "fourier_mask",
    "from_matrix",
    "gaussian_blur",
    "gray",
    "jfps",
    "log_likelihood",
    "mask",
    "mmps",
    "motion_kernel",
    "particle_filter",
    "phase_retrieval",
    "pigdm",
    "projection",
    "separable",
    "steps",
    "systematic",
    "tmpd",
]

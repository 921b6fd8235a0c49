"""Inverse problems: denoisers of the posterior of an image given y = A(x0) + sigma_y n."""

from edm_jax.inverse import steps
from edm_jax.inverse.operators import (
    Spectral,
    adjoint,
    bicubic_downsample,
    blur,
    box_downsample,
    fourier_mask,
    from_matrix,
    gaussian_blur,
    gray,
    mask,
    motion_kernel,
    phase_retrieval,
    separable,
)
from edm_jax.inverse.posterior import diffpir, dps, jfps, mmps, pigdm, projection, tmpd

__all__ = [
    "Spectral",
    "adjoint",
    "bicubic_downsample",
    "blur",
    "box_downsample",
    "diffpir",
    "dps",
    "fourier_mask",
    "from_matrix",
    "gaussian_blur",
    "gray",
    "jfps",
    "mask",
    "mmps",
    "motion_kernel",
    "phase_retrieval",
    "pigdm",
    "projection",
    "separable",
    "steps",
    "tmpd",
]

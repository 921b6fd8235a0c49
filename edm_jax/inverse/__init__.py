"""Inverse problems: denoisers of the posterior of an image given y = A(x0) + sigma_y n."""

from edm_jax.inverse import steps
from edm_jax.inverse.methods import DEFAULT_METHOD, METHODS, NEEDS, Method, check_method, condition
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
from edm_jax.inverse.tasks import TASKS, Task, build_operator, picture

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "NEEDS",
    "TASKS",
    "Method",
    "Particles",
    "Spectral",
    "Task",
    "adjoint",
    "bicubic_downsample",
    "blur",
    "box_downsample",
    "build_operator",
    "check_method",
    "condition",
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
    "picture",
    "pigdm",
    "projection",
    "separable",
    "steps",
    "systematic",
    "tmpd",
]

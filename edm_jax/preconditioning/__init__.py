"""Preconditioning: D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), any network as a denoiser.

Every row of table 1 of Karras et al. 2022, and the other things networks are trained to predict
(noise, data, velocity), is a choice of c_skip, c_out, c_in and c_noise. Coefficients are computed
in float32 on the device (float64 for float64 arrays) and in float64 on the host.
"""

from edm_jax.preconditioning.continuous import consistency, edm, flow, trigflow, ve, vp
from edm_jax.preconditioning.record import (
    Network,
    Preconditioner,
    classifier,
    denoiser,
    flow_map,
    with_variance,
)
from edm_jax.preconditioning.registry import PRECONDITIONERS, build
from edm_jax.preconditioning.tabulated import Nearest, epsilon, iddpm, v, x0

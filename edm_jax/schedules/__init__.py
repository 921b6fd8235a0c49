"""Noise schedules sigma(t) and scalings s(t): x_t = s(t) (y + sigma(t) n).

A schedule is five closures of one signature, and any sigma(t) goes with any s(t).
"""

from edm_jax.schedules.closed_form import cosine, edm, flow, trigflow, ve, ve_geometric
from edm_jax.schedules.functions import Function, host_or_device
from edm_jax.schedules.linear_beta import sub_vp, vp, vp_betas, vp_from_range
from edm_jax.schedules.record import (
    Schedule,
    drift_and_diffusion,
    times,
    with_vp_scaling,
    without_scaling,
)
from edm_jax.schedules.registry import FROM_RANGE, SCHEDULES, build, process

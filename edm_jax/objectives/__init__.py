"""What a network is trained on: noise levels, losses and their weights."""

from edm_jax.objectives.denoising import (
    edm_weight,
    flow_weight,
    inverse_square_weight,
    loss,
    min_snr_weight,
    unit_weight,
    v_weight,
)
from edm_jax.objectives.noise import (
    NoiseDistribution,
    cosine,
    discrete,
    iddpm,
    log_normal,
    ve,
    vp,
)
from edm_jax.objectives.registry import OBJECTIVES, WEIGHTS, Objective, objective

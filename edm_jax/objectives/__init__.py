"""What a network is trained on: noise levels, losses and their weights, and records of them all."""

from edm_jax.objectives.classification import classification
from edm_jax.objectives.cmt import OnPaths, cmt
from edm_jax.objectives.denoising import Examples, denoising, hybrid_loss, loss
from edm_jax.objectives.ect import Pairs, ect, nearer
from edm_jax.objectives.elements import Weighted
from edm_jax.objectives.meanflow import Jumps, ends, meanflow
from edm_jax.objectives.noise import (
    NoiseDistribution,
    cosine,
    discrete,
    iddpm,
    karras,
    log_normal,
    ve,
    vp,
)
from edm_jax.objectives.recipes import WEIGHTS, Recipe, recipe
from edm_jax.objectives.record import Losses, Model, Objective, State, Wrapped
from edm_jax.objectives.registry import OBJECTIVES, build
from edm_jax.objectives.scm import scm
from edm_jax.objectives.weighting import (
    edm_weight,
    flow_weight,
    inverse_square_weight,
    min_snr_weight,
    unit_weight,
    v_weight,
)

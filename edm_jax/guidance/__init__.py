"""Guidance: denoisers to a denoiser. Samplers and likelihoods work with it unchanged."""

from edm_jax.guidance.classifiers import classifier, log_prob, mean_shift
from edm_jax.guidance.pairs import (
    Half,
    autoguidance,
    classifier_free,
    compose,
    in_one_call,
    zero_star,
)
from edm_jax.guidance.projected import adaptive_projected
from edm_jax.guidance.scales import linear_over_frames, triangle_over_frames
from edm_jax.guidance.steps import in_steps
from edm_jax.guidance.thresholds import clip, dynamic_threshold

__all__ = [
    "Half",
    "adaptive_projected",
    "autoguidance",
    "classifier",
    "classifier_free",
    "clip",
    "compose",
    "dynamic_threshold",
    "in_one_call",
    "in_steps",
    "linear_over_frames",
    "log_prob",
    "mean_shift",
    "triangle_over_frames",
    "zero_star",
]

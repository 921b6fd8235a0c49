"""EDM (Karras, Aittala, Aila, Laine 2022) in JAX: every choice of the design space a function."""

from edm_jax import (
    augment,
    guidance,
    ideal,
    inverse,
    likelihood,
    objectives,
    preconditioning,
    samplers,
    schedules,
    score,
    timesteps,
    tuning,
)
from edm_jax.generation import Guided, generate, guided, guided_by_classifier, sampler_for
from edm_jax.model import Model
from edm_jax.networks.config import ModelConfig, adm, ddpmpp, edm2, ncsnpp
from edm_jax.preconditioning import denoiser
from edm_jax.randomness import normal, sample_keys, split
from edm_jax.samplers import Tableau, moments, sample
from edm_jax.weights import load, save

__version__ = "0.1.0"

__all__ = [
    "Guided",
    "Model",
    "ModelConfig",
    "Tableau",
    "adm",
    "augment",
    "ddpmpp",
    "denoiser",
    "edm2",
    "generate",
    "guidance",
    "guided",
    "guided_by_classifier",
    "ideal",
    "inverse",
    "likelihood",
    "load",
    "moments",
    "ncsnpp",
    "normal",
    "objectives",
    "preconditioning",
    "sample",
    "sample_keys",
    "sampler_for",
    "samplers",
    "save",
    "schedules",
    "score",
    "split",
    "timesteps",
    "tuning",
]

"""Samplers tuned to a denoiser: noise levels and rows by distance to its own flow."""

from edm_jax.tuning.dynamic import cheapest, costs
from edm_jax.tuning.learned import analytic_first_step, fit
from edm_jax.tuning.paths import Path, reference, run
from edm_jax.tuning.tuner import Contender, Tuned, tune, tune_each

__all__ = [
    "Contender",
    "Path",
    "Tuned",
    "analytic_first_step",
    "cheapest",
    "costs",
    "fit",
    "reference",
    "run",
    "tune",
    "tune_each",
]

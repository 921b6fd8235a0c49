"""Samplers of a posterior: `sample(denoise, steps.ddnm(operator, y, sigmas), noise, keys)`."""

from edm_jax.inverse.steps.gradient import dps, pigdm
from edm_jax.inverse.steps.inpainting import repaint, score_sde
from edm_jax.inverse.steps.null_space import ddnm, ddnm_plus, ddrm

__all__ = ["ddnm", "ddnm_plus", "ddrm", "dps", "pigdm", "repaint", "score_sde"]

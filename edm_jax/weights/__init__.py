"""Weights of every kind: ours, NVIDIA's and OpenAI's. `load` reads any, `save` writes ours."""

from edm_jax.weights.directory import save as save
from edm_jax.weights.errors import WeightsError as WeightsError
from edm_jax.weights.loading import load as load

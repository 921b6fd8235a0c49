"""The pictures that a run draws of itself."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from small_network import model_of
from tiny_run import tiny

from edm_jax import generation, samplers, timesteps
from edm_jax.training import samples


@pytest.mark.parametrize("name", ["edm", "consistency"])
def test_the_grids_of_a_run_are_drawn_by_the_sampler_of_its_model(name, monkeypatch):
    config = dataclasses.replace(tiny().model, resolution=8, channels=1, preconditioner=name)
    model = model_of(config)
    made = []

    def generate(model, sampler, seeds, **_):
        made.append(sampler)
        return [SimpleNamespace(images=np.zeros((len(seeds), 8, 8, 1), np.uint8))]

    monkeypatch.setattr(generation, "generate", generate)
    samples.grid(model, tiny(sample_steps=3))
    (tableau,) = made
    low = model.preconditioner.sigma_min
    if name == "edm":
        assert tableau == samplers.ipndm(timesteps.edm(3))
    else:  # its last call is at a level above its lowest, and leads there without a step more
        levels = timesteps.edm(3, sigma_min=low, final="sigma_min")
        assert tableau == samplers.consistency(levels, sigma_min=low)

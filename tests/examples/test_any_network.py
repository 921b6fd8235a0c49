"""A sampler with guidance runs networks of any library, inside every transformation."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from edm_jax import normal, sample_keys

PATH = pathlib.Path(__file__).parents[2] / "examples" / "any_network.py"
SPEC = importlib.util.spec_from_file_location("any_network", PATH)
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)
NOISE = normal(sample_keys(range(16)), (2,))
NETWORKS = example.networks(jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_transformation_gives_the_same_numbers(name):
    network = NETWORKS[name]
    plain = example.draw(network, NOISE)
    near = lambda got: np.testing.assert_allclose(got, plain, rtol=0, atol=2e-5)
    scaled = jax.jit(lambda n, scale: example.draw(network, n, scale))
    near(scaled(NOISE, 2.0))
    assert jax.device_count() == 8

    @jax.jit
    def others(noise):
        by_fours = jax.vmap(lambda n: example.draw(network, n))(noise.reshape(4, 4, 2))
        return by_fours.reshape(16, 2), example.over_devices(network, noise)

    for got in others(NOISE):
        near(got)
    slope = jax.jit(jax.grad(lambda scale: example.draw(network, NOISE, scale).sum()))(2.0)
    step = 1e-2
    difference = (scaled(NOISE, 2.0 + step) - scaled(NOISE, 2.0 - step)).sum() / (2 * step)
    assert float(slope) == pytest.approx(float(difference), rel=2e-2)
    # Guidance does something, and the scale 1 is none.
    assert np.abs(scaled(NOISE, 1.0) - plain).max() > 1e-3


@pytest.mark.slow
def test_a_gradient_keeps_few_states():
    def memory(remat):
        network = NETWORKS["plain"]
        wide = normal(sample_keys(range(4096)), (2,))

        def total(noise):
            guided = example.guided(network)
            tableau = example.samplers.heun(example.timesteps.edm(64))
            return example.sample(guided, tableau, noise, remat=remat).sum()

        program = jax.jit(jax.grad(total)).lower(wide).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert memory(True) < 0.25 * memory(False)

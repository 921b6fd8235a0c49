"""A fresh network under EDM's preconditioner is the ideal denoiser of N(0, sigma_data^2).

F is nearly zero, so D = c_skip x: the posterior mean. Sampling with it is then a linear map, known
exactly, and every part of the way from network to image is on it.
"""

import jax
import jax.numpy as jnp
import network_cases as cases
import numpy as np
import pytest

from edm_jax import preconditioning, samplers, timesteps

SIGMA_DATA = 0.5


@pytest.mark.parametrize("kind", ["ddpmpp", "ncsnpp", "skip", "adm"])
def test_sampling_a_fresh_network_is_sampling_a_gaussian(kind):
    net = cases.small(kind)
    params = cases.fresh_params(net)
    tableau = samplers.heun(timesteps.edm(6))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    labels = dict(class_labels=jnp.eye(2, 3), augment_labels=jnp.ones((2, 9)))

    @jax.jit
    def run(params, noise):
        network = lambda x, c_noise: net.apply({"params": params}, x, c_noise, **labels)
        denoise = preconditioning.denoiser(network, preconditioning.edm(SIGMA_DATA))
        levels = jnp.asarray([0.02, 3.0])
        return samplers.sample(denoise, tableau, noise), denoise(noise, levels), levels

    images, denoised, levels = run(params, noise)
    shrink = SIGMA_DATA**2 / (SIGMA_DATA**2 + levels[:, None, None, None] ** 2)
    np.testing.assert_allclose(denoised, shrink * noise, atol=2e-4)

    mean, variance = samplers.moments(tableau, 0.0, SIGMA_DATA**2)
    assert not mean
    np.testing.assert_allclose(images, np.sqrt(variance) * noise, atol=5e-4)
    assert abs(np.sqrt(variance) - SIGMA_DATA) < 0.05

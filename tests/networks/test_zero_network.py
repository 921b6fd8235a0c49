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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddpmpp", "ncsnpp", "skip", "adm"])
def test_a_fresh_network_is_the_ideal_denoiser_of_a_gaussian(kind):
    net = cases.small(kind)
    params = cases.fresh_params(net)
    x, sigma, labels = cases.formula_inputs()
    for scale in (0.01, 1.0, 5.0):
        levels = sigma * np.float32(scale)
        found = cases.denoise(net, preconditioning.edm(SIGMA_DATA), params, x, levels, **labels)
        shrink = SIGMA_DATA**2 / (SIGMA_DATA**2 + levels.astype(np.float64) ** 2)
        np.testing.assert_allclose(found, shrink[:, None, None, None] * x, atol=2e-4)


@pytest.mark.slow
def test_sampling_a_fresh_network_is_sampling_a_gaussian():
    net = cases.small("skip")
    params = cases.fresh_params(net)
    tableau = samplers.heun(timesteps.edm(18))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)

    @jax.jit
    def run(params, noise):
        network = lambda x, c_noise: net.apply({"params": params}, x, c_noise)
        denoise = preconditioning.denoiser(network, preconditioning.edm(SIGMA_DATA))
        return samplers.sample(denoise, tableau, noise)

    mean, variance = samplers.moments(tableau, 0.0, SIGMA_DATA**2)
    assert not mean and abs(np.sqrt(variance) - SIGMA_DATA) < 0.03
    np.testing.assert_allclose(run(params, noise), np.sqrt(variance) * noise, atol=5e-4)

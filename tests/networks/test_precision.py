"""What half precision and float64 change: little, everywhere, and only what they should."""

import jax
import jax.numpy as jnp
import network_cases as cases
import numpy as np
import pytest

SIGMAS = np.geomspace(0.002, 80, 9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ncsnpp_edm_uncond", "adm_edm_cond"])
def test_bfloat16_stays_within_one_percent(golden, name):
    arrays = golden(f"{name}.npz")
    exact_net, preconditioner, params = cases.golden_case(arrays)
    half_net = exact_net.clone(dtype=jnp.bfloat16)
    labels = {k: arrays[k] for k in ("class_labels", "augment_labels") if k in arrays}
    shape = arrays["x"].shape
    rng = np.random.default_rng(0)
    image = 0.5 * np.sin(np.arange(np.prod(shape)) / 7).reshape(shape)
    for sigma in np.clip(SIGMAS, preconditioner.sigma_min, preconditioner.sigma_max):
        sigma = np.full(shape[0], preconditioner.round_sigma(sigma), np.float32)
        x = (image + sigma[0] * rng.normal(size=shape)).astype(np.float32)
        exact = cases.denoise(exact_net, preconditioner, params, x, sigma, **labels)
        half = cases.denoise(half_net, preconditioner, params, x, sigma, **labels)
        assert half.dtype == np.float32
        error = np.linalg.norm(half - exact) / np.linalg.norm(exact)
        assert error < 1e-2, (sigma[0], error)


@pytest.mark.slow
def test_float64_agrees_with_float32():
    x, c_noise, labels = cases.formula_inputs()
    net = cases.small("ncsnpp")
    found = cases.apply(net, cases.formula_params(net), x, np.log(c_noise) / 4, labels)
    with jax.enable_x64(True):
        exact_net = net.clone(dtype=jnp.float64)
        exact = cases.apply(
            exact_net, cases.formula_params(net), x, np.log(c_noise.astype(np.float64)) / 4, labels
        )
        exact = np.asarray(exact)
    assert exact.dtype == np.float64
    assert cases.relative_error(found, exact).max() < 2e-5

"""Reference paths: a tableau from the host, the flow between its levels."""

import jax
import numpy as np
import pytest

from edm_jax import ideal, sample, samplers, timesteps
from edm_jax.tuning import reference, run

STD = 0.5
NOISE = np.random.default_rng(0).standard_normal((3, 4))


def denoise(x, sigma):
    return STD**2 / (STD**2 + sigma**2) * x


def exact(sigma):
    """The flow of N(0, STD^2) from 80 n."""
    return 80.0 * NOISE * np.sqrt((STD**2 + sigma**2) / (STD**2 + 80.0**2))


@pytest.mark.parametrize("solver", ["heun", "ipndm", "unipc", "dpmpp_3m"])
def test_the_host_runs_a_tableau_as_sample_does(solver):
    tableau = samplers.build(solver, timesteps.edm(6))
    states, said = run(denoise, tableau, NOISE)
    with jax.enable_x64(True):
        end, kept = sample(ideal.gaussian(0.0, STD), tableau, NOISE, trajectory=True)
    np.testing.assert_allclose(states, kept, rtol=1e-12)
    np.testing.assert_allclose(states[-1], end, rtol=1e-12)
    np.testing.assert_allclose(said[2], denoise(states[2], tableau.sigma[2]), rtol=1e-12)


def test_noise_on_the_way_is_refused():
    with pytest.raises(ValueError, match="tableau must draw no noise on the way"):
        run(denoise, samplers.euler_ancestral(timesteps.edm(3)), NOISE)


@pytest.mark.parametrize("solver", ["ipndm", "heun"])
def test_a_path_is_the_flow_at_its_levels_and_between_them(solver):
    path = reference(denoise, NOISE, timesteps.edm(100), solver=solver)
    for sigma in (80.0, 53.0, 7.1, 1.0, 0.31, 0.0021, 0.0):
        np.testing.assert_allclose(path.at(sigma), exact(sigma), rtol=2e-3)
    inner = path.sigmas[40]
    np.testing.assert_array_equal(path.at(inner), path.states[40])
    # Between two levels the cubic adds nothing that counts to what the states have.
    middle = 0.5 * (path.sigmas[40] + path.sigmas[41])
    ratio = path.at(middle) / exact(middle)
    np.testing.assert_allclose(ratio, path.states[40] / exact(inner), rtol=1e-5)


@pytest.mark.parametrize("solver", ["plms", "dpm_2_ancestral", "no_solver"])
def test_a_solver_without_a_slope_at_every_level_is_refused(solver):
    with pytest.raises(ValueError, match="solver must"):
        reference(denoise, NOISE, timesteps.edm(9), solver=solver)

"""What CONTRIBUTING.md shows can be done as it stands there."""

import pathlib
import re

import numpy as np
import pytest

from edm_jax import ideal, normal, sample, sample_keys, samplers, timesteps

PAGE = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture(autouse=True)
def page():
    """Runs the page's code; the registries are afterwards as they were."""
    kept = [(table, dict(table)) for table in (samplers.SOLVERS, timesteps.GRIDS)]
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, {})
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


def test_the_solver_is_one_of_the_registry():
    sigmas = timesteps.build("edm", 18)
    tableau = samplers.build("my_ddim", sigmas, eta=0.3)
    assert tableau.nfe == 18 and tableau.stochastic
    np.testing.assert_allclose(tableau.weights, samplers.ddim(sigmas, eta=0.3).weights, atol=1e-12)
    keys = sample_keys(range(4))
    drawn = sample(ideal.gaussian(0.0, 1.0), tableau, normal(keys, (3,)), keys)
    same = sample(
        ideal.gaussian(0.0, 1.0), samplers.ddim(sigmas, eta=0.3), normal(keys, (3,)), keys
    )
    np.testing.assert_allclose(drawn, same, rtol=1e-6)
    with pytest.raises(ValueError, match="eta must lie in"):
        samplers.build("my_ddim", sigmas, eta=2.0)


def test_the_grid_is_one_of_the_registry():
    np.testing.assert_allclose(
        timesteps.build("linear", 3, sigma_max=10.0, sigma_min=1.0), [10.0, 5.5, 1.0, 0.0]
    )

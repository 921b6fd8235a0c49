"""Mean and covariance of samplers against the exact posterior of a Gaussian prior, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problem import matrix_operator, measurement, prior

from edm_jax import inverse, samplers, timesteps

pytestmark = pytest.mark.usefixtures("float64")
TASKS = ("mask", "box", "blur")
GRID = timesteps.edm(100, sigma_min=0.002, sigma_max=80.0)


@pytest.fixture(scope="module")
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def g(golden):
    return golden("inverse.npz")


RULES = {
    "exact": lambda *a: inverse.mmps(*a, solver="cg", iterations=30),
    "pigdm": inverse.pigdm,
    "jfps": lambda *a: inverse.jfps(*a, prior_variance=0.25),
    "diffpir": inverse.diffpir,
    "diffpir 1": lambda *a: inverse.diffpir(*a, strength=1.0),
    "tmpd": inverse.tmpd,
    "dps": inverse.dps,
}
# (rule, sampler) -> by task: |mean - exact| / sqrt(tr exact), |cov - exact| / |exact|, and the
# ratio of deviations, to the digits that an independent computation gave
ERRORS = {
    ("exact", "ddpm"): [(3e-5, 0.12, 0.94), (5e-5, 0.11, 0.94), (1e-5, 0.13, 0.93)],
    ("exact", "euler"): [(0.006, 0.06, 0.97), (0.007, 0.055, 0.97), (0.005, 0.06, 0.97)],
    ("pigdm", "ddpm"): [(0.38, 0.30, 1.05), (0.25, 0.89, 1.19), (0.18, 0.13, 0.96)],
    ("jfps", "ddpm"): [(0.60, 1.1, 1.2), (0.53, 2.3, 1.4), (0.26, 0.17, 0.96)],
    ("diffpir", "ddpm"): [(0.66, 1.3, 1.4), (0.62, 2.7, 1.5), (0.46, 3.0, 1.7)],
    ("diffpir 1", "ddpm"): [(0.60, 1.1, 1.2), (0.52, 2.2, 1.4), (0.31, 0.16, 0.91)],
    ("tmpd", "ddpm"): [(2.2, 13, 2.5), (0.13, 0.28, 0.89), (0.42, 1.3, 1.3)],
    ("dps", "ddpm"): [None, (0.30, 0.47, 0.79), None],  # it diverges on the others
}


def moments(denoise, tableau):
    """Of what a tableau of one register makes of a denoiser that is affine in x."""
    probes = jnp.concatenate([jnp.zeros((1, 16)), jnp.eye(16)]).reshape(17, 4, 4, 1)
    answers = jax.jit(lambda sigma: denoise(probes, sigma).reshape(17, 16))
    mean, cov = np.zeros(16), tableau.start[0, 0] ** 2 * np.eye(16)
    for sigma, ((old, new, noise),) in zip(tableau.sigma, tableau.weights):
        values = np.asarray(answers(sigma))
        matrix = old * np.eye(16) + new * (values[1:] - values[0]).T
        mean = matrix @ mean + new * values[0]
        cov = matrix @ cov @ matrix.T + noise**2 * np.eye(16)
    return mean, cov


def errors(g, task, mean, cov):
    true_mean, true_cov = g[f"posterior/mean/{task}"], g[f"posterior/cov/{task}"]
    size = np.sqrt(np.trace(true_cov))
    return (
        np.linalg.norm(mean - true_mean) / size,
        np.linalg.norm(cov - true_cov) / np.linalg.norm(true_cov),
        np.sqrt(np.trace(cov)) / size,
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name, sampler", ERRORS)
def test_moments_of_each_method(g, name, sampler, task):
    expected = ERRORS[name, sampler][TASKS.index(task)]
    denoise = RULES[name](
        prior(g), matrix_operator(g, task), measurement(g, task, 17), float(g["sigma_y"])
    )
    tableau = {"ddpm": samplers.ddpm, "euler": samplers.euler}[sampler](GRID)
    got = errors(g, task, *moments(denoise, tableau))
    if expected is None:
        assert got[1] > 1e12
        return
    for value, number in zip(got, expected):
        # Half of the last digit shown, of numbers shown with one to three digits.
        shown = f"{number:g}".lstrip("0.")
        digits = 1 if "e" in shown else len(shown.replace(".", ""))
        unit = 10.0 ** (np.floor(np.log10(number)) - digits + 1)
        assert abs(value - number) <= 0.51 * unit, (value, number)


def test_the_exact_denoiser_converges_to_the_posterior(g):
    """Ten times the steps, a tenth of the error in the covariance."""
    denoise = RULES["exact"](
        prior(g), matrix_operator(g, "box"), measurement(g, "box", 17), float(g["sigma_y"])
    )
    for steps, expected in ((100, 0.11), (1000, 0.012)):
        grid = timesteps.edm(steps, sigma_min=0.002, sigma_max=80.0)
        _, cov, _ = errors(g, "box", *moments(denoise, samplers.ddpm(grid)))
        assert abs(cov - expected) < 0.05 * expected

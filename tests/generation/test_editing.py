"""Editing on Gaussian data, where all of it is known."""

import pathlib
import re

import jax
import numpy as np
import pytest

from edm_jax import generation, ideal, normal, sample, sample_keys, samplers, timesteps
from edm_jax.generation.seeds import NOISE, PATH, keys_of

MEAN, STD = 0.2, 0.5
IMAGES = MEAN + STD * normal(sample_keys(range(6)), (4, 4, 1))


class Model:
    """Stands in for a model: N(MEAN, STD^2), or with labels N(MEAN + label, STD^2)."""

    def denoiser(self, class_labels=None):
        if class_labels is None:
            return ideal.gaussian(MEAN, STD)
        shift = class_labels.sum(axis=-1).reshape(-1, 1, 1, 1)
        return lambda x, sigma: ideal.gaussian(MEAN, STD)(x - shift, sigma) + shift


@pytest.mark.slow
@pytest.mark.parametrize("stochastic", [False, True])
def test_redrawing_begins_at_the_first_level(stochastic):
    grid, seeds = timesteps.edm(8, sigma_max=0.7), np.arange(6)
    tableau = samplers.euler_ancestral(grid) if stochastic else samplers.heun(grid)
    got = generation.redraw(Model(), tableau, IMAGES, seeds)
    keys = keys_of(seeds)
    noised = IMAGES + 0.7 * normal(keys[:, NOISE], (4, 4, 1))
    path = keys[:, PATH] if stochastic else None
    expected = sample(ideal.gaussian(MEAN, STD), tableau, start=noised, keys=path)
    np.testing.assert_array_equal(got, expected)
    moved = generation.redraw(Model(), tableau, IMAGES, seeds, class_labels=0.3 * np.ones((6, 1)))
    assert float((moved - got).mean()) > 0.05


def test_churn_is_added_to_the_level_that_is_asked_for():
    grid = timesteps.edm(8, sigma_max=0.7)
    tableau = samplers.heun(grid, churn=samplers.Churn(s_churn=2.0))
    assert tableau.sigma[0] > 0.7
    low = generation.redraw(Model(), tableau, IMAGES, np.arange(6))
    wide = generation.redraw(Model(), samplers.heun(timesteps.edm(8)), IMAGES, np.arange(6))
    distance = lambda a: float(np.abs(a - IMAGES).mean())
    assert distance(low) < 0.8 * distance(wide)


@pytest.mark.slow
def test_inversion_comes_nearer_with_more_steps():
    errors = []
    for steps in (50, 100, 200):
        grid = timesteps.edm(steps)
        found = generation.invert(Model(), grid, IMAGES)
        back = sample(ideal.gaussian(MEAN, STD), samplers.ddim(grid), found.latents)
        np.testing.assert_allclose(found.images, back, atol=1e-6)
        rms = np.sqrt(np.mean((found.images - IMAGES) ** 2, axis=(1, 2, 3)))
        np.testing.assert_allclose(found.error, rms, rtol=1e-4)
        errors.append(float(found.error.mean()))
    # DDIM is of order 1.
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.1)
    # The exact flow keeps (x - mean) / sqrt(std^2 + sigma^2).
    exact = (IMAGES - MEAN) / STD * np.sqrt(STD**2 + 80.0**2) / 80.0 + MEAN / 80.0
    np.testing.assert_allclose(found.latents, exact, atol=0.05)


@pytest.mark.slow
def test_latents_are_mixed_on_the_sphere():
    a, b = np.asarray(IMAGES[:3]), np.asarray(IMAGES[3:])
    shares = np.array([0.0, 0.25, 0.5, 1.0])
    interpolate = jax.jit(generation.interpolate)
    mixed = interpolate(a, b, shares)
    assert mixed.shape == (3, 4, 4, 4, 1)
    np.testing.assert_allclose(mixed[:, 0], a, atol=1e-6)
    np.testing.assert_allclose(mixed[:, -1], b, atol=1e-6)
    unit = lambda x: x.reshape(3, -1) / np.linalg.norm(x.reshape(3, -1), axis=1, keepdims=True)
    on_sphere = interpolate(unit(a), unit(b), shares)
    np.testing.assert_allclose(np.linalg.norm(on_sphere, axis=-1), 1.0, atol=1e-5)
    angle = lambda x, y: np.arccos(np.clip(np.sum(x * y, axis=-1), -1, 1))
    whole = angle(unit(a), unit(b))
    np.testing.assert_allclose(angle(unit(a), on_sphere[:, 1]), whole / 4, atol=1e-3)
    same = interpolate(a, a, shares)
    np.testing.assert_allclose(same, np.repeat(a[:, None], 4, axis=1), atol=1e-6)


@pytest.mark.slow
def test_the_page_runs():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "editing.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"model": Model(), "images": IMAGES}
    exec(block, names)
    assert names["between"].shape == (5, 8, 4, 4, 1)
    assert float(names["found"].error.max()) < 0.1

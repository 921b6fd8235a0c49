"""Latents as a model sees them: EDM2's numbers, drawn anew for each example by its key."""

import jax
import numpy as np
import pytest

from edm_jax import latents, sample_keys
from edm_jax.training.examples import prepare

MOMENTS = np.random.default_rng(0).uniform(0.5, 2.0, size=(64, 8, 8, 8)).astype(np.float32)


def test_the_numbers_are_those_of_edm2():
    scale, bias = (0.11990407, 0.10822511, 0.13477089, 0.15243903), (
        -0.69664264, -0.3517316, -0.01617251, 0.32774392)  # fmt: skip
    np.testing.assert_allclose(latents.SCALE, scale, atol=6e-9)
    np.testing.assert_allclose(latents.BIAS, bias, rtol=1e-7, atol=6e-9)


def test_a_draw_has_its_mean_and_its_deviation():
    z = latents.raw(jax.jit(latents.draw)(sample_keys(range(64)), MOMENTS))
    mean, deviation = MOMENTS[..., :4], MOMENTS[..., 4:]
    n = (z - mean) / deviation
    assert abs(n.mean()) < 5 / n.size**0.5 and abs(n.std() - 1) < 0.02


@pytest.mark.slow
def test_what_a_step_is_given_is_of_the_example_s_key_alone():
    keys = jax.vmap(lambda key: jax.random.split(key, 2))(sample_keys(range(64)))
    batch = {"images": MOMENTS, "labels": np.zeros((64, 0), np.float32)}
    prepared = jax.jit(prepare(of_latents=True))
    y, conditions = prepared(batch, keys)
    assert y.shape == (64, 8, 8, 4) and set(conditions) == {"dropout_keys"}
    np.testing.assert_allclose(y, latents.draw(keys[:, 0], MOMENTS), atol=1e-6)
    other, _ = prepared(batch, keys[::-1])
    assert (np.abs(other - y).max((1, 2, 3)) > 0.01).all()


def test_what_has_no_deviation_is_not_noisy_and_comes_back():
    still = MOMENTS.copy()
    still[..., 4:] = 0
    z = latents.raw(latents.draw(sample_keys(range(64)), still))
    np.testing.assert_allclose(z, still[..., :4], rtol=1e-5, atol=1e-5)


def test_pixels_are_clipped_and_truncated():
    found = latents.to_uint8(np.array([-0.1, 0.0, 0.999, 1.0, 1.2]))
    assert found.tolist() == [0, 0, 254, 255, 255] and found.dtype == np.uint8

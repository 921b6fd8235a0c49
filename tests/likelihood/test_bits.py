"""Bits per dimension and dequantisation, by counting."""

import jax
import numpy as np
import pytest

from edm_jax import sample_keys
from edm_jax.likelihood import bits_per_dim, dequantize

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 20), dtype=np.uint8)


def test_pixels_that_are_uniform_cost_eight_bits():
    """A density that is uniform on the 256 cells of width 1/127.5."""
    nats = -400 * np.log(256 / 127.5)
    assert float(bits_per_dim(nats, 400)) == pytest.approx(8.0, abs=1e-6)
    assert float(bits_per_dim(-400 * np.log(256), 400, cell=1.0)) == pytest.approx(8.0)


@pytest.mark.slow
def test_dequantisation_stays_in_its_cell_and_fills_it():
    y = np.asarray(jax.jit(dequantize)(IMAGES, sample_keys(range(6))), np.float64)
    np.testing.assert_array_equal(np.rint((y + 1) * 127.5), IMAGES)
    offset = (y + 1) * 127.5 - IMAGES
    assert abs(offset.mean()) < 0.02 and offset.var() == pytest.approx(1 / 12, rel=0.05)
    alone = dequantize(IMAGES[3:4], sample_keys([3]))
    np.testing.assert_allclose(alone, y[3:4], atol=2e-7)

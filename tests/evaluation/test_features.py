"""Extractors: the same features however images are divided, and the installed network's numbers."""

import numpy as np
import pytest

from edm_jax.evaluation import features
from edm_jax.evaluation.features import Extractor


def squares(_, images):
    x = images.reshape(len(images), -1).astype("float32")
    return x**2 + x[:, :1]


MINE = Extractor("mine", "as they are", squares)
IMAGES = np.random.default_rng(0).integers(0, 256, (21, 4, 4, 1), np.uint8)


def test_one_of_ones_own_over_any_devices():
    expected = np.asarray(squares(None, IMAGES))
    for devices, size in ((1, 32), (1, 5), (3, 2), (8, 1)):
        found = MINE(IMAGES, batch_size=size, devices=devices)
        np.testing.assert_array_equal(found, expected)
    parts = list(MINE.over(np.split(IMAGES, [1, 8]), batch_size=2, devices=2))
    assert [len(part) for part in parts] == [1, 4, 3, 4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_pixels():
    np.testing.assert_allclose(features.pixels()(IMAGES), IMAGES.reshape(21, -1) / 255, rtol=1e-6)


@pytest.mark.parametrize("images", [IMAGES / 255, IMAGES[0], IMAGES[:0], IMAGES.repeat(4, 3)])
def test_other_arrays_are_refused(images):
    with pytest.raises(ValueError, match="images must be uint8"):
        MINE(images)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        MINE(IMAGES, batch_size=0)


@pytest.mark.slow
def test_efficientnet_lite0(golden):
    numbers = golden("inception.npz")
    extractor = features.efficientnet_lite0()
    assert extractor.sha256.startswith("579344248a93")
    for place, name in ((1, "3"), (2, "5")):
        found = extractor(numbers[f"image/{name}"][None], batch_size=1, devices=1)[0]
        expected = numbers["el0/features"][place]
        assert np.linalg.norm(found - expected) < 2e-5 * np.linalg.norm(expected)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"edm_jax\[perceptual\]"):
        features.efficientnet_lite0()

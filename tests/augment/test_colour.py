"""Colour maps: closed forms, order of composition, grey images, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.augment import colour

close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6)


@jax.jit
def recoloured(images, **amounts):
    return colour.recolour(images, *colour.affine_map(**amounts))


def all_amounts(**given):
    """Every transform, the ones not given as identities: one program for all of them."""
    amounts = {"brightness": 0, "contrast": 1, "luma_flip": 0, "hue": 0, "saturation": 1, **given}
    return {name: np.float32([value]) for name, value in amounts.items()}


@pytest.mark.slow
def test_each_transform_in_closed_form():
    images = jax.random.uniform(jax.random.key(0), (1, 4, 4, 3), minval=-1.0, maxval=1.0)
    mean = images.mean(-1, keepdims=True)
    cases = [
        ({"hue": 2 * np.pi / 3}, jnp.roll(images, 1, -1)),  # a third of a turn: red to green
        ({"saturation": 0.0}, jnp.broadcast_to(mean, images.shape)),
        ({"saturation": 2.0}, 2 * images - mean),
        ({"luma_flip": 1.0}, images - 2 * mean),
        ({"brightness": 0.25, "contrast": 2.0}, (images + 0.25) * 2),
        ({"brightness": 0.25, "luma_flip": 1.0}, images + 0.25 - 2 * (mean + 0.25)),
    ]
    for amounts, expected in cases:
        close(recoloured(images, **all_amounts(**amounts)), expected)
    np.testing.assert_array_equal(recoloured(images, **all_amounts()), images)


def test_grey_images_keep_one_channel():
    images = jnp.linspace(-1, 1, 16).reshape(1, 4, 4, 1)
    amounts = all_amounts(brightness=0.25, contrast=0.5, luma_flip=1, hue=1.0, saturation=3.0)
    close(recoloured(images, **amounts), -(images + 0.25) * 0.5)


def test_bad_arguments():
    with pytest.raises(ValueError, match="must be given, got None"):
        colour.affine_map()
    with pytest.raises(ValueError, match="1 or 3 channels"):
        colour.recolour(jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 3, 3)), jnp.zeros((1, 3)))

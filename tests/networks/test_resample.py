"""Resampling against convolutions, and its closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.networks.resample import downsample, filter_2d, upsample

FILTERS = [(1, 1), (1, 3, 3, 1), (1, 2, 5, 7), (1, 4, -2, 3, 2, 1)]


def depthwise(x, taps, stride=1, dilation=1, padding=0, factor=1.0, flip=False):
    """The same resampling written as the depthwise convolution that it replaces."""
    kernel = np.asarray(filter_2d(taps))[0, 0] * factor
    kernel = kernel[::-1, ::-1] if flip else kernel
    channels = x.shape[-1]
    return jax.lax.conv_general_dilated(
        x,
        jnp.broadcast_to(kernel[:, :, None, None], (*kernel.shape, 1, channels)),
        (stride, stride),
        ((padding, padding), (padding, padding)),
        lhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
        precision="highest",
    )


@pytest.fixture
def image():
    return np.float32(np.random.default_rng(0).normal(size=(2, 6, 10, 3)))


@pytest.mark.parametrize("taps", FILTERS)
def test_resampling_is_a_convolution(image, taps):
    size = len(taps)
    padding = (size - 1) // 2
    # A transposed convolution of padding p correlates the dilated image with the flipped kernel,
    # padded by K - 1 - p.
    transposed = dict(padding=size - 1 - padding, dilation=2, factor=4.0, flip=True)

    @jax.jit
    def found_and_expected(x, small):
        _, transpose = jax.vjp(lambda x: downsample(x, taps), x)
        return {
            "down": (downsample(x, taps), depthwise(x, taps, stride=2, padding=padding)),
            "bare": (downsample(x, taps, padding=0), depthwise(x, taps, stride=2)),
            "up": (upsample(x, taps), depthwise(x, taps, **transposed)),
            "adjoint": (4 * transpose(small)[0], upsample(small, taps)),
        }

    small = np.float32(np.random.default_rng(1).normal(size=(2, 3, 5, 3)))
    pairs = found_and_expected(image, small)
    assert pairs["down"][0].shape == (2, 3, 5, 3) and pairs["up"][0].shape == (2, 12, 20, 3)
    for name, (found, expected) in pairs.items():
        atol = 2e-6 if name in ("down", "bare") else 5e-6
        np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


@pytest.mark.slow
def test_closed_forms():
    x = np.float32([1, 2, 4, 8])[None, :, None, None] * np.ones((1, 1, 4, 1), np.float32)
    taps = [(1, 1), (1, 3, 3, 1)]
    made = jax.jit(lambda x: [f(x, t) for t in taps for f in (upsample, downsample)])(x)
    boxed_up, boxed_down, up, down = (np.asarray(y)[0, :, y.shape[2] // 2, 0] for y in made)
    np.testing.assert_allclose(boxed_up, [1, 1, 2, 2, 4, 4, 8, 8])
    np.testing.assert_allclose(boxed_down, [1.5, 6.0])
    expected = [0.75, 0.75 + 0.5, 1.5 + 0.25, 1.5 + 1, 3 + 0.5, 3 + 2, 6 + 1, 6]
    np.testing.assert_allclose(up, expected)
    # Rows: (3 + 6 + 4) / 8 and (2 + 12 + 24) / 8; columns lose a tap at each border: 7 / 8.
    np.testing.assert_allclose(down, np.array([13, 38]) / 8 * 7 / 8)


@pytest.mark.parametrize("taps", [(1, 3, 1), (), (1, -1), ((1, 1), (1, 1))])
def test_impossible_filters_are_named(taps):
    with pytest.raises(ValueError, match="resample_filter"):
        upsample(np.zeros((1, 2, 2, 1), np.float32), taps)


def test_odd_images_are_refused():
    with pytest.raises(ValueError, match="even height and width"):
        downsample(np.zeros((1, 3, 4, 1), np.float32))

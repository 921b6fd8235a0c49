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
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 10, 3)), jnp.float32)


@pytest.mark.parametrize("taps", FILTERS)
def test_downsample_is_the_strided_convolution(image, taps):
    padding = (len(taps) - 1) // 2
    expected = depthwise(image, taps, stride=2, padding=padding)
    assert expected.shape == (2, 3, 5, 3)
    np.testing.assert_allclose(downsample(image, taps), expected, atol=2e-6)


@pytest.mark.parametrize("taps", FILTERS)
def test_downsample_without_padding(image, taps):
    expected = depthwise(image, taps, stride=2)
    np.testing.assert_allclose(downsample(image, taps, padding=0), expected, atol=2e-6)


@pytest.mark.parametrize("taps", FILTERS)
def test_upsample_is_the_transposed_convolution(image, taps):
    # A transposed convolution of padding p correlates the dilated image with the flipped kernel,
    # padded by K - 1 - p.
    size = len(taps)
    padding = size - 1 - (size - 1) // 2
    expected = depthwise(image, taps, dilation=2, padding=padding, factor=4.0, flip=True)
    assert expected.shape == (2, 12, 20, 3)
    np.testing.assert_allclose(upsample(image, taps), expected, atol=5e-6)


@pytest.mark.parametrize("taps", FILTERS)
def test_up_and_down_are_adjoint(image, taps):
    _, transpose = jax.vjp(lambda x: downsample(x, taps), image)
    small = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 5, 3)), jnp.float32)
    np.testing.assert_allclose(4 * transpose(small)[0], upsample(small, taps), atol=5e-6)


@pytest.mark.slow
def test_closed_forms():
    x = jnp.asarray([1.0, 2.0, 4.0, 8.0])[None, :, None, None] * jnp.ones((1, 1, 4, 1))
    column = lambda y: y[0, :, y.shape[2] // 2, 0]
    np.testing.assert_allclose(column(upsample(x)), [1, 1, 2, 2, 4, 4, 8, 8])
    np.testing.assert_allclose(column(downsample(x)), [1.5, 6.0])
    up = [0.75, 0.75 + 0.5, 1.5 + 0.25, 1.5 + 1, 3 + 0.5, 3 + 2, 6 + 1, 6]
    np.testing.assert_allclose(column(upsample(x, (1, 3, 3, 1))), up)
    # Rows: (3 + 6 + 4) / 8 and (2 + 12 + 24) / 8; columns lose a tap at each border: 7 / 8.
    down = np.array([13, 38]) / 8 * 7 / 8
    np.testing.assert_allclose(column(downsample(x, (1, 3, 3, 1))), down)


@pytest.mark.parametrize("taps", [(1, 3, 1), (), (1, -1), ((1, 1), (1, 1))])
def test_impossible_filters_are_named(taps):
    with pytest.raises(ValueError, match="resample_filter"):
        upsample(jnp.zeros((1, 2, 2, 1)), taps)


def test_odd_images_are_refused():
    with pytest.raises(ValueError, match="even height and width"):
        downsample(jnp.zeros((1, 3, 4, 1)))

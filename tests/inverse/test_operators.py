"""Operators against their definitions: adjoints, singular values, pictures of a single pixel."""

import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import inverse, normal, sample_keys

SHAPE = (8, 8, 3)
X = normal(sample_keys(range(3)), SHAPE)
KEEP = np.random.RandomState(0).rand(*SHAPE) < 0.4

SPECTRAL = {
    "mask": inverse.mask(KEEP),
    "box": inverse.box_downsample(SHAPE, 4),
    "bicubic": inverse.bicubic_downsample(SHAPE, 2),
    "gaussian_blur": inverse.gaussian_blur(SHAPE, 0.8),
    "wide blur": inverse.gaussian_blur(SHAPE, 3.0),  # reflected more than once
    "gray": inverse.gray(SHAPE),
    "matrix": inverse.from_matrix(np.random.RandomState(1).randn(20, 192), SHAPE),
    "tall": inverse.separable(SHAPE, np.random.RandomState(2).randn(12, 8), None, None),
}
FUNCTIONS = {
    "blur": inverse.blur(inverse.motion_kernel(5, angle=30.0)),
    "fourier": inverse.fourier_mask(KEEP[..., 0]),
    "sums": lambda x: x.sum(axis=-1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SPECTRAL, *FUNCTIONS])
def test_adjoints(name):
    operator = (SPECTRAL | FUNCTIONS)[name]
    made = operator(X)
    other = normal(sample_keys(range(5, 8)), made.shape[1:])
    back = inverse.adjoint(operator, X)(other)
    assert back.shape == X.shape
    np.testing.assert_allclose((made * other).sum(), (X * back).sum(), rtol=1e-4)


@pytest.mark.parametrize("name", SPECTRAL)
def test_singular_values(name):
    operator = SPECTRAL[name]
    coordinates = operator.from_image(X)
    np.testing.assert_allclose(operator.to_image(coordinates), X, atol=1e-5)
    np.testing.assert_allclose((coordinates**2).sum(), (X**2).sum(), rtol=1e-5)  # V is orthogonal
    # U^T A = S V^T, and A^T A = V S^2 V^T
    s = jnp.asarray(operator.values, jnp.float32)
    got = operator.from_measurement(operator(X))
    np.testing.assert_allclose(got, s * coordinates, atol=2e-5 * max(1, s.max()))
    both = inverse.adjoint(operator, X)(operator(X))
    np.testing.assert_allclose(
        both, operator.to_image(s**2 * coordinates), atol=2e-5 * max(1, s.max() ** 2)
    )


def test_a_mask_takes_the_known_elements():
    np.testing.assert_array_equal(SPECTRAL["mask"](X), X[:, KEEP])
    shown = inverse.adjoint(SPECTRAL["mask"], X)(SPECTRAL["mask"](X))
    np.testing.assert_array_equal(shown, np.where(KEEP, X, 0.0))


def test_means():
    means = X.reshape(3, 2, 4, 2, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(SPECTRAL["box"](X), means, atol=1e-6)
    np.testing.assert_allclose(SPECTRAL["gray"](X), X.mean(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", ["box", "bicubic", "gaussian_blur", "wide blur", "blur"])
def test_constants_stay(name):
    operator = (SPECTRAL | FUNCTIONS)[name]
    np.testing.assert_allclose(operator(jnp.full((1, *SHAPE), 0.7)), 0.7, atol=1e-6)


def test_a_gaussian_blur_is_its_kernel():
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 0.8) ** 2)
    kernel /= kernel.sum()
    plain = inverse.blur(np.outer(kernel, kernel))
    np.testing.assert_allclose(SPECTRAL["gaussian_blur"](X), plain(X), atol=1e-6)


def test_motion_kernels():
    flat = inverse.motion_kernel(5)
    np.testing.assert_allclose(flat[2].sum(), 1.0)
    assert np.count_nonzero(flat) == 5
    np.testing.assert_allclose(inverse.motion_kernel(5, angle=90.0), flat.T, atol=1e-12)
    diagonal = inverse.motion_kernel(7, angle=45.0)
    np.testing.assert_allclose(diagonal, diagonal[::-1, ::-1], atol=1e-12)
    assert diagonal[1, 5] > 0 and diagonal[1, 1] == 0  # it rises to the right


@pytest.mark.slow
def test_all_frequencies_keep_the_norm():
    everything = inverse.fourier_mask(np.ones((8, 8), bool))(X)
    np.testing.assert_allclose((everything**2).sum(), (X**2).sum(), rtol=1e-5)

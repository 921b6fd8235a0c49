"""Operators against their definitions: adjoints, singular values, pictures of a single pixel."""

import jax
import numpy as np
import pytest

from edm_jax import inverse, normal, sample_keys

SHAPE = (8, 8, 3)
X = np.asarray(normal(sample_keys(range(3)), SHAPE))
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
    size = jax.eval_shape(operator, X).shape
    other = np.random.default_rng(5).standard_normal(size, np.float32)
    made, back = jax.jit(lambda x, y: (operator(x), inverse.adjoint(operator, x)(y)))(X, other)
    assert back.shape == X.shape
    made, back = np.asarray(made), np.asarray(back)
    np.testing.assert_allclose((made * other).sum(), (X * back).sum(), rtol=1e-4)


@pytest.mark.parametrize("name", SPECTRAL)
def test_singular_values(name):
    operator = SPECTRAL[name]
    s = np.float32(operator.values)

    @jax.jit
    def parts(x):
        coordinates, y = operator.from_image(x), jax.jit(operator)(x)
        back = operator.to_image(coordinates), operator.to_image(s**2 * coordinates)
        return coordinates, *back, operator.from_measurement(y), inverse.adjoint(operator, x)(y)

    coordinates, image, scaled, got, both = map(np.asarray, parts(X))
    np.testing.assert_allclose(image, X, atol=1e-5)
    np.testing.assert_allclose((coordinates**2).sum(), (X**2).sum(), rtol=1e-5)  # V is orthogonal
    # U^T A = S V^T, and A^T A = V S^2 V^T
    np.testing.assert_allclose(got, s * coordinates, atol=2e-5 * max(1, s.max()))
    np.testing.assert_allclose(both, scaled, atol=2e-5 * max(1, s.max() ** 2))


def test_a_mask_takes_the_known_elements():
    mask = SPECTRAL["mask"]
    seen, shown = jax.jit(lambda x: (mask(x), inverse.adjoint(mask, x)(mask(x))))(X)
    np.testing.assert_array_equal(seen, X[:, KEEP])
    np.testing.assert_array_equal(shown, np.where(KEEP, X, 0.0))


def test_means():
    means = X.reshape(3, 2, 4, 2, 4, 3).mean(axis=(2, 4))
    box, gray = jax.jit(lambda x: (SPECTRAL["box"](x), SPECTRAL["gray"](x)))(X)
    np.testing.assert_allclose(box, means, atol=1e-6)
    np.testing.assert_allclose(gray, X.mean(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", ["box", "bicubic", "gaussian_blur", "wide blur", "blur"])
def test_constants_stay(name):
    operator = (SPECTRAL | FUNCTIONS)[name]
    grey = np.full((1, *SHAPE), 0.7, np.float32)
    np.testing.assert_allclose(jax.jit(lambda x: operator(x))(grey), 0.7, atol=1e-6)


def test_a_gaussian_blur_is_its_kernel():
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 0.8) ** 2)
    kernel /= kernel.sum()
    plain = inverse.blur(np.outer(kernel, kernel))
    both = jax.jit(lambda x: (SPECTRAL["gaussian_blur"](x), plain(x)))
    np.testing.assert_allclose(*both(X), atol=1e-6)


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
    everything = np.asarray(jax.jit(inverse.fourier_mask(np.ones((8, 8), bool)))(X))
    np.testing.assert_allclose((everything**2).sum(), (X**2).sum(), rtol=1e-5)

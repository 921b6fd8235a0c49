"""Ideal denoisers against linear algebra, brute force and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal

MEANS = np.array([[-1.0, 0.5], [0.3, -0.2], [1.0, 1.0]])
STDS, WEIGHTS = np.array([0.2, 0.4, 0.1]), np.array([0.3, 0.5, 0.2])
MIXTURE = jax.jit(ideal.mixture(MEANS, STDS, WEIGHTS))
POINTS = np.random.default_rng(0).standard_normal((7, 2)) * 1.5


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class TestGaussian:
    """Elementwise and coupled Gaussian data."""

    def test_elementwise(self):
        x, sigma = jnp.asarray(POINTS), jnp.asarray(np.geomspace(0.01, 10.0, 7))
        mean, std = np.array([1.0, -2.0]), np.array([0.5, 0.0])
        s2 = np.asarray(sigma)[:, None] ** 2
        expected = (std**2 * POINTS + s2 * mean) / (std**2 + s2)
        found = ideal.gaussian(mean, std)(x, sigma)
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        np.testing.assert_allclose(found[:, 1], -2.0, rtol=1e-15)  # no spread: the mean

    def test_covariance(self):
        rng = np.random.default_rng(3)
        root = rng.standard_normal((6, 4))  # rank 4 in 6 dimensions
        covariance, mean = root @ root.T, rng.standard_normal((2, 3))
        covariance = (covariance + covariance.T) / 2
        x, sigma = jnp.asarray(rng.standard_normal((5, 2, 3))), jnp.asarray([0.01, 0.1, 1, 5, 20])
        found = np.asarray(jax.jit(ideal.gaussian(mean, covariance=covariance))(x, sigma))
        for i in range(5):
            gain = np.linalg.solve(covariance + float(sigma[i]) ** 2 * np.eye(6), covariance).T
            expected = mean.ravel() + gain @ (np.asarray(x[i]) - mean).ravel()
            np.testing.assert_allclose(found[i].ravel(), expected, rtol=1e-8, atol=1e-10)
        diagonal = np.array([0.5, 2.0])
        np.testing.assert_allclose(
            ideal.gaussian(0.1, covariance=np.diag(diagonal**2))(jnp.asarray(POINTS), 0.7),
            ideal.gaussian(0.1, diagonal)(jnp.asarray(POINTS), 0.7),
            rtol=1e-12,
        )

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({}, "std or covariance must be given, not both"),
            ({"std": 1.0, "covariance": np.eye(2)}, "std or covariance must be given, not both"),
            ({"std": -1.0}, "std must not be negative, got -1.0"),
            ({"covariance": [[1.0, 0.5], [0.0, 1.0]]}, "symmetric"),
            ({"covariance": [[1.0, 2.0], [2.0, 1.0]]}, "no negative eigenvalue"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ideal.gaussian(0.0, **arguments)


class TestMixture:
    """The mixture, against one component, its mean, and weights of any scale."""

    def test_one_component_is_gaussian(self):
        x, sigma = jnp.asarray(POINTS), jnp.asarray(np.geomspace(0.01, 10.0, 7))
        one = jax.jit(ideal.mixture(MEANS[:1], STDS[:1], [3.0]))
        expected = ideal.gaussian(MEANS[0], STDS[0])(x, sigma)
        np.testing.assert_allclose(one(x, sigma), expected, rtol=1e-10)

    def test_limits(self):
        x = jnp.asarray(POINTS)
        np.testing.assert_allclose(MIXTURE(x, 1e6) - WEIGHTS @ MEANS, 0, atol=1e-5)
        np.testing.assert_allclose(MIXTURE(x, 1e-5), x, atol=1e-7)
        points = jax.jit(ideal.mixture(MEANS, np.zeros(3), WEIGHTS))
        nearest = MEANS[((POINTS[:, None] - MEANS) ** 2).sum(-1).argmin(1)]
        np.testing.assert_allclose(points(x, 1e-3), nearest, rtol=1e-12)

    def test_far_outside_nothing_overflows(self):
        with jax.enable_x64(False):
            found = MIXTURE(jnp.full((1, 2), 1e4, jnp.float32), jnp.float32(0.002))
            assert np.isfinite(found).all()

    @pytest.mark.parametrize(
        "means, stds, weights, message",
        [
            (MEANS, STDS[:2], WEIGHTS, r"got \(3, 2\), \(2,\) and \(3,\)"),
            (MEANS, -STDS, WEIGHTS, "stds must be >= 0"),
            (MEANS, STDS, 0 * WEIGHTS, "weights > 0"),
        ],
    )
    def test_bad_arguments_are_named(self, means, stds, weights, message):
        with pytest.raises(ValueError, match=message):
            ideal.mixture(means, stds, weights)


class TestDataset:
    """The finite data set: exact, in chunks, in bounded memory."""

    rng = np.random.default_rng(4)
    images = rng.uniform(-1, 1, (23, 4, 3, 1))

    def noisy(self, sigma, count=5):
        noise = np.random.default_rng(5).standard_normal((count, 4, 3, 1))
        return self.images[:count] + sigma * noise

    @pytest.mark.parametrize("chunk", [1, 5, 22, 23, 100])
    def test_brute_force(self, chunk):
        sigma = np.array([0.05, 0.3, 1.0, 5.0, 80.0])
        x = self.noisy(sigma[:, None, None, None])
        logits = -((x[:, None] - self.images) ** 2).sum((2, 3, 4)) / (2 * sigma[:, None] ** 2)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        expected = np.einsum("bn,nhwc->bhwc", weights, self.images)
        found = ideal.dataset(self.images, chunk=chunk)(jnp.asarray(x), jnp.asarray(sigma))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)

    def test_it_is_the_mixture_of_points(self):
        x = jnp.asarray(self.noisy(0.4))
        points = jax.jit(ideal.mixture(self.images, np.zeros(23), np.ones(23)))
        found = ideal.dataset(self.images, chunk=6)(x, 0.4)
        np.testing.assert_allclose(found, points(x, 0.4), rtol=1e-10)

    def test_limits(self):
        denoise = ideal.dataset(self.images, chunk=6)
        nearest = denoise(jnp.asarray(self.noisy(1e-3)), 1e-3)
        np.testing.assert_allclose(nearest, self.images[:5], rtol=1e-12)
        mean = denoise(jnp.asarray(self.noisy(1e5)), 1e5)
        np.testing.assert_allclose(mean, np.tile(self.images.mean(0), (5, 1, 1, 1)), atol=1e-3)

    def test_float32_keeps_the_logits_apart_at_small_sigma(self):
        """Near-duplicates 1e-4 apart at sigma = 0.002: |x|^2 - 2xy + |y|^2 would be all noise."""
        rng = np.random.default_rng(7)
        y = rng.uniform(-1, 1, 3072)
        twins = np.stack([y, y + 1e-4 * rng.choice([-1, 1], 3072)]).astype(np.float32)
        noise = rng.standard_normal((1, 3072))
        x = (twins.mean(0) + 0.002 * noise).astype(np.float32)
        wide = ideal.dataset(twins.astype(np.float64))(jnp.asarray(x, jnp.float64), 0.002)
        with jax.enable_x64(False):
            found = ideal.dataset(twins)(jnp.asarray(x), jnp.float32(0.002))
        # In units of the twins' distance: the share of the second.
        between = (twins[1] - twins[0]).astype(np.float64)
        share = lambda d: (np.asarray(d[0], np.float64) - twins[0]) @ between / (between @ between)
        assert 0.01 < share(wide) < 0.99
        assert share(found) == pytest.approx(share(wide), abs=2e-3)

    def test_bytes_mean_images(self):
        data = self.rng.integers(0, 256, (9, 4, 3, 1), dtype=np.uint8)
        x = jnp.asarray(self.noisy(0.5))
        expected = ideal.dataset(data / 127.5 - 1.0, chunk=4)(x, 0.5)
        np.testing.assert_allclose(ideal.dataset(data, chunk=4)(x, 0.5), expected, rtol=1e-12)

    def test_derivatives(self):
        """dD/dx = Cov[y|x] / sigma^2, forward and reverse."""
        x, sigma = jnp.asarray(self.noisy(0.5, 1)), 0.5
        denoise = ideal.dataset(self.images, chunk=6)
        at = lambda x: denoise(x, sigma)
        both = jax.jit(lambda x: (jax.jacfwd(at)(x), jax.jacrev(at)(x)))
        forward, reverse = (jacobian.reshape(12, 12) for jacobian in both(x))
        flat = self.images.reshape(23, 12)
        logits = -((np.asarray(x).reshape(12) - flat) ** 2).sum(1) / (2 * sigma**2)
        weights = np.exp(logits) / np.exp(logits).sum()
        expected = np.cov(flat.T, aweights=weights, ddof=0) / sigma**2
        np.testing.assert_allclose(forward, expected, atol=1e-12)
        np.testing.assert_allclose(reverse, expected, atol=1e-12)

    def test_memory_does_not_grow_with_the_images(self):
        def temporary(count):
            denoise = ideal.dataset(np.zeros((count, 64), np.float32), chunk=64)
            x = jnp.zeros((8, 64), jnp.float32)
            program = jax.jit(lambda d, x: d(x, 1.0)).lower(denoise, x).compile()
            return program.memory_analysis().temp_size_in_bytes

        small, large = temporary(64 * 4), temporary(64 * 256)
        assert large < 2 * small and large < 64 * 256 * 8 * 4 / 8

    def test_bad_arguments_are_named(self):
        with pytest.raises(ValueError, match=r"images must be \[N, ...\]"):
            ideal.dataset(np.zeros((0, 3)))
        with pytest.raises(ValueError, match="chunk must be positive, got 0"):
            ideal.dataset(self.images, chunk=0)


def test_sigma_of_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"sigma must have shape \[\] or \(7,\), got \(2,\)"):
        MIXTURE(jnp.asarray(POINTS), jnp.ones(2))

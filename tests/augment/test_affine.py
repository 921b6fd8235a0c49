"""Resampling: its two lookups, the identity, what lies outside, the form chosen per platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.augment import affine

resample = jax.jit(affine.resample)


def some_maps(count, seed=0):
    linear_key, shift_key = jax.random.split(jax.random.key(seed))
    linear = jnp.eye(2) + 0.4 * jax.random.normal(linear_key, (count, 2, 2))
    return linear, 5 * jax.random.normal(shift_key, (count, 2))


@pytest.mark.slow
def test_products_and_gather_agree():
    images = jax.random.normal(jax.random.key(0), (5, 12, 16, 3))
    places = jax.jit(affine._positions, static_argnums=(2, 3))(*some_maps(5), 12, 16)
    gathered = jax.jit(affine.lookup_by_gather)(images, *places)
    multiplied = jax.jit(affine.lookup_by_products)(images, *places)
    assert gathered.shape == (5, 2 * (12 + 6), 2 * (16 + 6), 3)
    np.testing.assert_allclose(gathered, multiplied, rtol=0, atol=5e-5)


def test_tpu_gets_products_and_others_the_gather():
    arguments = (jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 2, 2)), jnp.zeros((2, 2)))
    for platform, gathers in (("tpu", False), ("cpu", True), ("cuda", True)):
        exported = jax.export.export(jax.jit(affine.resample), platforms=[platform])
        program = exported(*arguments).mlir_module()
        assert ("stablehlo.gather" in program) == gathers
        dots = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        assert dots and all("precision = [HIGHEST, HIGHEST]" in line for line in dots)


@pytest.mark.slow
def test_the_identity_is_nearly_exact():
    images = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3), minval=-1.0, maxval=1.0)
    linear, shift = jnp.tile(jnp.eye(2), (2, 1, 1)), jnp.zeros((2, 2))
    np.testing.assert_allclose(resample(images, linear, shift), images, rtol=0, atol=1e-6)


def test_beyond_the_reflection_lies_zero():
    images = jnp.ones((1, 8, 8, 1))
    far = resample(images, jnp.eye(2)[None], jnp.array([[40.0, 0.0]]))
    np.testing.assert_array_equal(far, 0.0)
    # By size - 1 = 7 pixels to the right everything seen is reflection.
    near = resample(images, jnp.eye(2)[None], jnp.array([[4.0, 0.0]]))
    np.testing.assert_allclose(near, 1.0, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_gradients_pass_through():
    """The resampling is linear in the images: its gradient is the adjoint."""
    linear, shift = some_maps(2)
    x, y = jax.random.normal(jax.random.key(2), (2, 2, 8, 8, 1))

    @jax.jit
    def products(x, y):
        out, pull = jax.vjp(lambda images: affine.resample(images, linear, shift), x)
        return jnp.vdot(out, y), jnp.vdot(x, pull(y)[0])

    np.testing.assert_allclose(*products(x, y), rtol=1e-4)


def test_one_pixel_images():
    images = jnp.full((1, 1, 1, 1), 0.5)
    out = resample(images, jnp.eye(2)[None], jnp.zeros((1, 2)))
    assert np.isfinite(out).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_bad_shapes(batch):
    with pytest.raises(ValueError, match="images, linear, shift must be"):
        affine.resample(jnp.zeros((2, 8, 8, 3)), jnp.zeros((batch, 2, 2)), jnp.zeros((2, 2)))

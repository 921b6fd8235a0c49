"""Derivatives: forward and backward agree, rematerialisation changes memory only."""

import functools

import jax
import jax.numpy as jnp
import network_cases as cases
import numpy as np
import pytest

from edm_jax.randomness import sample_keys

JAX = tuple(int(part) for part in jax.__version__.split(".")[:2])


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32), jnp.asarray([-1.0, 0.5])


def compiled_gradient(net, params, x, c_noise):
    """Value and gradient of a loss with dropout, and the compiler's temporary memory."""

    @functools.partial(jax.value_and_grad)
    def loss(params):
        f = net.apply({"params": params}, x, c_noise, dropout_keys=sample_keys([1, 2]))
        return jnp.square(f - x).mean()

    step = jax.jit(loss).lower(params).compile()
    return *step(params), step.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("kind", ["ncsnpp", "adm"])
def test_remat_changes_no_gradient(inputs, kind):
    net = cases.small(kind, dropout=0.3)
    params = cases.formula_params(net)
    value, gradient, memory = compiled_gradient(net, params, *inputs)
    remat = compiled_gradient(net.clone(remat=True), params, *inputs)
    np.testing.assert_allclose(remat[0], value, rtol=1e-6)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
    for a, b in zip(jax.tree.leaves(remat[1]), jax.tree.leaves(gradient), strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)
    if kind == "ncsnpp":
        assert not gradient["map_noise"]["freqs"].any()
    if JAX >= (0, 11):  # XLA for CPUs undoes rematerialisation before
        assert remat[2] < memory


def test_forward_and_backward_derivatives_agree(inputs):
    x, c_noise = inputs
    net = cases.small("ncsnpp")
    params = cases.formula_params(net)
    rng = np.random.default_rng(1)
    u, w = (jnp.asarray(rng.normal(size=x.shape), jnp.float32) for _ in range(2))

    @jax.jit
    def products(params, x):
        f = lambda x: net.apply({"params": params}, x, c_noise)
        _, tangent = jax.jvp(f, (x,), (u,))
        _, transpose = jax.vjp(f, x)
        return (w * tangent).sum(), (transpose(w)[0] * u).sum()

    forward, backward = products(params, x)
    assert abs(forward) > 1
    np.testing.assert_allclose(forward, backward, rtol=1e-4)

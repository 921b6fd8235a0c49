"""Convolutions in loops: the same numbers, in the order of dimensions that a CPU is fast at."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.xla_metadata import set_xla_metadata

from edm_jax import sample, samplers, timesteps
from edm_jax.convolutions import fast_in_loops

X = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
KERNELS = 0.3 * jax.random.normal(jax.random.key(1), (2, 3, 3, 3, 3))
USUAL = "b01f_01io->b01f"


def network(x, kernels=KERNELS, *, strides=(1, 1)):
    for kernel in kernels:
        order = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=order)
        x = jax.nn.silu(x)
    return x


def energy(x, kernels=KERNELS, **options):
    return 0.5 * (network(x, kernels, **options) ** 2).sum()


def repeated(step, count=3):
    return lambda x: jax.lax.scan(lambda now, _: (step(now), now.sum()), x, None, length=count)


def while_loop(x):
    step = lambda state: (state[0] + 1, state[1] - 0.1 * jax.grad(energy)(state[1]))
    return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, x))


def branches(x):
    step = lambda x: x - 0.1 * jax.grad(energy)(x)
    return jax.lax.scan(
        lambda x, i: (jax.lax.cond(i > 0, step, lambda x: x, x), i), x, jnp.arange(3)
    )


@jax.custom_vjp
def with_pullback(x):
    return x - 0.1 * jax.grad(energy)(x)


with_pullback.defvjp(lambda x: (with_pullback(x), None), lambda _, slope: (3.0 * slope,))


@jax.custom_jvp
def with_tangent(x):
    return x - 0.1 * jax.grad(energy)(x)


with_tangent.defjvp(lambda x, v: (with_tangent(*x), 3.0 * v[0]))


# name -> (function, its argument)
LOOPS = {
    "inputs": (repeated(jax.grad(energy)), X),
    "weights": (repeated(jax.grad(functools.partial(energy, X))), KERNELS),
    "strides": (repeated(jax.grad(functools.partial(energy, strides=(1, 2)))), X),
    "remat": (repeated(jax.grad(jax.checkpoint(energy))), X),
    "the gradient of a loop": (jax.grad(lambda x: energy(repeated(network)(x)[0])), X),
    "a map": (repeated(jax.vmap(jax.grad(lambda x: energy(x[None])))), X),
    "while": (while_loop, X),
    "cond": (branches, X),
    "custom_vjp": (repeated(with_pullback), X),
    "custom_jvp": (repeated(with_tangent), X),
    "jit": (repeated(jax.jit(jax.grad(energy))), X),
}


def lowered(function, *args):
    """A program before XLA changes any of it."""
    return jax.jit(function).lower(*args).as_text(dialect="hlo")


def orders(function, *args):
    """The orders of dimensions of a program's convolutions."""
    return set(re.findall(r"dim_labels=([^,\n]*)", lowered(function, *args)))


@pytest.mark.parametrize("name", LOOPS)
def test_same_numbers_in_the_fast_order(name):
    function, x = LOOPS[name]
    fast = fast_in_loops(function)
    assert orders(function, x) > {USUAL}
    assert orders(fast, x) == {USUAL}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6 * np.abs(b).max()),
        jax.jit(fast)(x),
        jax.jit(function)(x),
    )


@pytest.mark.parametrize(
    "side, padding, rows", [(16, "SAME", 4), (17, ((1, 2), (0, 1)), 3), (16, "VALID", 2)]
)
def test_weights_gradients_are_summed_over_rows(side, padding, rows):
    order = ("NHWC", "HWIO", "NHWC")
    x = jax.random.normal(jax.random.key(2), (16, side, 16, 2))

    def loss(kernel):
        convolved = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, None, None, order)
        return (convolved**2).sum()

    plain, kernel = jax.grad(loss), KERNELS[0, :, :, :2]
    fast, whole = fast_in_loops(plain), fast_in_loops(plain, in_rows=False)
    # Of the windows: the network's own, and the gradients'.
    heights = lambda function: sorted(
        int(size) for size in re.findall(r"size=(\d+)x", lowered(function, kernel))
    )
    assert heights(whole) == heights(plain) and heights(plain)[0] == 3 < heights(plain)[1] > 13
    assert heights(fast) == sorted([3, rows, rows])  # the first rows, and a loop of the others
    np.testing.assert_allclose(jax.jit(fast)(kernel), jax.jit(plain)(kernel), rtol=2e-5)


def test_it_is_differentiated_and_mapped():
    with jax.enable_x64(True):  # a derivative of three steps, which loses three digits
        x, kernels = X[:, None].astype(jnp.float64), KERNELS.astype(jnp.float64)
        step = lambda x: repeated(jax.grad(lambda x: energy(x, kernels)))(x)[0].sum()
        plain = jax.jit(jax.vmap(jax.grad(step)))
        fast = jax.jit(jax.vmap(jax.grad(fast_in_loops(step))))
        np.testing.assert_allclose(fast(x), plain(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("step", [with_pullback, with_tangent], ids=["custom_vjp", "custom_jvp"])
def test_a_derivative_that_was_given_stays(step):
    fast = fast_in_loops(repeated(step, count=2))
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: fast(x)[0].sum()))(X), 9.0)


def test_what_was_said_of_an_operation_stays():
    def function(x):
        with set_xla_metadata(said="here"):
            x = jnp.sin(x)
        return repeated(jax.grad(energy))(x)

    assert 'said = "here"' in jax.jit(fast_in_loops(function)).lower(X).as_text()


def test_programs_without_gradients_stay_as_they_are():
    loop = repeated(network)
    assert str(jax.make_jaxpr(fast_in_loops(loop))(X)) == str(jax.make_jaxpr(loop)(X))


def test_the_samplers_loop_is_fast():
    def guided(x, sigma):
        value, pullback = jax.vjp(network, x)
        return value + pullback(value)[0]

    heun = samplers.heun(timesteps.edm(3))
    assert orders(lambda x: sample(guided, heun, x), X) == {USUAL}


def test_without_jit_values_are_seen():
    seen = []

    def step(x):
        seen.append(float(x))
        return 2 * x

    with jax.disable_jit():
        fast_in_loops(step)(jnp.ones(()))
    assert seen == [1.0]

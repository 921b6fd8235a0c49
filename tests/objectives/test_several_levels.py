"""Several noise levels within an example: of its frames, channels, elements or leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import ideal, objectives, preconditioning

# Data of second moment 1/4 and noise of second moment 1, orthogonal along the last axis: means
# over it are expectations.
Y = np.tile(0.5 * np.float32([1, 1, -1, -1]), (6, 3, 1))
NOISE = np.tile(np.float32([1, -1, 1, -1]), (6, 3, 1))
FRAMES = np.exp(np.linspace(-3, 3, 18, dtype=np.float32)).reshape(6, 3, 1)
PARTS = {"one": [6, 3, 1], "shared": [1, 3, 1], "of examples": [6, 1, 1], "of elements": [6, 3, 4]}


@pytest.mark.parametrize("shape", PARTS.values(), ids=PARTS)
def test_a_linear_denoiser_has_its_least_loss_at_every_level(shape):
    """c^2 sigma^2 / (c^2 + sigma^2) for N(0, c^2), at each frame by its own sigma."""
    sigma = jnp.broadcast_to(FRAMES[: shape[0], : shape[1]], shape)
    seen = []

    def linear(x, sigma):
        seen.append(sigma.shape)
        return x * 0.25 / (0.25 + sigma**2)

    found = objectives.loss(linear, Y, sigma, NOISE, objectives.unit_weight()).mean(2)
    levels = np.broadcast_to(sigma, Y.shape)[..., 0]
    np.testing.assert_allclose(found, 0.25 * levels**2 / (0.25 + levels**2), rtol=2e-4)
    assert seen == [tuple(shape)]


@pytest.mark.parametrize("shape", PARTS.values(), ids=PARTS)
def test_the_loss_of_edm_starts_at_one_at_every_level(shape):
    """The zero network in the preconditioner, which hands it ln(sigma) / 4 of every level."""
    sigma = jnp.broadcast_to(FRAMES[: shape[0], : shape[1]], shape)
    seen = []

    def zero(x, c_noise):
        seen.append(c_noise)
        return jnp.zeros_like(x)

    denoise = preconditioning.denoiser(zero, preconditioning.edm(0.5))
    found = objectives.loss(denoise, Y, sigma, NOISE, objectives.edm_weight(0.5)).mean(2)
    np.testing.assert_allclose(found, 1.0, rtol=2e-4)
    np.testing.assert_allclose(seen[0], jnp.log(sigma) / 4, rtol=1e-6)


def test_one_level_an_example_may_be_written_either_way():
    denoise = preconditioning.denoiser(lambda x, c: 0.3 * x, preconditioning.edm(0.5))
    weight, sigma = objectives.edm_weight(0.5), FRAMES[:, 0, 0]
    written = objectives.loss(denoise, Y, sigma[:, None, None], NOISE, weight)
    np.testing.assert_array_equal(objectives.loss(denoise, Y, sigma, NOISE, weight), written)


@pytest.mark.slow
def test_every_leaf_may_have_its_own_level():
    y, noise = {"a": Y, "b": Y[:, 0]}, {"a": NOISE, "b": NOISE[:, 0]}
    sigma = {"a": FRAMES, "b": jnp.linspace(0.1, 0.9, 6)}
    shrink = lambda x, s: x * 0.25 / (0.25 + s**2)

    def linear(x, sigma):
        return {"a": shrink(x["a"], sigma["a"]), "b": shrink(x["b"], sigma["b"][:, None])}

    found = objectives.loss(linear, y, sigma, noise, objectives.edm_weight(0.5))
    for name in y:
        wanted = objectives.loss(
            ideal.gaussian(0.0, 0.5) if name == "b" else shrink,
            y[name], sigma[name], noise[name], objectives.edm_weight(0.5),
        )  # fmt: skip
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6)
    one = objectives.loss(lambda x, s: x, y, 0.5, noise, objectives.unit_weight())
    np.testing.assert_allclose(one["b"], (0.5 * noise["b"]) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    "y, sigma, message",
    [
        (Y, np.ones((6, 3)), r"sigma must have shape \[\] or \(6,\), .*got \(6, 3\)"),
        (Y, np.ones((6, 2, 1)), r"or as many dimensions as \(6, 3, 4\) .*got \(6, 2, 1\)"),
        ({"a": Y}, {"b": 1.0}, "sigma must be an array or have the structure of y, .*'a'.*'b'"),
    ],
)
def test_levels_that_do_not_fit_are_named(y, sigma, message):
    noise = jax.tree.map(lambda a: NOISE, y)
    with pytest.raises(ValueError, match=message):
        objectives.loss(lambda x, s: x, y, sigma, noise, objectives.unit_weight())
    if not isinstance(y, dict):
        with pytest.raises(ValueError, match=message):
            preconditioning.denoiser(lambda x, c: x, preconditioning.edm())(y, sigma)

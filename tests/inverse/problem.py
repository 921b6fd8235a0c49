"""The linear-Gaussian problem of tests/golden/inverse.npz: vectors are 4 x 4 x 1 images."""

import json

import jax.numpy as jnp
import numpy as np

from edm_jax import ideal, inverse


def prior(g):
    return ideal.gaussian(g["mu"].reshape(4, 4, 1), covariance=(g["C"] + g["C"].T) / 2)


def matrix_operator(g, task):
    return inverse.from_matrix(g[f"A/{task}"], (4, 4, 1))


def measurement(g, task, batch, kind="y"):
    return jnp.tile(jnp.asarray(g[f"{kind}/{task}"]), (batch, 1))


def shared(g, key):
    """An array that another name stands for, or its beginning: draws that cases have in common."""
    name, length = json.loads(bytes(g["shared"])).get(key, (key, None))
    return g[name][:length]


def near(got, expected, tolerance=1e-11, name=""):
    expected = np.asarray(expected)
    got = np.asarray(got).reshape(expected.shape)
    size = max(1, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * size, err_msg=name)


def cases(g, *methods):
    return [c for c in json.loads(bytes(g["cases"])) if c["method"] in methods]


def images(array, shape=(4, 4, 1)):
    return np.asarray(array).reshape(*array.shape[:-1], *shape)

"""The linear-Gaussian problem of tests/golden/inverse.npz: vectors are 4 x 4 x 1 images."""

import jax.numpy as jnp

from edm_jax import ideal, inverse


def prior(g):
    return ideal.gaussian(g["mu"].reshape(4, 4, 1), covariance=(g["C"] + g["C"].T) / 2)


def matrix_operator(g, task):
    return inverse.from_matrix(g[f"A/{task}"], (4, 4, 1))


def measurement(g, task, batch, kind="y"):
    return jnp.tile(jnp.asarray(g[f"{kind}/{task}"]), (batch, 1))

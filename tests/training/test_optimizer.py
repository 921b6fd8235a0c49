"""Adam against its recursion in float64, and the ramp of the learning rate."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax.training import optimizer

GRADIENTS = np.array([[3.0, -4.0], [0.1, 0.2], [-6.0, 8.0], [1e-4, np.nan]])


def by_hand(rates, b1=0.9, b2=0.999, eps=1e-8, clip=np.inf, weight_decay=0.0):
    """The path of two parameters that start at 1 and 2 (Loshchilov and Hutter 2019)."""
    params, m, v, path = np.array([1.0, 2.0]), 0.0, 0.0, []
    for t, (rate, g) in enumerate(zip(rates, np.nan_to_num(GRADIENTS)), 1):
        g = g * min(1.0, clip / np.linalg.norm(g))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        moved = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        params = params - rate * (moved + weight_decay * params)
        path.append(params)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"b1": 0.5},
        {"b2": 0.9},
        {"eps": 0.5},
        {"clip": 1.0},
        {"clip": 7.0},
        {"weight_decay": 2.0},
    ],
    ids=str,
)
def test_adam_is_its_recursion(options):
    rates = [0.0, 0.01, 0.02, 0.02]  # of `learning_rate`: the ramp ends at step 2
    adam = optimizer.adam(optimizer.learning_rate(0.02, 32, 16), **options)
    params = {"w": jnp.array([1.0, 2.0])}
    state = adam.init(params)
    for g, wanted in zip(GRADIENTS, by_hand(rates, **options)):
        updates, state = adam.update({"w": jnp.asarray(g, jnp.float32)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        np.testing.assert_allclose(params["w"], wanted, rtol=2e-6)
    assert adam.project(params) is params


@pytest.mark.parametrize("name", ["default", "beta2_99"])
def test_radam_is_pytorch_s(golden, name):
    """Its first five steps are momentum's, undivided; optax adds epsilon a little later."""
    reference = golden("few_steps.npz")
    (case,) = [c for c in json.loads(str(reference["radam/cases"])) if c["name"] == name]
    b1, b2 = case["betas"]
    schedule = optimizer.learning_rate(case["lr"], 0, 1)
    radam = optimizer.adam(schedule, b1=b1, b2=b2, eps=case["eps"], rectified=True)
    with jax.enable_x64(True):  # how far it is rectified loses four digits in float32 at first
        params = jnp.zeros(6)
        state, update, path = radam.init(params), jax.jit(radam.update), []
        for grads in reference[f"radam/{name}/grads"]:
            updates, state = update(jnp.asarray(grads), state, params)
            params = params + updates
            path.append(np.asarray(params))
    np.testing.assert_allclose(path, reference[f"radam/{name}/params"], rtol=0, atol=1e-6)


def test_the_learning_rate_rises_in_a_line_and_stays():
    schedule = optimizer.learning_rate(0.5, 1000, 100)
    found = [float(schedule(step)) for step in (0, 1, 5, 9, 10, 11, 10**6)]
    np.testing.assert_allclose(found, [0, 0.05, 0.25, 0.45, 0.5, 0.5, 0.5], rtol=1e-6)
    assert optimizer.learning_rate(0.5, 0, 100)(0) == 0.5
    assert optimizer.learning_rate(0.5, 1, 100)(0) == 0.0  # any ramp begins at 0

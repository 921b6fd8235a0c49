"""Gradients through a sampler that keep few of its states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import normal, sample, sample_keys, samplers, timesteps

KEYS = sample_keys(range(16))
NOISE = normal(KEYS, (64,))
WEIGHTS = (
    0.1 * jax.random.normal(jax.random.key(0), (64, 512)),
    0.1 * jax.random.normal(jax.random.key(1), (512, 64)),
)


def through(tableau, **options):
    """(weights, noise) -> a number, by way of the sampler."""

    def network(x, sigma, weights):
        return x / (1 + sigma**2) + 0.01 * jnp.tanh(jnp.tanh(x @ weights[0]) @ weights[1])

    def total(weights, noise):
        denoise = lambda x, sigma: network(x, sigma, weights)
        found = sample(denoise, tableau, noise, KEYS, **options)
        return sum((a**2).sum() for a in jax.tree.leaves(found))

    return total


def states_kept(tableau, **options):
    """The program's memory beside its arguments and results, in states."""
    program = jax.jit(jax.grad(through(tableau, **options), (0, 1))).lower(WEIGHTS, NOISE).compile()
    return program.memory_analysis().temp_size_in_bytes / NOISE.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler", "euler_ancestral"])
def test_memory_grows_with_the_root_of_the_steps(solver):
    grids = {steps: samplers.build(solver, timesteps.edm(steps)) for steps in (16, 64, 256)}
    few, some, many = (states_kept(grid, remat=True) for grid in grids.values())
    # From sqrt(K) states to twice as many, and twice again: sqrt(K) chunks and a chunk's rows.
    assert some - few <= 2 * (8 - 4) + 2 and many - some <= 2 * (16 - 8) + 2
    # Kept are all states, and what the network makes on the way, where nothing is done again.
    assert states_kept(grids[256]) - states_kept(grids[64]) > 256 - 64
    assert states_kept(grids[256]) > 10 * many


# Of 7 and 18 rows the last chunk is not full; memory is measured where all are.
@pytest.mark.slow
@pytest.mark.parametrize(
    "steps, options",
    [(1, {}), (7, {"trajectory": [0, 1], "unroll": 2}), (18, {"trajectory": True})],
)
def test_the_gradient_is_the_same(steps, options):
    tableau = samplers.euler_ancestral(timesteps.edm(steps))
    plain, again = (
        jax.jit(jax.value_and_grad(through(tableau, remat=remat, **options), (0, 1)))(
            WEIGHTS, NOISE
        )
        for remat in (False, True)
    )
    for found, wanted in zip(jax.tree.leaves(again), jax.tree.leaves(plain)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("steps", [16, 18])
def test_the_network_is_in_the_program_once(steps):
    tableau = samplers.euler(timesteps.edm(steps))
    run = jax.jit(lambda noise: sample(lambda x, s: jnp.tanh(x), tableau, noise, remat=True))
    assert run.lower(NOISE).as_text().count("stablehlo.tanh") == 1
    np.testing.assert_allclose(
        run(NOISE), sample(lambda x, s: jnp.tanh(x), tableau, NOISE), rtol=2e-6, atol=1e-6
    )


def test_a_loop_takes_no_remat():
    loop = samplers.build("predictor_corrector", timesteps.edm(4))
    with pytest.raises(ValueError, match="remat must be left out for a Loop, got True"):
        sample(lambda x, s: x, loop, NOISE, KEYS, remat=True)

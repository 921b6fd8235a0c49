"""Every loop of the registry under every transformation, and on a conditional model."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from small_network import SmallNetwork

from edm_jax import preconditioning, randomness, samplers, timesteps
from edm_jax.model import Model
from edm_jax.networks import ddpmpp

LOOPS = [
    name
    for name in samplers.SOLVERS
    if name in ("adaptive", "improved_ddpm", "predictor_corrector")
]
BATCH = 8
KEYS = randomness.sample_keys(range(BATCH))
NOISE = np.asarray(randomness.normal(randomness.sample_keys(range(20, 20 + BATCH)), (3,)))
LEVELS = timesteps.edm(5)


def posterior_mean(x, sigma):
    """Of two points a coordinate: no factor of x, so its derivative is not constant."""
    return 0.5 * jnp.tanh(x / (0.2 + jnp.reshape(sigma, (-1, 1)) ** 2))


def denoiser_for(loop, dtype=jnp.float32):
    if not loop.variance:
        return lambda x, sigma: posterior_mean(x, sigma).astype(dtype)
    return lambda x, sigma: (
        posterior_mean(x, sigma).astype(dtype),
        jax.nn.sigmoid(x).astype(dtype),
    )


@pytest.fixture(params=LOOPS)
def call(request):
    loop = samplers.build(request.param, LEVELS)
    assert isinstance(loop, samplers.Loop)
    assert loop.stochastic == samplers.SOLVERS[request.param].stochastic
    return lambda noise, keys: samplers.sample(denoiser_for(loop), loop, noise, keys)


@pytest.mark.slow
def test_jit_vmap_and_eight_devices_agree(call):
    expected = call(NOISE, KEYS)
    assert np.isfinite(expected).all()
    chex.clear_trace_counter()  # it counts by the function's name
    compiled = jax.jit(chex.assert_max_traces(call, n=1))
    for _ in range(2):
        chex.assert_trees_all_close(compiled(NOISE, KEYS), expected, atol=1e-4)
    mapped = jax.jit(jax.vmap(call))(NOISE.reshape(4, 2, 3), KEYS.reshape(4, 2))
    chex.assert_trees_all_close(np.reshape(mapped, (BATCH, 3)), expected, atol=1e-4)
    assert jax.device_count() == BATCH
    on_devices = jax.pmap(call)(NOISE[:, None], KEYS[:, None])
    chex.assert_trees_all_close(np.asarray(on_devices)[:, 0], np.asarray(expected), atol=1e-4)


@pytest.mark.slow
def test_gradients_are_those_of_differences(call):
    smooth = jax.jit(lambda noise: call(noise, KEYS[:2]))
    check_grads(smooth, (0.3 * NOISE[:2],), order=1, modes=["rev"], atol=0.02, rtol=0.02, eps=3e-3)


@pytest.mark.slow
def test_a_sample_is_the_same_in_another_place_of_another_batch(call):
    whole = jax.jit(call)(NOISE, KEYS)
    part = jax.jit(call)(NOISE[4:1:-1], KEYS[4:1:-1])
    chex.assert_trees_all_close(part, np.asarray(whole)[4:1:-1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_a_bfloat16_denoiser_leaves_the_state_in_float32(name):
    options = {"rtol": 1e-2, "atol": 1e-2} if name == "adaptive" else {}
    loop = samplers.build(name, LEVELS, **options)
    exact, rough = jax.jit(
        lambda noise, keys: [
            samplers.sample(denoiser_for(loop, dtype), loop, noise, keys)
            for dtype in (jnp.float32, jnp.bfloat16)
        ]
    )(NOISE, KEYS)
    chex.assert_type(rough, jnp.float32)
    chex.assert_trees_all_close(rough, exact, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_a_conditional_model_in_a_batch_of_labels(name):
    """Labels are closed over for a whole batch: every evaluation must be one of all of it."""
    config = ddpmpp(resolution=4, channels=1, label_dim=3, model_channels=8)
    loop = samplers.build(name, LEVELS)
    network = SmallNetwork(out_channels=1 + loop.variance, width=8)
    x, labels = np.zeros((3, 4, 4, 1), np.float32), np.eye(3, dtype=np.float32)
    params = jax.jit(network.init)(jax.random.key(0), x, x[:, 0, 0, 0], labels)["params"]
    model = Model(params, network, preconditioning.edm(), config)
    keys = KEYS[:3]
    noise = np.asarray(randomness.normal(keys, (4, 4, 1)))

    @jax.jit
    def draw(noise, keys, labels):
        denoise = (model.denoiser_with_variance if loop.variance else model.denoiser)(labels)
        return samplers.sample(denoise, loop, noise, keys)

    together = np.asarray(draw(noise, keys, labels))
    assert together.shape == x.shape and np.isfinite(together).all()
    for i in range(3):
        alone = draw(noise[i : i + 1], keys[i : i + 1], labels[i : i + 1])
        chex.assert_trees_all_close(together[i : i + 1], alone, atol=2e-4)
    other = draw(noise, keys, np.roll(labels, 1, axis=0))
    assert (np.abs(other - together).max((1, 2, 3)) > 1e-2).all()  # the labels are heard

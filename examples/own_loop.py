"""Your own loop and optimizer, a Flax linen network: two moons in a minute on a CPU, drawn."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from moons import main, two_moons

from edm_jax import denoiser, preconditioning
from edm_jax.objectives import edm_weight, log_normal, loss

SIGMA_DATA = 0.5
PRECONDITIONER = preconditioning.edm(sigma_data=SIGMA_DATA)
WEIGHT = edm_weight(SIGMA_DATA)
NOISE_LEVELS = log_normal(p_mean=-1.2, p_std=1.2)


class MLP(nn.Module):
    """F(c_in x [B, 2], c_noise [B]) -> [B, 2]."""

    @nn.compact
    def __call__(self, x, c_noise):
        waves = c_noise[:, None] * 2.0 ** jnp.arange(-1, 3)
        h = jnp.concatenate([x, jnp.sin(waves), jnp.cos(waves)], axis=-1)
        for _ in range(3):
            h = nn.silu(nn.Dense(128)(h))
        return nn.Dense(2)(h)


def train(steps, batch=512):
    """Returns D(x; sigma) after that many optimizer steps, and the loss of each."""
    net, adam = MLP(), optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))

    def with_params(params):
        return denoiser(lambda x, c_noise: net.apply(params, x, c_noise), PRECONDITIONER)

    @jax.jit
    def step(params, state, key):
        data_key, sigma_key, noise_key = jax.random.split(key, 3)
        y = two_moons(data_key, batch)
        sigma = NOISE_LEVELS(sigma_key, (batch,))
        noise = jax.random.normal(noise_key, y.shape)
        mean_loss = lambda p: loss(with_params(p), y, sigma, noise, WEIGHT).mean()
        value, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = adam.init(params), []
    for key in jax.random.split(jax.random.key(1), steps):
        params, state, value = step(params, state, key)
        losses.append(value)
    return with_params(params), np.array(losses)


if __name__ == "__main__":
    main(train, __doc__)

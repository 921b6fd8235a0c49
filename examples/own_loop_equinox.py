"""Your own loop and optimizer, an Equinox network: two moons in a minute on a CPU, drawn."""

import equinox as eqx
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


class MLP(eqx.Module):
    """F(c_in x [2], c_noise []) -> [2]; Equinox writes a network for one example."""

    layers: list

    def __init__(self, key):
        widths, keys = (10, 128, 128, 128, 2), jax.random.split(key, 4)
        pairs = zip(widths, widths[1:])
        self.layers = [eqx.nn.Linear(*pair, key=key) for pair, key in zip(pairs, keys)]

    def __call__(self, x, c_noise):
        waves = c_noise * 2.0 ** jnp.arange(-1, 3)
        h = jnp.concatenate([x, jnp.sin(waves), jnp.cos(waves)])
        for layer in self.layers[:-1]:
            h = jax.nn.silu(layer(h))
        return self.layers[-1](h)


def train(steps, batch=512):
    """Returns D(x; sigma) after that many optimizer steps, and the loss of each."""
    net, adam = MLP(jax.random.key(0)), optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    @eqx.filter_jit
    def step(net, state, key):
        data_key, sigma_key, noise_key = jax.random.split(key, 3)
        y = two_moons(data_key, batch)
        sigma = NOISE_LEVELS(sigma_key, (batch,))
        noise = jax.random.normal(noise_key, y.shape)

        def mean_loss(net):
            return loss(denoiser(jax.vmap(net), PRECONDITIONER), y, sigma, noise, WEIGHT).mean()

        value, gradient = eqx.filter_value_and_grad(mean_loss)(net)
        updates, state = adam.update(gradient, state)
        return eqx.apply_updates(net, updates), state, value

    state, losses = adam.init(eqx.filter(net, eqx.is_array)), []
    for key in jax.random.split(jax.random.key(1), steps):
        net, state, value = step(net, state, key)
        losses.append(value)
    return denoiser(jax.vmap(net), PRECONDITIONER), np.array(losses)


if __name__ == "__main__":
    main(train, __doc__)

"""Your own loop and optimizer, a Flax NNX network: two moons in a minute on a CPU, drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from moons import main, two_moons

from edm_jax import denoiser, preconditioning
from edm_jax.objectives import edm_weight, log_normal, loss

SIGMA_DATA = 0.5
PRECONDITIONER = preconditioning.edm(sigma_data=SIGMA_DATA)
WEIGHT = edm_weight(SIGMA_DATA)
NOISE_LEVELS = log_normal(p_mean=-1.2, p_std=1.2)


class MLP(nnx.Module):
    """F(c_in x [B, 2], c_noise [B]) -> [B, 2]."""

    def __init__(self, rngs):
        widths = (10, 128, 128, 128, 2)
        self.layers = nnx.List(nnx.Linear(*pair, rngs=rngs) for pair in zip(widths, widths[1:]))

    def __call__(self, x, c_noise):
        waves = c_noise[:, None] * 2.0 ** jnp.arange(-1, 3)
        h = jnp.concatenate([x, jnp.sin(waves), jnp.cos(waves)], axis=-1)
        for layer in self.layers[:-1]:
            h = nnx.silu(layer(h))
        return self.layers[-1](h)


def train(steps, batch=512):
    """Returns D(x; sigma) after that many optimizer steps, and the loss of each."""
    net, adam = MLP(nnx.Rngs(0)), optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    optimizer = nnx.Optimizer(net, adam, wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer, key):
        data_key, sigma_key, noise_key = jax.random.split(key, 3)
        y = two_moons(data_key, batch)
        sigma = NOISE_LEVELS(sigma_key, (batch,))
        noise = jax.random.normal(noise_key, y.shape)
        mean_loss = lambda net: loss(denoiser(net, PRECONDITIONER), y, sigma, noise, WEIGHT).mean()
        value, gradient = nnx.value_and_grad(mean_loss)(net)
        optimizer.update(net, gradient)
        return value

    losses = [step(net, optimizer, key) for key in jax.random.split(jax.random.key(1), steps)]
    return denoiser(net, PRECONDITIONER), np.array(losses)


if __name__ == "__main__":
    main(train, __doc__)

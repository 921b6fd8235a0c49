"""Your own loop, network and optimizer: two moons in a minute on a CPU, drawn to a picture."""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from edm_jax import denoiser, normal, preconditioning, sample, sample_keys, samplers, timesteps
from edm_jax.objectives import edm_weight, log_normal, loss

matplotlib.use("agg")
import matplotlib.pyplot as plt

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


def two_moons(key, count):
    """Points of two half circles, [count, 2], with about unit extent and deviation 0.5."""
    angle_key, side_key, blur_key = jax.random.split(key, 3)
    angle = jnp.pi * jax.random.uniform(angle_key, (count,))
    side = jax.random.bernoulli(side_key, shape=(count,))
    x = jnp.where(side, jnp.cos(angle), 1 - jnp.cos(angle)) - 0.5
    y = jnp.where(side, jnp.sin(angle), 0.5 - jnp.sin(angle)) - 0.25
    points = jnp.stack([x, y], axis=-1) + 0.05 * jax.random.normal(blur_key, (count, 2))
    return points / jnp.array([1.75, 1.0])


def train(steps, batch=512):
    """Returns D(x; sigma) after that many optimizer steps, and the loss of each."""
    net, adam = MLP(), optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    params = net.init(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1))

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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", help="where to write the PNG")
    parser.add_argument("--steps", type=int, default=5000)
    args = parser.parse_args()
    denoise, losses = train(args.steps)
    keys = sample_keys(range(2000))
    drawn = sample(denoise, samplers.heun(timesteps.edm(18)), normal(keys, (2,)))
    print(f"loss: {losses[:100].mean():.3f} at first, {losses[-100:].mean():.3f} at last")
    _, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
    for ax, points, title in zip(
        axes, (two_moons(jax.random.key(2), 2000), drawn), ("data", "drawn by the model")
    ):
        ax.scatter(*np.asarray(points).T, s=2)
        ax.set_title(title)
    plt.savefig(args.picture, dpi=80)


if __name__ == "__main__":
    main()

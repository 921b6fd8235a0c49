"""What the examples of a loop of one's own share: the data, the command and its picture."""

import argparse

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from edm_jax import normal, sample, sample_keys, samplers, timesteps

matplotlib.use("agg")
import matplotlib.pyplot as plt


def two_moons(key, count):
    """Points of two half circles, [count, 2], with about unit extent and deviation 0.5."""
    angle_key, side_key, blur_key = jax.random.split(key, 3)
    angle = jnp.pi * jax.random.uniform(angle_key, (count,))
    side = jax.random.bernoulli(side_key, shape=(count,))
    x = jnp.where(side, jnp.cos(angle), 1 - jnp.cos(angle)) - 0.5
    y = jnp.where(side, jnp.sin(angle), 0.5 - jnp.sin(angle)) - 0.25
    points = jnp.stack([x, y], axis=-1) + 0.05 * jax.random.normal(blur_key, (count, 2))
    return points / jnp.array([1.75, 1.0])


def main(train, about):
    """Trains, samples and draws.

    Args:
      train: steps -> (D(x; sigma), the loss of each step).
      about: a line for --help.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("picture", help="where to write the PNG")
    parser.add_argument("--steps", type=int, default=5000)
    args = parser.parse_args()
    denoise, losses = train(args.steps)
    keys = sample_keys(range(2000))
    drawn = sample(denoise, samplers.heun(timesteps.edm(18)), normal(keys, (2,)))
    print(f"loss: {losses[:100].mean():.3f} at first, {losses[-1000:].mean():.3f} at last")
    _, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
    data = two_moons(jax.random.key(2), 2000)
    for ax, points, title in zip(axes, (data, drawn), ("data", "drawn by the model")):
        ax.scatter(*np.asarray(points).T, s=2)
        ax.set_title(title)
    plt.savefig(args.picture, dpi=80)

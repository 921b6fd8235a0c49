"""Autoguidance in the plane: a model of two trees' branches, guided by worse models.

    python examples/autoguidance.py trees.png      # trains for minutes on two CPU cores, and draws

The example of Karras et al. 2024 (arXiv 2406.02507, figures 1 and 2): its distribution, a network
of log p(x; sigma), whose gradient is the score, and models trained by this library's step.
"""

import argparse
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from flax import struct

from edm_jax import guidance, objectives, randomness, sample, samplers, timesteps
from edm_jax.networks import magnitude_preserving as mp
from edm_jax.objectives import Losses, levels
from edm_jax.score import to_denoiser
from edm_jax.training import averages, optimizer, state
from edm_jax.training.step import make_train_step

matplotlib.use("agg")
import matplotlib.pyplot as plt

STEPS, BATCH, COUNT = 4096, 4096, 8192
SAMPLER = samplers.heun(timesteps.edm(32, sigma_min=0.002, sigma_max=5.0, rho=7.0))
AXIS = np.linspace(-2.5, 2.5, 400)  # of the picture
CORE = 2.12**2  # nats below the highest log-density; 99 % of the data are within
LOWEST = -50.0  # what a log-density counts as at least in a mean: single points are far out


class Mixture(NamedTuple):
    """K Gaussians in the plane: weight [K] of sum 1, mean [K, 2], covariance [K, 2, 2]."""

    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def trees(classes="AB"):
    """The distribution: a tree for class A, one for B, each of 127 branches of 8 Gaussians."""
    random = np.random.RandomState(2)
    scale = np.array([1.3136, 1.3844])
    found = {}

    def branch(into, depth, start, angle):
        along = np.array([np.cos(angle), np.sin(angle)])
        length = 0.292 * 0.8**depth * (1 + 0.2 * random.randn())
        thickness, size = 0.2 * 0.8**depth / length, 0.06 * length * scale
        across = np.eye(2) - np.outer(along, along)
        shape = (np.outer(along, along) + thickness**2 * across) * np.outer(size, size)
        for t in np.linspace(0.07, 0.93, 8):
            into.append((length * 0.5**depth, (start + along * length * t) * scale, shape))
        for side in (1, -1):
            turn = side * 0.7**depth * (1 + 0.2 * random.randn())
            if depth < 6:
                branch(into, depth + 1, start + along * length, angle + turn)

    for name, angle in (("A", np.pi / 4), ("B", 5 * np.pi / 4)):
        branch(found.setdefault(name, []), 0, np.array([0.0030, 0.0325]), angle)
    weight, mean, covariance = map(np.array, zip(*(g for name in classes for g in found[name])))
    return Mixture(weight / weight.sum(), mean, covariance)


def log_density(mixture):
    """log p(x; sigma) of data with noise: (x [B, 2], sigma [] or [B]) -> [B]."""
    variances, basis = np.linalg.eigh(mixture.covariance)
    centres = np.einsum("ki,kij->kj", mixture.mean, basis)
    axes = [(basis[:, :, j].T, centres[:, j], variances[:, j]) for j in (0, 1)]

    def log_p(x, sigma):
        as_x = lambda values: jnp.asarray(values, x.dtype)
        noise = jnp.reshape(as_x(sigma) ** 2, (-1, 1))
        logits = as_x(np.log(mixture.weight / (2 * np.pi)))
        for direction, centre, variance in axes:  # the principal ones of every Gaussian
            away = jnp.matmul(x, as_x(direction), precision="highest") - as_x(centre)
            variance = as_x(variance) + noise
            logits = logits - 0.5 * (away**2 / variance + jnp.log(variance))
        return jax.scipy.special.logsumexp(logits, axis=-1)

    return log_p


def draw(mixture, keys):
    """Points [B, 2] of a mixture, one for each typed key [B]."""
    for_which, for_where = randomness.split(keys)
    share = jnp.cumsum(jnp.asarray(mixture.weight))
    which = jnp.searchsorted(share, randomness.uniform(for_which) * share[-1])
    n = randomness.normal(for_where, (2,))
    root = jnp.asarray(np.linalg.cholesky(mixture.covariance))[which]
    return jnp.asarray(mixture.mean)[which] + jnp.einsum("bij,bj->bi", root, n)


def denoiser_of(log_p):
    """The denoiser x + sigma^2 grad log p(x; sigma) of a log-density."""
    return to_denoiser(jax.grad(lambda x, sigma: log_p(x, sigma).sum()), "score")


def ideal_denoiser(mixture):
    """The denoiser of a mixture, a few points at a time: what they need fits a core's cache."""
    denoise = denoiser_of(log_density(mixture))

    def of_parts(x, sigma):
        one = lambda pair: denoise(pair[0][None], pair[1])[0]
        return jax.lax.map(one, (x, jnp.broadcast_to(sigma, len(x))), batch_size=64)

    return of_parts


class Network(nn.Module):
    """log p(x [B, 2]; sigma) up to a constant, [B]. Fresh it is that of N(0, 0.5^2) data."""

    width: int

    @nn.compact
    def __call__(self, x, sigma):
        sigma = jnp.broadcast_to(jnp.asarray(sigma, x.dtype), len(x))
        x = x / jnp.sqrt(0.25 + sigma**2)[:, None]
        y = jnp.stack([x[:, 0], x[:, 1], jnp.log(sigma) / 4, jnp.ones(len(x), x.dtype)], axis=-1)
        y = mp.Dense(self.width)(y)
        for _ in range(4):
            y = mp.Dense(self.width)(mp.silu(y))
        gain = self.param("gain", nn.initializers.zeros, ())
        return gain * jnp.mean(y**2, axis=-1) / sigma - 0.5 * jnp.sum(x**2, axis=-1)


class Model(struct.PyTreeNode):
    """A network and its parameters."""

    params: Any
    network: nn.Module = struct.field(pytree_node=False)

    def denoiser(self):
        return denoiser_of(lambda x, sigma: self.network.apply({"params": self.params}, x, sigma))


def supervised(exact):
    """The denoising objective, with an exact denoiser's answer in the place of the data."""
    noise = objectives.log_normal(p_mean=-2.3, p_std=1.5)
    weight = objectives.inverse_square_weight()
    objective = objectives.denoising(levels.continuous(noise), weight)

    def losses(model, memory, e):
        x = e.y + e.sigma[:, None] * e.noise
        error = model.denoiser()(x, e.sigma) - exact(x, e.sigma)
        each = weight(e.sigma) * jnp.mean(error**2, axis=-1)
        return Losses(each, each, each, e.sigma)

    return objective._replace(loss=losses)


def train(classes, width, steps, seed, batch=BATCH):
    """Trains a model of some classes.

    Returns:
      The model with its averaged parameters, and the loss of each step.
    """
    mixture, network = trees(classes), Network(width)
    objective = supervised(ideal_denoiser(mixture))
    rate = optimizer.learning_rate(0.01, 0, batch, decay_steps=512)
    adam = optimizer.adam(rate, b2=0.99)._replace(project=mp.normalize_kernels)
    step = make_train_step(
        Model(None, network),
        objective,
        adam,
        averages.Averages(averages.by_power(0.010)),
        prepared=lambda batch, keys: (draw(mixture, keys[:, 0]), {}),
    )
    step = jax.jit(step, donate_argnums=0)
    for_params, for_steps = jax.random.split(jax.random.key(seed))
    params = jax.jit(network.init)(for_params, jnp.zeros((1, 2)), jnp.ones(1))["params"]
    now, losses = state.create(params, objective, adam), []
    for _ in range(steps):
        now, metrics = step(now, {"count": jnp.zeros(batch)}, for_steps)
        losses.append(metrics["loss"])
    return Model(now.ema, network), np.array(losses)


def models(seed, steps=STEPS, width=64, batch=BATCH):
    """The three of a run: of A, and the guides, a smaller network and an eighth of the steps."""
    small = {"width": width // 2, "steps": steps // 8, "seed": seed, "batch": batch}
    return {
        "main": train("A", width, steps, seed, batch),
        "guide A": train("A", **small),
        "guide AB": train("AB", **small),
    }


def compared(*three):
    """The denoisers of what is compared, by name; of the main model and the guides A and AB."""
    main, guide, guide_of_both = (model.denoiser() for model in three)
    return {
        "no guidance": main,
        "the guide of A alone": guide,
        "autoguidance, scale 2": guidance.autoguidance(main, guide, 2.0),
        "autoguidance, scale 3": guidance.autoguidance(main, guide, 3.0),
        "classifier-free, scale 2": guidance.classifier_free(main, guide_of_both, 2.0),
        "classifier-free, scale 4": guidance.classifier_free(main, guide_of_both, 4.0),
    }


def scores(points, log_p, lowest):
    """The share of points outside of the core, in %, and their mean log-density."""
    found = np.nan_to_num(np.asarray(log_p(points, 0.0)), nan=LOWEST)
    return 100 * np.mean(found < lowest), np.mean(np.maximum(found, LOWEST))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="where to write the PNG")
    parser.add_argument("--seeds", type=int, default=1, help="how many times to train all (1)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the main model ({STEPS})")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"points of a step ({BATCH})")
    args = parser.parse_args()

    mixture = trees("A")
    log_p = jax.jit(log_density(mixture))
    grid = np.stack(np.meshgrid(AXIS, AXIS), axis=-1).astype(np.float32)
    density = np.stack([log_p(row, 0.0) for row in grid])
    lowest = density.max() - CORE

    @jax.jit
    def start_of(keys):
        for_start, for_data = randomness.split(keys)
        data = draw(mixture, for_data)
        return data, data + SAMPLER.start[0, 0] * randomness.normal(for_start, (2,))

    data, start = start_of(randomness.sample_keys(range(COUNT)))  # of exactly p(x; 5)
    points = {"data": data}
    points["the exact score"] = sample(ideal_denoiser(mixture), SAMPLER, start=start)
    found = {name: [scores(x, log_p, lowest)] for name, x in points.items()}
    run = jax.jit(lambda three, name: sample(compared(*three)[name], SAMPLER, start=start),
                  static_argnums=1)  # fmt: skip
    for seed in range(args.seeds):
        begin, trained = time.time(), models(seed, args.steps, batch=args.batch)
        for name, (_, losses) in trained.items():
            print(f"seed {seed}, {name}: loss {losses[-100:].mean():.4f} of the last 100 steps")
        print(f"trained in {time.time() - begin:.0f} s")
        three = [model for model, _ in trained.values()]
        for name in compared(*three):
            drawn = run(three, name)
            found.setdefault(name, []).append(scores(drawn, log_p, lowest))
            points.setdefault(name, drawn)
    print(f"\n{'':26}outliers, %; mean log-density, by seed")
    for name, rows in found.items():
        outliers, nats = (" ".join(f"{number:6.2f}" for number in row) for row in zip(*rows))
        print(f"{name:26}{outliers};  {nats}")
    _picture(args.picture, density, lowest, points)


def _picture(path, density, lowest, points):
    shown = ("data", "no guidance", "classifier-free, scale 4", "autoguidance, scale 3")
    _, all_axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
    for axes, name in zip(all_axes, shown):
        axes.contourf(AXIS, AXIS, density, [lowest, np.inf], colors=["#ddd0b4"])
        axes.scatter(*np.asarray(points[name])[:2000].T, s=0.4, color="black")
        axes.set(
            title=name, xlim=(-0.6, 1.4), ylim=(-0.75, 1.5), aspect="equal", xticks=(), yticks=()
        )
    plt.savefig(path, dpi=80)


if __name__ == "__main__":
    main()

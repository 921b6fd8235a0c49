"""One sampler and one guidance for networks of Equinox, Flax NNX and plain functions.

python examples/any_network.py      # draws with each, in jit, vmap, grad and over the devices
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

import edm_jax
from edm_jax import guidance, normal, preconditioning, sample, sample_keys, samplers, timesteps


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 32, rngs=rngs), nnx.Linear(32, 2, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](nnx.silu(self.layers[0](x)))


def networks(key):
    """name -> features [B, 4] -> F [B, 2], each of another library."""
    mlp = eqx.nn.MLP(4, 2, 32, 1, key=key)
    w1, w2 = jax.random.normal(key, (4, 32)) / 2, jax.random.normal(key, (32, 2)) / 6
    return {
        "equinox": jax.vmap(mlp),
        "nnx": Nnx(nnx.Rngs(0)),
        "plain": lambda features: jnp.tanh(features @ w1) @ w2,
    }


def guided(network, scale=2.0):
    """The denoiser of a network, guided towards the condition 1 and away from 0."""

    def conditioned(condition):
        def f(x_in, c_noise):
            extra = jnp.broadcast_to(jnp.stack([c_noise[0], condition]), (len(x_in), 2))
            return network(jnp.concatenate([x_in, extra], axis=-1))

        return edm_jax.denoiser(f, preconditioning.edm())

    return guidance.classifier_free(conditioned(1.0), conditioned(0.0), scale)


def draw(network, noise, scale=2.0):
    return sample(guided(network, scale), samplers.heun(timesteps.edm(18)), noise, remat=True)


def over_devices(network, noise):
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("batch")
    return jax.shard_map(lambda n: draw(network, n), mesh=mesh, in_specs=rows, out_specs=rows)(
        noise
    )


def main():
    noise = normal(sample_keys(range(8 * jax.device_count())), (2,))
    for name, network in networks(jax.random.key(0)).items():
        together = jax.jit(lambda n, network=network: draw(network, n))(noise)
        slope = jax.grad(lambda w, network=network: draw(network, noise, w).sum())(2.0)
        apart = jnp.abs(together - over_devices(network, noise)).max()
        print(f"{name:8} mean {together.mean():.4f}, d sum / d scale {slope:.3f}, "
              f"over {jax.device_count()} devices the same to {apart:.0e}")  # fmt: skip


if __name__ == "__main__":
    main()

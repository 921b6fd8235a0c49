"""How much activation memory does a training step take, with and without rematerialisation?

    python benchmarks/memory.py [--time] [--batch 8] [--side 32] [--channels 64]

Compiles the gradient of the denoising loss of each network (nothing but --time runs it) and prints
the temporary memory that the compiler reserves, from `compiled.memory_analysis()`, and its ratio to
the same step with all activations stored. XLA for CPUs undoes rematerialisation in jax 0.10 (the
ratios are then near 1) and honours it from 0.11 on.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from edm_jax.networks import DhariwalUNet, SongUNet

NCSNPP = dict(
    embedding_type="fourier",
    channel_mult_noise=2,
    encoder_type="residual",
    resample_filter=(1, 3, 3, 1),
)
NETWORKS = {
    "ddpm++": lambda **settings: SongUNet(attn_resolutions=(16,), **settings),
    "ncsn++": lambda **settings: SongUNet(attn_resolutions=(16,), **NCSNPP, **settings),
    "adm": lambda **settings: DhariwalUNet(attn_resolutions=(16, 8), **settings),
}


def compile_step(net, batch):
    """Returns the compiled gradient step of a network, and the shapes of its arguments."""
    image = (batch, net.img_resolution, net.img_resolution, net.in_channels)
    x = jax.ShapeDtypeStruct(image, jnp.float32)
    c_noise = jax.ShapeDtypeStruct((batch,), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    params = jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]

    def loss(params, x, c_noise, keys):
        f = net.apply({"params": params}, x, c_noise, dropout_keys=keys)
        return jnp.mean(jnp.square(f - x))

    arguments = (params, x, c_noise, keys)
    return jax.jit(jax.grad(loss)).lower(*arguments).compile(), arguments


def seconds(step, arguments):
    """Returns the shortest of three runs of the step on zeros."""

    def zeros(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), leaf.shape[0])
        return jnp.zeros(leaf.shape, leaf.dtype)

    arguments = jax.tree.map(zeros, arguments)
    jax.block_until_ready(step(*arguments))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    """Parses the arguments and prints one row a network, dtype and choice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--time", action="store_true", help="run the steps too")
    arguments = parser.parse_args()

    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {arguments}")
    header = f"{'network':8} {'dtype':9} {'remat':5} {'MiB':>8} {'ratio':>6}"
    print(header + (f" {'seconds':>8} {'ratio':>6}" if arguments.time else ""))
    for name in arguments.networks:
        for dtype in ("float32", "bfloat16"):
            stored = stored_time = None
            for remat in (False, True):
                net = NETWORKS[name](
                    img_resolution=arguments.side,
                    in_channels=3,
                    out_channels=3,
                    model_channels=arguments.channels,
                    channel_mult=(1, 2),
                    num_blocks=2,
                    dtype=jnp.dtype(dtype),
                    remat=remat,
                )
                step, shapes = compile_step(net, arguments.batch)
                size = step.memory_analysis().temp_size_in_bytes / 2**20
                stored = stored or size
                row = f"{name:8} {dtype:9} {remat!s:5} {size:8.1f} {size / stored:6.2f}"
                if arguments.time:
                    taken = seconds(step, shapes)
                    stored_time = stored_time or taken
                    row += f" {taken:8.3f} {taken / stored_time:6.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()

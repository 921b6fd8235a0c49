"""What does the sampling loop cost beside the network?

    python benchmarks/sampler_overhead.py [--batch 64] [--steps 18] [--repeats 9]

Times a whole sampler and its number of single denoiser calls, one after the other in turn, and
prints the ratio of the medians: 1.05 is a loop that adds a twentieth. The network is a small
DDPM++ at 16x16x3; a larger one makes the share smaller.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import preconditioning, randomness, samplers, timesteps
from edm_jax.networks.song import SongUNet

SOLVERS = ("euler", "dpmpp_2m", "heun", "unipc", "lms", "ddpm", "dpmpp_2m_sde")


def seconds(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    network = SongUNet(
        img_resolution=16,
        in_channels=3,
        out_channels=3,
        model_channels=32,
        channel_mult=(1, 2),
        num_blocks=2,
        attn_resolutions=(8,),
    )
    keys = randomness.sample_keys(range(args.batch))
    noise = randomness.normal(keys, (16, 16, 3))
    params = network.init(jax.random.key(0), noise[:1], jnp.ones(1))["params"]
    f = lambda x, c_noise: network.apply({"params": params}, x, c_noise)
    denoise = preconditioning.denoiser(f, preconditioning.edm())
    single = jax.jit(denoise)
    run = jax.jit(lambda table, x, keys: samplers.sample(denoise, table, x, keys))
    without = jax.jit(lambda table, x: samplers.sample(denoise, table, x))
    print(f"batch {args.batch}, {args.steps} steps, {jax.devices()[0].device_kind}")
    print(f"{'solver':16}{'evaluations':>12}{'sampler, ms':>14}{'calls, ms':>12}{'ratio':>8}")
    for name in SOLVERS:
        tableau = samplers.build(name, timesteps.edm(args.steps))
        if tableau.stochastic:
            sampler = lambda: run(tableau, noise, keys)
        else:
            sampler = lambda: without(tableau, noise)

        def calls():
            x = noise
            for sigma in tableau.sigma:
                x = single(x, np.float32(sigma))
            return x

        seconds(sampler), seconds(calls)
        times = np.array([(seconds(sampler), seconds(calls)) for _ in range(args.repeats)])
        whole, parts = 1e3 * np.median(times, axis=0)
        ratio = np.median(times[:, 0] / times[:, 1])
        print(f"{name:16}{tableau.nfe:12d}{whole:14.1f}{parts:12.1f}{ratio:8.3f}", flush=True)


if __name__ == "__main__":
    main()

"""What does a sampler cost to compile beside one call of its network?

    python benchmarks/compile_time.py [--checkpoint runs/digits] [--repeats 3]

Compiles one denoiser call and Heun samplers of 4, 18 and 64 steps, in turn, and prints the medians
and their ratio to the call's: one network in the program, whatever the number of steps.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import edm_jax
from edm_jax import samplers, timesteps
from edm_jax.model import Model
from edm_jax.networks import ddpmpp

STEPS = (4, 18, 64)


def seconds(function, *args) -> float:
    """Tracing, lowering and compiling anew: a fresh lambda misses every cache."""
    start = time.perf_counter()
    jax.jit(lambda *a: function(*a)).lower(*args).compile()
    return time.perf_counter() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    if args.checkpoint:
        model = edm_jax.load(args.checkpoint)
    else:
        config = ddpmpp(resolution=16, model_channels=64, num_blocks=2, channel_mult=(1, 2))
        model = Model.init(jax.random.key(0), config)
    x = jnp.zeros((args.batch, *model.image_shape))
    tables = {n: samplers.heun(timesteps.edm(n)) for n in STEPS}
    call = lambda model, x: model.denoiser()(x, 1.0)
    runs = {
        n: (lambda model, x, table=table: samplers.sample(model.denoiser(), table, x))
        for n, table in tables.items()
    }
    times: dict[object, list[float]] = {"call": [], **{n: [] for n in STEPS}}
    for _ in range(args.repeats):
        times["call"].append(seconds(call, model, x))
        for n in STEPS:
            times[n].append(seconds(runs[n], model, x))
    one = np.median(times["call"])
    print(f"{'program':22}{'seconds':>10}{'ratio':>8}")
    print(f"{'one denoiser call':22}{one:10.2f}{1:8.2f}")
    for n in STEPS:
        ratio = np.median(np.array(times[n]) / np.array(times["call"]))
        print(f"{f'Heun, {n} steps':22}{np.median(times[n]):10.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()

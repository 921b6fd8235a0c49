"""What does a training step hold on each device, by the number of devices?

    python benchmarks/sharded_memory.py [--config configs/imagenet64.py] [--devices 1 2 4 8]
        [--share 4] [--layouts replicated fsdp]

Compiles the configuration's whole step for simulated devices, without allocating anything, and asks
the compiler: `arguments` is the state and the batch, `temporaries` what lives within the step. The
share of the batch on a device is the same on every row.
"""

import argparse
import math
import os
import sys

ENGINES = {"replicated": ("pmap", False), "fsdp": ("jit", True)}


def compiled(config_file: str, devices: int, share: int, name: str):
    """The compiled step, and the number of bytes of its whole state."""
    import jax
    import numpy as np

    from edm_jax.cli.train import load_config
    from edm_jax.runtime import engines
    from edm_jax.training.assemble import assemble

    config = load_config(config_file)
    config.batch_size, config.microbatch = devices * share, 0
    kind, fsdp = ENGINES[name]
    engine = engines.engine(kind, fsdp=fsdp, devices=devices)
    sizes = {"resolution": 64, "channels": 3, "label_dim": 1000}
    parts = assemble(config, engine, **sizes)
    state = jax.eval_shape(parts.initial)
    side = sizes["resolution"]
    rows = {
        "images": np.zeros((config.batch_size, side, side, 3), np.uint8),
        "labels": np.zeros((config.batch_size, sizes["label_dim"]), np.float32),
    }
    step = engine.compile(parts.step, state)
    program = step.lower(state, engine.put(rows), engine.key(0)).compile()
    return program, sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(state))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/imagenet64.py")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--share", type=int, default=4, help="images on a device (4)")
    parser.add_argument("--layouts", nargs="+", choices=ENGINES, default=list(ENGINES))
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={max(args.devices)} "
        "--xla_backend_optimization_level=0"  # the same buffers, sooner
    )
    sys.stdout.reconfigure(line_buffering=True)

    print(f"{'layout':11} {'devices':>7} {'state':>10} {'arguments':>10} {'temporaries':>12}  MiB")
    for name in args.layouts:
        for devices in args.devices:
            program, state = compiled(args.config, devices, args.share, name)
            found = program.memory_analysis()
            sizes = (state, found.argument_size_in_bytes, found.temp_size_in_bytes)
            cells = " ".join(f"{n / 2**20:{width}.0f}" for n, width in zip(sizes, (10, 10, 12)))
            print(f"{name:11} {devices:7} {cells}")


if __name__ == "__main__":
    main()

"""Make a moving average of another width from a run's snapshots, after training (EDM2).

The run must have kept power-function averages: --config.ema_power="(0.05,0.1)" and
--config.ema_snapshot_kimg. NVIDIA's raw snapshots of EDM2 in one folder, under their own names, are
taken too. The result is a model that `sample` and `convert` take.

Examples:
    edm-jax ema runs/cifar10 models/wider --std 0.12
    edm-jax sample --checkpoint models/wider --out samples/wider
"""

import argparse

from edm_jax.cli.options import add_overwrite, add_quiet
from edm_jax.training import posthoc
from edm_jax.weights.directory import check_free, save


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "run", metavar="RUN", help="the folder of the training run, or of snapshots"
    )
    parser.add_argument("out", metavar="OUT", help="a new directory, or a .safetensors file")
    parser.add_argument(
        "--std", type=float, required=True, help="relative width of the average, such as 0.08"
    )
    parser.add_argument("--step", type=int, help="at which step; kimg of NVIDIA's (the latest)")
    add_overwrite(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Reconstructs, saves, and says from how many snapshots."""
    check_free(args.out, overwrite=args.overwrite)
    model, count = posthoc.reconstruct(args.run, args.std, step=args.step)
    save(model, args.out, overwrite=args.overwrite)
    if not args.quiet:
        print(f"{args.out}: average of relative width {args.std:g} from {count} snapshots")
    return 0

"""Turn other projects' weights into a model of ours, or a model of ours into a file for others.

The input is anything that can be loaded: an official .pkl (read without executing anything), a
training run, a saved model, a .safetensors file. An output that ends in .safetensors is one file
with the official names, for PyTorch too; any other is a directory that sampling and training take.

Examples:
    edm-jax convert edm-cifar10-32x32-cond-vp.pkl models/cifar10
    edm-jax convert runs/digits digits.safetensors
"""

import argparse

from edm_jax.cli.options import add_overwrite, add_quiet
from edm_jax.model import parameter_count
from edm_jax.weights import load
from edm_jax.weights.directory import check_free, save


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments: what to read, what to write."""
    parser.add_argument("source", metavar="SOURCE", help="what to read, such as edm-cifar10….pkl")
    parser.add_argument("out", metavar="OUT", help="a new directory, or a .safetensors file")
    add_overwrite(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Reads, writes, and says what it was.

    Raises:
      WeightsError: a ValueError; unreadable input, or an output that exists.
    """
    check_free(args.out, overwrite=args.overwrite)  # before a long reading, not after it
    model = load(args.source)
    save(model, args.out, overwrite=args.overwrite)
    if args.quiet:
        return 0
    config = model.config
    labels = f"{config.label_dim} classes" if config.label_dim else "unconditional"
    print(
        f"{args.out}: {config.architecture} network, {config.resolution}×{config.resolution}×"
        f"{config.channels}, {labels}, {config.preconditioner} preconditioner, "
        f"{parameter_count(model.params):,} parameters"
    )
    return 0

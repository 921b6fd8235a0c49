"""Turns other projects' weights into a model of ours, or a model of ours into a file for others.

The input is anything that can be loaded: an official .pkl (read without executing anything), a
training run, a saved model, a .safetensors file. An output that ends in .safetensors is one file
with the official names, for PyTorch too; any other is a directory that sampling and training take.
"""

import argparse

from edm_jax.model import parameter_count
from edm_jax.weights import load
from edm_jax.weights.directory import export_safetensors
from edm_jax.weights.directory import save as save_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments: what to read, what to write."""
    parser.add_argument("source", metavar="SOURCE", help="what to read, such as edm-cifar10….pkl")
    parser.add_argument("out", metavar="OUT", help="a new directory, or a .safetensors file")


def run(args: argparse.Namespace) -> int:
    """Reads, writes, and says what it was.

    Raises:
      WeightsError: a ValueError; unreadable input, or an output that exists.
    """
    model = load(args.source)
    config = model.config
    if args.out.endswith(".safetensors"):
        export_safetensors(model, args.out)
    else:
        save_model(model, args.out)
    labels = f"{config.label_dim} classes" if config.label_dim else "unconditional"
    print(
        f"{args.out}: {config.architecture} network, {config.resolution}×{config.resolution}×"
        f"{config.channels}, {labels}, {config.preconditioner} preconditioner, "
        f"{parameter_count(model.params):,} parameters"
    )
    return 0

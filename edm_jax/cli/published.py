"""--published: a setting of EDM2 by its name, for files that are in one folder."""

import argparse

from edm_jax.options import find
from edm_jax.weights import published

# What a setting decides.
_DECIDED = ("steps", "solver", "guidance", "guide", "ema", "guide_ema", "classifier")


def add_published_argument(parser: argparse.ArgumentParser) -> None:
    """--published."""
    parser.add_argument(
        "--published",
        metavar="NAME",
        help="a published setting of EDM2, such as img512-s-autoguidance-fid: averages, guide, "
        "scale and sampler; --checkpoint is then the folder of NVIDIA's files",
    )


def apply_published(args: argparse.Namespace) -> None:
    """Fills in what the setting decides; does nothing where none is named.

    Args:
      args: with --published, and the options of the model, the sampler and guidance.

    Raises:
      ValueError: an unknown name, or an option that it decides is given too.
    """
    if args.published is None:
        return
    setting = find("published setting", args.published, published.SETTINGS)
    given = [name for name in _DECIDED if getattr(args, name) is not None]
    if given:
        name = given[0]
        raise ValueError(
            f"--{name.replace('_', '-')} must be left out with --published, which decides it, "
            f"got {getattr(args, name)}"
        )
    if args.checkpoint is None:
        raise ValueError("--checkpoint must be the folder of the files of --published, got none")
    args.solver, args.steps = "heun", published.STEPS
    folder = args.checkpoint.rstrip("/")
    args.checkpoint = f"{folder}/{setting.net}"
    if setting.guide is not None:
        args.guide, args.guidance = f"{folder}/{setting.guide}", setting.scale

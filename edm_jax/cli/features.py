"""What a command line says of the features in which images are compared."""

import argparse

from edm_jax.evaluation.features import EXTRACTORS, INCEPTION, Extractor


def add_feature_arguments(parser: argparse.ArgumentParser) -> None:
    """--features and --inception."""
    add = parser.add_argument
    add(
        "--features",
        choices=EXTRACTORS,
        default="inception",
        help="what images are compared in; FID is inception's (default)",
    )
    add(
        "--inception",
        metavar="X.pth",
        help=f"pt_inception-2015-12-05-6726825d.pth (default: what {INCEPTION} names)",
    )


def make_extractor(args: argparse.Namespace) -> Extractor:
    """The extractor that the options name.

    Raises:
      ValueError: its weights are missing or damaged, or --inception is given with others.
    """
    if args.features == "inception":
        return EXTRACTORS["inception"](args.inception)
    if args.inception is not None:
        raise ValueError(f"--inception must be left out with --features {args.features}")
    return EXTRACTORS[args.features]()

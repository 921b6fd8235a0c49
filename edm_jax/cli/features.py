"""What a command line says of the features in which images are compared."""

import argparse
import os
from collections.abc import Callable

from edm_jax.evaluation.features import EXTRACTORS, FILES, Extractor


def add_feature_arguments(parser: argparse.ArgumentParser) -> None:
    """--features, and an option for each file of weights that a user has to get."""
    add = parser.add_argument
    add(
        "--features",
        choices=EXTRACTORS,
        default="inception",
        help="what images are compared in; FID is inception's (default)",
    )
    for name, known in FILES.items():
        words = f"{known.file} (default: what {known.variable} names)"
        add(f"--{name}", metavar="X.pth", help=words)


def make_extractor(args: argparse.Namespace, *, pca: Callable[[], Extractor]) -> Extractor:
    """The extractor that the options name.

    Args:
      args: the options.
      pca: makes the one that is fitted on data.

    Raises:
      ValueError: its weights are missing or damaged, or the file of another one is given.
    """
    for name in FILES:
        if name != args.features and getattr(args, name) is not None:
            raise ValueError(f"--{name} must be left out with --features {args.features}")
    if args.features == "pca":
        return pca()
    make = EXTRACTORS[args.features]
    if args.features not in FILES:
        return make()
    given = getattr(args, args.features)
    try:
        return make(given)
    except ValueError as error:
        if given is None and FILES[args.features].variable not in os.environ:
            free = [name for name in EXTRACTORS if name not in FILES]
            error.add_note(f"--features {', '.join(free)} need no such file")
        raise

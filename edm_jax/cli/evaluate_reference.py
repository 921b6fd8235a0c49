"""Measure a data set once: the reference that images are compared with.

Every image, without flips. The file has `mu` and `sigma` where the official tools look for them.

Examples:
    edm-jax evaluate reference --data digits --dest digits.npz --features pixels
    edm-jax evaluate reference --data cifar10-32x32.zip --dest cifar10-32x32.npz
"""

import argparse
from collections.abc import Iterator

import numpy as np

from edm_jax.cli.features import add_feature_arguments, make_extractor
from edm_jax.cli.options import add_overwrite, add_quiet
from edm_jax.data import archive
from edm_jax.evaluation import features, principal, references
from edm_jax.runtime import files
from edm_jax.runtime.progress import Progress

LESS_MEMORY = "a smaller --batch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = "%(prog)s --data DATA --dest X.npz [option …]"
    add = parser.add_argument
    add("--data", help="the data set: digits, a zip or a folder")
    add("--dest", metavar="X.npz", help="the file to make")
    add(
        "--keep",
        type=int,
        default=10_000,
        metavar="N",
        help="features to keep for KID, precision, recall, density and coverage (10000)",
    )
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add_feature_arguments(parser)
    add(
        "--components",
        type=int,
        metavar="N",
        help=f"how many of --features pca ({principal.COUNT})",
    )
    add_overwrite(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Measures and writes; returns the exit code."""
    for name in ("data", "dest"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    for name in ("keep", "batch"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    dest = files.located(args.dest)
    if dest.exists() and not args.overwrite:
        raise ValueError(f"{dest}: exists already; --overwrite replaces it")
    if args.components is not None and args.features != "pca":
        raise ValueError(f"--components must be left out with --features {args.features}")
    images = archive.load(args.data, labels=False).images

    def fitted() -> features.Extractor:
        count = principal.COUNT if args.components is None else args.components
        return features.pca(principal.fit(_measured(features.pixels(), images, args), count=count))

    extractor = make_extractor(args, pca=fitted)
    files.made(dest.parent)
    found = _measured(extractor, images, args)
    references.save(dest, found, extractor, keep=args.keep)
    if not args.quiet:
        print(f"{dest}: {extractor.name} features of {len(images)} images")
    return 0


def _measured(
    extractor: features.Extractor, images: archive.Images, args: argparse.Namespace
) -> np.ndarray:
    with Progress(total=len(images), desc="compiling", quiet=args.quiet) as report:
        found: list[np.ndarray] = []
        for part in extractor.over(parts_of(images, args.batch), batch_size=args.batch):
            if not found:
                report.at("measuring")
            found.append(part)
            report.update(len(part))
    return np.concatenate(found)


def parts_of(images: archive.Images, size: int) -> Iterator[np.ndarray]:
    """The images of a data set, so many at a time for each of some devices."""
    step = size * 16  # of any number of devices: the features of an image do not depend on it
    for start in range(0, len(images), step):
        yield images[start : start + step]

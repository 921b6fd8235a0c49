"""Make a data set: a zip of square images of one size, with their labels; or check one.

Examples:
    edm-jax dataset --source photos/ --dest data/photos.zip --resolution 64 --transform center-crop
    edm-jax dataset --source cifar-10-python.tar.gz --dest data/cifar10.zip
    edm-jax dataset --check data/photos.zip
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable

from edm_jax.cli.options import add_overwrite, add_quiet
from edm_jax.data import archive, check, prepare, sources
from edm_jax.runtime import files, pictures
from edm_jax.runtime.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.usage = (
        "%(prog)s --source PATH --dest X.zip [option …]\n"
        "       %(prog)s --check X.zip [--sheet X.png]"
    )
    parser.add_argument("--source", metavar="PATH", help=f"what to convert: {sources.KINDS}")
    parser.add_argument("--dest", metavar="X.zip", help="the file to make")
    parser.add_argument(
        "--resolution", type=_resolution, metavar="N", help="pixels: 64, or 512x384 (default: keep)"
    )
    parser.add_argument(
        "--transform",
        choices=prepare.TRANSFORMS,
        default="none",
        help="how to make images square (default: none, which stretches)",
    )
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), help="gray or RGB (default: as they are)"
    )
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="which images of CIFAR (train)"
    )
    parser.add_argument(
        "--max-images", type=int, metavar="N", help="only so many, evenly spread over the source"
    )
    add_overwrite(parser)
    parser.add_argument("--check", metavar="X.zip", help="print what a data set holds")
    parser.add_argument(
        "--sheet", metavar="X.png", help="the contact sheet of --check (default: beside the data)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: the cores)")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
      ValueError, OSError: what is wrong, in one line.
    """
    progress = functools.partial(Progress, quiet=args.quiet)
    if args.check is None and (args.source is None or args.dest is None):
        raise ValueError("give --source and --dest to make a data set, or --check to look at one")
    if args.check is not None and (args.source is not None or args.dest is not None):
        raise ValueError("--check goes without --source and --dest")
    if args.check is not None:
        return _check(args, progress)
    summary = prepare.prepare(
        args.source,
        args.dest,
        resolution=args.resolution,
        transform=args.transform,
        channels=args.channels,
        split=args.split,
        max_images=args.max_images,
        overwrite=args.overwrite,
        workers=args.workers,
        progress=progress,
    )
    if not args.quiet:
        print(summary.line())
    elif summary.skipped or summary.notes:
        print(f"warning: {summary.line()}", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace, progress: Callable) -> int:
    if args.sheet:
        files.made(files.located(args.sheet).parent)
    dataset = archive.load(args.check, workers=args.workers, progress=progress)
    sheet = args.sheet or pathlib.Path(args.check).with_name(f"{dataset.name}-sheet.png")
    print("\n".join(check.report(dataset).lines()))
    pictures.write(check.contact_sheet(dataset), sheet)
    print(f"sheet       {sheet}")
    return 0


def _resolution(text: str) -> tuple[int, int]:
    """Reads 64 or 512x384."""
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"must be like 64 or 512x384, got {text!r}")
    return int(parts[0]), int(parts[-1])

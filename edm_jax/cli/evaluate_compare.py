"""Say whether the scores in two records of `evaluate fid` may be compared, and show them.

The exit code is 0 where they may, and 1 where they may not.

Examples:
    edm-jax evaluate compare before.json after.json
"""

import argparse

from edm_jax.cli.options import add_quiet
from edm_jax.evaluation import records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("a", metavar="A.json", help="a record")
    parser.add_argument("b", metavar="B.json", help="another record")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Compares; returns the exit code.

    Raises:
      ValueError, OSError: a file that is no record.
    """
    a, b = records.read(args.a), records.read(args.b)
    reasons = records.differences(a, b)
    for reason in reasons:
        print(f"not comparable: {reason}")
    if not reasons and not args.quiet:
        print("\n".join(records.side_by_side(a, b)))
    return 1 if reasons else 0

"""Draws images: `python sample.py --checkpoint runs/digits --seeds 0-99 --out samples`."""

import sys

from edm_jax.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("sample", sys.argv[1:]))

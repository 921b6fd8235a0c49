"""Train a model: `python train.py --config configs/digits.py --workdir runs/digits`."""

import sys

from edm_jax.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:]))

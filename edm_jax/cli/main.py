"""The console command: `edm-jax train | sample | dataset | convert …`."""

import argparse
import importlib
import sys
from collections.abc import Callable

COMMANDS = {
    "train": "train a model",
    "sample": "draw images from a model",
    "dataset": "make or check a data set",
    "gamma": "measure what the solver analytic_dpm needs",
    "ema": "choose the width of a run's moving average afterwards",
    "plot-loss": "draw the loss of runs by noise level",
    "convert": "turn other projects' weights into a model of ours",
}
FAILURE, BAD_INPUT = 1, 2


def run(program: Callable[[], int]) -> int:
    """Calls `program` and turns what a user can get wrong into one line and exit code 2."""
    try:
        return program()
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {text}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def run_command(name: str, arguments: list[str]) -> int:
    """Runs one command with its own arguments; returns the exit code."""
    module = importlib.import_module(f"edm_jax.cli.{name.replace('-', '_')}")
    if hasattr(module, "main"):
        return run(lambda: module.main(arguments))
    parser = argparse.ArgumentParser(prog=f"edm-jax {name}", description=module.__doc__)
    module.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    return run(lambda: module.run(parsed))


def main(arguments: list[str] | None = None) -> int:
    """The entry point: dispatches to `edm_jax.cli.COMMAND`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    listing = "\n".join(f"  {name:9} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="edm-jax",
        description="EDM (Karras et al. 2022) in JAX.",
        epilog=f"commands:\n{listing}\n\nedm-jax COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments[:1])
    return run_command(parsed.command, arguments[1:])

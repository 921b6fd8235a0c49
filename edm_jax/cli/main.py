"""The console command: `edm-jax train | sample | dataset | convert …`."""

import argparse
import importlib
import sys
from collections.abc import Callable

from edm_jax import __version__
from edm_jax.cli.options import Parser

COMMANDS = {
    "train": "train a model",
    "sample": "draw images from a model",
    "dataset": "make or check a data set",
    "posterior-variance": "measure on data what Analytic-DPM asks for",
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
        print(f"error: {_one_line(error) or type(error).__name__}", file=sys.stderr)
        return BAD_INPUT
    except ImportError as error:
        if error.name is not None:  # ours; a URL's missing package is told without a name
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except MemoryError as error:
        print(f"error: out of memory; {_one_line(error)}".rstrip("; "), file=sys.stderr)
        return FAILURE
    except RuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        print(
            f"error: out of memory; a smaller batch needs less ({_one_line(error)[:200]})",
            file=sys.stderr,
        )
        return FAILURE
    except KeyboardInterrupt as error:
        print("; ".join(filter(None, ("interrupted", _one_line(error)))), file=sys.stderr)
        return 130


def _one_line(error: BaseException) -> str:
    """What an error says, with what was noted of it on the way."""
    said = (str(error), *getattr(error, "__notes__", ()))
    return "; ".join(filter(None, (" ".join(text.split()) for text in said)))


def run_command(name: str, arguments: list[str]) -> int:
    """Runs one command with its own arguments; returns the exit code."""
    module = importlib.import_module(f"edm_jax.cli.{name.replace('-', '_')}")
    if hasattr(module, "main"):
        return run(lambda: module.main(arguments))
    parser = Parser(prog=f"edm-jax {name}", description=module.__doc__)
    module.add_arguments(parser)
    return run(lambda: module.run(parser.parse_args(arguments)))


def main(arguments: list[str] | None = None) -> int:
    """The entry point: dispatches to `edm_jax.cli.COMMAND`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="edm-jax",
        description="EDM (Karras et al. 2022) in JAX.",
        epilog=f"commands:\n{listing}\n\nedm-jax COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edm_jax {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    if not arguments:
        parser.print_help()
        return 0

    def command() -> int:
        # What follows the command's name is the command's own.
        parsed = parser.parse_args(arguments[:1])
        return run_command(parsed.command, arguments[1:])

    return run(command)

"""The console command: `edm-jax train | sample | dataset | convert …`."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping

from edm_jax import __version__
from edm_jax.cli.options import Parser
from edm_jax.runtime import compilation

COMMANDS = {
    "train": "train a model",
    "sample": "draw images from a model",
    "restore": "restore images from measurements: inpaint, enlarge, deblur …",
    "edit": "draw your own images again, invert and interpolate them",
    "dataset": "make or check a data set",
    "tune": "tune samplers of few network evaluations to a model",
    "posterior-variance": "measure on data what Analytic-DPM asks for",
    "evaluate": "measure images and models: distances to data, scores, what may be compared",
    "ema": "choose the width of a run's moving average afterwards",
    "plot-loss": "draw the loss of runs by noise level",
    "convert": "turn other projects' weights into a model of ours",
}
BEGINNING = """A first run, a few minutes on two CPU cores:
    edm-jax train --config digits --workdir runs/digits
    edm-jax sample --checkpoint runs/digits --seeds 0-9 --class all --out samples/digits

edm-jax COMMAND --help says more, with examples."""
FAILURE, BAD_INPUT, READER_GONE = 1, 2, 141
_IN_MODULES = str.maketrans("- ", "__")


def run(program: Callable[[], int], less_memory: str = "") -> int:
    """Calls `program` and turns what a user can get wrong into one line and exit code 2.

    Args:
      program: returns its exit code.
      less_memory: what of its options needs less memory, in words.

    Returns:
      The exit code.
    """
    try:
        code = program()
        sys.stdout.flush()  # here, where a reader that has gone is no error of ours
        return code
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # what is left to print has no reader
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except (ValueError, OSError) as error:
        print(f"error: {_one_line(error) or type(error).__name__}", file=sys.stderr)
        return BAD_INPUT
    except ImportError as error:
        if error.name is not None:  # ours; a URL's missing package is told without a name
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = f"{less_memory} needs less" if less_memory else ""
        parts = ("error: out of memory", advice, _one_line(error)[:200])
        print("; ".join(filter(None, parts)), file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt as error:
        print("; ".join(filter(None, ("interrupted", _one_line(error)))), file=sys.stderr)
        return 130


def _one_line(error: BaseException) -> str:
    """What an error says, with what was noted of it on the way."""
    said = (str(error), *getattr(error, "__notes__", ()))
    return "; ".join(filter(None, (" ".join(text.split()) for text in said)))


def run_command(name: str, arguments: list[str]) -> int:
    """Runs one command with its own arguments; returns the exit code.

    Args:
      name: of the command; of one below another, both: "evaluate compare".
      arguments: what follows the name.
    """
    module = importlib.import_module(f"edm_jax.cli.{name.translate(_IN_MODULES)}")
    if hasattr(module, "COMMANDS"):
        return dispatch(module.COMMANDS, arguments, name=name, description=module.__doc__ or "")
    less_memory = getattr(module, "LESS_MEMORY", "")
    if hasattr(module, "main"):
        return run(lambda: module.main(arguments), less_memory)
    parser = Parser(prog=f"edm-jax {name}", description=module.__doc__)
    module.add_arguments(parser)

    def command() -> int:
        options = parser.parse_args(arguments)
        if hasattr(options, "compilation_cache"):
            compilation.keep(options.compilation_cache)
        return module.run(options)

    return run(command, less_memory)


def dispatch(
    commands: Mapping[str, str], arguments: list[str], *, name: str = "", description: str
) -> int:
    """Runs the command that the first argument names, or says which there are.

    Args:
      commands: name -> what it does.
      arguments: a command's name and what follows it.
      name: of the command that these are below; "" for those of `edm-jax` itself.
      description: of them all, for --help.

    Returns:
      The exit code.
    """
    width = max(map(len, commands))
    listing = "\n".join(f"  {command:{width}} {text}" for command, text in commands.items())
    above = " ".join(filter(None, ("edm-jax", name)))
    after = f"{above} COMMAND --help says more." if name else BEGINNING
    parser = Parser(
        prog=above,
        description=description,
        epilog=f"commands:\n{listing}\n\n{after}",
    )
    if not name:
        parser.add_argument("--version", action="version", version=f"edm_jax {__version__}")
    parser.add_argument("command", choices=commands, metavar="COMMAND")
    if not arguments:
        parser.print_help()
        return 0

    def command() -> int:
        # What follows the command's name is the command's own.
        parsed = parser.parse_args(arguments[:1])
        return run_command(f"{name} {parsed.command}".strip(), arguments[1:])

    return run(command)


def main(arguments: list[str] | None = None) -> int:
    """The entry point: dispatches to `edm_jax.cli.COMMAND`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return dispatch(COMMANDS, arguments, description="EDM (Karras et al. 2022) in JAX.")

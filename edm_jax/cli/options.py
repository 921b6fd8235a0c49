"""What several commands have in common: the parser, and options of one meaning."""

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn


class Help(argparse.HelpFormatter):
    """Fills each paragraph by itself, and leaves what is indented as it stands."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = super()._fill_text
        parts = text.strip().split("\n\n")
        return "\n\n".join(p if "\n  " in p else filled(p, width, indent) for p in parts)


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are like all others here: one line, by `ValueError`.

    What a description has under "Examples:" is shown at the end of the help.
    """

    def __init__(self, *, description: str | None = None, **options: Any) -> None:
        text, _, examples = (description or "").partition("\n\nExamples:\n")
        if examples:
            options["epilog"] = f"examples:\n{examples.rstrip()}"
        super().__init__(description=text, **{"formatter_class": Help} | options)

    def error(self, message: str) -> NoReturn:
        """Raises ValueError with argparse's message."""
        raise ValueError(message)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """--quiet."""
    parser.add_argument(
        "--quiet", action="store_true", help="no progress, no messages but warnings"
    )


def add_task(
    parser: argparse.ArgumentParser, tasks: Mapping[str, str], *, default: str | None = None
) -> None:
    """--task, and what there are.

    Args:
      parser: it is added to.
      tasks: name -> what it is.
      default: the one that needs no naming.
    """
    about = "; ".join(f"{name}: {text}" for name, text in tasks.items())
    group = parser.add_argument_group("tasks", about)
    text = f"of those above ({default})" if default else "of those above"
    group.add_argument("--task", choices=tasks, default=default, help=text)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """--overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace the output that is there")


def add_compilation_cache(parser: argparse.ArgumentParser) -> None:
    """--compilation-cache."""
    parser.add_argument(
        "--compilation-cache",
        metavar="FOLDER",
        help="where compiled programs are kept, so that they are compiled once; off: nowhere "
        "(JAX_COMPILATION_CACHE_DIR, else the user's cache)",
    )


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """--coordinator, --num-processes and --process-id, where TPU, Slurm or Open MPI do not tell."""
    add = parser.add_argument_group("processes").add_argument
    add("--coordinator", metavar="HOST:PORT", help="where process 0 is")
    add("--num-processes", type=int, metavar="N", help="how many there are")
    add("--process-id", type=int, metavar="I", help="this one's number, from 0")

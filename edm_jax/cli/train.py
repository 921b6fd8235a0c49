"""Train a model: the settings of a Python file, into a folder that a killed run goes on from.

Examples:
    edm-jax train --config digits --workdir runs/digits
    edm-jax train --config own_data:data/photos.zip --workdir runs/photos --config.batch_size=128
    edm-jax train --config cifar10:uncond --help
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import inspect
import pathlib
import sys
import textwrap
import traceback
from collections.abc import Iterator

import edm_jax
from edm_jax.cli import settings
from edm_jax.cli.options import (
    Parser,
    add_compilation_cache,
    add_process_arguments,
    add_quiet,
)
from edm_jax.runtime import compilation, processes
from edm_jax.training.config import Config
from edm_jax.training.loop import NonFiniteLossError, train

PREFIX = "--config."
LESS_MEMORY = "a smaller --config.microbatch or --config.model.remat=True"
PACKAGE = pathlib.Path(edm_jax.__file__).parent
# Where our `configs` is: beside the package in a checkout, inside of it where it is installed.
SHIPPED = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PACKAGE.parent
ABOUT = """
  --config.NAME=VALUE   changes a setting of FILE; an entry of a dictionary is named like a setting:
                        --config.loss.arguments.p_mean=-0.4
"""


def parser() -> argparse.ArgumentParser:
    """The options beside the settings."""
    made = Parser(
        prog="edm-jax train",
        usage="%(prog)s --config FILE --workdir FOLDER [--config.NAME=VALUE …] [option …]",
        description=__doc__,
        add_help=False,
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "-h", "--help", action="store_true", help="this, and the settings of FILE with their values"
    )
    add(
        "--config",
        metavar="FILE",
        help="a Python file with get_config(), or the name of one of ours, such as digits; "
        "FILE:ARGUMENT passes it an argument",
    )
    add(
        "--workdir",
        metavar="FOLDER",
        help="where checkpoints, stats.jsonl and pictures go; the same command goes on from the "
        "newest checkpoint there",
    )
    add(
        "--init",
        metavar="PATH",
        help="start from another model's weights, where name and shape are the same: a run, a "
        "saved model, an official .pkl; a run that goes on does not read it again",
    )
    add(
        "--from-step",
        type=int,
        metavar="N",
        help="go on from this checkpoint, 0: begin anew; later ones are moved to FOLDER/set_aside "
        "(default: the newest that is whole)",
    )
    add_quiet(made)
    add_compilation_cache(made)
    add_process_arguments(made)
    return made


def load_config(name: str) -> Config:
    """Calls `get_config()` of a Python file; what follows a colon is its argument.

    The file may import what lies beside it, and our `configs`.

    Args:
      name: FILE or FILE:ARGUMENT; in place of FILE also the name of one of our configurations.

    Raises:
      ValueError: there is no such file, or it does not give a configuration.
    """
    path, colon, argument = name.partition(":")
    file = _find(path)
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # of a file that ends in .py
    own = file.parents[1] if file.with_name("__init__.py").is_file() else file.parent
    if str(own) not in sys.path:
        sys.path.insert(0, str(own))
    if str(SHIPPED) not in sys.path:
        sys.path.append(str(SHIPPED))
    module = importlib.util.module_from_spec(spec)
    with _naming_the_line(path, file):
        spec.loader.exec_module(module)

    get_config = getattr(module, "get_config", None)
    if get_config is None:
        raise ValueError(f"--config {path} must have a function get_config()")
    try:  # a built-in has no signature
        taken = inspect.signature(get_config)
        taken.bind(*([argument] if colon else []))
    except TypeError:
        wanted = f"with an argument, {path}:ARGUMENT" if taken.parameters else "without an argument"
        given = repr(argument) if colon else "none"
        raise ValueError(f"--config {path} must be given {wanted}, got {given}") from None
    except ValueError:
        pass
    with _naming_the_line(path, file):
        config = get_config(argument) if colon else get_config()
    if not isinstance(config, Config):
        found = type(config).__name__
        raise ValueError(f"get_config() of {path} must return a Config, got {found}")
    return config


def _find(path: str) -> pathlib.Path:
    """The file of a path or of a name; `digits`, `digits.py` and `configs/digits.py` name ours."""
    file = pathlib.Path(path).absolute()
    if file.suffix == ".py" and file.is_file():
        return file
    ours = {run.stem: run for run in sorted((SHIPPED / "configs").glob("[!_]*.py"))}
    asked = pathlib.PurePath(path.removesuffix(".py"))
    if asked.parent in (pathlib.PurePath(), pathlib.PurePath("configs")) and asked.name in ours:
        return ours[asked.name]
    raise ValueError(
        f"--config must be a Python file that is there, or one of {', '.join(ours)}, got {path!r}"
    )


@contextlib.contextmanager
def _naming_the_line(path: str, file: pathlib.Path) -> Iterator[None]:
    """Makes one line of what is wrong in a user's file: its name, the line, the exception."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file)]
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines, said = [error.lineno], error.msg
        else:
            said = str(error)
        where = f"{path}, line {lines[-1]}" if lines else path
        kind = type(error).__name__
        raise ValueError(f"{where}: {kind}: {said}" if said else f"{where}: {kind}") from error


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line; `.config` of the result is the run's configuration.

    Raises:
      ValueError: an unknown or ill-typed setting, a configuration that is not there; one line.
    """
    changes, rest = settings.take(words, PREFIX)
    values = parser().parse_args(rest)
    if values.config is None and not values.help:
        raise ValueError("--config must be a file with get_config() or the name of one, got none")
    config = Config() if values.config is None else load_config(values.config)
    values.config = settings.replace(config, changes, PREFIX)
    if values.init:
        values.config = dataclasses.replace(values.config, init=values.init)
    return values


def help_text(config: Config) -> str:
    """The options, and every setting with its value in `config`."""
    lines = [parser().format_help() + ABOUT, "settings, and their values here:"]
    for name, value, text, _ in settings.settings(config):
        entry = f"  {PREFIX}{name}={value}"
        lines.append(f"{entry:44} {text}" if text else entry)
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """Parses, trains, and returns the exit code: 128 + N after signal N."""
    values = parse(words)
    if values.help:
        print(help_text(values.config))
        return 0
    if not values.workdir:
        raise ValueError("--workdir must be the folder of the run, got none")
    compilation.keep(values.compilation_cache)
    processes.initialize(values.coordinator, values.num_processes, values.process_id)
    try:
        signal = train(
            values.config, values.workdir, quiet=values.quiet, from_step=values.from_step
        )
    except NonFiniteLossError as error:
        print(f"error: {textwrap.fill(str(error), 200)}", file=sys.stderr)
        return 1
    return 128 + signal if signal else 0

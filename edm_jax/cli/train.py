"""Train a model: `train.py --config configs/digits.py --workdir runs/digits`."""

import contextlib
import dataclasses
import difflib
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from edm_jax import parallel
from edm_jax.training.config import Config
from edm_jax.training.loop import NonFiniteLossError, train

USAGE = """usage: train.py --config FILE --workdir FOLDER [--config.SETTING=VALUE …] [--quiet]

  --config FILE     a Python file with get_config(); it comes before --config.SETTING
  --workdir FOLDER  where checkpoints, stats.jsonl and pictures go; the same command goes on
                    from the newest checkpoint there
  --quiet           no progress bar, no messages
  --coordinator HOST:PORT --num-processes N --process-id I
                    several processes, where TPU, Slurm or Open MPI do not tell
"""


def settings(config: Any, prefix: str = "config") -> Iterator[tuple[str, Any, str]]:
    """(name, value, help) of every setting of a configuration, nested ones with dots."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from settings(value, name)
        elif isinstance(value, dict) and value:
            for key, entry in value.items():
                yield f"{name}.{key}", entry, ""
        else:
            yield name, value, field.metadata.get("help", "")


def help_text(config: Any) -> str:
    """The usage, and every setting with its value in `config`."""
    lines = [USAGE, "settings, and their values here:"]
    for name, value, text in settings(config):
        entry = f"  --{name}={value!r}".replace("'", "")
        lines.append(f"{entry:44} {text}" if text else entry)
    return "\n".join(lines)


def parse(arguments: list[str]) -> flags.FlagValues:
    """Reads the command line.

    Raises:
      ValueError: an unknown or ill-typed setting, a configuration that is not there; one line.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "the run", flag_values=values)
    flags.DEFINE_string("workdir", None, "the run's folder", flag_values=values)
    flags.DEFINE_string("coordinator", None, "process 0", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "their number", flag_values=values)
    flags.DEFINE_integer("process_id", None, "this one", flag_values=values)
    flags.DEFINE_boolean("quiet", False, "say nothing", flag_values=values)
    for name in ("num-processes", "process-id"):
        arguments = [a.replace(f"--{name}", f"--{name.replace('-', '_')}") for a in arguments]
    try:
        # config_flags looks for overrides in sys.argv.
        with _argv(["train.py", *arguments]):
            rest = values(["train.py", *arguments])[1:]
            config = values.config
    except KeyError as error:
        raise ValueError(_unknown_setting(arguments, error)) from None
    except flags.Error as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        raise ValueError(f"--config: {str(error).split('[Errno')[-1].rpartition('] ')[2]}") from None
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}")
    if config is None:
        raise ValueError("--config is missing: the path of a file with get_config()")
    if not isinstance(config, Config):
        raise ValueError(f"get_config() must return edm_jax.Config, not {type(config).__name__}")
    return values


@contextlib.contextmanager
def _argv(arguments: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


def _unknown_setting(arguments: list[str], error: KeyError) -> str:
    config = Config()
    with contextlib.suppress(Exception):
        config = _load(arguments)
    known = [name for name, _, _ in settings(config)]
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if name.startswith("config.") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            return f"unknown setting --{name}; did you mean --{near[0]}?"
    return f"unknown setting {error}"


def _load(arguments: list[str]) -> Any:
    """The configuration that `arguments` name, without its overrides."""
    plain = []
    for i, argument in enumerate(arguments):
        if argument.startswith(("--config=", "-config=")):
            plain = [argument]
        elif argument in ("--config", "-config"):
            plain = arguments[i : i + 2]
    return parse(plain).config if plain else Config()


def main(arguments: list[str]) -> int:
    """Parses, trains, and returns the exit code: 128 + N after signal N."""
    if {"-h", "--help", "-help"} & set(arguments):
        print(help_text(_load(arguments)))
        return 0
    values = parse(arguments)
    if not values.workdir:
        raise ValueError("--workdir is missing: the folder of the run")
    parallel.initialize(values.coordinator, values.num_processes, values.process_id)
    try:
        signal = train(values.config, values.workdir, quiet=values.quiet)
    except NonFiniteLossError as error:
        print(f"error: {textwrap.fill(str(error), 200)}", file=sys.stderr)
        return 1
    except jax.errors.JaxRuntimeError as error:
        if parallel.process_count() == 1:
            raise
        return _lost_a_process(error)
    return 128 + signal if signal else 0


def _lost_a_process(error: Exception) -> int:
    """Ends a run whose processes cannot reach each other any more, in bounded time."""
    text = " ".join(str(error).split())[:200]
    print(
        f"error: process {parallel.process_index()} of {parallel.process_count()} lost the others: "
        f"{text}\nthe same command goes on from the newest checkpoint; which process is gone:",
        file=sys.stderr,
        flush=True,
    )
    # The coordinator names the process that fell silent and ends this one; waiting for the others
    # at a regular exit would never end.
    time.sleep(parallel.HEARTBEAT_SECONDS + 10)
    os._exit(1)

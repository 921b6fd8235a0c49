"""Train a model: `train.py --config configs/digits.py --workdir runs/digits`."""

import dataclasses
import difflib
import os
import runpy
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from absl import flags
from ml_collections import config_flags

from edm_jax.networks import ModelConfig
from edm_jax.runtime import processes
from edm_jax.training.config import Config
from edm_jax.training.loop import NonFiniteLossError, train

USAGE = """usage: train.py --config FILE --workdir FOLDER [--config.SETTING=VALUE …]
                [--init PATH] [--quiet]

  --config FILE     a Python file with get_config(); FILE:ARGUMENT passes it an argument
  --workdir FOLDER  where checkpoints, stats.jsonl and pictures go; the same command goes on
                    from the newest checkpoint there
  --init PATH       start from another model's weights, where name and shape are the same: a run, a
                    saved model, an official .pkl; a run that goes on does not read it again
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


def load_config(name: str) -> Config:
    """Calls `get_config()` of a Python file; what follows a colon is its argument.

    Raises:
      ValueError: there is no such file, or it does not give a configuration.
    """
    path, colon, argument = name.partition(":")
    if not path.endswith(".py") or not os.path.isfile(path):
        raise ValueError(f"--config is {path!r}; there is no such Python file")
    get_config = runpy.run_path(path).get("get_config")
    if get_config is None:
        raise ValueError(f"--config {path} has no get_config()")
    config = get_config(argument) if colon else get_config()
    if not isinstance(config, Config):
        found = type(config).__name__
        raise ValueError(f"get_config() of {path} must return a Config, not {found}")
    return config


def parse(arguments: list[str]) -> flags.FlagValues:
    """Reads the command line; `.config` of the result is the run's configuration.

    Raises:
      ValueError: an unknown or ill-typed setting, a configuration that is not there; one line.
    """
    config, rest = None, []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name.lstrip("-") == "config" and word.startswith("-"):
            config = load_config(value if equals else next(words, ""))
        elif name in ("--num-processes", "--process-id"):
            rest.append(word.replace("-", "_").replace("__", "--", 1))
        else:
            rest.append(word)
    if config is None:
        raise ValueError("--config is missing: the path of a file with get_config()")

    known = [name for name, _, _ in settings(config)]
    for word in rest:
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and name.startswith("config.") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown setting --{name}; did you mean --{near}?")
    # ml_collections assigns to fields; a model's are frozen.
    model, config.model = config.model, _assignable(config.model)
    values = flags.FlagValues()
    try:
        argv = ["train.py", *rest]
        config_flags.DEFINE_config_dataclass(
            "config", config, "the run", flag_values=values, sys_argv=argv
        )
        flags.DEFINE_string("workdir", None, "the run's folder", flag_values=values)
        flags.DEFINE_string("init", None, "weights to start from", flag_values=values)
        flags.DEFINE_string("coordinator", None, "process 0", flag_values=values)
        flags.DEFINE_integer("num_processes", None, "their number", flag_values=values)
        flags.DEFINE_integer("process_id", None, "this one", flag_values=values)
        flags.DEFINE_boolean("quiet", False, "say nothing", flag_values=values)
        extra = values(argv)[1:]
    except flags.Error as error:
        raise ValueError(str(error)) from None
    if extra:
        raise ValueError(f"unexpected argument {extra[0]!r}")
    changed = {f.name: getattr(config.model, f.name) for f in dataclasses.fields(config.model)}
    values.config.model = dataclasses.replace(model, **changed)
    return values


def _assignable(model: ModelConfig) -> Any:
    fields = [field for field in dataclasses.fields(model) if field.init]
    kind = dataclasses.make_dataclass("Model", [(field.name, field.type) for field in fields])
    return kind(**{field.name: getattr(model, field.name) for field in fields})


def main(arguments: list[str]) -> int:
    """Parses, trains, and returns the exit code: 128 + N after signal N."""
    if {"-h", "--help", "-help"} & set(arguments):
        rest = [word for word in arguments if word not in ("-h", "--help", "-help")]
        named = any(word.lstrip("-").partition("=")[0] == "config" for word in rest)
        print(help_text(parse(rest).config if named else Config()))
        return 0
    values = parse(arguments)
    if values.init:
        values.config.init = values.init
    if not values.workdir:
        raise ValueError("--workdir is missing: the folder of the run")
    processes.initialize(values.coordinator, values.num_processes, values.process_id)
    try:
        signal = train(values.config, values.workdir, quiet=values.quiet)
    except NonFiniteLossError as error:
        print(f"error: {textwrap.fill(str(error), 200)}", file=sys.stderr)
        return 1
    return 128 + signal if signal else 0

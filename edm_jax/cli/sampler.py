"""What a command line says of a model and of its sampler; every name comes from a registry."""

import argparse
import ast
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edm_jax import generation, timesteps
from edm_jax.cli import settings
from edm_jax.cli.options import add_compilation_cache
from edm_jax.model import Model
from edm_jax.options import Option, check_options, find
from edm_jax.runtime import files
from edm_jax.samplers import DEFAULT_SOLVER, DEFAULT_STEPS, SOLVERS, Churn, Loop, Tableau
from edm_jax.schedules import Schedule
from edm_jax.weights import load, posterior_variance
from edm_jax.weights.directory import CHECKPOINTS
from edm_jax.weights.errors import naming

RANGE = ("sigma_min", "sigma_max", "rho")  # options of grids that have an argument of their own
CHURN = ("s_churn", "s_min", "s_max", "s_noise")
# Options that are files: how each is read, and the command that makes it.
FILES: dict[str, tuple[Callable[[str], Any], str]] = {
    "posterior_variance": (
        posterior_variance.load,
        "edm-jax posterior-variance --checkpoint … --data … --out FILE",
    )
}
# All that `add_sampler_arguments` adds.
GRID_ARGUMENTS = "steps timesteps timesteps_option sigma_min sigma_max rho".split()
SOLVER_ARGUMENTS = "solver option schedule scaling s_churn s_min s_max s_noise".split()
SAMPLER_ARGUMENTS = GRID_ARGUMENTS + SOLVER_ARGUMENTS
# Types whose values have arguments of their own.
ARGUMENTS = {Schedule: "--schedule", Churn: "--s-churn"}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--checkpoint, --ema and --compilation-cache."""
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="PATH",
        help="the model: a run's folder, a saved model, or an official .pkl",
    )
    add(
        "--ema",
        metavar="NAME",
        help="take another average of the run, such as halflife-250, or one of any width, such as "
        "0.07",
    )
    add_compilation_cache(parser)


def load_model(checkpoint: str, ema: str | None = None) -> tuple[Model, int | None]:
    """The model that --checkpoint and --ema name, and the step of a run that it is of.

    Args:
      checkpoint: whatever `load` reads.
      ema: of a run, the name of another average than its own; or the relative width of one to
        make of its snapshots.

    Raises:
      ValueError: no model there, or no such average; or none can be made.
      OSError: a file that cannot be read.
    """
    path = files.located(checkpoint)
    with naming(path):
        if path.name == CHECKPOINTS:
            path = path.parent
        alone = path.parent.name == CHECKPOINTS and path.name.isdecimal()
        step, run = (int(path.name), path.parent.parent) if alone else (None, path)
        if not ema and not (run / CHECKPOINTS).is_dir():
            return load(path), None
    if ema and (width := _number(ema)) is not None:
        from edm_jax.training import posthoc  # optax, likewise

        with naming(path):
            return posthoc.reconstruct(str(run), width, step=step)[0], step
    # Orbax takes seconds to import.
    from edm_jax.weights.runs import newest_step, restore_model

    step = newest_step(run) if step is None else step  # another may come while this one is read
    return restore_model(run, step=step, ema=ema or None), step


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def add_sampler_arguments(parser: argparse.ArgumentParser) -> None:
    """The solver, its options, and the grid of noise levels."""
    add = parser.add_argument_group(
        "sampler (names and options: edm-jax sample --list-solvers)"
    ).add_argument
    add(
        "--steps",
        type=int,
        metavar="N",
        help=f"steps from noise to image ({DEFAULT_STEPS}; 2 for a consistency model)",
    )
    add(
        "--solver",
        metavar="NAME",
        help=f"the solver ({DEFAULT_SOLVER}; consistency for a consistency model)",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the solver, such as eta=0.5 or order=3; may be repeated",
    )
    add_grid_arguments(add)
    add("--schedule", metavar="NAME", help="sigma(t), for solvers that have one (their own)")
    add("--scaling", choices=("none", "vp"), help="s(t), likewise (the schedule's own)")
    add("--s-churn", type=float, metavar="X", help="noise on the way, for solvers with churn (0)")
    add("--s-min", type=float, metavar="S", help="lowest sigma that gets noise (0)")
    add("--s-max", type=float, metavar="S", help="highest sigma that gets noise (inf)")
    add("--s-noise", type=float, metavar="X", help="size of that noise (1)")


def add_grid_arguments(add: Callable[..., Any]) -> None:
    """The grid of noise levels, without their number.

    Args:
      add: the `add_argument` of a parser or of a group.
    """
    add(
        "--timesteps",
        "--discretization",
        default="edm",
        metavar="NAME",
        help="the grid of noise levels (edm)",
    )
    add(
        "--timesteps-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the grid, such as spacing=leading; may be repeated",
    )
    add("--sigma-min", type=float, metavar="S", help="lowest noise level (the grid's own)")
    add("--sigma-max", type=float, metavar="S", help="highest noise level (the grid's own)")
    add("--rho", type=float, metavar="X", help="exponent of the grid (its own)")


def make_sampler(args: argparse.Namespace, model: Model) -> Tableau | Loop:
    """The sampler that the options describe, within the noise levels that `model` knows.

    Raises:
      ValueError: an option or a value that is not allowed, or a model that the solver is not for.
      OSError: a file that cannot be read.
    """
    return generation.sampler_for(
        model,
        _steps(args),
        **grid_options(args),
        solver=args.solver,
        schedule=args.schedule,
        scaling=args.scaling,
        options=_solver_options(args, model),
    )


def make_grid(args: argparse.Namespace, model: Model) -> np.ndarray:
    """The noise levels that the options describe, of those that `model` knows.

    Raises:
      ValueError: an option or a value that is not allowed, or an option of the solver.
    """
    for name in SOLVER_ARGUMENTS:
        if value := getattr(args, name):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be left out with a method that samples, got {value!r}")
    return generation.grid_for(model, _steps(args), **grid_options(args))


def _steps(args: argparse.Namespace) -> int | None:
    if args.steps is not None and args.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {args.steps}")
    return args.steps


def grid_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say of the grid: its name by `timesteps`, the rest by `timesteps_options`.

    Raises:
      ValueError: a grid that is unknown, or an option that it does not have.
    """
    given = {name: getattr(args, name) for name in RANGE if getattr(args, name) is not None}
    known = find("grid", args.timesteps, timesteps.GRIDS).options
    given |= read_options("--timesteps-option", f"the grid {args.timesteps!r}", known,
                          args.timesteps_option)  # fmt: skip
    return {"timesteps": args.timesteps, "timesteps_options": given}


def _solver_options(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    name = args.solver or generation.default_solver(model)
    solver = find("solver", name, SOLVERS)
    options = read_options("--option", f"the solver {name!r}", solver.options, args.option)
    for missing in (solver.needs & set(FILES)) - set(options):
        raise ValueError(
            f"--option {missing}=FILE must be given with --solver {name}; make the file by: "
            f"{FILES[missing][1]}"
        )
    churn = {part: getattr(args, part) for part in CHURN if getattr(args, part) is not None}
    if not churn:
        return options
    if "churn" not in solver.options:
        takers = ", ".join(other for other, s in SOLVERS.items() if "churn" in s.options)
        raise ValueError(
            f"--{next(iter(churn)).replace('_', '-')} must be given with a solver that has churn "
            f"({takers}), got --solver {name}"
        )
    return options | {"churn": Churn(**churn)}


def read_options(
    flag: str, owner: str, known: Mapping[str, Option], words: Sequence[str]
) -> dict[str, Any]:
    """Reads NAME=VALUE words by the types of the options.

    >>> read_options("--option", "ddim", SOLVERS["ddim"].options, ["eta=1"])
    {'eta': 1.0}

    Args:
      flag: what comes before a word on the command line, for messages.
      owner: whose options they are, for messages.
      known: name -> option.
      words: such as "eta=0.5"; of two for one option the later holds.

    Returns:
      Name -> value.

    Raises:
      ValueError: a word that is no NAME=VALUE, an unknown option, a value of another type.
      OSError: a file that cannot be read.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{flag} must look like NAME=VALUE, got {word!r}")
        if name in known:
            found[name] = _read(value, known[name], f"{flag} {name}")
        else:
            found[name] = value
    check_options(owner, {n: o._replace(required=False) for n, o in known.items()}, found)
    return found


def with_digests(words: Sequence[str]) -> list[str]:
    """Words of --option, with a hash of its content in place of each file."""
    found = []
    for word in words:
        name, _, value = word.partition("=")
        if name in FILES:
            content = files.located(value).read_bytes()
            word = f"{name}={hashlib.blake2b(content, digest_size=16).hexdigest()}"
        found.append(word)
    return found


def _read(text: str, option: Option, name: str) -> Any:
    option_name = name.split()[-1]
    if option_name in FILES:
        return FILES[option_name][0](text)
    if option.type in (float, int, bool):
        return settings.read(text, option.type, name)
    if option.type in ARGUMENTS:
        raise ValueError(f"{name} must be given by {ARGUMENTS[option.type]}, got {text!r}")
    if option.type in (str, Sequence):
        # Some take a list in place of a name.
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
        return value if isinstance(value, (tuple, list)) else text
    raise ValueError(f"{name} must be given in Python, got {text!r}")

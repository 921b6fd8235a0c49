"""Restore images of which parts, colours or sharpness are missing, by a model of whole images.

It takes whole images, measures them itself and restores them from that, so that the truth is known.

Examples:
    edm-jax restore --checkpoint runs/digits --data digits --task inpaint --out inpainted
    edm-jax restore --checkpoint runs/digits --data digits --task super-resolve --noise 0 --out big
    edm-jax restore --list-methods
"""

import argparse
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from edm_jax import __version__, generation, inverse
from edm_jax.cli import made_with, restore_folder
from edm_jax.cli.images import (
    OWN,
    UNLABELLED,
    add_image_arguments,
    check_pixels,
    evenly_spread,
    inputs,
    label_rows,
)
from edm_jax.cli.options import add_quiet, add_task
from edm_jax.cli.restore_folder import RECORD, name_of
from edm_jax.cli.sampler import (
    ARGUMENTS,
    SAMPLER_ARGUMENTS,
    add_model_arguments,
    add_sampler_arguments,
    load_model,
    make_grid,
    make_sampler,
    read_options,
    with_digests,
)
from edm_jax.cli.solver_list import describe
from edm_jax.generation import Problem
from edm_jax.generation.fitting import load_fitting
from edm_jax.inverse import METHODS, NEEDS, TASKS, Method, Task
from edm_jax.model import Model
from edm_jax.options import find
from edm_jax.runtime import files, pictures, processes
from edm_jax.runtime.progress import Progress

LESS_MEMORY = "a smaller --batch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = (
        "%(prog)s --checkpoint PATH --data DATA --task TASK --out FOLDER [option …]\n"
        "       %(prog)s --list-methods"
    )
    add_model_arguments(parser)
    add_image_arguments(parser, label=UNLABELLED)
    add = parser.add_argument
    add("--out", help="folder for images and restore.json; a run that was stopped goes on there")
    add("--draws", type=int, default=4, help="how many restorations of each image (4)")
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add("--seed", type=int, default=0, help="seed of the noise (0)")
    add("--list-methods", action="store_true", help="print tasks and methods; and stop")
    add_quiet(parser)
    add_task(parser, {name: task.about for name, task in TASKS.items()})
    add = parser.add_argument_group("measurement and method (--list-methods)").add_argument
    add(
        "--task-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the task, such as share=0.5 or factor=4; may be repeated",
    )
    add(
        "--noise",
        type=float,
        default=0.05,
        metavar="S",
        help="standard deviation of the measurement's noise, of images in [-1, 1] (0.05)",
    )
    add("--method", metavar="NAME", help=f"of those listed ({inverse.DEFAULT_METHOD})")
    add(
        "--method-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as iterations=9 or eta=0.5; may be repeated",
    )
    add_sampler_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measures and restores, writes images, scores and the picture; returns the exit code."""
    if args.list_methods:
        print(list_methods())
        return 0
    for name in ("checkpoint", "data", "task", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    for name in ("num", "draws", "batch"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    restore_folder.metrics()  # before an hour of work
    out = files.located(args.out)
    model, step = load_model(args.checkpoint, args.ema)
    check_pixels(model)
    problem, settings = make_problem(args, model)
    generation.check_problem(model, problem)
    label = args.label or UNLABELLED
    dataset = load_fitting(args.data, model, labelled=label == OWN)
    chosen = evenly_spread(dataset, args.num)
    labels = label_rows(label, model, dataset, chosen)
    settings = {
        "weights": made_with.digest(model.params),
        **settings,
        "label": UNLABELLED if labels is None else label,
        "labels": made_with.digest(dataset.targets) if label == OWN else None,
        "jax": jax.__version__,
    }
    made_with.check(out / RECORD, settings)
    restore_folder.check(out, dataset.images, chosen)
    about = {
        "checkpoint": str(files.absolute(args.checkpoint)),
        "ema": args.ema,
        "step": step,
        "data": args.data,
        "devices": processes.device_summary(),
        "edm_jax": __version__,
        "scikit-image": importlib.metadata.version("scikit-image"),
        "ssim_window": restore_folder.ssim_window(model.image_shape),
    }
    total = len(chosen) * args.draws
    rows, draws = np.divmod(np.arange(total), args.draws)
    names = [name_of("draws", chosen[row], draw) for row, draw in zip(rows, draws)]
    missing = np.array([i for i in range(total) if not (out / names[i]).exists()], int)
    rows, draws = rows[missing], draws[missing]
    parts = generation.restore(
        model,
        problem,
        lambda places: inputs(dataset, places),
        chosen[rows],
        draws,
        labels=None if labels is None else labels[rows],
        batch_size=args.batch,
    )
    progress = Progress(total=total, initial=total - len(missing), quiet=args.quiet)
    with made_with.alone(out), progress as report:
        report.say(
            f"{len(chosen)} images of {'×'.join(map(str, model.image_shape))}, {args.task}: "
            f"{args.draws} draws of each by {problem.method}, {processes.device_summary()}"
        )

        def begin() -> None:
            made_with.write(out / RECORD, settings, about)
            restore_folder.write_inputs(out, problem, dataset, chosen, args.batch)

        broken = _draw(parts, [names[i] for i in missing], out, begin, report)
        if broken:
            where = ", ".join(broken[:20]) + (", …" if len(broken) > 20 else "")
            words = "images hold NaN or infinity and were not written"
            print(f"error: {len(broken)} {words}: {where}", file=sys.stderr)
            return 1
        report.at("scoring")
        scores = restore_folder.finish(out, chosen.tolist(), args.draws)
        average = restore_folder.averages(scores)
        found = {"draws": args.draws, "average": average, "images": scores}
        files.write(out / RECORD, json.dumps({**about, **settings, **found}, indent=1) + "\n")
    if not args.quiet:
        print(out / restore_folder.GRID)
        print(", ".join(f"{name} {value:.3f}" for name, value in average.items() if value))
    return 0


def make_problem(args: argparse.Namespace, model: Model) -> tuple[Problem, dict[str, Any]]:
    """The measurement and the method that the options describe.

    Args:
      args: with what `add_arguments` adds.
      model: what restores.

    Returns:
      The problem, and a record of all that decides it.

    Raises:
      ValueError: a name, an option or a value that is not allowed.
    """
    if not (args.noise >= 0 and math.isfinite(args.noise)):
        raise ValueError(f"--noise must be finite and not negative, got {args.noise}")
    task = find("task", args.task, TASKS)
    task_options = _options("--task-option", f"the task {args.task!r}", task, args.task_option)
    operator = task.make(model.image_shape, **task_options)
    name = args.method or inverse.DEFAULT_METHOD
    method = find("method", name, METHODS)
    options = _options("--method-option", f"the method {name!r}", method, args.method_option)
    inverse.check_method(name, operator, model.image_shape, args.noise, **options)
    sampler = make_grid(args, model) if method.samples else make_sampler(args, model)
    settings = {
        "task": args.task,
        "task_option": task_options,
        "noise": args.noise,
        "method": name,
        "method_option": options,
        "seed": args.seed,
        **{name: getattr(args, name) for name in SAMPLER_ARGUMENTS},
        "solver": None if method.samples else args.solver or generation.default_solver(model),
        "option": with_digests(args.option),
    }
    return Problem(operator, args.noise, name, options, sampler, args.seed), settings


def _options(flag: str, owner: str, entry: Task | Method, words: list[str]) -> dict[str, Any]:
    """All options of an entry of a registry: those that are given, the defaults of the others."""
    defaults = {name: option.default for name, option in entry.options.items()}
    return defaults | read_options(flag, owner, entry.options, words)


def _draw(
    parts: Iterator[generation.Restored],
    names: list[str],
    out: epath.Path,
    begin: Callable[[], None],
    report: Progress,
) -> list[str]:
    """Writes draws as they come, after what `begin` writes; returns names of those of NaN."""
    broken: list[str] = []
    done = 0
    report.at("compiling" if names else "all there")
    for part in parts:
        if not done:
            begin()
            report.at("restoring")
        for name, pixels, finite in zip(names[done:], part.images, part.finite):
            if finite:
                pictures.write(pictures.to_image(pixels), out / name)
            else:
                broken.append(name)
        done += len(part.images)
        report.update(len(part.images))
    return broken


def list_methods() -> str:
    """The tasks and the methods, each with its options."""
    lines = ["task"]
    for name, task in TASKS.items():
        lines += [f"{name:<16} {task.about}", *describe(task.options, "--task-option")]
    lines += ["", f"{'method':<16} {'for':<30} source"]
    for name, method in METHODS.items():
        needs = ", ".join(need for need in NEEDS if need in method.needs) or "any measurement"
        lines += [f"{name:<16} {needs:<30} {method.source}"]
        given = {n: option for n, option in method.options.items() if option.type not in ARGUMENTS}
        lines += describe(given, "--method-option")
    return "\n".join(lines)

"""Draw images from a model: PNG files, one per seed and class, and a labelled grid of them.

Several processes share the work where the same command runs in each: those of a TPU pod slice,
Slurm or Open MPI find each other, others are told by --coordinator. They write to one folder.
"""

import argparse
import sys
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from edm_jax import generation
from edm_jax.cli import sample_folder
from edm_jax.cli.options import add_process_arguments
from edm_jax.cli.sampler import (
    SAMPLER_ARGUMENTS,
    add_model_arguments,
    add_sampler_arguments,
    list_solvers,
    load_model,
    make_sampler,
    with_digests,
)
from edm_jax.model import Model
from edm_jax.runtime import files, pictures, processes
from edm_jax.samplers import Loop, Tableau

FAILURE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add_model_arguments(parser)
    add("--seeds", default="0-63", help="such as 0-99 or 1,2,5-10 (default: 0-63)")
    add(
        "--class",
        dest="classes",
        default="random",
        metavar="CLASS",
        help="an index, several (0,3,5), 'all', or 'random': one drawn from each seed (default)",
    )
    add("--out", help="folder for the images; a run that was stopped goes on there")
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add("--trajectory", metavar="PNG", help="also draw the denoising paths of the first images")
    add("--list-solvers", action="store_true", help="print solvers, grids, schedules; and stop")
    add_process_arguments(parser)
    add_sampler_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Samples; returns the exit code."""
    if args.list_solvers:
        print(list_solvers())
        return 0
    for name in ("checkpoint", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    asked, classes = parse_seeds(args.seeds), parse_classes(args.classes)
    processes.initialize(args.coordinator, args.num_processes, args.process_id)
    model = load_model(args)
    sampler = make_sampler(args, model)
    if args.trajectory and not isinstance(sampler, Tableau):
        raise ValueError(f"--trajectory must be left out for the loop {args.solver}, got a file")
    seeds, labels = generation.pairs(model, asked, classes)
    by_class = args.classes != "random"
    folders = labels if by_class and labels is not None else [None] * len(seeds)
    names = [sample_folder.name_of(seed, label) for seed, label in zip(seeds, folders)]
    out = epath.Path(args.out)
    broken = _draw_missing(args, model, sampler, out, (seeds, labels, names))
    if broken:
        where = ", ".join(broken[:20]) + (", …" if len(broken) > 20 else "")
        print(
            f"error: {len(broken)} images hold NaN or infinity and were not written: {where}",
            file=sys.stderr,
        )
    processes.barrier("sampled")
    if not processes.is_main():
        return FAILURE if broken else 0

    if labels is not None:
        sample_folder.write_labels(out, model.config.label_dim)
    if not all((out / name).exists() for name in names):
        return FAILURE
    print(sample_folder.write_grid(out, names, labels, by_class))
    if args.trajectory:
        first = {"labels": labels[:8]} if labels is not None else {}
        states, _ = generation.paths(model, sampler, seeds[:8], **first)
        picture = pictures.grid(states.reshape(-1, *model.image_shape), columns=states.shape[1])
        pictures.write(picture, args.trajectory)
        print(args.trajectory)
    return 0


def _draw_missing(
    args: argparse.Namespace,
    model: Model,
    sampler: Tableau | Loop,
    out: epath.Path,
    wanted: tuple[np.ndarray, np.ndarray | None, list[str]],
) -> list[str]:
    """Draws and writes this process's share of the images that are not there yet.

    Returns:
      The names of those that are no images.
    """
    made_with = _made_with(args, model)
    sample_folder.check(out, made_with)
    seeds, labels, names = wanted
    mine = np.arange(len(names))[processes.process_index() :: processes.process_count()]
    missing = np.array([i for i in mine if not (out / names[i]).exists()], int)
    main = processes.is_main()
    broken: list[str] = []
    parts = generation.generate(
        model,
        sampler,
        seeds[missing],
        labels=None if labels is None else labels[missing],
        batch_size=args.batch,
    )
    if main:
        print(
            f"{len(names)} images of {'×'.join(map(str, model.image_shape))}, "
            f"{made_with['solver']}: {sampler.nfe or 'some'} network evaluations each, "
            f"{processes.device_summary()}",
            file=sys.stderr,
        )
    done, about = 0, {"checkpoint": str(files.absolute(args.checkpoint)), "ema": args.ema}
    start = len(mine) - len(missing)
    with tqdm(total=len(mine), initial=start, unit="img", disable=not main) as bar:
        for part in parts:
            out.mkdir(parents=True, exist_ok=True)
            if main and not done:
                sample_folder.write_record(out, made_with, about)
            for index, pixels, finite in zip(missing[done:], part.images, part.finite):
                file = out / names[index]
                if finite:
                    file.parent.mkdir(exist_ok=True)
                    pictures.write(pictures.to_image(pixels), file)
                else:
                    broken.append(names[index])
            done += len(part.seeds)
            bar.update(len(part.seeds))
    return broken


def _made_with(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """Everything that decides an image, its seed and class aside."""
    return {
        "weights": sample_folder.digest(model.params),
        **{name: getattr(args, name) for name in SAMPLER_ARGUMENTS},
        "solver": args.solver or generation.default_solver(model),
        "option": with_digests(args.option),
    }


def parse_seeds(text: str) -> list[int]:
    """Reads "1,2,5-10".

    >>> parse_seeds("1,2,5-7")
    [1, 2, 5, 6, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"--seeds must look like 0-99 or 1,2,5-10, got {text!r}")
        low, high = int(first), int(last or first)
        if not low <= high < 2**32:
            raise ValueError(f"--seeds must ascend and lie in [0, 2**32), got {part!r}")
        seeds.extend(range(low, high + 1))
    return list(dict.fromkeys(seeds))


def parse_classes(text: str) -> str | list[int]:
    """Reads "all", "random", or a list such as "0,3,5".

    >>> parse_classes("0,3,5")
    [0, 3, 5]
    """
    if text in ("all", "random"):
        return text
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ValueError(
            f"--class must be an index, several (0,3,5), 'all' or 'random', got {text!r}"
        ) from None

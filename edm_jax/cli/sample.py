"""Draw images from a model: PNG files, one per seed and class, and a labelled grid of them.

Several processes share the work where the same command runs in each: those of a TPU pod slice,
Slurm or Open MPI find each other, others are told by --coordinator. They write to one folder.

Examples:
    edm-jax sample --checkpoint runs/digits --seeds 0-99 --class 3 --out samples/threes
    edm-jax sample --checkpoint runs/digits --class 9 --guidance 2 --out samples/nines
    edm-jax sample --checkpoint edm-cifar10-32x32-cond-vp.pkl --solver heun --out samples/cifar10
    edm-jax sample --list-solvers
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from etils import epath

from edm_jax import generation
from edm_jax.cli import made_with, sample_folder
from edm_jax.cli.guidance import (
    UNLABELLED,
    add_guidance_arguments,
    guided_by,
    guided_model,
)
from edm_jax.cli.latents import about_latents, add_decoder_argument, decoder, write_sample
from edm_jax.cli.options import add_process_arguments, add_quiet
from edm_jax.cli.published import add_published_argument, apply_published
from edm_jax.cli.sampler import (
    add_model_arguments,
    add_sampler_arguments,
    load_model,
    make_sampler,
)
from edm_jax.cli.sampling_record import sampling_record
from edm_jax.cli.solver_list import list_solvers
from edm_jax.cli.tuned import add_tuned_argument, tuned_sampler
from edm_jax.generation.guided import check_unlabelled
from edm_jax.model import Model
from edm_jax.runtime import files, pictures, processes
from edm_jax.runtime.progress import Progress
from edm_jax.samplers import Tableau

LESS_MEMORY = "a smaller --batch"
RECORD = "sample.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = (
        "%(prog)s --checkpoint PATH --out FOLDER [option …]\n       %(prog)s --list-solvers"
    )
    add = parser.add_argument
    add_model_arguments(parser)
    add_published_argument(parser)
    add("--seeds", default="0-63", help="an image for each, such as 0-99 or 1,2,5-10 (0-63)")
    add(
        "--class",
        dest="classes",
        default="random",
        metavar="CLASS",
        help="what to draw: an index or a name, several (0,3,5), 'all', 'none', or 'random': one "
        "drawn from each seed (default)",
    )
    add_decoder_argument(parser)
    add("--out", help="folder for the images; a run that was stopped goes on there")
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add(
        "--trajectory",
        metavar="PNG",
        help="also draw images on their way from noise",
    )
    add("--list-solvers", action="store_true", help="print solvers, grids, schedules; and stop")
    add_quiet(parser)
    add_process_arguments(parser)
    add_sampler_arguments(parser)
    add_tuned_argument(parser)
    add_guidance_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Samples; returns the exit code."""
    if args.list_solvers:
        print(list_solvers())
        return 0
    apply_published(args)
    for name in ("checkpoint", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    asked = parse_seeds(args.seeds)
    if args.trajectory:
        files.made(files.located(args.trajectory).parent)
    processes.initialize(args.coordinator, args.num_processes, args.process_id)
    model, step = load_model(args.checkpoint, args.ema)
    drawn, guide = guided_model(args, model)
    tuned = tuned_sampler(args, model, guide)
    sampler = tuned.tableau if tuned else make_sampler(args, model)
    decode = decoder(args.decoder, model)
    if args.trajectory and model.config.latents:
        raise ValueError(f"--trajectory must be left out for latents, got {args.trajectory}")
    if args.trajectory and not isinstance(sampler, Tableau):
        raise ValueError(f"--trajectory must be left out for the loop {args.solver}, got a file")
    guided = args.guidance not in (None, 0 if args.classifier else 1)
    classes = parse_classes(args.classes, model.config.class_names)
    unlabelled = classes is None and model.config.label_dim > 0
    if unlabelled:
        _check_unlabelled(args, model, guide)
    seeds, labels = generation.pairs(model, asked, classes)
    by_class = args.classes != "random"
    folders = labels if by_class and labels is not None else [None] * len(seeds)
    pictured = args.decoder is not None or not model.config.latents
    suffix = sample_folder.PICTURES if pictured else sample_folder.LATENTS
    names = [
        sample_folder.name_of(seed, label, suffix=suffix) for seed, label in zip(seeds, folders)
    ]
    out = files.located(args.out)
    settings = sampling_record(args, model, guide, unlabelled=unlabelled, tuned=tuned)
    made_with.check(out / RECORD, settings)
    mine = np.arange(len(names))[processes.process_index() :: processes.process_count()]
    missing = np.array([i for i in mine if not (out / names[i]).exists()], int)
    parts = generation.generate(
        drawn,
        sampler,
        seeds[missing],
        batch_size=args.batch,
        **_labels(labels, missing),
    )
    main = processes.is_main()
    done = len(mine) - len(missing)
    alone = made_with.alone(out) if main else contextlib.nullcontext()
    with alone, Progress(total=len(mine), initial=done, quiet=args.quiet or not main) as report:
        processes.barrier("alone")  # the other processes write nothing where it is refused
        report.say(
            f"{len(names)} images of {'×'.join(map(str, model.image_shape))}, "
            f"{settings['solver']}: {sampler.nfe or 'some'} network evaluations each"
            f"{' and those of the guide' if guided else ''}, "
            f"{processes.device_summary()}"
        )
        about = {"checkpoint": str(files.absolute(args.checkpoint)), "ema": args.ema, "step": step}
        about |= guided_by(args, guide)
        record = {"made_with": settings, "about": about} if main else None
        broken = _draw(parts, [names[i] for i in missing], out, record, report, decode)
        processes.barrier("sampled")
        if main:
            complete = all((out / name).exists() for name in names)
            if complete and args.trajectory:
                report.at("drawing the paths")
                first = None if labels is None else labels[:8]
                paths = cast(Tableau, sampler)  # it was refused above if it is none
                _draw_paths(drawn, paths, seeds[:8], first, args.trajectory)
            sample_folder.write_labels(out, model.config, labelled=not unlabelled)
            grid: str | epath.Path = about_latents(out)
            if complete and pictured:
                report.at("drawing the grid")
                grid = sample_folder.write_grid(
                    out, names, labels if by_class else None, model.config.class_names
                )
    if broken:
        where = ", ".join(broken[:20]) + (", …" if len(broken) > 20 else "")
        print(
            f"error: {len(broken)} images hold NaN or infinity and were not written: {where}",
            file=sys.stderr,
        )
    if broken or (main and not complete):
        return 1
    if main and not args.quiet:
        print(grid, *filter(None, [args.trajectory]), sep="\n")
    return 0


def _draw(
    parts: Iterator[generation.Samples],
    names: list[str],
    out: epath.Path,
    record: dict[str, Any] | None,
    report: Progress,
    decode: Callable[[np.ndarray], np.ndarray],
) -> list[str]:
    """Writes images as they come, and with the first ones the record of what they are.

    `decode` makes of samples what is written.

    Returns:
      The names of those that are no images.
    """
    broken: list[str] = []
    done = 0
    report.at("compiling" if names else "all there")
    for part in parts:
        if not done:
            report.at("sampling")
            if record is not None:
                made_with.write(out / RECORD, **record)
        for name, sample, finite in zip(names[done:], decode(part.images), part.finite):
            if finite:
                (out / name).parent.mkdir(exist_ok=True)
                write_sample(sample, out / name)
            else:
                broken.append(name)
        done += len(part.seeds)
        report.update(len(part.seeds))
    return broken


def _draw_paths(
    model: Model | generation.Guided,
    tableau: Tableau,
    seeds: np.ndarray,
    labels: np.ndarray | None,
    file: str,
) -> None:
    """Draws denoising paths: a row for each image, a column for each sigma."""
    states, sigmas = generation.paths(model, tableau, seeds, **_labels(labels))
    known = model.config.class_names
    rows = [] if labels is None else [sample_folder.class_name(n, known) for n in labels]
    columns = [f"{sigma:.2g}" for sigma in sigmas[:-1]] + ["image"]
    flat = states.reshape(-1, *model.image_shape)
    pictures.write(pictures.grid(flat, len(columns), row_labels=rows, column_labels=columns), file)


def _labels(labels: np.ndarray | None, rows: Any = slice(None)) -> dict[str, Any]:
    """The arguments that say the labels, or that there are none."""
    return {"classes": None} if labels is None else {"labels": labels[rows]}


def _check_unlabelled(args: argparse.Namespace, model: Model, guide: Model | None) -> None:
    """Raises ValueError unless images without a label can be drawn."""
    allowed = "a class, several, 'all' or 'random'"
    if args.classifier is not None:
        raise ValueError(f"--class must be {allowed} with --classifier, got 'none'")
    check_unlabelled(model, "--class", allowed)
    if args.guidance is not None and guide is None:
        raise ValueError(
            f"--guide must be another model with --class none, got {args.guide or UNLABELLED}"
        )


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


def parse_classes(text: str, known: Sequence[str] = ()) -> str | list[int] | None:
    """Reads "all", "random", "none", or a list of indices and names such as "0,3,5" or "cat,dog".

    >>> parse_classes("0,3,5"), parse_classes("dog,0", ("cat", "dog"))
    ([0, 3, 5], [1, 0])

    Args:
      text: what was written.
      known: the names of the model's classes, where it has them.
    """
    if text in ("all", "random"):
        return text
    if text in known:  # a name may hold a comma
        return [known.index(text)]
    if text == "none":
        return None
    found = []
    for part in text.split(","):
        if part.strip().isdecimal():
            found.append(int(part))
        elif part in known:
            found.append(known.index(part))
        else:
            names = f", of {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"
            raise ValueError(
                "--class must be an index or a name, several (0,3,5), 'all', 'random' or 'none'"
                f"{names if known else ''}, got {text!r}"
            )
    return list(dict.fromkeys(found))

"""Draw images from a model: PNG files, one per seed and class, and a labelled grid of them.

Several processes share the work where the same command runs in each: those of a TPU pod slice,
Slurm or Open MPI find each other, others are told by --coordinator. They write to one folder.
"""

import argparse
import json
import math
import sys

import numpy as np
from etils import epath
from PIL import Image
from tqdm import tqdm

from edm_jax import generation
from edm_jax.cli.options import add_process_arguments
from edm_jax.cli.sampler import (
    add_model_arguments,
    add_sampler_arguments,
    list_solvers,
    load_model,
    make_sampler,
)
from edm_jax.model import Model
from edm_jax.runtime import files, pictures, processes
from edm_jax.samplers import Tableau

GRID_LIMIT = 400  # images in grid.png
RECORD = "sample.json"  # what the images of a folder were made with
PROCESSES = ("coordinator", "num_processes", "process_id")


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
    add("--list-solvers", action="store_true", help="print the solvers and stop")
    add_process_arguments(parser)
    add_sampler_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Samples; returns the exit code."""
    if args.list_solvers:
        print(list_solvers())
        return 0
    for name in ("checkpoint", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} is missing")
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; it must be at least 1")
    processes.initialize(args.coordinator, args.num_processes, args.process_id)
    seeds = parse_seeds(args.seeds)
    model = load_model(args)
    sampler = make_sampler(args, model)
    wanted = generation.requests(model, seeds, parse_classes(args.classes))
    if args.trajectory and not isinstance(sampler, Tableau):
        raise ValueError(f"--trajectory is for solvers that are tables, not for {args.solver!r}")
    out = _claim(args)
    names = {r: file_name(r, by_class=args.classes != "random") for r in wanted}
    _draw_missing(args, model, sampler, wanted, {r: out / name for r, name in names.items()})
    processes.barrier("sampled")
    if not processes.is_main():
        return 0

    if model.config.label_dim:
        labels = sorted([names[r], r.label] for r in wanted)
        files.write(out / "dataset.json", json.dumps({"labels": labels}, indent=0) + "\n")
    pictures.write(_grid([out / names[r] for r in wanted], wanted, len(seeds)), out / "grid.png")
    if args.trajectory:
        states = generation.paths(model, sampler, wanted[:8])
        picture = pictures.grid(states.reshape(-1, *model.image_shape), columns=states.shape[1])
        pictures.write(picture, args.trajectory)
        print(args.trajectory)
    print(out / "grid.png")
    return 0


def _draw_missing(
    args: argparse.Namespace,
    model: Model,
    sampler: Tableau | generation.Program,
    wanted: list[generation.Request],
    files: dict[generation.Request, epath.Path],
) -> None:
    """Draws and writes this process's share of the images that are not there yet."""
    mine = wanted[processes.process_index() :: processes.process_count()]
    missing = [request for request in mine if not files[request].exists()]
    silent = not processes.is_main()
    if not silent:
        print(
            f"{len(wanted)} images of {'×'.join(map(str, model.image_shape))}, {args.solver}: "
            f"{getattr(sampler, 'nfe', 'some')} network evaluations each, "
            f"{processes.device_summary()}",
            file=sys.stderr,
        )
    with tqdm(
        total=len(mine),
        initial=len(mine) - len(missing),
        unit="img",
        desc="sampling",
        disable=silent,
    ) as bar:
        for part, images in generation.batches(model, sampler, missing, args.batch):
            for request, pixels in zip(part, images):
                files[request].parent.mkdir(exist_ok=True)
                pictures.write(pictures.to_image(pixels), files[request])
            bar.update(len(part))


def parse_seeds(text: str) -> list[int]:
    """Reads "1,2,5-10".

    >>> parse_seeds("1,2,5-7")
    [1, 2, 5, 6, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"--seeds is {text!r}; it must look like 0-99 or 1,2,5-10")
        span = range(int(first), int(last or first) + 1)
        if not span or span[-1] >= 2**32:
            raise ValueError(f"--seeds has {part!r}; seeds ascend and lie in [0, 2**32)")
        seeds.extend(span)
    return list(dict.fromkeys(seeds))


def parse_classes(text: str) -> str | list[int]:
    """Reads "all", "random", or a list such as "0,3,5".

    >>> parse_classes("0,3,5")
    [0, 3, 5]
    """
    if text in ("all", "random"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--class is {text!r}; it must be an index, several (0,3,5), 'all' or 'random'"
        ) from None


def file_name(request: generation.Request, by_class: bool) -> str:
    """Where an image goes: by seed, in a folder of its class where classes were asked for.

    >>> file_name(generation.Request(7, 3), by_class=True)
    'class003/000007.png'
    """
    folder = f"class{request.label:03d}/" if by_class and request.label is not None else ""
    return f"{folder}{request.seed:06d}.png"


def _claim(args: argparse.Namespace) -> epath.Path:
    """Makes the folder, or goes on in one that was begun with the same settings."""
    out = epath.Path(args.out)
    left_out = ("seeds", "classes", "out", "trajectory", "list_solvers", *PROCESSES)
    now = {name: value for name, value in vars(args).items() if name not in left_out}
    now["checkpoint"] = str(files.absolute(args.checkpoint))
    record = out / RECORD
    if processes.is_main():
        out.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            files.write(record, json.dumps(now, indent=1) + "\n")
    processes.barrier("claimed")
    was = json.loads(record.read_text())
    for name, value in now.items():
        if was.get(name) != value:
            raise ValueError(
                f"--out {out} holds images made with {name} {was.get(name)}, not {value}; "
                "choose another folder, or remove that one"
            )
    return out


def _grid(files: list[epath.Path], wanted: list[generation.Request], seeds: int) -> Image.Image:
    labels = list(dict.fromkeys(r.label for r in wanted))
    by_class = seeds * len(labels) == len(wanted) and labels != [None]
    columns = min(seeds, 20) if by_class else max(1, math.isqrt(min(len(files), GRID_LIMIT)))
    chosen = list(zip(files, wanted))
    if by_class:
        chosen = [pair for i, pair in enumerate(chosen) if i % seeds < columns]
    chosen = chosen[: max(1, GRID_LIMIT // columns) * columns]
    pixels = []
    for file, _ in chosen:
        with file.open("rb") as stream, Image.open(stream) as image:
            pixels.append(np.atleast_3d(np.asarray(image)))
    row_labels = [str(r.label) for _, r in chosen[::columns]] if by_class else ()
    return pictures.grid(np.stack(pixels), columns, row_labels)

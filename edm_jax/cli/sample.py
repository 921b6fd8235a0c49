"""Draw images from a model: PNG files, one per seed and class, and a labelled grid of them."""

import argparse
import ast
import json
import math
import os
import pathlib
import sys

import numpy as np
from PIL import Image
from tqdm import tqdm

from edm_jax import parallel, pictures, samplers, sampling
from edm_jax.interop.load import load
from edm_jax.model import Model
from edm_jax.samplers import LOOPS, SOLVERS, Churn, Tableau
from edm_jax.samplers.ablation import (
    DISCRETIZATIONS,
    SCALINGS,
    SCHEDULES,
    ablation,
    noise_levels,
    noise_range,
)

GRID_LIMIT = 400  # images in grid.png
RECORD = "sample.json"  # what the images of a folder were made with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--checkpoint", help="a run's folder, a saved model, or an official .pkl")
    add("--ema", metavar="NAME", help="of a run: another average, such as halflife-250")
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
    add = parser.add_argument_group("sampler").add_argument
    add("--steps", type=int, default=18, help="steps (18)")
    add("--solver", default="heun", help="see --list-solvers (heun)")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the solver, such as eta=0.5 or order=3; may be repeated",
    )
    add("--discretization", choices=DISCRETIZATIONS, default="edm", help="grid of levels (edm)")
    add("--schedule", choices=SCHEDULES, default="linear", help="sigma(t) (linear)")
    add("--scaling", choices=SCALINGS, default="none", help="s(t) (none)")
    add("--sigma-min", type=float, help="lowest noise level (the grid's own)")
    add("--sigma-max", type=float, help="highest noise level (the grid's own)")
    add("--rho", type=float, default=7.0, help="exponent of the edm grid (7)")
    add("--s-churn", type=float, default=0.0, help="amount of noise on the way (0)")
    add("--s-min", type=float, default=0.0, help="lowest sigma that gets noise (0)")
    add("--s-max", type=float, default=math.inf, help="highest sigma that gets noise (inf)")
    add("--s-noise", type=float, default=1.0, help="size of that noise (1)")


def run(args: argparse.Namespace) -> int:
    """Samples; returns the exit code."""
    if args.list_solvers:
        print(list_solvers())
        return 0
    for name in ("checkpoint", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} is missing")
    seeds = parse_seeds(args.seeds)
    model = _model(args)
    sampler = make_sampler(args, model)
    wanted = sampling.requests(model, seeds, parse_classes(args.classes))
    if args.trajectory and not isinstance(sampler, Tableau):
        raise ValueError(f"--trajectory is for solvers that are tables, not for {args.solver!r}")
    out = _claim(args)
    print(
        f"{len(wanted)} images of {'×'.join(map(str, model.image_shape))}, {args.solver}: "
        f"{getattr(sampler, 'nfe', 'some')} network evaluations each, {parallel.describe()}",
        file=sys.stderr,
    )

    names = {r: file_name(r, by_class=args.classes != "random") for r in wanted}
    missing = [r for r in wanted if not (out / names[r]).exists()]
    with tqdm(
        total=len(wanted), initial=len(wanted) - len(missing), unit="img", desc="sampling"
    ) as bar:
        for part, images in sampling.generate(model, sampler, missing, args.batch):
            for request, pixels in zip(part, images):
                (out / names[request]).parent.mkdir(exist_ok=True)
                pictures.write(pictures.to_image(pixels), out / names[request])
            bar.update(len(part))

    if model.config.label_dim:
        labels = sorted([names[r], r.label] for r in wanted)
        (out / "dataset.json").write_text(json.dumps({"labels": labels}, indent=0) + "\n")
    pictures.write(_grid([out / names[r] for r in wanted], wanted, len(seeds)), out / "grid.png")
    if args.trajectory:
        paths = sampling.paths(model, sampler, wanted[:8])
        picture = pictures.grid(paths.reshape(-1, *model.image_shape), columns=paths.shape[1])
        pictures.write(picture, args.trajectory)
        print(args.trajectory)
    print(out / "grid.png")
    return 0


def _model(args: argparse.Namespace) -> Model:
    if not args.ema:
        return load(args.checkpoint)
    from edm_jax.training.checkpoint import restore_model  # orbax takes seconds to import

    return restore_model(args.checkpoint, ema=args.ema)


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


def make_sampler(args: argparse.Namespace, model: Model) -> Tableau | sampling.Program:
    """The sampler that the options describe, within the noise levels that `model` knows."""
    if args.steps < 1:
        raise ValueError(f"--steps is {args.steps}; it must be at least 1")
    known, options = model.preconditioner, parse_options(args.option)
    bounds = known.sigma_min, known.sigma_max
    churn = Churn(args.s_churn, args.s_min, args.s_max, args.s_noise)
    if args.solver in ("heun", "euler"):
        if set(options) - {"alpha"}:
            raise ValueError(f"--option of {args.solver} may be alpha=…, not {sorted(options)}")
        return ablation(
            args.steps,
            solver=args.solver,
            discretization=args.discretization,
            schedule=args.schedule,
            scaling=args.scaling,
            sigma_min=args.sigma_min,
            sigma_max=args.sigma_max,
            rho=args.rho,
            churn=churn,
            round_sigma=known.round_sigma,
            bounds=bounds,
            **options,
        )
    if (args.schedule, args.scaling, churn) != ("linear", "none", Churn()):
        raise ValueError(
            "--schedule, --scaling and --s-churn are choices of the solvers heun and euler; "
            f"--solver is {args.solver!r}"
        )
    low, high = noise_range(args.discretization, args.sigma_min, args.sigma_max, bounds)
    levels = noise_levels(args.steps, args.discretization, low, high, args.rho)
    levels[:-1] = known.round_sigma(levels[:-1])
    if args.solver not in LOOPS:
        return samplers.build(args.solver, levels, **options)

    def program(model, labels, noise, keys):
        denoise = model.denoiser(labels)
        if args.solver == "improved_ddpm":
            denoise = samplers.with_variance(model.caller(labels), model.preconditioner)
        return samplers.generate(args.solver, denoise, levels, noise, keys, **options)

    return program


def parse_options(words: list[str]) -> dict[str, object]:
    """Reads NAME=VALUE words; values are Python literals, anything else is text.

    >>> parse_options(["eta=0.5", "variance=large"])
    {'eta': 0.5, 'variance': 'large'}
    """
    options: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--option is {word!r}; it must look like eta=0.5")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def list_solvers() -> str:
    """A table of the solvers: name, order, evaluations a step, stochastic or not, source."""
    rows = [("name", "order", "calls a step", "noise", "source")]
    for name, solver in (SOLVERS | LOOPS).items():
        numbers = ("–" if n is None else str(n) for n in (solver.order, solver.nfe_per_step))
        rows.append((name, *numbers, "yes" if solver.stochastic else "no", solver.source))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[4]]) for row in rows
    )


def file_name(request: sampling.Request, by_class: bool) -> str:
    """Where an image goes: by seed, in a folder of its class where classes were asked for.

    >>> file_name(sampling.Request(7, 3), by_class=True)
    'class003/000007.png'
    """
    folder = f"class{request.label:03d}/" if by_class and request.label is not None else ""
    return f"{folder}{request.seed:06d}.png"


def _claim(args: argparse.Namespace) -> pathlib.Path:
    """Makes the folder, or goes on in one that was begun with the same settings."""
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(f"--out {out} cannot be written")
    left_out = ("seeds", "classes", "out", "trajectory", "list_solvers")
    now = {name: value for name, value in vars(args).items() if name not in left_out}
    now["checkpoint"] = os.path.abspath(args.checkpoint)
    record = out / RECORD
    if not record.exists():
        record.write_text(json.dumps(now, indent=1) + "\n")
        return out
    was = json.loads(record.read_text())
    for name, value in now.items():
        if was.get(name) != value:
            raise ValueError(
                f"--out {out} holds images made with {name} {was.get(name)}, not {value}; "
                "choose another folder, or remove that one"
            )
    return out


def _grid(files: list[pathlib.Path], wanted: list[sampling.Request], seeds: int) -> Image.Image:
    labels = list(dict.fromkeys(r.label for r in wanted))
    by_class = seeds * len(labels) == len(wanted) and labels != [None]
    columns = min(seeds, 20) if by_class else max(1, math.isqrt(min(len(files), GRID_LIMIT)))
    chosen = list(zip(files, wanted))
    if by_class:
        chosen = [pair for i, pair in enumerate(chosen) if i % seeds < columns]
    chosen = chosen[: max(1, GRID_LIMIT // columns) * columns]
    pixels = []
    for file, _ in chosen:
        with Image.open(file) as image:
            pixels.append(np.atleast_3d(np.asarray(image)))
    row_labels = [str(r.label) for _, r in chosen[::columns]] if by_class else ()
    return pictures.grid(np.stack(pixels), columns, row_labels)

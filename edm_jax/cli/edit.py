"""Draw images of your own again, go from one to the next, or send them to noise and back.

Examples:
    edm-jax edit --checkpoint runs/digits --data digits --sigma-max 0.7 --label 3 --out redrawn
    edm-jax edit --checkpoint runs/digits --data digits --task interpolate --out between
    edm-jax edit --checkpoint runs/digits --data digits --task reconstruct --steps 100 --out back
"""

import argparse
import functools
import json
from collections.abc import Callable

import jax
import numpy as np

from edm_jax import generation, samplers
from edm_jax.cli.guidance import (
    add_guidance_arguments,
    guidance_record,
    guided_by,
    guided_model,
)
from edm_jax.cli.images import (
    OWN,
    add_image_arguments,
    evenly_spread,
    inputs,
    label_rows,
)
from edm_jax.cli.latents import about_latents, add_decoder_argument, decoder, write_sample
from edm_jax.cli.made_with import digest
from edm_jax.cli.options import add_quiet, add_task
from edm_jax.cli.sample_folder import GRID, LATENTS, PICTURES
from edm_jax.cli.sampler import (
    add_model_arguments,
    add_sampler_arguments,
    load_model,
    make_sampler,
)
from edm_jax.generation.fitting import load_fitting
from edm_jax.model import Model
from edm_jax.runtime import files, pictures
from edm_jax.runtime.progress import Progress
from edm_jax.samplers import Tableau

TASKS = {
    "redraw": "noise them to --sigma-max and draw them anew (SDEdit)",
    "interpolate": "between each and the next, over the latents of the flow",
    "reconstruct": "to noise by DDIM and back",
}
LESS_MEMORY = "a smaller --num"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = "%(prog)s --checkpoint PATH --data DATA --out FOLDER [option …]"
    add_model_arguments(parser)
    add_image_arguments(parser, label=OWN)
    add = parser.add_argument
    add("--out", help="folder for the images, grid.png and edit.json; it must not be there")
    add("--columns", type=int, default=6, help="drawings of each, or images between two (6)")
    add_decoder_argument(parser)
    add_quiet(parser)
    add_task(parser, TASKS, default="redraw")
    add_sampler_arguments(parser)
    add_guidance_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Edits, and writes images, the grid and the record; returns the exit code."""
    for name in ("checkpoint", "data", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    for name, least in (("num", 2 if args.task == "interpolate" else 1), ("columns", 1)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    if args.task == "redraw" and args.sigma_max is None:
        raise ValueError("--sigma-max must be given: the noise level to redraw from, got none")
    if args.task != "redraw":
        for name, given in (("label", args.label), ("solver", args.solver)):
            if given is not None:
                raise ValueError(f"--{name} must be left out of --task {args.task}, got {given!r}")
        args.solver = "ddim"
    out = files.located(args.out)
    if out.exists():
        raise ValueError(f"--out must be a new folder, got {out}, which is there")
    files.made(out.parent)
    model, step = load_model(args.checkpoint, args.ema)
    finished = _finished(args.decoder, model)
    sampler = make_sampler(args, model)
    if not isinstance(sampler, Tableau):
        raise ValueError(f"--solver must be a tableau to start on the way, got {args.solver!r}")
    drawn, guide = guided_model(args, model)
    label = args.label or OWN
    dataset = load_fitting(args.data, model, labelled=label == OWN)
    chosen = evenly_spread(dataset, args.num)
    images, count = inputs(dataset, chosen), len(chosen)
    labels = label_rows(label, model, dataset, chosen)
    steps = {"redraw": args.columns, "interpolate": count - 1, "reconstruct": 1}[args.task]
    with Progress(total=steps, desc="drawing", unit="batches", quiet=args.quiet) as report:
        report.say(f"{count} images, {args.task}: {sampler.nfe} network evaluations")
        edit = {"redraw": _redraw, "interpolate": _interpolate, "reconstruct": _reconstruct}
        work = (drawn, sampler, images, labels, args.columns, report)
        rows, titles, record = edit[args.task](*work)
    record |= {
        "task": args.task,
        "checkpoint": str(files.absolute(args.checkpoint)),
        "step": step,
        "images": chosen.tolist(),
        "solver": args.solver or generation.default_solver(model),
        "sigmas": sampler.sigma.tolist(),
        **guidance_record(args, None if guide is None else digest(guide.params)),
        **guided_by(args, guide),
    }
    samples = np.stack([finished(column) for column in rows.swapaxes(0, 1)], axis=1)
    pictured = samples.dtype == np.uint8
    _write(out, samples, titles if pictured else None, record)
    if not args.quiet:
        print(out / GRID if pictured else about_latents(out))
        if "error" in record:
            scale = "latents of deviation 0.5" if model.config.latents else "data in [-1, 1]"
            print(f"root mean square error {np.mean(record['error']):.4f} of {scale}")
    return 0


Edited = tuple[np.ndarray, list[str], dict]  # rows [n, columns, H, W, C], titles, the record


def _redraw(model, sampler, images, labels, columns, report) -> Edited:
    run: Callable = jax.jit(functools.partial(generation.redraw, sampler=sampler))
    seeds = np.arange(len(images) * columns, dtype=np.uint32).reshape(columns, -1)
    drawn = [
        np.asarray(run(model, images=images, seeds=row, class_labels=labels))
        for row in report.counted(seeds)
    ]
    titles = ["image", *(f"{i + 1}" for i in range(columns))]
    return np.stack([images, *drawn], axis=1), titles, {"seeds": seeds.T.tolist()}


def _reconstruct(model, sampler, images, labels, columns, report) -> Edited:
    found = _inverted(model, sampler, images, labels)
    report.update(1)
    shown = np.stack([images, 0.5 * np.asarray(found.latents), np.asarray(found.images)], axis=1)
    return shown, ["image", "latent / 2", "back"], {"error": np.asarray(found.error).tolist()}


def _interpolate(model, sampler, images, labels, columns, report) -> Edited:
    found = _inverted(model, sampler, images, labels)
    shares = np.linspace(0.0, 1.0, columns + 2, dtype=np.float32)
    mixed = generation.interpolate(found.latents[:-1], found.latents[1:], shares)
    fade = None
    if labels is not None:  # from the label of one image to that of the next
        t = shares[None, :, None]
        fade = (1 - t) * labels[:-1, None] + t * labels[1:, None]
    run = jax.jit(lambda model, x, labels: samplers.sample(model.denoiser(labels), sampler, x))
    drawn = [
        np.asarray(run(model, row, None if fade is None else fade[i]))
        for i, row in enumerate(report.counted(mixed))
    ]
    record = {"shares": shares.tolist(), "error": np.asarray(found.error).tolist()}
    return np.stack(drawn), [f"{share:.2f}" for share in shares], record


def _inverted(model, sampler, images, labels) -> generation.Inversion:
    sigmas = np.append(sampler.sigma, 0.0)
    run: Callable = jax.jit(functools.partial(generation.invert, sigmas=sigmas))
    return run(model, images=images, class_labels=labels)


def _finished(text: str | None, model: Model) -> Callable[[np.ndarray], np.ndarray]:
    """From images [n, H, W, C] as the model sees them to what is written of them."""
    decode = decoder(text, model)
    if model.config.latents:
        return decode
    return lambda images: decode(np.asarray(generation.to_uint8(jax.numpy.asarray(images))))


def _write(out, samples: np.ndarray, titles: list[str] | None, record: dict) -> None:
    """Each as ROW-COLUMN, all of them under their titles in grid.png, what they are in edit.json.

    Latents have no titles: there is no picture of them.
    """
    suffix = LATENTS if titles is None else PICTURES
    with files.whole_folder(out) as folder:
        for i, row in enumerate(samples):
            for j, sample in enumerate(row):
                write_sample(sample, folder / f"{i:03d}-{j:03d}{suffix}")
        if titles is not None:
            flat = samples.reshape(-1, *samples.shape[2:])
            grid = pictures.grid(flat, len(titles), column_labels=titles)
            pictures.write(grid, folder / GRID)
        files.write(folder / "edit.json", json.dumps(record, indent=1) + "\n")

"""Measure how many bits a dimension of images costs under a model.

By the probability flow, of pixels that are dequantised uniformly, and beside it by the variational
bound, of the pixels as they are. Models with classes get the images' own labels. A command that was
stopped goes on where it was when it is given again, to the same numbers. Several processes share
the work, where the same command runs in each. There is no guidance: the levels of a guided denoiser
belong to no one density of images.

Examples:
    edm-jax evaluate bpd --checkpoint runs/digits --data held-out.zip --out bpd.json
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from edm_jax.cli import images, plot_levels, plots
from edm_jax.cli.made_with import digest
from edm_jax.cli.measuring import under_way
from edm_jax.cli.options import add_overwrite, add_process_arguments, add_quiet
from edm_jax.cli.plots import add_plot_argument
from edm_jax.cli.sampler import (
    add_grid_arguments,
    add_model_arguments,
    grid_options,
    load_model,
)
from edm_jax.data import archive
from edm_jax.evaluation import collection, likelihoods, records
from edm_jax.evaluation.likelihoods import Scores, Settings
from edm_jax.generation.fitting import load_fitting
from edm_jax.likelihood.flow import SOLVERS
from edm_jax.likelihood.trace import PROBES
from edm_jax.runtime import files, processes
from edm_jax.timesteps import RANGE as ENDS

LESS_MEMORY = "a smaller --batch"
_SETTINGS = (*(f.name for f in dataclasses.fields(Settings)), "sigma_min", "sigma_max", "batch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = "%(prog)s --checkpoint PATH --data DATA --out X.json [option …]"
    add_model_arguments(parser)
    add = parser.add_argument
    default = Settings()
    add("--data", help="the data set: digits, a zip or a folder")
    add("--out", metavar="X.json", help="the record to write")
    add("--num", type=int, metavar="N", help="how many images, evenly spread over the data (all)")
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add("--seed", type=int, default=0, help="seed of the noise (0)")
    add_grid_arguments(add)
    add(
        "--ode-steps",
        type=int,
        default=default.steps,
        metavar="N",
        help=f"steps of the probability flow ({default.steps})",
    )
    add(
        "--ode-solver",
        choices=SOLVERS,
        default=default.solver,
        help=f"the method of these steps ({default.solver})",
    )
    add(
        "--probes",
        choices=PROBES,
        default=default.probes,
        help=f"how the trace of the denoiser's derivative is taken ({default.probes})",
    )
    add(
        "--num-probes",
        type=int,
        default=default.num_probes,
        metavar="N",
        help=f"random probes of each image ({default.num_probes})",
    )
    add(
        "--elbo-levels",
        type=int,
        default=default.elbo_levels,
        metavar="N",
        help=f"noise levels of the variational bound ({default.elbo_levels})",
    )
    add_plot_argument(parser, "what each noise level adds to the variational bound")
    add_overwrite(parser)
    add_quiet(parser)
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, writes the record and prints the numbers; returns the exit code."""
    for name in ("checkpoint", "data", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    for name, least in (("batch", 1), ("num", 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    outputs = [files.located(path) for path in (args.out, args.plot) if path is not None]
    for path in outputs:
        if path.exists() and not args.overwrite:
            raise ValueError(f"{path}: exists already; --overwrite replaces it")
        files.made(path.parent)
    if args.plot is not None:
        plots.check()
    processes.initialize(args.coordinator, args.num_processes, args.process_id)
    given = grid_options(args)
    settings = Settings(
        args.ode_steps, args.ode_solver, **given, probes=args.probes,
        num_probes=args.num_probes, elbo_levels=args.elbo_levels, seed=args.seed,
    )  # fmt: skip
    out = outputs[0]
    model, step = load_model(args.checkpoint, args.ema)
    images.check_pixels(model)
    levels, elbo_levels = likelihoods.grids(model, settings)
    dataset = load_fitting(args.data, model)
    chosen = images.evenly_spread(dataset, len(dataset.images) if args.num is None else args.num)
    if len(chosen) < (args.num or 2):
        raise ValueError(f"--num must be at most {len(dataset.images)}, got {args.num}")
    made_with = {
        "weights": digest(model.params),
        "network": json.loads(json.dumps(dataclasses.asdict(model.config))),
        "data": _digest(dataset, chosen),
        "count": len(chosen),
        **dataclasses.asdict(settings),
        "timesteps_options": {n: v for n, v in given["timesteps_options"].items() if n not in ENDS},
        "sigma_min": float(levels[-1]),
        "sigma_max": float(levels[0]),
        "batch": args.batch,
    }
    identity = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:12]
    work = out.with_name(f"{out.name}.images-{identity}")
    labelled = bool(model.config.label_dim)

    def rows(indices: np.ndarray) -> tuple[Any, Any]:
        return dataset.images[indices], dataset.label_rows(indices) if labelled else None

    def compute(places: np.ndarray) -> Iterator[np.ndarray]:
        left = chosen[places]
        for found in likelihoods.batches(model, settings, rows, left, batch_size=args.batch):
            wrong = ~found.finite
            if wrong.any():
                index = left[: len(wrong)][wrong][0]
                raise ValueError(f"the likelihood of image {index} is not a finite number")
            left = left[len(wrong) :]
            yield found.rows()

    with under_way(work, len(chosen), quiet=args.quiet) as report:
        part = processes.process_index(), processes.process_count()
        collected = collection.collect(work, len(chosen), args.batch, compute, part=part)
        for done, number in enumerate(collected):
            if done == 1:
                report.at("measuring")
            report.update(number)
        processes.barrier("measured")
        if not processes.is_main():
            return 0
        scores = Scores.of_rows(collection.gather(work, len(chosen), args.batch))
        record = _record(scores, made_with, elbo_levels)
        record["images"] |= {
            "path": str(files.absolute(args.data) if args.data != "digits" else args.data),
            "checkpoint": str(files.absolute(args.checkpoint)),
            "step": step,
        }
        if args.plot is not None:
            plots.write(lambda axes: plot_levels.draw(axes, record["elbo_terms"]), args.plot)
        records.write(out, record)
    files.remove(work)
    if not args.quiet:
        print("\n".join([*_lines(record), *map(str, outputs)]))
    return 0


def _digest(dataset: archive.Dataset, chosen: np.ndarray) -> str:
    """A hash of images and labels, in their order."""
    found = hashlib.sha256()
    for index in chosen:
        found.update(np.ascontiguousarray(dataset.images[index]).data)
    found.update(np.ascontiguousarray(dataset.label_rows(chosen), np.float32).data)
    return found.hexdigest()


def _record(scores: Scores, made_with: dict[str, Any], elbo_levels: np.ndarray) -> dict[str, Any]:
    """What is written down: as of any measurement, with the terms of the bound."""
    terms = scores.elbo.mean(axis=0, dtype=np.float64)
    bits = likelihoods.mean(scores.flow)
    # Of independent probes; with one of each image, what they add is in the error over images.
    if not np.isnan(scores.probe_error).any():
        errors = scores.probe_error.astype(np.float64)
        bits["probe_error"] = float(np.sqrt((errors**2).sum())) / len(errors)
    settings = {name: made_with[name] for name in _SETTINGS}
    return {
        "features": {
            "name": "log-likelihood",
            "input": "flow: uniformly dequantised, cells of 1/127.5; elbo: pixels as they are",
        },
        "reference": {"sha256": made_with["data"]},
        "images": {"count": made_with["count"], "uint8": "as they are"},
        "model": {"weights": made_with["weights"], "network": made_with["network"]},
        "settings": settings,
        "scores": {
            "bits_per_dim": bits,
            "elbo_bits_per_dim": likelihoods.mean(scores.elbo.sum(axis=1, dtype=np.float64)),
        },
        "elbo_terms": {
            "sigma": elbo_levels.tolist(),
            "prior": float(terms[0]),
            "intervals": terms[1:-1].tolist(),
            "decoder": float(terms[-1]),
        },
        "round_trip_error": float(np.sqrt((scores.round_trip.astype(np.float64) ** 2).mean())),
        "device": processes.device_summary(),
        "versions": records.versions(),
    }


def _lines(record: dict[str, Any]) -> Iterator[str]:
    for name, words in (
        ("bits_per_dim", "bits/dim by the probability flow, dequantised"),
        ("elbo_bits_per_dim", "bits/dim by the variational bound"),
    ):
        score = record["scores"][name]
        yield f"{score['mean']:.4f} ± {score['standard_error']:.4f}  {words}"
    terms = record["elbo_terms"]
    yield f"the bound's terms: prior {terms['prior']:.4f}, decoder {terms['decoder']:.4f}"
    yield f"encoded and decoded, pixels are off by {record['round_trip_error']:.2g} (of [-1, 1])"

"""Tune samplers of few network evaluations to a model, by distance to the model's own flow.

It writes samplers.json beside the model, from which `sample` takes the one of as many evaluations
as --steps says. The errors it prints are those of seeds that nothing was chosen on.

With --metric it chooses between the sampler nearest to the flow, the one of learned rows and the
best fixed one by that score of their images, and tells it for images of other seeds.

Examples:
    edm-jax tune --checkpoint runs/digits --nfe 5,6,8,10 --plot tuned.png
    edm-jax tune --checkpoint runs/digits --metric frechet_pixels --reference digits.npz
    edm-jax sample --checkpoint runs/digits --steps 8 --out samples/eight
"""

import argparse
from collections.abc import Iterator

import jax
import numpy as np

from edm_jax import generation, randomness, timesteps, tuning
from edm_jax.cli import made_with, plot_tuned, plots
from edm_jax.cli.guidance import add_guidance_arguments, guided_model
from edm_jax.cli.options import add_quiet
from edm_jax.cli.plots import add_plot_argument
from edm_jax.cli.sample import parse_seeds
from edm_jax.cli.sampler import add_model_arguments, load_model
from edm_jax.cli.tune_metric import Metric, add_metric_arguments
from edm_jax.cli.tuned import guidance_of
from edm_jax.generation.choice import check_denoises
from edm_jax.generation.seeds import NOISE, keys_of
from edm_jax.model import Model
from edm_jax.runtime import files
from edm_jax.runtime.progress import Progress
from edm_jax.schedules.functions import identity
from edm_jax.weights import tuned_samplers
from edm_jax.weights.tuned_samplers import TunedSampler, TunedSamplers

LESS_MEMORY = "a smaller --batch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = "%(prog)s --checkpoint PATH [option …]"
    add_model_arguments(parser)
    add = parser.add_argument
    add("--nfe", default="5,6,8,10", metavar="LIST", help="numbers of evaluations (5,6,8,10)")
    add(
        "--seeds",
        default="0-63",
        help="an image for each, such as 0-99 or 1,2,5-10 (0-63; half are held out)",
    )
    add("--batch", type=int, default=16, help="images at once on a device (16)")
    add_plot_argument(parser, "errors over the number of calls")
    add_quiet(parser)
    add_metric_arguments(parser)
    add_guidance_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Tunes, writes the file, and prints a table; returns the exit code."""
    if args.checkpoint is None:
        raise ValueError("--checkpoint must be given, got none")
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    asked = parse_seeds(args.seeds)
    if len(asked) < 4:
        raise ValueError(f"--seeds must be at least 4, got {len(asked)}")
    nfes = _numbers(args.nfe)
    for name in ("reference", "metric_images"):
        if args.metric is None and getattr(args, name) is not None:
            raise ValueError(f"--metric must be given with --{name.replace('_', '-')}, got none")
    if args.plot is not None:
        plots.check()
        files.made(files.located(args.plot).parent)
    model, _ = load_model(args.checkpoint, args.ema)
    check_denoises(model, "tune samplers to it", name="--checkpoint")
    drawn, guide = guided_model(args, model)
    metric = None if args.metric is None else Metric(args, drawn, asked)
    found: dict[int, TunedSampler] = {}
    rows = []
    about = {"desc": "tuning", "unit": "samplers", "quiet": args.quiet}
    with Progress(total=len(nfes), **about) as report:
        for tuned in _tuned(model, drawn, asked, nfes, args.batch, metric):
            best, fixed = tuned.best, tuned.fixed
            found[tuned.nfe] = TunedSampler(
                best.name, best.tableau, best.error, fixed.name, fixed.error
            )
            rows.append(_row(tuned, metric))
            report.update(1)
    path = tuned_samplers.beside(args.checkpoint)
    weights = made_with.digest(model.params)
    tuned_samplers.save(TunedSamplers(weights, guidance_of(args, guide), found), path)
    if args.plot is not None:
        plots.write(lambda axes: plot_tuned.draw(axes, found), args.plot)
    if not args.quiet:
        print("calls  fixed    searched learned  best: ratio, what it is (the best fixed choice)")
        print(*rows, path, *filter(None, [args.plot]), sep="\n")
    return 0


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 50 for word in words):
        raise ValueError(f"--nfe must be numbers from 1 to 50, such as 5,6,8,10, got {text!r}")
    return sorted({int(word) for word in words})


def _tuned(
    model: Model,
    drawn: Model | generation.Guided,
    seeds: list[int],
    nfes: list[int],
    batch: int,
    metric: Metric | None,
) -> Iterator[tuning.Tuned]:
    known = model.preconditioner
    found, labels = generation.pairs(model, seeds)
    draw = jax.jit(lambda s: randomness.normal(keys_of(s)[:, NOISE], model.image_shape))
    ends = timesteps.noise_range("edm", bounds=(known.sigma_min, known.sigma_max))
    assert ends is not None  # the grid has a range
    return tuning.tune_each(
        generation.host_denoiser(drawn, batch_size=batch),
        np.asarray(draw(found)),
        nfes,
        context=np.full(len(found), -1, np.int32) if labels is None else labels,
        sigma_min=ends[0],
        sigma_max=ends[1],
        round_sigma=None if known.round_sigma is identity else known.round_sigma,
        score=None if metric is None else metric.to_choose,
    )


def _row(tuned: tuning.Tuned, metric: Metric | None) -> str:
    three = (tuned.fixed, tuned.searched, tuned.learned)
    errors = " ".join(f"{one.error:<8.4g}" for one in three)
    ratio = tuned.best.error / tuned.fixed.error if tuned.fixed.error else 1.0
    row = f"{tuned.nfe:<6} {errors} {ratio:.2f}, {tuned.best.name} ({tuned.fixed.name})"
    if metric is None:
        return row
    best, fixed = (metric.to_tell(one.tableau) for one in (tuned.best, tuned.fixed))
    return f"{row}; {metric.name} {best:.4g} ({fixed:.4g})"

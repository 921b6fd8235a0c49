"""Measure a model, or images that are there, against a reference: FID and its relatives.

As the paper does, of a model 50,000 images of each of three ranges of seeds are drawn, labels at
random; the smallest of the three distances is what it reports. Images are not written. A command
that was stopped goes on where it was when it is given again, to the same numbers. Several
processes share the work, where the same command runs in each.

Examples:
    edm-jax evaluate fid --checkpoint runs/cifar10 --reference cifar10-32x32.npz --out fid.json
    edm-jax evaluate fid --checkpoint runs/digits --reference digits.npz --features pixels \\
        --num 1000 --fewer --out fid.json
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from edm_jax import generation
from edm_jax.cli import made_with
from edm_jax.cli.features import add_feature_arguments, make_extractor
from edm_jax.cli.guidance import add_guidance_arguments, guided_model
from edm_jax.cli.images import load_pixels
from edm_jax.cli.latents import add_decoder_argument, decoder
from edm_jax.cli.measuring import under_way
from edm_jax.cli.options import add_overwrite, add_process_arguments, add_quiet
from edm_jax.cli.published import add_published_argument, apply_published
from edm_jax.cli.sampler import (
    add_model_arguments,
    add_sampler_arguments,
    load_model,
    make_sampler,
)
from edm_jax.cli.sampling_record import sampling_record
from edm_jax.cli.tuned import add_tuned_argument, tuned_sampler
from edm_jax.evaluation import collection, records, references, scores
from edm_jax.evaluation.features import Extractor
from edm_jax.runtime import files, processes
from edm_jax.runtime.progress import Progress
from edm_jax.samplers import Tableau

LESS_MEMORY = "a smaller --batch"
RANGES = 3
IN_A_FILE = 16  # batches


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the images come from.

    about: what a record says of it.
    sets: what each set of images is called in a record.
    images: (which set, indices in it) -> the images, in parts.
    """

    about: dict[str, Any]
    sets: list[Any]
    images: Callable[[int, np.ndarray], Iterator[np.ndarray]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.usage = (
        "%(prog)s --checkpoint PATH --reference FILE --out X.json [option …]\n"
        "       %(prog)s --images PATH --reference FILE --out X.json [option …]"
    )
    add = parser.add_argument
    add_model_arguments(parser)
    add_published_argument(parser)
    add_decoder_argument(parser)
    add("--images", metavar="PATH", help="in place of a model: a zip, a folder, or an .npz")
    add(
        "--reference",
        metavar="FILE",
        help="a file by edm-jax evaluate reference, or an official one",
    )
    add("--out", metavar="X.json", help="the record to write")
    add(
        "--num",
        type=int,
        metavar="N",
        help="how many images, evenly spread over the data "
        f"(all; of a model: of each range of seeds, {records.FULL})",
    )
    add("--fewer", action="store_true", help=f"allow fewer than {records.FULL}, which is marked")
    add("--ranges", type=int, metavar="N", help=f"sets of images of a model ({RANGES})")
    add("--batch", type=int, default=64, help="images at once on a device (64)")
    add_feature_arguments(parser)
    add_overwrite(parser)
    add_quiet(parser)
    add_process_arguments(parser)
    add_sampler_arguments(parser)
    add_tuned_argument(parser)
    add_guidance_arguments(parser)
    parser.set_defaults(classes="random")


def run(args: argparse.Namespace) -> int:
    """Measures, writes the record and prints the scores; returns the exit code."""
    apply_published(args)
    _check(args)
    out = files.located(args.out)
    if out.exists() and not args.overwrite:
        raise ValueError(f"{out}: exists already; --overwrite replaces it")
    processes.initialize(args.coordinator, args.num_processes, args.process_id)
    extractor = make_extractor(args, pca=lambda: references.fitted(args.reference))
    reference = references.load(args.reference, extractor)
    source = _model(args) if args.images is None else _files(args)
    count = source.about["count"]
    if count < records.FULL and not args.fewer:
        raise ValueError(
            f"--num must be {records.FULL}, or fewer with --fewer, whose scores are marked, "
            f"got {count}"
        )
    if count < 2:
        raise ValueError(f"--num must be at least 2, got {count}")
    made = {"images": source.about, "features": extractor.about(), "batch": args.batch}
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:12]
    work = out.with_name(f"{out.name}.features-{digest}")
    chosen = scores.settings(count, reference)
    main, total = processes.is_main(), count * len(source.sets)
    with under_way(work, total, quiet=args.quiet) as report:
        for index in range(len(source.sets)):
            _collect(args, source, index, extractor, _folder(work, index), report)
        processes.barrier("measured")
        if main:
            report.at("scores")
            found = [
                scores.measure(_gather(args, source, work, index), reference, extractor, chosen)
                for index in range(len(source.sets))
            ]
    if main:
        record = _record(source, extractor, reference, chosen, found)
        files.made(out.parent)
        records.write(out, record)
        files.remove(work)
        if not args.quiet:
            print("\n".join([*_lines(record), str(out)]))
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("reference", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} must be given, got none")
    if (args.checkpoint is None) == (args.images is None):
        raise ValueError("one of --checkpoint and --images must be given")
    for name in ("batch", "num", "ranges"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    for name in ("ranges", "decoder"):
        value = getattr(args, name)
        if args.images is not None and value is not None:
            raise ValueError(f"--{name} must be left out with --images, got {value}")


def _model(args: argparse.Namespace) -> Source:
    """The images of a model, from ranges of seeds."""
    model, step = load_model(args.checkpoint, args.ema)
    if model.config.latents and args.decoder is None:
        raise ValueError("--decoder must be given for a model of latents, got none")
    decode = decoder(args.decoder, model)
    drawn, guide = guided_model(args, model)
    tuned = tuned_sampler(args, model, guide)
    sampler = tuned.tableau if tuned else make_sampler(args, model)
    count = records.FULL if args.num is None else args.num
    ranges = RANGES if args.ranges is None else args.ranges
    firsts = [index * count for index in range(ranges)]
    seeds = [[first, first + count - 1] for first in firsts]

    def images(index: int, rows: np.ndarray) -> Iterator[np.ndarray]:
        mine = firsts[index] + rows
        for part in generation.generate(drawn, sampler, mine, batch_size=args.batch):
            if not part.finite.all():
                seed = part.seeds[~part.finite][0]
                raise ValueError(f"the image of seed {seed} holds NaN or infinity")
            yield decode(part.images)

    about = {
        "from": "model",
        "count": count,
        "uint8": "of the decoder" if args.decoder else "floor(clip(127.5 x + 128, 0, 255))",
        "seeds": seeds,
        "labels": "random" if model.config.label_dim else None,
        "checkpoint": str(files.absolute(args.checkpoint)),
        "step": step,
        "nfe": sampler.nfe,
        "tableau": made_with.digest(sampler) if isinstance(sampler, Tableau) else None,
        "made_with": sampling_record(args, model, guide, tuned=tuned),
    }
    return Source(about, seeds, images)


def _files(args: argparse.Namespace) -> Source:
    """Images of a zip or a folder."""
    pixels = load_pixels(args.images)
    count = len(pixels) if args.num is None else args.num
    if count > len(pixels):
        raise ValueError(f"--num must be at most {len(pixels)}, got {count}")
    chosen = references.evenly_spread(len(pixels), count)
    step = args.batch * IN_A_FILE

    def images(_: int, rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(rows), step):
            yield np.asarray(pixels[chosen[rows[start : start + step]]])

    content = hashlib.sha256()
    for start in range(0, count, step):
        content.update(np.ascontiguousarray(pixels[chosen[start : start + step]]).data)
    about = {
        "from": "files",
        "count": count,
        "uint8": "as they are",
        "path": str(files.absolute(args.images)),
        "sha256": content.hexdigest(),
    }
    return Source(about, [about["path"]], images)


def _folder(work: epath.Path, index: int) -> epath.Path:
    return work / f"set{index}"


def _collect(
    args: argparse.Namespace,
    source: Source,
    index: int,
    extractor: Extractor,
    folder: epath.Path,
    report: Progress,
) -> None:
    def compute(rows: np.ndarray) -> Iterable[np.ndarray]:
        return extractor.over(source.images(index, rows), batch_size=args.batch)

    files.made(folder)
    part = processes.process_index(), processes.process_count()
    rows = args.batch * IN_A_FILE
    for done, number in enumerate(
        collection.collect(folder, source.about["count"], rows, compute, part=part)
    ):
        if done == 1:
            report.at(f"set {index + 1} of {len(source.sets)}")
        report.update(number)


def _gather(args: argparse.Namespace, source: Source, work: epath.Path, index: int) -> np.ndarray:
    rows = args.batch * IN_A_FILE
    return collection.gather(_folder(work, index), source.about["count"], rows)


def _record(
    source: Source,
    extractor: Extractor,
    reference: references.Reference,
    chosen: dict[str, Any],
    found: list[dict[str, float]],
) -> dict[str, Any]:
    width = len(reference.statistics.mean)
    return {
        "scores": scores.summary(found),
        "notes": scores.notes(source.about["count"], reference, full=records.FULL),
        "images": source.about,
        "features": {**extractor.about(), "width": width},
        "reference": {
            "sha256": reference.sha256,
            "count": reference.statistics.num,
            "extractor": reference.extractor,
        },
        "settings": chosen,
        "device": processes.device_summary(),
        "versions": records.versions(),
    }


def _lines(record: dict[str, Any]) -> Iterator[str]:
    """The scores as a table; of several sets the smallest, the mean and the spread."""
    width = max(map(len, record["scores"]))
    several = any(len(score["values"]) > 1 for score in record["scores"].values())
    columns = ("min", "mean", "std") if several else ("mean",)
    if several:
        yield " ".join((" " * width, *(f"{name:>12}" for name in columns)))
    for name, score in record["scores"].items():
        yield " ".join((f"{name:{width}}", *(f"{score[column]:12.6g}" for column in columns)))
    yield from (f"note: {note}" for note in record["notes"])

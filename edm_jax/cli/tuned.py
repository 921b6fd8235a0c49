"""Which tuned sampler a command takes, and what of the command line decides it."""

import argparse
import json
from typing import Any, cast

from edm_jax import generation
from edm_jax.cli import made_with
from edm_jax.cli.guidance import guidance_record
from edm_jax.cli.sampler import SAMPLER_ARGUMENTS
from edm_jax.model import Model
from edm_jax.weights import tuned_samplers
from edm_jax.weights.tuned_samplers import TunedSampler

_GIVEN = tuple(name for name in SAMPLER_ARGUMENTS if name != "steps")
_DEFAULTS: tuple[Any, ...] = (None, [], "edm")


def add_tuned_argument(parser: argparse.ArgumentParser) -> None:
    """--untuned."""
    parser.add_argument(
        "--untuned",
        action="store_true",
        help=f"do not take a sampler of {tuned_samplers.NAME}, which `edm-jax tune` writes beside "
        "the model",
    )


def guidance_of(args: argparse.Namespace, guide: Model | None) -> dict[str, Any]:
    """The guidance of a command, as the file of tuned samplers holds it."""
    record = guidance_record(args, None if guide is None else made_with.digest(guide.params))
    return cast(dict[str, Any], json.loads(json.dumps(record)))


def tuned_sampler(
    args: argparse.Namespace, model: Model, guide: Model | None
) -> TunedSampler | None:
    """The tuned sampler of a model, for as many calls as --steps says.

    None where there is none for that number or that guidance, or where the command line names a
    solver, a grid or an option of them.

    Raises:
      ValueError: it was tuned to other weights, or the file is damaged.
      OSError: the file cannot be read.
    """
    if args.untuned or any(getattr(args, name) not in _DEFAULTS for name in _GIVEN):
        return None
    path = tuned_samplers.beside(args.checkpoint)
    if not path.exists():
        return None
    file = tuned_samplers.load(path)
    steps = generation.default_steps(model) if args.steps is None else args.steps
    found = file.samplers.get(steps)
    if found is None or file.guidance != guidance_of(args, guide):
        return None
    if file.weights != made_with.digest(model.params):
        raise ValueError(
            f"{path} must be of the weights that are drawn from, got a file tuned to others; "
            "run `edm-jax tune` again, or give --untuned"
        )
    return found

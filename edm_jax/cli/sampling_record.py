"""What of a command line and its models decides an image, its seed and class aside."""

import argparse
from typing import Any

from edm_jax import generation
from edm_jax.cli import made_with
from edm_jax.cli.guidance import guidance_record
from edm_jax.cli.sampler import SAMPLER_ARGUMENTS, with_digests
from edm_jax.model import Model
from edm_jax.weights.tuned_samplers import TunedSampler


def sampling_record(
    args: argparse.Namespace,
    model: Model,
    guide: Model | None,
    *,
    unlabelled: bool = False,
    tuned: TunedSampler | None = None,
) -> dict[str, Any]:
    """Everything that decides an image, its seed and class aside.

    Args:
      args: the options of a sampler and of guidance, and --decoder.
      model: the one that --checkpoint names.
      guide: another model that guides it.
      unlabelled: whether images without a label are drawn.
      tuned: the sampler, where it is a tuned one.
    """
    record = {
        "weights": made_with.digest(model.params),
        **{name: getattr(args, name) for name in SAMPLER_ARGUMENTS},
        "solver": args.solver or generation.default_solver(model),
        "steps": args.steps or generation.default_steps(model),
        "option": with_digests(args.option),
        **guidance_record(args, None if guide is None else made_with.digest(guide.params)),
        "decoder": args.decoder,
        "class": "none" if unlabelled else None,  # its images have the names of random classes'
    }
    if tuned is not None:
        record |= {"solver": f"tuned: {tuned.name}", "tableau": made_with.digest(tuned.tableau)}
    return record

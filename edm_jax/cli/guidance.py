"""What a command line says of guidance: its options, the guided model, the record of both."""

import argparse
import math
from typing import Any, Literal, cast

from edm_jax.cli.sampler import load_model
from edm_jax.generation import Guided, guided, guided_by_classifier
from edm_jax.model import Model

UNLABELLED = "uncond"
# What means nothing without --guidance.
_PARTS = (
    "guide", "guide_ema", "guidance_interval", "guidance_rescale", "guidance_calls", "classifier",
)  # fmt: skip


def add_guidance_arguments(parser: argparse.ArgumentParser) -> None:
    """--guidance and what goes with it, and --threshold."""
    add = parser.add_argument_group("guidance").add_argument
    add(
        "--guidance",
        type=float,
        metavar="W",
        help="how much: D = guide + W (model - guide), so 1 is none; with --classifier 0 is none",
    )
    add(
        "--guide",
        metavar="CHECKPOINT",
        help=f"a worse model of the same classes, or '{UNLABELLED}': the model itself without its "
        "label (default)",
    )
    add("--guide-ema", metavar="NAME", help="take another average of the guide's run: as --ema")
    add(
        "--classifier",
        metavar="CHECKPOINT",
        help="guide the model without its label by a classifier of noisy images",
    )
    add(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="guide where LOW < sigma <= HIGH alone, such as 0.2,1.6 (everywhere)",
    )
    add(
        "--guidance-rescale",
        type=float,
        metavar="PHI",
        help="how much of the model's own contrast is given back, in [0, 1] (0)",
    )
    add(
        "--guidance-calls",
        choices=("one", "two"),
        help="ask with and without label in one call of twice the batch (default), or in two",
    )
    add(
        "--threshold",
        metavar="P",
        help="clip the denoised image: 'static' to [-1, 1]; a number, such as 0.995, to that "
        "quantile",
    )


def guided_model(args: argparse.Namespace, model: Model) -> tuple[Model | Guided, Model | None]:
    """The model as the options guide it, and another model that is its guide.

    Args:
      args: with what `add_guidance_arguments` adds.
      model: the one that --checkpoint names.

    Returns:
      (what to draw from, the guide); the guide is None where there is none, or it is the model.

    Raises:
      ValueError: an option without --guidance, or one that does not go with --classifier; a
        value that is not allowed, a guide of other images or classes, or no guide for a model
        that was trained without label dropout.
      OSError: a file that cannot be read.
    """
    for name in _PARTS:
        if args.guidance is None and getattr(args, name) is not None:
            raise ValueError(f"--guidance must be given with --{name.replace('_', '-')}, got none")
    if args.guidance is None and args.threshold is None:
        return model, None
    scale = 1.0 if args.guidance is None else args.guidance
    if not math.isfinite(scale):
        raise ValueError(f"--guidance must be a finite number, got {scale}")
    if args.classifier is not None:
        return _by_classifier(args, model, scale)
    guide = None
    if args.guide not in (None, UNLABELLED):
        if args.guidance_calls is not None:
            raise ValueError(
                f"--guidance-calls must be left out with a guide of its own calls, "
                f"got {args.guidance_calls}"
            )
        guide, _ = load_model(args.guide, args.guide_ema)
    elif args.guide_ema is not None:
        raise ValueError(
            f"--guide must be a run's folder with --guide-ema, got {args.guide or UNLABELLED}"
        )
    chosen = guided(
        model,
        scale,
        guide=guide,
        interval=_interval(args.guidance_interval),
        rescale=args.guidance_rescale or 0.0,
        threshold=_threshold(args.threshold),
        one_call=args.guidance_calls != "two",
    )
    return chosen, guide


def _by_classifier(args: argparse.Namespace, model: Model, scale: float) -> tuple[Guided, Model]:
    for name in _PARTS:
        if name != "classifier" and (value := getattr(args, name)) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} must be left out with --classifier, got {value}"
            )
    classifier, _ = load_model(args.classifier, None)
    return (
        guided_by_classifier(model, classifier, scale, threshold=_threshold(args.threshold)),
        classifier,
    )


def guided_by(args: argparse.Namespace, guide: Model | None) -> dict[str, Any]:
    """Where the guide is from; nothing where it is no other model.

    Args:
      args: with what `add_guidance_arguments` adds.
      guide: the other model that `guided_model` returns.
    """
    if guide is None:
        return {}
    return {"guided_by": {"checkpoint": args.classifier or args.guide, "ema": args.guide_ema}}


def guidance_record(args: argparse.Namespace, guide_digest: str | None) -> dict[str, Any]:
    """What of the options decides an image; all None where there is no guidance.

    Args:
      args: with what `add_guidance_arguments` adds.
      guide_digest: the hash of the guide's parameters, where it is another model.
    """
    unlabelled = None if args.guidance is None else UNLABELLED
    return {
        "guidance": args.guidance,
        "guide": guide_digest or unlabelled,
        "guidance_interval": _interval(args.guidance_interval),
        "guidance_rescale": args.guidance_rescale,
        "threshold": _threshold(args.threshold),
    }


def _interval(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(level) for level in text.split(","))
    except ValueError:
        low = high = math.nan
    if not 0 <= low < high:
        raise ValueError(f"--guidance-interval must be LOW,HIGH with 0 <= LOW < HIGH, got {text!r}")
    return low, high


def _threshold(text: str | None) -> float | Literal["static"] | None:
    if text is None or text == "static":
        return cast(Literal["static"] | None, text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--threshold must be 'static' or in [0, 1], got {text!r}") from None

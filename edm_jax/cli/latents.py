"""Samples of a model of latents: as .npy files, or as images by a decoder of the user's own."""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from edm_jax import latents
from edm_jax.model import Model
from edm_jax.runtime import files, pictures

Decode = Callable[[np.ndarray], np.ndarray]


def add_decoder_argument(parser: argparse.ArgumentParser) -> None:
    """--decoder."""
    parser.add_argument(
        "--decoder",
        metavar="MODULE:FUNCTION",
        help="for a model of latents: from float32 [n, H, W, 4], as their encoder gave them, to "
        "images [n, H', W', C] in [0, 1]; without it latents are written as .npy",
    )


def decoder(text: str | None, model: Model) -> Decode:
    """What makes of a batch of samples what is written.

    Args:
      text: MODULE:FUNCTION, or None.
      model: whose samples they are.

    Returns:
      From `Samples.images` to uint8 [n, H, W, C], or to latents float32 [n, H, W, 4] where there is
      no decoder.

    Raises:
      ValueError: a decoder for a model of images, or no such function.
    """
    if text is None:
        return latents.raw if model.config.latents else lambda images: images
    if not model.config.latents:
        raise ValueError(
            f"--decoder must be left out for a model of images, got {text} and a model of "
            f"{model.config.channels} channels"
        )
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(f"--decoder must look like MODULE:FUNCTION, got {text!r}")
    try:
        function: Callable[[np.ndarray], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--decoder must be a function that can be imported: {error}") from None
    return lambda samples: _pixels(function(latents.raw(samples)), len(samples))


def _pixels(found: Any, count: int) -> np.ndarray:
    images = np.asarray(found)
    if images.ndim != 4 or len(images) != count or images.shape[3] not in (1, 3):
        raise ValueError(
            f"--decoder must give images [{count}, H, W, C] with 1 or 3 channels, "
            f"got {list(images.shape)}"
        )
    return images if images.dtype == np.uint8 else latents.to_uint8(images)


def about_latents(out: epath.Path) -> str:
    """What a command says that has written latents into a folder."""
    return f"{out}: latents, float32 [4, H, W]; --decoder makes images of them"


def write_sample(sample: np.ndarray, path: epath.Path) -> None:
    """Writes uint8 [H, W, C] as a PNG file, latents float32 [H, W, 4] as .npy, [4, H, W]."""
    if sample.dtype == np.uint8:
        pictures.write(pictures.to_image(sample), path)
        return
    with files.whole(path) as file:
        np.save(file, np.ascontiguousarray(sample.transpose(2, 0, 1)))

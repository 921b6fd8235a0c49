"""Images of a data set for a model: which ones, that they fit, their labels, as it takes them."""

import argparse
from typing import cast

import jax.numpy as jnp
import numpy as np

from edm_jax import latents, randomness
from edm_jax.cli.sample import parse_classes
from edm_jax.data import archive, sources
from edm_jax.generation.guided import check_unlabelled
from edm_jax.model import Model

OWN, UNLABELLED = "own", "none"


def add_image_arguments(parser: argparse.ArgumentParser, *, label: str) -> None:
    """--data, --num and --label.

    Args:
      parser: they are added to.
      label: the default of --label, which is "own" or "none".
    """
    add = parser.add_argument
    add("--data", help="the data set: digits, a zip or a folder")
    add("--num", type=int, default=8, help="how many images, evenly spread over the data (8)")
    add(
        "--label",
        help="the class that the model is told: an index or a name; 'own': each image's own; "
        f"'none': no class ({label})",
    )


def load_pixels(path: str) -> archive.Images:
    """Loads images alone: of a data set, or of an .npz such as ADM's samples (`arr_0`).

    Args:
      path: "digits", a zip, a folder or an .npz.

    Returns:
      uint8 [N, H, W, C].

    Raises:
      ValueError: no images, or damaged ones; latents.
      OSError: no such data.
    """
    if path.lower().endswith(".npz"):
        return cast(np.ndarray, sources.open_source(path, split="test").items)
    found = archive.load(path, labels=False)
    if found.latents:
        raise ValueError(f"{path}: must hold images, got latents")
    return found.images


def evenly_spread(dataset: archive.Dataset, count: int) -> np.ndarray:
    """Indices of `count` images, evenly spread; of all, where there are fewer."""
    whole = len(dataset.images)
    return np.linspace(0, whole, min(count, whole), endpoint=False).astype(int)


def label_rows(
    text: str, model: Model, dataset: archive.Dataset, rows: np.ndarray
) -> np.ndarray | None:
    """What the model is told of some images' classes.

    Args:
      text: the value of --label: a class, "own" or "none".
      model: what is told.
      dataset: of the images, with labels for "own".
      rows: [n] which images.

    Returns:
      One-hot float32 [n, label_dim], or None for no label.

    Raises:
      ValueError: a class that the model does not have; "none" for a model that was trained with
        labels alone.
    """
    classes = model.config.label_dim
    if text == UNLABELLED:
        if classes:
            check_unlabelled(model, "--label", f"{OWN!r} or a class")
        return None
    if text == OWN:
        return dataset.label_rows(rows) if classes else None
    found = parse_classes(text, model.config.class_names)
    if not isinstance(found, list) or len(found) != 1 or not 0 <= found[0] < classes:
        raise ValueError(f"--label must be one of the model's {classes} classes, got {text!r}")
    return np.eye(classes, dtype=np.float32)[found * len(rows)]


def check_pixels(model: Model) -> None:
    """Raises ValueError for a model of latents, where what is asked for is said of pixels."""
    if model.config.latents:
        raise ValueError("--checkpoint must be a model of pixels, got one of latents")


def inputs(dataset: archive.Dataset, rows: np.ndarray) -> np.ndarray:
    """The images of some rows, float32 in [-1, 1]; latents each drawn from its row's number."""
    if dataset.latents:
        drawn = latents.draw(randomness.sample_keys(rows), jnp.asarray(dataset.images[rows]))
        return np.asarray(drawn)
    return np.asarray(dataset.images[rows], np.float32) / 127.5 - 1

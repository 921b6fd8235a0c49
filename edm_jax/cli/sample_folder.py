"""The folder that samples are written to: names, labels, a grid."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from edm_jax import generation
from edm_jax.networks.config import ModelConfig
from edm_jax.runtime import files, pictures

LABELS, GRID = "dataset.json", "grid.png"
GRID_SIDE = 20  # most images in a row, and in a column
PICTURES, LATENTS = ".png", ".npy"
IMAGE = re.compile(r"(?:class(?P<label>\d+)/)?(?P<seed>\d+)\.(png|npy)")


def name_of(seed: int, label: int | None = None, *, suffix: str = PICTURES) -> str:
    """Where an image goes: by seed, in a folder of its class where classes were asked for.

    >>> name_of(7, 3), name_of(7)
    ('class003/000007.png', '000007.png')
    """
    return f"{'' if label is None else f'class{label:03d}/'}{seed:06d}{suffix}"


def write_labels(folder: epath.Path, config: ModelConfig, *, labelled: bool = True) -> None:
    """Writes dataset.json, by which the folder is a data set: of all images that are there.

    Args:
      folder: of the images, whichever calls made them.
      config: the model's; it tells the classes.
      labelled: whether the images were asked for by class, or at random.
    """
    places = (f"{below}*{suffix}" for below in ("", "class*/") for suffix in (PICTURES, LATENTS))
    found = [file for place in places for file in folder.glob(place)]
    parts = {name: IMAGE.fullmatch(name) for name in sorted(_below(folder, found))}
    images = {name: match for name, match in parts.items() if match}
    others = {GRID, *(name for name, match in parts.items() if not match)}
    content: dict[str, Any] = {"labels": None, "left_out": sorted(others)}
    if config.label_dim and labelled:
        labels = {n: int(m["label"]) for n, m in images.items() if m["label"] is not None}
        flat = {name: int(m["seed"]) for name, m in images.items() if m["label"] is None}
        if flat:  # where no class was asked for it was drawn from the seed
            drawn = generation.random_classes(list(flat.values()), config.label_dim)
            labels |= dict(zip(flat, drawn.tolist()))
        content["labels"] = [[name, labels[name]] for name in images]
        content["classes"] = list(config.class_names)
    files.write(folder / LABELS, json.dumps(content, indent=0) + "\n")


def _below(folder: epath.Path, found: list[epath.Path]) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in found]


def class_name(label: int, known: Sequence[str]) -> str:
    """What a class is called: its name, or else its index."""
    return known[label] if known else str(label)


def write_grid(
    folder: epath.Path, names: list[str], labels: np.ndarray | None, known: Sequence[str]
) -> epath.Path:
    """Draws images of a folder side by side; of several classes a row for each.

    Args:
      folder: of the images.
      names: theirs, class by class, as many of each; all there.
      labels: [len(names)] their classes, or None where no class was asked for.
      known: the names of the model's classes, where it has them.

    Returns:
      The picture's path.
    """
    classes = [] if labels is None else list(dict.fromkeys(labels.tolist()))
    if len(classes) > 1:
        each = len(names) // len(classes)
        columns, classes = min(each, GRID_SIDE), classes[:GRID_SIDE]
        chosen = [names[i * each + j] for i in range(len(classes)) for j in range(columns)]
        row_labels = [class_name(label, known) for label in classes]
    else:
        chosen, row_labels = names[: GRID_SIDE**2], []
        columns = fitting_columns(len(chosen))
    pixels = np.stack([pictures.read(folder / name) for name in chosen])
    pictures.write(pictures.grid(pixels, columns, row_labels=row_labels), folder / GRID)
    return folder / GRID


def fitting_columns(count: int) -> int:
    """Columns of a grid between a square and twice as wide as high, with the fewest gaps.

    >>> [fitting_columns(count) for count in (1, 2, 8, 64, 100)]
    [1, 2, 4, 8, 10]
    """
    few, many = math.ceil(count**0.5), math.ceil((2 * count) ** 0.5)
    return min(range(few, many + 1), key=lambda columns: (-count % columns, columns))

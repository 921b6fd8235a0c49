"""The folder that samples are written to: names, the record of what they are, labels, a grid."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from PIL import Image

from edm_jax import generation
from edm_jax.networks.config import ModelConfig
from edm_jax.runtime import files, pictures

RECORD, LABELS, GRID = "sample.json", "dataset.json", "grid.png"
GRID_SIDE = 20  # most images in a row, and in a column
PICTURES, LATENTS = ".png", ".npy"
IMAGE = re.compile(r"(?:class(?P<label>\d+)/)?(?P<seed>\d+)\.(png|npy)")


def name_of(seed: int, label: int | None = None, *, suffix: str = PICTURES) -> str:
    """Where an image goes: by seed, in a folder of its class where classes were asked for.

    >>> name_of(7, 3), name_of(7)
    ('class003/000007.png', '000007.png')
    """
    return f"{'' if label is None else f'class{label:03d}/'}{seed:06d}{suffix}"


def digest(tree: Any) -> str:
    """A hash of all that a tree of arrays holds, names, shapes and types included."""
    found = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        values = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {values.shape} {values.dtype}".encode())
        found.update(values.data)
    return found.hexdigest()


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Makes a folder of samples and keeps other commands out of it; left without files it goes.

    Raises:
      BlockingIOError: another command is at work there.
    """
    files.made(folder)
    if not files.is_local(folder):
        yield
        return
    lock = folder / files.LOCK
    with files.locked(lock, wait=False):
        try:
            yield
        finally:
            if {path.name for path in folder.iterdir()} == {lock.name}:
                folder.rmtree()


def check(folder: epath.Path, made_with: Mapping[str, Any]) -> None:
    """Raises ValueError where a folder holds images that were made with something else.

    Args:
      folder: of the images; it need not be there.
      made_with: name -> value of everything that decides an image, its seed and class aside.
    """
    record = folder / RECORD
    if not record.exists():
        return
    before = json.loads(record.read_text())
    for name, value in json.loads(json.dumps(made_with)).items():
        if before.get(name) != value:
            was = repr(before[name]) if name in before else "something that it does not say"
            raise ValueError(
                f"--out must be a folder of images made with the {name} {value!r}, got {folder}, "
                f"made with {was}; choose another folder, or remove that one"
            )


def write_record(
    folder: epath.Path, made_with: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Says what the images of a folder are made with; or checks it, where that is said already.

    Args:
      folder: of the images.
      made_with: as for `check`.
      about: what else to write down, which is not compared.

    Raises:
      ValueError: the folder holds images of other weights, or made with other settings.
    """
    check(folder, made_with)
    if not (folder / RECORD).exists():
        files.write(folder / RECORD, json.dumps({**about, **made_with}, indent=1) + "\n")


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
    pixels = []
    for name in chosen:
        with (folder / name).open("rb") as stream, Image.open(stream) as image:
            pixels.append(np.atleast_3d(np.asarray(image)))
    pictures.write(pictures.grid(np.stack(pixels), columns, row_labels=row_labels), folder / GRID)
    return folder / GRID


def fitting_columns(count: int) -> int:
    """Columns of a grid between a square and twice as wide as high, with the fewest gaps.

    >>> [fitting_columns(count) for count in (1, 2, 8, 64, 100)]
    [1, 2, 4, 8, 10]
    """
    few, many = math.ceil(count**0.5), math.ceil((2 * count) ** 0.5)
    return min(range(few, many + 1), key=lambda columns: (-count % columns, columns))

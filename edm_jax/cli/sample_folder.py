"""The folder that samples are written to: names, the record of what they are, labels, a grid."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from PIL import Image

from edm_jax import generation
from edm_jax.runtime import files, pictures

RECORD, LABELS, GRID = "sample.json", "dataset.json", "grid.png"
GRID_LIMIT = 400  # images in the grid
IMAGE = re.compile(r"(?:class(?P<label>\d+)/)?(?P<seed>\d+)\.png")


def name_of(seed: int, label: int | None = None) -> str:
    """Where an image goes: by seed, in a folder of its class where classes were asked for.

    >>> name_of(7, 3), name_of(7)
    ('class003/000007.png', '000007.png')
    """
    return f"{'' if label is None else f'class{label:03d}/'}{seed:06d}.png"


def digest(tree: Any) -> str:
    """A hash of all that a tree of arrays holds, names, shapes and types included."""
    found = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        values = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {values.shape} {values.dtype}".encode())
        found.update(values.data)
    return found.hexdigest()


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
      ValueError: as `check`.
    """
    check(folder, made_with)
    if not (folder / RECORD).exists():
        files.write(folder / RECORD, json.dumps({**about, **made_with}, indent=1) + "\n")


def write_labels(folder: epath.Path, label_dim: int) -> None:
    """Writes dataset.json: the label of every image that is there, whichever call made it."""
    found = [file.relative_to(folder).as_posix() for file in folder.glob("*.png")]
    found += [file.relative_to(folder).as_posix() for file in folder.glob("class*/*.png")]
    parts = {name: match for name in sorted(found) if (match := IMAGE.fullmatch(name))}
    flat = [name for name, match in parts.items() if match["label"] is None]
    seeds = [int(parts[name]["seed"]) for name in flat]
    labels = {name: int(m["label"]) for name, m in parts.items() if m["label"] is not None}
    if flat:  # where no class was asked for it was drawn from the seed
        labels |= dict(zip(flat, generation.random_classes(seeds, label_dim).tolist()))
    content = {"labels": [[name, labels[name]] for name in parts]}
    files.write(folder / LABELS, json.dumps(content, indent=0) + "\n")


def write_grid(
    folder: epath.Path, names: list[str], labels: np.ndarray | None, by_class: bool
) -> epath.Path:
    """Draws images of a folder side by side, a row for each class where classes were asked for.

    Args:
      folder: of the images.
      names: theirs, class by class; all there.
      labels: [len(names)] their classes, or None.
      by_class: whether every class has as many images.

    Returns:
      The picture's path.
    """
    count = len(names)
    labels = labels if by_class else None
    if labels is not None:
        rows = list(dict.fromkeys(labels.tolist()))
        columns = min(count // len(rows), 20)
        chosen = [i for i in range(count) if i % (count // len(rows)) < columns]
    else:
        columns, chosen = max(1, round(min(count, GRID_LIMIT) ** 0.5)), list(range(count))
    chosen = chosen[: max(1, GRID_LIMIT // columns) * columns]
    pixels = []
    for i in chosen:
        with (folder / names[i]).open("rb") as stream, Image.open(stream) as image:
            pixels.append(np.atleast_3d(np.asarray(image)))
    row_labels = () if labels is None else [str(labels[i]) for i in chosen[::columns]]
    pictures.write(pictures.grid(np.stack(pixels), columns, row_labels), folder / GRID)
    return folder / GRID

"""Digits that a model has seen, and digits that it has not: four fifths and one fifth.

python benchmarks/held_out.py runs/data     # seen.zip and held_out.zip
"""

import io
import json
import pathlib
import sys
import zipfile

import numpy as np
from PIL import Image

from edm_jax.data import digits


def split() -> tuple[np.ndarray, np.ndarray]:
    """The indices of the digits that are held out (359 of 1,797), and of those that are seen."""
    count = len(digits.read()[0])
    held_out, seen = np.split(np.random.default_rng(0).permutation(count), [count // 5])
    return held_out, seen


def write(path: pathlib.Path, rows: np.ndarray) -> None:
    """Writes some of the digits as a data set, in the order of `rows`."""
    images, targets = digits.read()
    labels = []
    with zipfile.ZipFile(path, "w") as file:
        for i, row in enumerate(rows):
            stream, name = io.BytesIO(), f"{i:05d}.png"
            Image.fromarray(images[row, ..., 0]).save(stream, "png")
            file.writestr(name, stream.getvalue())
            labels.append([name, int(targets[row])])
        file.writestr("dataset.json", json.dumps({"labels": labels}))


def main() -> None:
    """Writes both into a folder."""
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    held_out, seen = split()
    write(folder / "held_out.zip", held_out)
    write(folder / "seen.zip", seen)


if __name__ == "__main__":
    main()

"""The record of what a folder's images are made with, and its lock: unlike ones are not mixed."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from edm_jax.runtime import files
from edm_jax.weights.digest import digest as digest


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Makes a folder of images and keeps other commands out of it; left without files it goes.

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


def check(record: epath.Path, made_with: Mapping[str, Any]) -> None:
    """Raises ValueError where a folder holds images that were made with something else.

    Args:
      record: the file in it that says what they are made with; it need not be there.
      made_with: name -> value of everything that decides an image, its seed and class aside.
    """
    if not record.exists():
        return
    before = json.loads(record.read_text())
    for name, value in json.loads(json.dumps(made_with)).items():
        if before.get(name) != value:
            was = repr(before[name]) if name in before else "something that it does not say"
            raise ValueError(
                f"--out must be a folder of images made with the {name} {value!r}, got "
                f"{record.parent}, made with {was}; choose another folder, or remove that one"
            )


def write(record: epath.Path, made_with: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Says what the images of a folder are made with; or checks it, where that is said already.

    Args:
      record: the file in it.
      made_with: as for `check`.
      about: what else to write down, which is not compared.

    Raises:
      ValueError: the folder holds images of other weights, or made with other settings.
    """
    check(record, made_with)
    if not record.exists():
        files.write(record, json.dumps({**about, **made_with}, indent=1) + "\n")

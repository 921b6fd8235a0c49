"""Hashes of a folder's files, by which damage is found before anything is made of it."""

import contextlib
import hashlib
import json
from collections.abc import Collection

from etils import epath

from edm_jax.runtime import files

NAME = "hashes.json"


def write(folder: epath.Path, *, leaving_out: Collection[str] = ()) -> None:
    """Writes what the files of a folder hold now into `hashes.json` there.

    Args:
      folder: of a disk or a bucket; all that is in it is listed.
      leaving_out: files that will change.
    """
    found = {name: path for name, path in _files(folder).items() if name not in leaving_out}
    listed = {name: [path.stat().length, _of(path)] for name, path in found.items()}
    files.write(folder / NAME, json.dumps({"sha256": listed}, indent=1) + "\n")


def damage(folder: epath.Path, *, parts: Collection[str] = ()) -> str | None:
    """What is wrong with a folder, by the hashes in it.

    Args:
      folder: where `write` was, or not: without hashes nothing is known to be wrong.
      parts: files and folders in it to look at; all by default.

    Returns:
      In a few words that begin with the file's name; None where nothing is wrong.

    Raises:
      OSError: the folder cannot be read.
    """
    if not (folder / NAME).exists():
        return None
    listed = None
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
        found = json.loads((folder / NAME).read_text())["sha256"].items()
        listed = {str(name): (int(size), str(digest)) for name, (size, digest) in found}
    if listed is None:
        return f"{NAME} is not what was written"
    for name, (size, digest) in listed.items():
        path = folder / name
        if parts and name.partition("/")[0] not in parts:
            continue
        if not path.exists():
            return f"{name} is missing"
        if path.stat().length != size:
            return f"{name} has {path.stat().length} bytes where {size} were written"
        if _of(path) != digest:
            return f"{name} holds other bytes than were written"
    return None


def _files(folder: epath.Path, prefix: str = "") -> dict[str, epath.Path]:
    found: dict[str, epath.Path] = {}  # folder by folder: buckets know no patterns that go deeper
    for path in sorted(folder.iterdir()):
        name = prefix + path.name
        if path.is_dir():
            found |= _files(path, f"{name}/")
        elif name != NAME:
            found[name] = path
    return found


def _of(path: epath.Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            whole.update(part)
    return whole.hexdigest()

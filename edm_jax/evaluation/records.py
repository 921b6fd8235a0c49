"""The record of a measurement: its scores and all that they depend on; what may be compared."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from edm_jax.quoting import quoted
from edm_jax.runtime import files

FORMAT, VERSION = "edm_jax evaluation", 1
FULL = 50_000  # images of a published FID
# What must be the same for two scores to be of one kind: where it stands, and in words.
SAME = {
    ("features", "name"): "the feature networks",
    ("features", "sha256"): "the weights of the feature network",
    ("features", "input"): "what the feature network is given",
    ("reference", "sha256"): "the statistics of the data (the reference)",
    ("images", "count"): "the numbers of images",
    ("images", "uint8"): "the rules by which pixels become bytes",
    ("settings",): "the settings of the scores",
}
_PACKAGES = ("edm_jax", "jax", "jaxlib", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a number passes through."""
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in _PACKAGES}}


def write(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Writes a record as JSON, whole or not at all.

    Args:
      path: the file to make; one that exists is replaced.
      record: what was measured; "features", "reference", "images" and "scores" are there.

    Raises:
      OSError: the path cannot be written.
      ValueError: a number in it is NaN or infinite.
    """
    whole = {"format": FORMAT, "version": VERSION, **record}
    files.write(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what `write` wrote.

    Raises:
      ValueError: the file is no such record.
      OSError: it cannot be read.
    """
    try:
        found = json.loads(files.located(path).read_text())
    except (ValueError, RecursionError):
        found = None
    parts = ("features", "reference", "images", "scores")
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or found.get("version") != VERSION
        or not all(isinstance(found.get(part), dict) for part in parts)
    ):
        raise ValueError(f"{os.fspath(path)}: must be a record of edm-jax evaluate, got none")
    return found


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Why the scores of two records may not be compared.

    Args:
      a: a record.
      b: another.

    Returns:
      A sentence for each thing that had to be the same; none where they may be compared.

    >>> one = {"features": {"name": "inception"}, "images": {"count": 50000}}
    >>> differences(one, {**one, "images": {"count": 5000}})
    ['the numbers of images differ: 50000 and 5000']
    """
    found = []
    for place, words in SAME.items():
        one, other = _at(a, place), _at(b, place)
        if one != other:
            found.append(f"{words} differ: {quoted(one)} and {quoted(other)}")
    return found


def _at(record: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def side_by_side(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the scores that two records share.

    Args:
      a: a record.
      b: another, comparable one.

    Yields:
      The score's name and both numbers, a line each.
    """
    yield f"{'':18} {'A':>12} {'B':>12}"
    for name in a["scores"]:
        if name in b["scores"]:
            numbers = (record["scores"][name]["mean"] for record in (a, b))
            yield " ".join((f"{name:18}", *(f"{number:12.5g}" for number in numbers)))

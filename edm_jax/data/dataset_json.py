"""dataset.json of an archive: the labels of its images, and what else it says of them."""

import json
from collections.abc import Callable

import numpy as np

from edm_jax.data import decode
from edm_jax.quoting import quoted


def label_table(read: Callable[[str], bytes]) -> tuple[dict | None, tuple[str, ...], bool]:
    """Reads dataset.json.

    Args:
      read: from a member's name to its bytes.

    Returns:
      {name: label}, or None if there are no labels; the names of the classes; whether there is a
      dataset.json at all, which then has the last word on labels.

    Raises:
      ValueError: it is damaged.
    """
    content = about(read)
    if content is None:
        return None, (), False
    pairs = content.get("labels")
    if pairs is None:
        return None, (), True
    try:
        table = {name.replace("\\", "/"): label for name, label in pairs}
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"dataset.json: labels must be a list of [name, label], got {quoted(pairs)}"
        ) from None
    classes = content.get("classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"dataset.json: classes must be a list of names, got {quoted(classes)}")
    return table, tuple(classes), True


def about(read: Callable[[str], bytes]) -> dict | None:
    """What dataset.json says, or None where there is none."""
    try:
        content = json.loads(read("dataset.json"))
    except (KeyError, FileNotFoundError):
        return None
    except Exception as error:  # damaged zips and texts fail in many ways
        raise ValueError(f"dataset.json: cannot be read ({decode.one_line(error)})") from None
    return content if isinstance(content, dict) else {}


def targets_of(table: dict, names: list[str]) -> np.ndarray:
    """The `targets` of images by their names; raises ValueError for one without a label."""
    try:
        return targets([table[name] for name in names])
    except KeyError as error:
        raise ValueError(f"dataset.json: has no label for {error.args[0]}") from None


def one_each(classes: tuple[str, ...], targets: np.ndarray | None) -> tuple[str, ...]:
    """A name for each of `label_dim` classes; those after the last that occurs are dropped."""
    if targets is None or not classes:
        return ()
    count = label_dim(targets)
    if len(classes) < count:
        raise ValueError(f"dataset.json: classes must be {count} names or none, got {len(classes)}")
    return classes[:count]


def label_dim(targets: np.ndarray | None) -> int:
    """The width of a label: the largest class index + 1, or the length of the vectors."""
    if targets is None:
        return 0
    return int(targets.max()) + 1 if targets.ndim == 1 else targets.shape[1]


def targets(labels: list) -> np.ndarray:
    """Makes int32 [N] class indices or float32 [N, L] vectors of the labels in dataset.json.

    >>> targets([3, 0])
    array([3, 0], dtype=int32)
    """
    if all(type(label) is int and 0 <= label < 2**31 for label in labels):
        return np.array(labels, np.int32)
    vectors: np.ndarray
    try:
        with np.errstate(over="ignore"):  # too large is infinite, and refused below
            vectors = np.array(labels, np.float32)
    except (TypeError, ValueError):
        vectors = np.zeros(())
    if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
        wanted = "all integers from 0, or all vectors of one length"
        raise ValueError(f"dataset.json: labels must be {wanted}, got {quoted(labels)}")
    return vectors

"""A hash of parameters, by which files know the model that they are of."""

import hashlib
from typing import Any

import jax
import numpy as np


def digest(tree: Any) -> str:
    """A hash of all that a tree of arrays holds, names, shapes and types included."""
    found = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        values = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {values.shape} {values.dtype}".encode())
        found.update(values.data)
    return found.hexdigest()

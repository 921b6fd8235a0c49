"""Files of PyTorch that hold named tensors, read without executing anything.

A state dict, in either container; or a module with its program (TorchScript), which is a tree of
objects whose attributes are tensors and further objects. The program is not looked at.
"""

import hashlib
import os
from typing import Any

import numpy as np

from edm_jax.runtime import files
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official import torch_tensors
from edm_jax.weights.official.pickle_records import ALL, Call, Global

SCRIPT = Global("__torch__", ALL)  # the classes of a program
_MAX_DEPTH = 32  # of modules within modules


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], str]:
    """Reads the tensors of a state dict or of a TorchScript module.

    Args:
      path: of the file, or its URL.

    Returns:
      Its tensors by name, and the SHA-256 of the file in hexadecimal digits.

    Raises:
      WeightsError: no such file, damaged, or something else.
    """
    with naming(path):
        data = files.located(path).read_bytes()
        file = torch_tensors.read_any(data, torch_tensors.TENSOR_GLOBALS | {SCRIPT})
        if _is_script(file.value):
            file = file._replace(value=_flat(file.value))
        if type(file.value) is not dict:
            raise WeightsError("must hold a state dict of PyTorch, got something else")
        return weights_of(file), hashlib.sha256(data).hexdigest()


def weights_of(file: torch_tensors.TorchFile) -> dict[str, np.ndarray]:
    """The tensors of a saved state dict, by name.

    Raises:
      WeightsError: an entry is no tensor, or all together are larger than the file.
    """
    weights, budget = {}, torch_tensors.Budget(file.size)
    for name, record in file.value.items():
        try:
            weights[str(name)] = torch_tensors.array(record, file.storages, budget)
        except WeightsError as error:
            raise WeightsError(f"tensor {str(name)[:200]!r} {error}") from None
    return weights


def _is_script(record: Any) -> bool:
    if type(record) is not Call:
        return False
    return record.function.module.partition(".")[0] == SCRIPT.module


def _flat(module: Call) -> dict[str, Any]:
    """The records of a module's tensors by their names in its state dict."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def collect(module: Call, prefix: str, depth: int) -> None:
        # The file may refer to one object from many places: without this a small file could
        # describe an endless tree.
        if id(module) in seen or depth > _MAX_DEPTH or type(module.state) is not dict:
            raise WeightsError(f"damaged: {prefix or 'the module'} is no module, or there twice")
        seen.add(id(module))
        for name, value in module.state.items():
            if _is_script(value):
                collect(value, f"{prefix}{name}.", depth + 1)
            elif type(value) is Call:
                found[f"{prefix}{name}"] = value

    collect(module, "", 0)
    return found

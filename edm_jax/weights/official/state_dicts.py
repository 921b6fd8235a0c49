"""A file of PyTorch that holds a state dict: named tensors, read without executing anything."""

import hashlib
import os

import numpy as np

from edm_jax.runtime import files
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official import torch_tensors


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], str]:
    """Reads a state dict of either container.

    Args:
      path: of the file, or its URL.

    Returns:
      Its tensors by name, and the SHA-256 of the file in hexadecimal digits.

    Raises:
      WeightsError: no such file, damaged, or something else.
    """
    with naming(path):
        data = files.located(path).read_bytes()
        file = torch_tensors.read_any(data, torch_tensors.TENSOR_GLOBALS)
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

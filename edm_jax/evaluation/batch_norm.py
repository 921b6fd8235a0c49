"""Convolutions of published files, with the batch norm that follows each folded into it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edm_jax.weights.errors import WeightsError


def folded(
    weights: Mapping[str, np.ndarray],
    conv: str,
    norm: str,
    shape: tuple[int, ...],
    network: str,
    eps: float,
) -> dict[str, Any]:
    """A convolution that does what a convolution without bias and a batch norm do.

        y = (conv(x) - mean) / √(var + ε) weight + bias

    Args:
      weights: PyTorch's names -> arrays.
      conv: the name of the kernel.
      norm: of the norm; `.weight`, `.bias`, `.running_mean` and `.running_var` follow it.
      shape: of the kernel, (out, in, height, width).
      network: whose they are, for messages.
      eps: ε of the norm.

    Returns:
      `kernel` [height, width, in, out] and `bias` [out], float32; computed in float64.

    Raises:
      WeightsError: a tensor is missing or has another shape.
    """
    kernel = tensor(weights, conv, shape, network)
    mean, var, weight, bias = (
        tensor(weights, f"{norm}.{part}", shape[:1], network)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    scale = weight / np.sqrt(var + eps)
    kernel = kernel.transpose(2, 3, 1, 0) * scale
    return {"kernel": np.float32(kernel), "bias": np.float32(bias - mean * scale)}


def tensor(
    weights: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], network: str
) -> np.ndarray:
    """A tensor of a state dict in float64; raises WeightsError unless it is there, of `shape`."""
    found = weights.get(name)
    if found is None or found.shape != shape:
        got = "none" if found is None else f"the shape {found.shape}"
        raise WeightsError(f"must hold {network}, with {name} of shape {shape}, got {got}")
    return found.astype(np.float64)

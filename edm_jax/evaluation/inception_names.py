"""NVIDIA's names of the Inception of FID (`inception-2015-12-05.pt`), and torch-fidelity's."""

from collections.abc import Mapping

import numpy as np

# The convolutions of each kind of block, in the order of both files.
_TOP = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
_A = {
    "conv": "branch1x1",
    "tower.conv": "branch5x5_1",
    "tower.conv_1": "branch5x5_2",
    "tower_1.conv": "branch3x3dbl_1",
    "tower_1.conv_1": "branch3x3dbl_2",
    "tower_1.conv_2": "branch3x3dbl_3",
    "tower_2.conv": "branch_pool",
}
_B = {
    "conv": "branch3x3",
    "tower.conv": "branch3x3dbl_1",
    "tower.conv_1": "branch3x3dbl_2",
    "tower.conv_2": "branch3x3dbl_3",
}
_C = {
    "conv": "branch1x1",
    "tower.conv": "branch7x7_1",
    "tower.conv_1": "branch7x7_2",
    "tower.conv_2": "branch7x7_3",
    "tower_1.conv": "branch7x7dbl_1",
    "tower_1.conv_1": "branch7x7dbl_2",
    "tower_1.conv_2": "branch7x7dbl_3",
    "tower_1.conv_3": "branch7x7dbl_4",
    "tower_1.conv_4": "branch7x7dbl_5",
    "tower_2.conv": "branch_pool",
}
_D = {
    "tower.conv": "branch3x3_1",
    "tower.conv_1": "branch3x3_2",
    "tower_1.conv": "branch7x7x3_1",
    "tower_1.conv_1": "branch7x7x3_2",
    "tower_1.conv_2": "branch7x7x3_3",
    "tower_1.conv_3": "branch7x7x3_4",
}
_E = {
    "conv": "branch1x1",
    "tower_conv": "branch3x3_1",
    "tower_mixed_conv": "branch3x3_2a",
    "tower_mixed_conv_1": "branch3x3_2b",
    "tower_1_conv": "branch3x3dbl_1",
    "tower_1_conv_1": "branch3x3dbl_2",
    "tower_1_mixed_conv": "branch3x3dbl_3a",
    "tower_1_mixed_conv_1": "branch3x3dbl_3b",
    "tower_2_conv": "branch_pool",
}
_BLOCKS = (
    ("5b", _A), ("5c", _A), ("5d", _A), ("6a", _B), ("6b", _C), ("6c", _C), ("6d", _C), ("6e", _C),
    ("7a", _D), ("7b", _E), ("7c", _E),
)  # fmt: skip
_PARTS = {
    "weight": "conv.weight",
    "beta": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}
MARK = "output.weight"  # a tensor that only NVIDIA's file has


def units() -> dict[str, str]:
    """NVIDIA's name of each convolution -> torch-fidelity's, 94 of them.

    >>> units()["mixed_10.tower_1_mixed_conv"]
    'Mixed_7c.branch3x3dbl_3a'
    """
    found = dict(_TOP)
    for index, (letter, block) in enumerate(_BLOCKS):
        prefix = f"mixed_{index}" if index else "mixed"
        found |= {f"{prefix}.{a}": f"Mixed_{letter}.{b}" for a, b in block.items()}
    return found


def from_nvidia(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives NVIDIA's tensors torch-fidelity's names; the gain of its norms, which it has not, is 1.

    Args:
      weights: `layers.mixed_3.tower.conv_1.weight`, `.beta`, `.mean`, `.var`, …, `output.weight`.

    Returns:
      `Mixed_6a.branch3x3dbl_2.conv.weight`, …, `fc.weight`; what is not there is left out.
    """
    found = {}
    for theirs, ours in units().items():
        for part, name in _PARTS.items():
            value = weights.get(f"layers.{theirs}.{part}")
            if value is not None:
                found[f"{ours}.{name}"] = value
        if f"{ours}.bn.bias" in found:
            found[f"{ours}.bn.weight"] = np.ones_like(found[f"{ours}.bn.bias"])
    return found | {f"fc.{part}": weights[f"output.{part}"] for part in ("weight", "bias")
                    if f"output.{part}" in weights}  # fmt: skip

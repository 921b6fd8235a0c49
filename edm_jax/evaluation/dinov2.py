"""DINOv2's vision transformer, whose first token FD-DINOv2 is measured in (Stein et al. 2023)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.evaluation.batch_norm import tensor
from edm_jax.evaluation.resize import bicubic, bicubic_matrix

PIXELS, PATCH, STORED = 224, 14, 37  # of an image, of a patch; patches a side that positions are of
HEAD = 64  # channels of an attention head
INPUT = f"bicubic with antialiasing to {PIXELS}x{PIXELS} in float32, ImageNet's mean and std"
EPS = 1e-6  # of the layer norms
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OWNER = "DINOv2's ViT"
_HIGHEST = jax.lax.Precision.HIGHEST
Params = dict[str, Any]


def inputs(images: jax.Array) -> jax.Array:
    """Bytes [B, H, W, 3 or 1] as the network takes them, float32 [B, 224, 224, 3]."""
    # About the middle rounding is half as large; the weights of a pixel have the sum 1.
    x = bicubic(jnp.asarray(images, jnp.float32) - 127.5, PIXELS)
    mean, std = 255 * np.array(MEAN), 255 * np.array(STD)
    return (x + np.float32(127.5 - mean)) * np.float32(1 / std)


def features(params: Params, images: jax.Array, *, head: int = HEAD) -> jax.Array:
    """The first token after the last norm.

        x ← x + γ₁ proj(attention(norm₁ x)),    x ← x + γ₂ fc2(gelu(fc1(norm₂ x)))

    Args:
      params: by `from_state_dict`.
      images: uint8 [B, H, W, 3 or 1], of any size.
      head: channels of an attention head.

    Returns:
      float32 [B, D], D = 1024 for ViT-L.
    """
    patches = jax.lax.conv_general_dilated(
        inputs(images),
        params["patch"]["kernel"],
        (PATCH, PATCH),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_HIGHEST,
    )
    count, width = len(images), patches.shape[-1]
    patches = patches.reshape(count, -1, width) + params["patch"]["bias"]
    first = jnp.broadcast_to(params["first"], (count, 1, width))
    x = jnp.concatenate([first, patches], 1) + params["positions"]

    def block(x: jax.Array, p: Params) -> tuple[jax.Array, None]:
        y = _linear(_norm(x, p, "norm1"), p, "attn.qkv").reshape(count, x.shape[1], 3, -1, head)
        q, k, v = (y[:, :, part] for part in range(3))
        score = jnp.einsum("bihd,bjhd->bhij", q, k, precision=_HIGHEST) / head**0.5
        mixed = jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(score), v, precision=_HIGHEST)
        x = x + p["ls1.gamma"] * _linear(mixed.reshape(x.shape), p, "attn.proj")
        y = jax.nn.gelu(_linear(_norm(x, p, "norm2"), p, "mlp.fc1"), approximate=False)
        return x + p["ls2.gamma"] * _linear(y, p, "mlp.fc2"), None

    x, _ = jax.lax.scan(block, x, params["blocks"])
    return _norm(x[:, 0], params, "norm")


def _linear(x: jax.Array, p: Params, name: str) -> jax.Array:
    return jnp.matmul(x, p[f"{name}.weight"].T, precision=_HIGHEST) + p[f"{name}.bias"]


def _norm(x: jax.Array, p: Params, name: str) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + EPS)
    return centred * scale * p[f"{name}.weight"] + p[f"{name}.bias"]


def from_state_dict(weights: Mapping[str, np.ndarray]) -> Params:
    """The parameters of a published file, its positions resized to 16x16 patches.

    Args:
      weights: DINOv2's names -> arrays: `blocks.0.attn.qkv.weight`, `pos_embed`, …; `mask_token`
        is passed over.

    Returns:
      The parameters of `features`, float32; those of all blocks stand in one array each.

    Raises:
      WeightsError: a tensor is missing or has another shape.
    """
    width = weights["cls_token"].shape[-1] if "cls_token" in weights else 0
    depth = sum(name.startswith("blocks.") and name.endswith(".norm1.bias") for name in weights)

    def read(name: str, *shape: int) -> np.ndarray:
        return tensor(weights, name, shape, _OWNER).astype(np.float32)

    vectors = "norm1.weight norm1.bias norm2.weight norm2.bias ls1.gamma ls2.gamma".split()
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(vectors, (width,))
    for name, inner, outer in (
        ("attn.qkv", 1, 3), ("attn.proj", 1, 1), ("mlp.fc1", 1, 4), ("mlp.fc2", 4, 1),
    ):  # fmt: skip
        shapes[f"{name}.weight"] = outer * width, inner * width
        shapes[f"{name}.bias"] = (outer * width,)
    kernel = read("patch_embed.proj.weight", width, 3, PATCH, PATCH)
    positions = read("pos_embed", 1, 1 + STORED**2, width)[0]
    first = read("cls_token", 1, 1, width)
    return {
        "patch": {
            "kernel": kernel.transpose(2, 3, 1, 0),
            "bias": read("patch_embed.proj.bias", width),
        },
        "first": first,
        "positions": np.concatenate([positions[:1], resized_positions(positions[1:])]),
        "blocks": {
            name: np.stack([read(f"blocks.{i}.{name}", *shape) for i in range(depth)])
            for name, shape in shapes.items()
        },
        "norm.weight": read("norm.weight", width),
        "norm.bias": read("norm.bias", width),
    }


def resized_positions(positions: np.ndarray) -> np.ndarray:
    """Positions of 37x37 patches for 16x16, as DINOv2 resizes them: by a factor of 16.1 / 37.

    Args:
      positions: [37², D].

    Returns:
      float32 [16², D].
    """
    side = PIXELS // PATCH
    matrix = bicubic_matrix(STORED, side, scale=STORED / (side + 0.1), a=-0.75, antialias=False)
    grid = positions.reshape(STORED, STORED, -1).astype(np.float64)
    found = np.einsum("ih,jw,hwd->ijd", matrix, matrix, grid)
    return found.reshape(side**2, -1).astype(np.float32)

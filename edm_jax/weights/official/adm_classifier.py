"""OpenAI's classifiers of noisy ImageNet images (guided-diffusion) as models of ours.

The network is `Classifier` under guided-diffusion's names. Attention in the trunk orders the output
channels of qkv [head][q|k|v][component], the pool [q|k|v][head][component]. The file says neither
where a level ends, nor the noise schedule, nor how heads are divided; of the four published ones
the number of blocks tells which it is.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from edm_jax import tables
from edm_jax.model import Model
from edm_jax.networks.config import ClassifierConfig
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official.guided_diffusion import (
    BLOCK,
    HEAD,
    by_component,
    official_name,
    shape_of,
)
from edm_jax.weights.official.nvidia import model_from_weights

_TOP = {
    "time_embed.0": "map_layer0",
    "time_embed.2": "map_layer1",
    "out.0": "out_norm",
    "out.2": "out_pool",
    "out.2.qkv_proj": "out_pool.qkv",
    "out.2.c_proj": "out_pool.proj",
    "out.3": "out_linear",
}
_PUBLISHED: dict[int, tuple[tables.Betas, ClassifierConfig]] = {
    64: ("cosine", ClassifierConfig()),
    128: ("linear", ClassifierConfig(resolution=128, channel_mult=(1, 1, 2, 3, 4), num_blocks=2)),
    256: (
        "linear",
        ClassifierConfig(resolution=256, channel_mult=(1, 1, 2, 2, 4, 4), num_blocks=2),
    ),
    512: (
        "linear",
        ClassifierConfig(resolution=512, channel_mult=(0.5, 1, 1, 2, 2, 4, 4), num_blocks=2),
    ),
}


def recognises(value: Any) -> bool:
    """Whether what a file holds is such a state dict."""
    if type(value) is not dict or "time_embed.0.weight" not in value:
        return False
    return "out.2.c_proj.weight" in value or "out.3.weight" in value


def from_published(weights: Mapping[str, np.ndarray]) -> Model:
    """The published classifier of images of 64, 128, 256 or 512 pixels that these weights are of.

    Raises:
      WeightsError: another network, or damaged.
    """
    for resolution, (betas, expected) in _PUBLISHED.items():
        num_blocks = expected.num_blocks
        if _input_blocks(weights) == len(expected.channel_mult) * (num_blocks + 1):
            found = _structure(weights, resolution, num_blocks, HEAD)
            if dataclasses.replace(found, label_dim=0) == expected:
                return from_state_dict(
                    weights, resolution=resolution, num_blocks=num_blocks, betas=betas
                )
    raise WeightsError(
        "must be one of guided-diffusion's classifiers of images of 64, 128, 256 or 512 pixels, "
        "got another: the files of others do not say their levels, schedule and heads"
    )


def from_state_dict(
    weights: Mapping[str, np.ndarray],
    *,
    resolution: int,
    num_blocks: int = 2,
    head_channels: int = HEAD,
    betas: tables.Betas = "linear",
) -> Model:
    """The model of a guided-diffusion classifier; its c_noise is the index of a training level.

    Args:
      weights: guided-diffusion's names -> arrays: with scale-shift norm, either downsampling
        (`resblock_updown`), and the pool "attention" or "adaptive".
      resolution: of the images, which the file does not say.
      num_blocks: residual blocks in a level, its `depth`.
      head_channels: of each attention head.
      betas: the noise schedule that it was trained on, of `tables.alphas_cumprod`.

    Returns:
      The model, its parameters float32.

    Raises:
      WeightsError: tensors that are missing, extra or misshapen.
    """
    config = _structure(weights, resolution, num_blocks, head_channels)
    config = dataclasses.replace(
        config, preconditioner="epsilon", preconditioner_arguments={"levels": betas}
    )
    top = _TOP | _strided(config)
    renamed = {}
    for name, value in weights.items():
        official = official_name(name, config, top)
        official = official.replace("positional_embedding", "positional")
        layer = official.split(".")[-2]
        if layer == "qkv":
            pooled = official.startswith("out_pool")
            value = by_component(name, value, head_channels, new_order=pooled)
        if official in ("out_pool.proj.weight", "out_linear.weight"):
            if set(value.shape[2:]) == {1}:  # a 1×1 convolution of one pixel
                value = value.reshape(value.shape[:2])
        elif layer in ("qkv", "proj") and value.ndim == 3:
            value = value[..., None]
        renamed["model." + official] = value
    return model_from_weights(renamed, config)


def _strided(config: ClassifierConfig) -> dict[str, str]:
    """Their names of the convolutions between the levels, and ours."""
    if config.down != "strided":
        return {}
    sides = [config.resolution >> level for level in range(1, len(config.channel_mult))]
    return {
        f"input_blocks.{(i + 1) * (config.num_blocks + 1)}.0.op": f"enc.{side}x{side}_down"
        for i, side in enumerate(sides)
    }


def _input_blocks(weights: Mapping[str, np.ndarray]) -> int:
    matches = [BLOCK.fullmatch(name) for name in weights]
    return len({match[2] for match in matches if match and match[1] == "input"})


def _structure(
    weights: Mapping[str, np.ndarray], resolution: int, num_blocks: int, head_channels: int
) -> ClassifierConfig:
    """The configuration that the names and shapes tell, beside what they do not."""
    levels, rest = divmod(_input_blocks(weights), num_blocks + 1)
    if rest or not levels:
        raise WeightsError(
            f"not a whole guided-diffusion classifier of {num_blocks} blocks in a level"
        )
    width = shape_of(weights, "time_embed.0.weight", 2)[1]
    mults, attention = [], []
    for level in range(levels):
        number = 1 + level * (num_blocks + 1)
        channels = shape_of(weights, f"input_blocks.{number}.0.in_layers.2.weight", 4)[0]
        mult = channels / width
        mults.append(int(mult) if mult.is_integer() else mult)
        if f"input_blocks.{number}.1.qkv.weight" in weights:
            attention.append(resolution >> level)
    pool, last = "attention", ("out.2.c_proj.weight", 3)
    if last[0] not in weights:
        pool, last = "adaptive", ("out.3.weight", 4)
    return ClassifierConfig(
        resolution=resolution,
        channels=shape_of(weights, "input_blocks.0.0.weight", 4)[1],
        label_dim=shape_of(weights, *last)[0],
        model_channels=width,
        channel_mult=tuple(mults),
        num_blocks=num_blocks,
        attn_resolutions=tuple(attention),
        head_channels=head_channels,
        pool=pool,
        down="strided" if any(name.endswith(".0.op.weight") for name in weights) else "residual",
    )

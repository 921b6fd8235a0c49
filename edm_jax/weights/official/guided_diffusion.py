"""ADM of Dhariwal and Nichol 2021: OpenAI's guided-diffusion state dicts as models of ours.

The network is DhariwalUNet under other names: blocks are numbered along the encoder and decoder
instead of named by resolution, an attention layer is its own module, and the output channels of
qkv are ordered [q|k|v][head][component] where EDM's are [head][component][q|k|v]. The file says
neither the resolution, nor the noise schedule, nor how heads are divided; `from_state_dict` has
the values of the published 64×64 ImageNet model.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from edm_jax import tables
from edm_jax.model import Model
from edm_jax.networks.config import ModelConfig, adm
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official.nvidia import model_from_weights

HEAD = 64  # channels of an attention head
_PUBLISHED = {"model_channels": 192, "channel_mult": (1, 2, 3, 4), "num_blocks": 3, "channels": 3}
_LAYERS = {
    "in_layers.0": "norm0",
    "in_layers.2": "conv0",
    "emb_layers.1": "affine",
    "out_layers.0": "norm1",
    "out_layers.3": "conv1",
    "skip_connection": "skip",
    "norm": "norm2",
    "qkv": "qkv",
    "proj_out": "proj",
}
_TOP = {
    "time_embed.0": "map_layer0",
    "time_embed.2": "map_layer1",
    "label_emb": "map_label",
    "out.0": "out_norm",
    "out.2": "out_conv",
}
BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)\.(.+)\.(weight|bias)")


def recognises(value: Any) -> bool:
    """Whether what a file holds is such a state dict."""
    return type(value) is dict and "time_embed.0.weight" in value and "out.2.weight" in value


def from_published(weights: Mapping[str, np.ndarray]) -> Model:
    """The published 64×64 model; others have settings that their files do not hold.

    Raises:
      WeightsError: another network, or damaged.
    """
    model = _structure(weights, 64)
    found = {name: getattr(model, name) for name in _PUBLISHED}
    if found != _PUBLISHED:
        raise WeightsError(
            f"must be guided-diffusion's 64×64 network, {_PUBLISHED}, got {found}: the files of "
            "others do not say their schedule and heads"
        )
    return from_state_dict(weights)


def from_state_dict(
    weights: Mapping[str, np.ndarray], *, resolution: int = 64, new_attention_order: bool = True
) -> Model:
    """The model of a guided-diffusion state dict, under the iDDPM preconditioner.

    Args:
      weights: guided-diffusion's names -> arrays: trained with a learned variance, scale-shift
        norm, residual up- and downsampling, 64 channels a head and the cosine schedule.
      resolution: of the images, which the file does not say.
      new_attention_order: the order of qkv's channels; False is [head][q|k|v][component].

    Returns:
      The model, its parameters float32; `u` is the computed cosine table.

    Raises:
      WeightsError: tensors that are missing, extra or misshapen.
    """
    u = tables.iddpm(1000, c_1=0.001, c_2=0.008, variant="network")
    arguments = {
        "c_1": 0.001, "c_2": 0.008, "num_train_steps": 1000, "u": [float(x) for x in u],
    }  # fmt: skip
    config = dataclasses.replace(
        _structure(weights, resolution), preconditioner="iddpm", preconditioner_arguments=arguments
    )
    renamed = {}
    for name, value in weights.items():
        official = official_name(name, config, _TOP)
        leaf = official.rsplit(".", 2)[-2:]
        if leaf[0] == "qkv":
            value = by_component(name, value, HEAD, new_order=new_attention_order)
        if leaf[0] in ("qkv", "proj") and value.ndim == 3:
            value = value[..., None]  # their 1×1 convolutions are one-dimensional
        if leaf == ["map_label", "weight"]:
            value = value.T  # an embedding's rows are a linear layer's columns
        renamed["model." + official] = value
    return model_from_weights(renamed, config)


def _structure(weights: Mapping[str, np.ndarray], resolution: int) -> ModelConfig:
    """The configuration that the names and shapes tell."""
    blocks: dict[str, set[int]] = {"input": set(), "middle": set(), "output": set()}
    ups = set()
    for name in weights:
        if match := BLOCK.fullmatch(name):
            stage, number, rest, _ = match.groups()
            blocks[stage].add(int(number))
            if stage == "output" and re.match(r"[12]\.in_layers", rest):
                ups.add(int(number))
    levels = len(ups) + 1
    num_blocks = len(blocks["output"]) // levels - 1
    if num_blocks < 1 or len(blocks["input"]) != levels * (num_blocks + 1):
        raise WeightsError("not a whole guided-diffusion network with residual resampling")
    width = shape_of(weights, "time_embed.0.weight", 2)[1]
    if width < 4 * 32:
        raise WeightsError(
            f"the width must be at least 128, below which the norms have other groups of channels, "
            f"got {width}"
        )
    first = shape_of(weights, "input_blocks.0.0.weight", 4)
    out = shape_of(weights, "out.2.weight", 4)[0]
    if out != 2 * first[1]:
        raise WeightsError(
            f"out.2.weight must have {2 * first[1]} output channels, half of them for the learned "
            f"variance, got {out}"
        )
    mults, attention = [], []
    for level in range(levels):
        number = 1 + level * (num_blocks + 1)
        channels = shape_of(weights, f"input_blocks.{number}.0.in_layers.2.weight", 4)[0]
        mults.append(channels // max(1, width))
        if f"input_blocks.{number}.1.qkv.weight" in weights:
            attention.append(resolution >> level)
    labels = weights.get("label_emb.weight")
    return adm(
        resolution=resolution,
        channels=first[1],
        label_dim=0 if labels is None else len(labels),
        model_channels=width,
        channel_mult=tuple(mults),
        num_blocks=num_blocks,
        attn_resolutions=tuple(attention),
    )


def shape_of(weights: Mapping[str, np.ndarray], name: str, rank: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there, of so many axes.

    Raises:
      WeightsError: it is not, or has another number of axes, or is empty.
    """
    if name not in weights:
        raise WeightsError(f"not a whole guided-diffusion network: {name} is missing")
    if weights[name].ndim != rank or not all(weights[name].shape):
        raise WeightsError(
            f"tensor {name!r} must have {rank} axes, none of them empty, got the shape "
            f"{weights[name].shape}"
        )
    return weights[name].shape


def official_name(name: str, config: ModelConfig, top: Mapping[str, str]) -> str:
    """The name in EDM's state dicts of a tensor of guided-diffusion's.

    Args:
      name: such as "input_blocks.1.0.in_layers.2.weight".
      config: of the network.
      top: the names of its layers outside of blocks, and ours.

    Raises:
      WeightsError: no layer of such a network.
    """
    layer, _, leaf = name.rpartition(".")
    if layer in top:
        return f"{top[layer]}.{leaf}"
    if layer == "input_blocks.0.0":
        return f"enc.{config.resolution}x{config.resolution}_conv.{leaf}"
    match = BLOCK.fullmatch(name)
    if match is None:
        raise WeightsError(f"unknown tensor {name[:200]!r}")
    stage, number, rest = match[1], int(match[2]), match[3]
    index, _, part = ("0", "", rest) if stage == "middle" else rest.partition(".")
    if part not in _LAYERS:
        raise WeightsError(f"unknown tensor {name[:200]!r}")
    levels, per_level = len(config.channel_mult), config.num_blocks + 1
    if stage == "middle":
        side, unit = levels - 1, "dec.{0}_in1" if number == 2 else "dec.{0}_in0"
    elif stage == "input":
        side, within = divmod(number - 1, per_level)
        unit = f"enc.{{0}}_block{within}"
        if within == config.num_blocks:
            side, unit = side + 1, "enc.{0}_down"
    else:
        below, within = divmod(number, per_level)
        side, unit = levels - 1 - below, f"dec.{{0}}_block{within}"
        if index != "0" and not part.startswith(("norm", "qkv", "proj")):
            side, unit = side - 1, "dec.{0}_up"
    pixels = config.resolution >> max(0, side)
    return f"{unit.format(f'{pixels}x{pixels}')}.{_LAYERS[part]}.{leaf}"


def by_component(name: str, value: np.ndarray, width: int, *, new_order: bool) -> np.ndarray:
    """Reorders the output channels of qkv to [head][component][q|k|v].

    Args:
      name: of the tensor, for messages.
      value: [3 C] a bias, or [3 C, C, 1].
      width: channels of a head.
      new_order: whether its order is [q|k|v][head][component], or [head][q|k|v][component].

    Raises:
      WeightsError: the channels are not those of q, k and v of whole heads.
    """
    channels = value.shape[0] // 3 if value.ndim else 0
    heads = channels // width
    if value.ndim not in (1, 3) or channels * 3 != len(value) or heads * width != channels:
        raise WeightsError(
            f"tensor {name!r} must have 3 × {width} output channels a head, got the shape "
            f"{value.shape}"
        )
    inputs = math.prod(value.shape[1:])
    if new_order:
        split = value.reshape(3, heads, width, inputs).transpose(1, 2, 0, 3)
    else:
        split = value.reshape(heads, 3, width, inputs).transpose(0, 2, 1, 3)
    return split.reshape(value.shape)

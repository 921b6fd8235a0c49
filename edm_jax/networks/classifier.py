"""Classifier: which class a noisy image shows, by ADM's encoder (Dhariwal and Nichol 2021, 4)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax import checks
from edm_jax.networks import layers
from edm_jax.networks.block import QueryKeyValue, attention
from edm_jax.networks.dhariwal import EPS, INIT, INIT_ZERO, DhariwalUNet
from edm_jax.networks.initialization import Law, param
from edm_jax.networks.unet import Block

POOLS = ("attention", "adaptive")
DOWN = ("residual", "strided")


class AttentionPool(nn.Module):
    """Attention pooling: a mean over the pixels that attends to itself and to every pixel.

        tokens = [mean, pixels] + positional;    logits = proj(attention(qkv(tokens)) of the first)

    features: number of outputs.
    heads: attention heads.
    dtype: compute type of the attention; the result is float32 (float64 when dtype is).
    """

    features: int
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, features]."""
        batch, channels = x.shape[0], x.shape[-1]
        pixels = x.reshape(batch, -1, channels)
        tokens = jnp.concatenate([pixels.mean(1, keepdims=True), pixels], axis=1)
        law = Law("normal", channels**-0.5)
        positional = param(self, "positional", law, tokens.shape[1:])
        tokens = (tokens + positional).astype(self.dtype)
        q, k, v = QueryKeyValue(self.heads, INIT, self.dtype, name="qkv")(tokens)
        pooled = attention(q[:, :1], k, v).reshape(batch, channels)
        pooled = pooled.astype(layers.wide(self.dtype))
        return layers.Dense(self.features, INIT, name="proj")(pooled)


class Classifier(DhariwalUNet):
    """The encoder of ADM and its two lowest blocks, pooled to a logit for each class.

    A `UNet` whose result is [B, out_channels] logits. Its norms have 32 groups, however few the
    channels. Class labels are what it predicts: it is not told any, and label_dim is 0.

    head_channels: of each attention head; divides the width of every level with attention.
    pool: "attention" (`AttentionPool`) or "adaptive" (the mean over pixels, then a linear layer).
    down: between the levels a "residual" block of means, or a "strided" convolution.
    channel_mult: may be fractions that give whole widths, such as 0.5 of ADM's for 512 pixels.

    >>> net = Classifier(8, 1, 10, model_channels=32, channel_mult=(1, 2), head_channels=32)
    >>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
    >>> jax.eval_shape(net.init_with_output, jax.random.key(0), x, c_noise)[0].shape
    (2, 10)
    """

    least_mult: ClassVar[float] = 0.25

    channel_mult: tuple[float, ...] = (1, 2, 3, 4)  # type: ignore[assignment]
    head_channels: int = 64
    pool: str = "attention"
    down: str = "residual"

    def __post_init__(self) -> None:
        """Raises ValueError naming an argument that cannot be used."""
        checks.one_of("pool", self.pool, POOLS)
        checks.one_of("down", self.down, DOWN)
        for name in ("label_dim", "label_dropout"):
            if value := getattr(self, name):
                raise ValueError(
                    f"{name} must be 0 for a classifier, which predicts the labels, got {value}"
                )
        if self.flow_map:
            raise ValueError("flow_map must be False for a classifier, got True")
        if self.head_channels < 1:
            raise ValueError(f"head_channels must be at least 1, got {self.head_channels}")
        super().__post_init__()

    @nn.nowrap
    def _block_style(self) -> dict[str, Any]:
        return super()._block_style() | {"group_channels": 1}

    @nn.nowrap
    def _heads(self, features: int) -> int:
        return features // self.head_channels

    @nn.nowrap
    def _down(self, x: jax.Array, name: str, block: Block) -> jax.Array:
        if self.down == "residual":
            return super()._down(x, name, block)
        return layers.Conv(x.shape[-1], stride=2, initial=INIT, dtype=self.dtype, name=name)(x)

    @nn.nowrap
    def _output(self, skips: list[jax.Array], block: Block) -> jax.Array:
        x = skips[-1]
        name, width = f"dec_{x.shape[1]}x{x.shape[2]}", x.shape[-1]
        x = block(x, f"{name}_in0", width, attend=True)
        x = block(x, f"{name}_in1", width)
        x = layers.GroupNorm(EPS, least=1, dtype=self.dtype, name="out_norm")(x)
        if self.pool == "attention":
            heads = self._heads(width)
            return AttentionPool(self.out_channels, heads, self.dtype, name="out_pool")(x)
        mean = x.astype(layers.wide(self.dtype)).mean((1, 2))
        return layers.Dense(self.out_channels, INIT_ZERO, name="out_linear")(mean)

    @nn.nowrap
    def _fits(self, model_channels: int) -> bool:
        attended = {self.channel_mult[-1]} | {
            mult
            for level, mult in enumerate(self.channel_mult)
            if self.img_resolution >> level in self.attn_resolutions
        }
        widths = [model_channels * mult for mult in self.channel_mult]
        return all(
            width % 1 == 0 and layers.norm_groups(int(width), least=1) for width in widths
        ) and not any(model_channels * mult % self.head_channels for mult in attended)

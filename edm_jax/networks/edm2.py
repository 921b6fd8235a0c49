"""EDM2UNet: the magnitude-preserving network of EDM2 (Karras et al. 2024, arXiv 2312.02696)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax.networks import layers, resample
from edm_jax.networks import magnitude_preserving as mp
from edm_jax.networks.block import attention, query_key_value
from edm_jax.networks.initialization import ZEROS, param
from edm_jax.networks.unet import Block, Told, UNet


class QueryKeyValue(nn.Module):
    """The 1x1 convolution to q, k and v, each normalised over its components.

    heads: number of heads.
    dtype: compute type.
    """

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """Maps [B, N, C] to q, k and v, [B, N, heads, C / heads] each."""
        channels = x.shape[-1]
        kernel = mp.weight(self, (1, 1, channels, 3 * channels), self.dtype)
        return tuple(mp.normalize(part, (-1,)) for part in query_key_value(x, kernel, self.heads))


class EDM2Block(nn.Module):
    """Residual block: resample; conv, embedding, conv, mixed with the skip path; attention.

        x = pixel norm(skip(resample(x))) in the encoder, resample(x) in the decoder
        h = conv_res1(dropout(silu(conv_res0(silu(x)) (emb_linear(emb) + 1))))
        x = mix(x, h), in the decoder mix(skip(x), h);    x = mix(x, attn_proj(attention(x)))

    features: output channels.
    resample: None, "up" or "down".
    heads: attention heads; 0 for no attention.
    index: number of the block within its network, at least 1: its dropout draws from it.
    dropout: probability of dropping an element.
    decoder: whether it is a block of the decoder.
    resample_filter: taps of the resampling filter.
    res_balance: share of the residual branch in its sum.
    attn_balance: share of the attention in its sum.
    clip_act: the result is clipped to +- this; 0 for no clipping.
    dtype: compute type.
    """

    features: int
    resample: str | None = None
    heads: int = 0
    index: int = 1
    dropout: float = 0.0
    decoder: bool = False
    resample_filter: tuple[float, ...] = (1, 1)
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float = 256.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, emb: jax.Array, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Maps x [B, H, W, C], emb [B, E] float32 and keys [B] or None to [B, H', W', features]."""
        conv = functools.partial(mp.Conv, self.features, dtype=self.dtype)
        if self.resample is not None:
            sampled = {"up": resample.upsample, "down": resample.downsample}[self.resample]
            x = sampled(x, self.resample_filter)
        narrower = x.shape[-1] != self.features
        skip = conv(1, name="conv_skip") if narrower else lambda x: x
        if not self.decoder:
            x = mp.normalize(skip(x), (-1,))

        h = conv(name="conv_res0")(mp.silu(x))
        gain = param(self, "emb_gain", ZEROS, ())
        c = mp.Dense(self.features, name="emb_linear")(emb, gain) + 1
        h = mp.silu(h * c[:, None, None].astype(h.dtype))
        h = layers.dropout(h, dropout_keys, self.index, self.dropout)
        h = conv(name="conv_res1")(h)

        x = mp.mix(skip(x) if self.decoder else x, h, self.res_balance)
        if self.heads:
            if self.features % self.heads:
                raise ValueError(
                    f"features must divide into {self.heads} heads, got {self.features}"
                )
            h = x.reshape(x.shape[0], -1, self.features)
            q, k, v = QueryKeyValue(self.heads, self.dtype, name="attn_qkv")(h)
            h = conv(1, name="attn_proj")(attention(q, k, v).reshape(x.shape))
            x = mp.mix(x, h, self.attn_balance)
        return jnp.clip(x, -self.clip_act, self.clip_act) if self.clip_act else x


class EDM2UNet(UNet):
    """The U-Net of EDM2: a `UNet` with these choices; defaults are those of ImageNet-512, size S.

    Beside F it holds u(sigma), the logarithm of its expected loss (`log_variance`).

    channel_mult_emb: width of the embedding over model_channels; 0: the widest level's.
    channel_mult_noise: width of the noise features over model_channels; 0: the first level's.
    head_channels: of each attention head; a level of fewer channels has no attention.
    label_balance: share of the class in the embedding.
    concat_balance: share of the encoder where the decoder takes its results.
    res_balance: share of the residual branch of a block.
    attn_balance: share of the attention of a block.
    clip_act: blocks clip their result to +- this; 0 for no clipping.
    resample_filter: taps of the resampling filter, an even number.
    logvar_channels: number of features that u(sigma) is linear in.

    >>> net = EDM2UNet(8, 1, 1, model_channels=16, channel_mult=(1, 1), attn_resolutions=())
    >>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]
    >>> params["enc_8x8_conv"]["kernel"].shape  # a channel of ones beside the image's
    (3, 3, 2, 16)
    """

    model_channels: int = 192
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    channel_mult_emb: int = 0
    num_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (16, 8)
    dropout: float = 0.0
    channel_mult_noise: int = 0
    head_channels: int = 64
    label_balance: float = 0.5
    concat_balance: float = 0.5
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float = 256.0
    resample_filter: tuple[float, ...] = (1, 1)
    logvar_channels: int = 128

    def __post_init__(self) -> None:
        """Raises ValueError naming an argument that cannot be used."""
        resample.normalized(self.resample_filter)
        for name in ("label_balance", "concat_balance", "res_balance", "attn_balance"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        for name in ("channel_mult_emb", "channel_mult_noise", "clip_act"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        for name in ("head_channels", "logvar_channels"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.augment_dim:
            raise ValueError(
                "augment_dim must be 0 for EDM2's network, which is told no augmentation "
                f"(augment=0), got {self.augment_dim}"
            )
        super().__post_init__()

    def setup(self) -> None:
        """The layers of `log_variance`, which other layers do not share."""
        self.logvar_fourier = mp.FourierFeatures(self.logvar_channels)
        self.logvar_linear = mp.Dense(1)

    def log_variance(self, c_noise: jax.Array) -> jax.Array:
        """u of each noise level, a random function of unit variance before training.

        Args:
          c_noise: [B] noise labels.

        Returns:
          [B] float32.
        """
        features = self.logvar_fourier(c_noise.astype(layers.wide(self.dtype)))
        return self.logvar_linear(features)[:, 0]

    @nn.nowrap
    def _block(self) -> type[nn.Module]:
        return EDM2Block

    @nn.nowrap
    def _block_style(self) -> dict[str, Any]:
        names = ("resample_filter", "res_balance", "attn_balance", "clip_act")
        return {name: getattr(self, name) for name in names}

    @nn.nowrap
    def _heads(self, features: int) -> int:
        return features // self.head_channels

    @nn.nowrap
    def _first_mult(self) -> int:
        return self.channel_mult[0]

    @nn.nowrap
    def _embed(self, told: Told) -> jax.Array:
        if self.is_initializing():
            self.log_variance(told.c_noise)  # its parameters too
        first, widest = self.channel_mult[0], max(self.channel_mult)
        noise_channels = self.model_channels * (self.channel_mult_noise or first)
        channels = self.model_channels * (self.channel_mult_emb or widest)
        fourier = mp.FourierFeatures(noise_channels, name="emb_fourier")
        emb = mp.Dense(channels, name="emb_noise")(fourier(told.c_noise))
        if self.flow_map:
            gain = param(self, "emb_jump_gain", ZEROS, ())
            emb = emb + mp.Dense(channels, name="emb_jump")(fourier(told.jump), gain)
        labels = self._classes(told)
        if labels is not None:
            label = mp.Dense(channels, name="emb_label")(labels * self.label_dim**0.5)
            emb = mp.mix(emb, label, self.label_balance)
        return mp.silu(emb)

    @nn.nowrap
    def _encode(self, x: jax.Array, block: Block) -> list[jax.Array]:
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        return self._encode_plainly(x, block, functools.partial(mp.Conv, dtype=self.dtype))

    @nn.nowrap
    def _output(self, skips: list[jax.Array], block: Block) -> jax.Array:
        block = functools.partial(block, decoder=True)
        *_, (_, x) = self._decode(skips, block, attend_from=0)
        gain = param(self, "out_gain", ZEROS, ())
        return mp.Conv(self.out_channels, dtype=self.dtype, name="out_conv")(x, gain)

    @nn.nowrap
    def _join(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        return mp.concatenate(x, skip, self.concat_balance)

    @nn.nowrap
    def _fits(self, model_channels: int) -> bool:
        lowest = len(self.channel_mult) - 1
        widths = [
            model_channels * mult
            for level, mult in enumerate(self.channel_mult)
            if level == lowest or self.img_resolution >> level in self.attn_resolutions
        ]
        return not any(width % max(1, self._heads(width)) for width in widths)

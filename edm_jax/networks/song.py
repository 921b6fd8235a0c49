"""SongUNet: the DDPM++ and NCSN++ networks of Song et al. 2021 (arXiv 2011.13456), as in EDM."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax.networks import inputs, layers, resample
from edm_jax.networks.block import UNetBlock
from edm_jax.networks.initialization import Init, init_in_one_draw

SKIP_SCALE = 0.5**0.5
_INIT = Init("xavier_uniform")
_INIT_ZERO = Init("xavier_uniform", weight=1e-5)
_INIT_ATTENTION = Init("xavier_uniform", weight=0.2**0.5)


class SongUNet(nn.Module):
    """The U-Net of score-SDE. Defaults give DDPM++.

    NCSN++ is embedding_type="fourier", channel_mult_noise=2, encoder_type="residual",
    resample_filter=(1, 3, 3, 1).

    img_resolution: side of the square images; divisible by 2^(levels - 1).
    in_channels, out_channels: of x and of the result.
    label_dim: number of classes; 0 for none.
    augment_dim: width of the augmentation labels; 0 for none.
    model_channels: width that channel_mult multiplies.
    channel_mult: one multiplier a level, from the full resolution down.
    channel_mult_emb: width of the embedding over model_channels.
    num_blocks: residual blocks a level (one more in the decoder).
    attn_resolutions: resolutions with attention.
    dropout: probability of dropping an element inside a block.
    label_dropout: probability of dropping an example's class label.
    embedding_type: of the noise level, "positional" or "fourier".
    channel_mult_noise: width of the noise embedding over model_channels.
    encoder_type: "standard", "skip" or "residual".
    decoder_type: "standard" or "skip".
    resample_filter: taps of the resampling filter, an even number.
    dtype: compute type.
    remat: whether the backward pass recomputes each block instead of storing its activations.

    >>> net = SongUNet(8, 1, 1, model_channels=8, channel_mult=(1, 1), num_blocks=1)
    >>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]
    >>> params["enc_8x8_conv"]["kernel"].shape
    (3, 3, 1, 8)
    """

    img_resolution: int
    in_channels: int
    out_channels: int
    label_dim: int = 0
    augment_dim: int = 0
    model_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    channel_mult_emb: int = 4
    num_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.10
    label_dropout: float = 0.0
    embedding_type: str = "positional"
    channel_mult_noise: int = 1
    encoder_type: str = "standard"
    decoder_type: str = "standard"
    resample_filter: tuple[float, ...] = (1, 1)
    dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError naming an argument that cannot be used."""
        inputs.check_arguments(self)
        inputs.check_choice("embedding_type", self.embedding_type, ("positional", "fourier"))
        inputs.check_choice("encoder_type", self.encoder_type, ("standard", "skip", "residual"))
        inputs.check_choice("decoder_type", self.decoder_type, ("standard", "skip"))
        super().__post_init__()

    @nn.nowrap
    def init(self, rngs: Any, *inputs: Any, **keywords: Any) -> dict[str, Any]:
        """Returns fresh variables {"params": tree} for a key; runs nothing but one draw."""
        key = rngs["params"] if isinstance(rngs, Mapping) else rngs
        return init_in_one_draw(super().init, key, *inputs, **keywords)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        c_noise: jax.Array,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns F(x; c_noise), before preconditioning.

        Args:
          x: [B, R, R, in_channels] network input c_in(sigma) x.
          c_noise: [B] (or [] or [1]) noise labels.
          class_labels: [B, label_dim] one-hot rows; None or a row of zeros for no label.
          augment_labels: [B, augment_dim]; None or zeros for not augmented.
          dropout_keys: [B] typed keys, training; None for evaluation.

        Returns:
          [B, R, R, out_channels] float32 (float64 when dtype is).

        Raises:
          ValueError: on an input of another shape.
        """
        c_noise = inputs.check_inputs(self, x, c_noise, dropout_keys)
        emb = self._embed(c_noise, class_labels, augment_labels, dropout_keys)
        numbers = itertools.count(1)
        make = nn.remat(UNetBlock) if self.remat else UNetBlock

        def block(x: jax.Array, name: str, features: int, resample=None, attend=False) -> jax.Array:
            unit = make(
                features,
                resample,
                heads=int(attend),
                index=next(numbers),
                dropout=self.dropout,
                skip_scale=SKIP_SCALE,
                eps=1e-6,
                adaptive_scale=False,
                resample_proj=True,
                resample_filter=self.resample_filter,
                initial=_INIT,
                initial_zero=_INIT_ZERO,
                initial_attention=_INIT_ATTENTION,
                dtype=self.dtype,
                name=name,
            )
            return unit(x, emb, dropout_keys)

        skips = self._encode(x, block)
        return self._decode(skips, block).astype(layers.wide(self.dtype))

    @nn.nowrap
    def _embed(self, c_noise, class_labels, augment_labels, dropout_keys) -> jax.Array:
        batch, dtype = c_noise.shape[0], c_noise.dtype
        dense = functools.partial(layers.Dense, initial=_INIT)
        noise_channels = self.model_channels * self.channel_mult_noise
        if self.embedding_type == "fourier":
            emb = layers.FourierEmbedding(noise_channels, name="map_noise")(c_noise)
        else:
            emb = layers.positional_embedding(c_noise, noise_channels, endpoint=True)
        emb = jnp.roll(emb, noise_channels // 2, axis=1)  # [sin | cos]

        labels = inputs.conditioning("class_labels", class_labels, self.label_dim, batch, dtype)
        if labels is not None:
            labels = inputs.drop_labels(labels, dropout_keys, self.label_dropout)
            labels = labels * self.label_dim**0.5
            emb = emb + dense(noise_channels, name="map_label")(labels)
        augment = inputs.conditioning(
            "augment_labels", augment_labels, self.augment_dim, batch, dtype
        )
        if augment is not None:
            emb = emb + dense(noise_channels, use_bias=False, name="map_augment")(augment)
        emb_channels = self.model_channels * self.channel_mult_emb
        emb = nn.silu(dense(emb_channels, name="map_layer0")(emb))
        return nn.silu(dense(emb_channels, name="map_layer1")(emb))

    @nn.nowrap
    def _encode(self, x: jax.Array, block) -> list[jax.Array]:
        conv = functools.partial(layers.Conv, initial=_INIT, dtype=self.dtype)
        taps, aux, skips = self.resample_filter, x, []
        for level, mult in enumerate(self.channel_mult):
            side = self.img_resolution >> level
            name = f"enc_{side}x{side}"
            if level == 0:
                x = conv(self.model_channels, name=f"{name}_conv")(x)
            else:
                width = x.shape[-1]
                x = block(x, f"{name}_down", width, "down")
                if self.encoder_type == "skip":
                    aux = resample.downsample(aux, taps)
                    x = x + conv(width, 1, name=f"{name}_aux_skip")(aux)
                elif self.encoder_type == "residual":
                    fused = conv(
                        width,
                        resample="down",
                        fused=True,
                        resample_filter=taps,
                        name=f"{name}_aux_residual",
                    )
                    x = aux = (x + fused(aux)) * SKIP_SCALE
            skips.append(x)
            for i in range(self.num_blocks):
                attend = side in self.attn_resolutions
                x = block(x, f"{name}_block{i}", self.model_channels * mult, attend=attend)
                skips.append(x)
        return skips

    @nn.nowrap
    def _decode(self, skips: list[jax.Array], block) -> jax.Array:
        x, aux, lowest = skips[-1], None, len(self.channel_mult) - 1
        for level in range(lowest, -1, -1):
            side = self.img_resolution >> level
            name = f"dec_{side}x{side}"
            width = self.model_channels * self.channel_mult[level]
            if level == lowest:
                x = block(x, f"{name}_in0", x.shape[-1], attend=True)
                x = block(x, f"{name}_in1", x.shape[-1])
            else:
                x = block(x, f"{name}_up", x.shape[-1], "up")
            for i in range(self.num_blocks + 1):
                attend = i == self.num_blocks and side in self.attn_resolutions
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = block(x, f"{name}_block{i}", width, attend=attend)
            if level == 0 or self.decoder_type == "skip":
                norm = layers.GroupNorm(1e-6, dtype=self.dtype, name=f"{name}_aux_norm")
                conv = layers.Conv(
                    self.out_channels, initial=_INIT_ZERO, dtype=self.dtype, name=f"{name}_aux_conv"
                )
                # Summed in float32: the levels' images are the result itself.
                h = conv(norm(x)).astype(layers.wide(self.dtype))
                aux = h if aux is None else resample.upsample(aux, self.resample_filter) + h
        return aux

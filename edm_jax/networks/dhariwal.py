"""DhariwalUNet: the ADM network of Dhariwal and Nichol 2021 (arXiv 2105.05233), as in EDM."""

import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax.networks import inputs, layers
from edm_jax.networks.block import UNetBlock
from edm_jax.networks.initialization import Init, init_in_one_draw

HEAD_CHANNELS = 64
_EPS = 1e-5
_INIT = Init("kaiming_uniform", weight=3**-0.5, bias=3**-0.5)
_INIT_ZERO = Init("kaiming_uniform", weight=0.0)


class DhariwalUNet(nn.Module):
    """The ADM U-Net: adaptive group norm, attention with 64 channels a head, box resampling.

    img_resolution: side of the square images; divisible by 2^(levels - 1).
    in_channels, out_channels: of x and of the result (iDDPM's predicts variances too: twice x's).
    label_dim: number of classes; 0 for none.
    augment_dim: width of the augmentation labels; 0 for none.
    model_channels: width that channel_mult multiplies.
    channel_mult: one multiplier a level, from the full resolution down.
    channel_mult_emb: width of the embedding over model_channels.
    num_blocks: residual blocks a level (one more in the decoder).
    attn_resolutions: resolutions with attention, in encoder and decoder.
    dropout: probability of dropping an element inside a block.
    label_dropout: probability of dropping an example's class label.
    dtype: compute type.
    remat: whether the backward pass recomputes each block instead of storing its activations.

    >>> net = DhariwalUNet(8, 3, 3, model_channels=64, channel_mult=(1, 1), num_blocks=1)
    >>> x, c_noise = jnp.zeros((2, 8, 8, 3)), jnp.zeros(2)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]
    >>> params["out_conv"]["kernel"].shape
    (3, 3, 64, 3)
    """

    img_resolution: int
    in_channels: int
    out_channels: int
    label_dim: int = 0
    augment_dim: int = 0
    model_channels: int = 192
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    channel_mult_emb: int = 4
    num_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (32, 16, 8)
    dropout: float = 0.10
    label_dropout: float = 0.0
    dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError naming an argument that cannot be used."""
        inputs.check_arguments(self)
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
                heads=features // HEAD_CHANNELS if attend else 0,
                index=next(numbers),
                dropout=self.dropout,
                eps=_EPS,
                initial=_INIT,
                initial_zero=_INIT_ZERO,
                dtype=self.dtype,
                name=name,
            )
            return unit(x, emb, dropout_keys)

        x = self._decode(self._encode(x, block), block)
        x = layers.GroupNorm(_EPS, dtype=self.dtype, name="out_norm")(x)
        conv = layers.Conv(self.out_channels, initial=_INIT_ZERO, dtype=self.dtype, name="out_conv")
        return conv(x).astype(layers.wide(self.dtype))

    @nn.nowrap
    def _embed(self, c_noise, class_labels, augment_labels, dropout_keys) -> jax.Array:
        batch, dtype = c_noise.shape[0], c_noise.dtype
        emb = layers.positional_embedding(c_noise, self.model_channels)
        augment = inputs.conditioning(
            "augment_labels", augment_labels, self.augment_dim, batch, dtype
        )
        if augment is not None:
            emb = emb + layers.Dense(
                self.model_channels, _INIT_ZERO, use_bias=False, name="map_augment"
            )(augment)
        channels = self.model_channels * self.channel_mult_emb
        emb = nn.silu(layers.Dense(channels, _INIT, name="map_layer0")(emb))
        emb = layers.Dense(channels, _INIT, name="map_layer1")(emb)
        labels = inputs.conditioning("class_labels", class_labels, self.label_dim, batch, dtype)
        if labels is not None:
            labels = inputs.drop_labels(labels, dropout_keys, self.label_dropout)
            initial = Init("kaiming_normal", weight=self.label_dim**0.5)  # N(0, 1)
            emb = emb + layers.Dense(channels, initial, use_bias=False, name="map_label")(labels)
        return nn.silu(emb)

    @nn.nowrap
    def _encode(self, x: jax.Array, block) -> list[jax.Array]:
        skips = []
        for level, mult in enumerate(self.channel_mult):
            side = self.img_resolution >> level
            name, width = f"enc_{side}x{side}", self.model_channels * mult
            if level == 0:
                x = layers.Conv(width, initial=_INIT, dtype=self.dtype, name=f"{name}_conv")(x)
            else:
                x = block(x, f"{name}_down", x.shape[-1], "down")
            skips.append(x)
            for i in range(self.num_blocks):
                x = block(x, f"{name}_block{i}", width, attend=side in self.attn_resolutions)
                skips.append(x)
        return skips

    @nn.nowrap
    def _decode(self, skips: list[jax.Array], block) -> jax.Array:
        x, lowest = skips[-1], len(self.channel_mult) - 1
        for level in range(lowest, -1, -1):
            side = self.img_resolution >> level
            name, width = f"dec_{side}x{side}", self.model_channels * self.channel_mult[level]
            if level == lowest:
                x = block(x, f"{name}_in0", x.shape[-1], attend=True)
                x = block(x, f"{name}_in1", x.shape[-1])
            else:
                x = block(x, f"{name}_up", x.shape[-1], "up")
            for i in range(self.num_blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = block(x, f"{name}_block{i}", width, attend=side in self.attn_resolutions)
        return x

"""DhariwalUNet: the ADM network of Dhariwal and Nichol 2021 (arXiv 2105.05233), as in EDM."""

import functools
from typing import Any

import flax.linen as nn
import jax

from edm_jax.networks import layers
from edm_jax.networks.initialization import Init
from edm_jax.networks.unet import Block, Told, UNet

HEAD_CHANNELS = 64
EPS = 1e-5
INIT = Init("kaiming_uniform", weight=3**-0.5, bias=3**-0.5)
INIT_ZERO = Init("kaiming_uniform", weight=0.0)


class DhariwalUNet(UNet):
    """The ADM U-Net: adaptive group norm, attention with 64 channels a head, box resampling.

    A `UNet` with other defaults, those of ImageNet-64, and attention in the decoder's every block.

    >>> net = DhariwalUNet(8, 3, 3, model_channels=64, channel_mult=(1, 1), num_blocks=1)
    >>> x, c_noise = jax.numpy.zeros((2, 8, 8, 3)), jax.numpy.zeros(2)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]
    >>> params["out_conv"]["kernel"].shape
    (3, 3, 64, 3)
    """

    model_channels: int = 192
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (32, 16, 8)

    @nn.nowrap
    def _block_style(self) -> dict[str, Any]:
        return dict(eps=EPS, initial=INIT, initial_zero=INIT_ZERO)

    @nn.nowrap
    def _heads(self, features: int) -> int:
        return features // HEAD_CHANNELS

    @nn.nowrap
    def _first_mult(self) -> int:
        return self.channel_mult[0]

    @nn.nowrap
    def _embed(self, told: Told) -> jax.Array:
        emb = layers.positional_embedding(told.c_noise, self.model_channels)
        emb = self._with_jump(emb, told)
        augment = self._augmentation(told)
        if augment is not None:
            emb = emb + layers.Dense(
                self.model_channels, INIT_ZERO, use_bias=False, name="map_augment"
            )(augment)
        channels = self.model_channels * self.channel_mult_emb
        emb = nn.silu(layers.Dense(channels, INIT, name="map_layer0")(emb))
        emb = layers.Dense(channels, INIT, name="map_layer1")(emb)
        labels = self._classes(told)
        if labels is not None:
            initial = Init("kaiming_normal", weight=self.label_dim**0.5)  # N(0, 1)
            emb = emb + layers.Dense(channels, initial, use_bias=False, name="map_label")(labels)
        return nn.silu(emb)

    @nn.nowrap
    def _encode(self, x: jax.Array, block: Block) -> list[jax.Array]:
        conv = functools.partial(layers.Conv, initial=INIT, dtype=self.dtype)
        return self._encode_plainly(x, block, conv)

    @nn.nowrap
    def _output(self, skips: list[jax.Array], block: Block) -> jax.Array:
        *_, (_, x) = self._decode(skips, block, attend_from=0)
        x = layers.GroupNorm(EPS, dtype=self.dtype, name="out_norm")(x)
        conv = layers.Conv(self.out_channels, initial=INIT_ZERO, dtype=self.dtype, name="out_conv")
        return conv(x)

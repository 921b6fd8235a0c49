"""SongUNet: the DDPM++ and NCSN++ networks of Song et al. 2021 (arXiv 2011.13456), as in EDM."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax import checks
from edm_jax.networks import layers, resample
from edm_jax.networks.initialization import Init
from edm_jax.networks.unet import Block, Told, UNet

SKIP_SCALE = 0.5**0.5
_INIT = Init("xavier_uniform")
_INIT_ZERO = Init("xavier_uniform", weight=1e-5)
_INIT_ATTENTION = Init("xavier_uniform", weight=0.2**0.5)


class SongUNet(UNet):
    """The U-Net of score-SDE: a `UNet` with these choices. Defaults give DDPM++.

    NCSN++ is embedding_type="fourier", channel_mult_noise=2, encoder_type="residual",
    resample_filter=(1, 3, 3, 1).

    embedding_type: of the noise level, "positional" or "fourier".
    channel_mult_noise: width of the noise embedding over model_channels.
    encoder_type: "standard", "skip" or "residual".
    decoder_type: "standard" or "skip".
    resample_filter: taps of the resampling filter, an even number.

    >>> net = SongUNet(8, 1, 1, model_channels=8, channel_mult=(1, 1), attn_resolutions=(4,))
    >>> x, c_noise = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]
    >>> params["enc_8x8_conv"]["kernel"].shape
    (3, 3, 1, 8)
    """

    embedding_type: str = "positional"
    channel_mult_noise: int = 1
    encoder_type: str = "standard"
    decoder_type: str = "standard"
    resample_filter: tuple[float, ...] = (1, 1)

    def __post_init__(self) -> None:
        """Raises ValueError naming an argument that cannot be used."""
        checks.one_of("embedding_type", self.embedding_type, ("positional", "fourier"))
        checks.one_of("encoder_type", self.encoder_type, ("standard", "skip", "residual"))
        checks.one_of("decoder_type", self.decoder_type, ("standard", "skip"))
        resample.normalized(self.resample_filter)
        super().__post_init__()

    @nn.nowrap
    def _block_style(self) -> dict[str, Any]:
        return dict(
            skip_scale=SKIP_SCALE,
            eps=1e-6,
            adaptive_scale=False,
            resample_proj=True,
            resample_filter=self.resample_filter,
            initial=_INIT,
            initial_zero=_INIT_ZERO,
            initial_attention=_INIT_ATTENTION,
        )

    @nn.nowrap
    def _heads(self, features: int) -> int:
        return 1

    @nn.nowrap
    def _first_mult(self) -> int:
        return 1

    @nn.nowrap
    def _embed(self, told: Told) -> jax.Array:
        dense = functools.partial(layers.Dense, initial=_INIT)
        noise_channels = self.model_channels * self.channel_mult_noise
        if self.embedding_type == "fourier":
            emb = layers.FourierEmbedding(noise_channels, name="map_noise")(told.c_noise)
        else:
            emb = layers.positional_embedding(told.c_noise, noise_channels, endpoint=True)
        emb = jnp.roll(emb, noise_channels // 2, axis=1)  # [sin | cos]
        emb = self._with_jump(emb, told)

        labels = self._classes(told)
        if labels is not None:
            labels = labels * self.label_dim**0.5
            emb = emb + dense(noise_channels, name="map_label")(labels)
        augment = self._augmentation(told)
        if augment is not None:
            emb = emb + dense(noise_channels, use_bias=False, name="map_augment")(augment)
        emb_channels = self.model_channels * self.channel_mult_emb
        emb = nn.silu(dense(emb_channels, name="map_layer0")(emb))
        return nn.silu(dense(emb_channels, name="map_layer1")(emb))

    @nn.nowrap
    def _encode(self, x: jax.Array, block: Block) -> list[jax.Array]:
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
    def _output(self, skips: list[jax.Array], block: Block) -> jax.Array:
        image: jax.Array | None = None
        for level, x in self._decode(skips, block, attend_from=self.num_blocks):
            if level == 0 or self.decoder_type == "skip":
                side = self.img_resolution >> level
                name = f"dec_{side}x{side}_aux"
                norm = layers.GroupNorm(1e-6, dtype=self.dtype, name=f"{name}_norm")
                conv = layers.Conv(
                    self.out_channels, initial=_INIT_ZERO, dtype=self.dtype, name=f"{name}_conv"
                )
                # Summed in float32: the levels' images are the result itself.
                h = conv(norm(x)).astype(layers.wide(self.dtype))
                image = h if image is None else resample.upsample(image, self.resample_filter) + h
        assert image is not None, "level 0 is the last"
        return image

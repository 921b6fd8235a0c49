"""The smallest network that sees everything a network is given: two convolutions.

For tests of what is done with a network. A U-Net's step takes five times as long to compile.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from edm_jax.networks import ModelConfig, layers
from edm_jax.networks.block import UNetBlock
from edm_jax.networks.initialization import Init


class SmallNetwork(nn.Module):
    """Noise level, labels, augmentation and dropout all reach the result.

    Attributes:
      out_channels: of the result.
      width: channels in the middle.
      dropout: probability of dropping an element.
      zero: begin as the zero function.
      block: a U-Net's residual block between the two.
      dtype: of the convolutions and of the block.
    """

    out_channels: int = 1
    width: int = 128
    dropout: float = 0.2
    zero: bool = False
    block: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, c_noise, class_labels=None, augment_labels=None, dropout_keys=None):
        """F(x; c_noise); see `Model.network`."""
        noise = jnp.broadcast_to(c_noise, x.shape[:1])[:, None]
        given = [jnp.cos(noise), jnp.sin(noise), class_labels, augment_labels]
        emb = jnp.concatenate([a for a in given if a is not None], axis=1)
        # Names of a U-Net's layers, by which models are saved.
        side, conv = f"{x.shape[1]}x{x.shape[2]}", functools.partial(layers.Conv, dtype=self.dtype)
        h = conv(self.width, name=f"enc_{side}_conv")(x)
        h = nn.silu(h + layers.Dense(self.width, name="map_layer0")(emb)[:, None, None])
        if self.block:
            h = UNetBlock(self.width, initial_zero=Init(), dtype=self.dtype)(h, emb)
        h = layers.dropout(h, dropout_keys, 0, self.dropout)
        last = Init(weight=0.0 if self.zero else 1.0)
        return conv(self.out_channels, initial=last, name=f"dec_{side}_aux_conv")(h)


def instead_of_unets(patch: Any) -> None:
    """Makes every denoiser that this process builds one of a small network.

    Args:
      patch: pytest's MonkeyPatch, or anything with its `setattr`.
    """
    own = ModelConfig.network

    def network(config: ModelConfig) -> nn.Module:
        if config.classifies:
            return own(config)
        return SmallNetwork(out_channels=config.outputs, dropout=config.dropout)

    patch.setattr(ModelConfig, "network", network)

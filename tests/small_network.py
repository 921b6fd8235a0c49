"""The smallest network that sees everything a network is given: two convolutions.

For tests of what is done with a network. A U-Net's step takes five times as long to compile.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from edm_jax.networks import layers


class SmallNetwork(nn.Module):
    """Noise level, labels, augmentation and dropout all reach the result.

    Attributes:
      out_channels: of the result.
      width: channels in the middle.
      dropout: probability of dropping an element.
      zero: begin as the zero function.
    """

    out_channels: int = 1
    width: int = 128
    dropout: float = 0.2
    zero: bool = False

    @nn.compact
    def __call__(self, x, c_noise, class_labels=None, augment_labels=None, dropout_keys=None):
        """F(x; c_noise); see `Model.network`."""
        noise = jnp.broadcast_to(c_noise, x.shape[:1])[:, None]
        given = [jnp.cos(noise), jnp.sin(noise), class_labels, augment_labels]
        emb = jnp.concatenate([a for a in given if a is not None], axis=1)
        h = nn.Conv(self.width, (3, 3))(x) + nn.Dense(self.width)(emb)[:, None, None]
        h = layers.dropout(nn.silu(h), dropout_keys, 0, self.dropout)
        last = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        return nn.Conv(self.out_channels, (3, 3), kernel_init=last)(h)

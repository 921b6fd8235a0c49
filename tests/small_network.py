"""The smallest network that sees everything a network is given: two convolutions.

For tests of what is done with a network. A U-Net's step takes five times as long to compile.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from edm_jax.model import Model
from edm_jax.networks import ModelConfig, layers
from edm_jax.networks.initialization import Init


class SmallNetwork(nn.Module):
    """Noise level, labels, augmentation and dropout all reach the result.

    Attributes:
      out_channels: of the result.
      width: channels in the middle.
      dropout: probability of dropping an element.
      zero: begin as the zero function.
      flow_map: whether it is told how far to jump, and ignores that at first.
      dtype: of the convolutions.
    """

    out_channels: int = 1
    width: int = 128
    dropout: float = 0.2
    zero: bool = False
    flow_map: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x, c_noise, class_labels=None, augment_labels=None, dropout_keys=None, jump=None
    ):
        """F(x; c_noise); see `Model.network`."""
        noise = jnp.broadcast_to(c_noise, x.shape[:1])[:, None]
        given = [jnp.cos(noise), jnp.sin(noise), class_labels, augment_labels]
        emb = jnp.concatenate([a for a in given if a is not None], axis=1)
        # Names of a U-Net's layers, by which models are saved.
        side, conv = f"{x.shape[1]}x{x.shape[2]}", functools.partial(layers.Conv, dtype=self.dtype)
        h = conv(self.width, name=f"enc_{side}_conv")(x)
        told = layers.Dense(self.width, name="map_layer0")(emb)
        if self.flow_map:
            away = jnp.zeros_like(noise) if jump is None else jump[:, None]
            told += layers.Dense(self.width, Init(weight=0.0), use_bias=False, name="map_jump")(
                away
            )
        h = nn.silu(h + told[:, None, None])
        h = layers.dropout(h, dropout_keys, 0, self.dropout)
        last = Init(weight=0.0 if self.zero else 1.0)
        return conv(self.out_channels, initial=last, name=f"dec_{side}_aux_conv")(h)


class SmallClassifier(nn.Module):
    """Logits by one convolution, of images and noise levels.

    Attributes:
      classes: how many.
    """

    classes: int

    @nn.compact
    def __call__(self, x, c_noise, class_labels=None, augment_labels=None, dropout_keys=None):
        """[B, classes]."""
        noise = jnp.broadcast_to(c_noise, x.shape[:1])[:, None]
        name = f"enc_{x.shape[1]}x{x.shape[2]}_conv"
        h = layers.Conv(16, name=name)(x).mean((1, 2)) + jnp.cos(noise)
        return layers.Dense(self.classes, name="out_linear")(jnp.tanh(h))


class WithLogVariance(SmallNetwork):
    """One that also learns the logarithm of its loss, as EDM2's."""

    def setup(self):
        self.logvar_linear = layers.Dense(1)

    def log_variance(self, c_noise):
        """u of each noise level."""
        return self.logvar_linear(jnp.cos(c_noise)[:, None])[:, 0]

    @nn.compact
    def __call__(self, x, c_noise, *told, **by_name):
        """As the other's."""
        if self.is_initializing():
            self.log_variance(c_noise)
        return super().__call__(x, c_noise, *told, **by_name)


def model_of(config: ModelConfig, *, seed: int = 0, scale: float = 0.1) -> Model:
    """A model whose weights numpy has drawn, so that nothing is compiled for them.

    Args:
      config: of any network.
      seed: of the draws.
      scale: their deviation.
    """
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: Model.init(jax.random.key(0), config))
    return jax.tree.map(lambda a: np.float32(scale * rng.standard_normal(a.shape)), shapes)


def instead_of_unets(patch: Any) -> None:
    """Makes every denoiser and classifier that this process builds one of a small network.

    Args:
      patch: pytest's MonkeyPatch, or anything with its `setattr`.
    """

    def network(config: ModelConfig) -> nn.Module:
        if config.classifies:
            return SmallClassifier(config.label_dim)
        settings = dict(dropout=config.dropout, flow_map=config.flow_map)
        kind = WithLogVariance if config.learns_log_variance else SmallNetwork
        return kind(out_channels=config.outputs, **settings)

    patch.setattr(ModelConfig, "network", network)

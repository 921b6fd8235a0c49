"""The residual block of every network here, with its self-attention."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax.networks import layers, resample
from edm_jax.networks.initialization import Init, param


@jax.checkpoint
def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Returns softmax(q k^T / sqrt(d)) v per head, logits and softmax in float32.

    The N x N weights are recomputed in the backward pass, not stored.

    Args:
      q, k, v: [B, N, heads, d] in the compute type; k is divided by sqrt(d) in it.

    Returns:
      [B, N, heads, d] in the type of v.
    """
    exact = layers.precision(v.dtype)
    logits = jnp.einsum(
        "bqhd,bkhd->bhqk",
        q,
        k / k.shape[-1] ** 0.5,
        precision=exact,
        preferred_element_type=layers.wide(q.dtype),
    )
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v, precision=exact)


def query_key_value(
    x: jax.Array, kernel: jax.Array, heads: int, *, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns q, k and v of x; column (h d + c) 3 + j of the kernel is component c of head h of j.

    Args:
      x: [B, N, C].
      kernel: [1, 1, C, 3C] in the compute type.
      heads: number of heads.
      bias: [3C], or None.

    Returns:
      q, k and v, [B, N, heads, C / heads] each.
    """
    channels = x.shape[-1]
    # The small kernel is put in the order (q, k, v), instead of the large activations.
    kernel = kernel.reshape(channels, channels, 3).swapaxes(1, 2).reshape(channels, -1)
    x = jnp.dot(x, kernel, precision=layers.precision(kernel.dtype))
    if bias is not None:
        x = x + bias.reshape(channels, 3).T.reshape(-1).astype(kernel.dtype)
    shape = (*x.shape[:2], heads, channels // heads)
    q, k, v = (part.reshape(shape) for part in jnp.split(x, 3, axis=-1))
    return q, k, v


class QueryKeyValue(nn.Module):
    """The 1x1 convolution to q, k and v; channel (h d + c) 3 + j is component c of head h of j.

    heads: number of heads.
    initial: how kernel [1, 1, C, 3C] and bias [3C] are drawn, with the fans of the 3C outputs.
    dtype: compute type.
    """

    heads: int
    initial: Init
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps [B, N, C] to q, k and v, [B, N, heads, C / heads] each."""
        channels = x.shape[-1]
        fans = (channels, 3 * channels)
        weight_law, bias_law = self.initial.laws(*fans)
        kernel = param(self, "kernel", weight_law, (1, 1, *fans))
        bias = param(self, "bias", bias_law, (3 * channels,))
        return query_key_value(x, kernel.astype(self.dtype), self.heads, bias=bias)


class UNetBlock(nn.Module):
    """Residual block: norm, silu, resample, conv, embedding, norm, silu, dropout, conv; attention.

        h = conv0(resample(silu(norm0(x))));  a = affine(emb)
        h = silu(norm1(h + a)), or adaptive, a = [scale | shift]: silu(norm1(h) (1 + scale) + shift)
        x = (conv1(dropout(h)) + skip(resample(x))) skip_scale
        x = (x + proj(attention(qkv(norm2(x))))) skip_scale                             if heads

    features: output channels.
    resample: None, "up" or "down", on both paths.
    heads: attention heads; 0 for no attention.
    index: number of the block within its network, at least 1: its dropout draws from it.
    dropout: probability of dropping an element.
    skip_scale: factor on each sum.
    eps: of the group norms.
    group_channels: the fewest channels of a group that is normalised.
    adaptive_scale: whether the embedding scales and shifts instead of being added.
    resample_proj: whether a resampling skip path gets a 1x1 convolution with equal channels too.
    resample_filter: taps of the resampling filter.
    initial, initial_zero, initial_attention: of most layers; of conv1 and proj; of qkv.
    dtype: compute type.
    """

    features: int
    resample: str | None = None
    heads: int = 0
    index: int = 1
    dropout: float = 0.0
    skip_scale: float = 1.0
    eps: float = 1e-5
    group_channels: int = 4
    adaptive_scale: bool = True
    resample_proj: bool = False
    resample_filter: tuple[float, ...] = (1, 1)
    initial: Init = Init()
    initial_zero: Init = Init(weight=0.0)
    initial_attention: Init | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, emb: jax.Array, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Maps x [B, H, W, C], emb [B, E] float32 and keys [B] or None to [B, H', W', features]."""
        channels, dtype = x.shape[-1], self.dtype
        common = dict(resample_filter=self.resample_filter, dtype=dtype)
        norm = functools.partial(layers.GroupNorm, self.eps, least=self.group_channels, dtype=dtype)

        h = norm(name="norm0")(x)
        h = layers.Conv(
            self.features, resample=self.resample, initial=self.initial, name="conv0", **common
        )(h)
        width = self.features * (2 if self.adaptive_scale else 1)
        a = layers.Dense(width, self.initial, name="affine")(emb)[:, None, None]
        norm1 = norm(name="norm1")
        if self.adaptive_scale:
            scale, shift = jnp.split(a, 2, axis=-1)
            h = norm1(h, factor=scale + 1, shift=shift)
        else:
            h = norm1(h + a)
        h = layers.dropout(h, dropout_keys, self.index, self.dropout)
        h = layers.Conv(self.features, initial=self.initial_zero, name="conv1", dtype=dtype)(h)

        if channels != self.features or (self.resample and self.resample_proj):
            x = layers.Conv(
                self.features,
                1,
                resample=self.resample,
                initial=self.initial,
                name="skip",
                **common,
            )(x)
        elif self.resample == "up":
            x = resample.upsample(x, self.resample_filter)
        elif self.resample == "down":
            x = resample.downsample(x, self.resample_filter)
        x = (x + h) * self.skip_scale

        if self.heads:
            x = (x + self._attend(x)) * self.skip_scale
        return x

    @nn.nowrap
    def _attend(self, x: jax.Array) -> jax.Array:
        if self.features % self.heads:
            raise ValueError(f"features must divide into {self.heads} heads, got {self.features}")
        initial = self.initial if self.initial_attention is None else self.initial_attention
        h = layers.GroupNorm(
            self.eps, activate=False, least=self.group_channels, dtype=self.dtype, name="norm2"
        )(x)
        h = h.reshape(x.shape[0], -1, self.features)
        q, k, v = QueryKeyValue(self.heads, initial, self.dtype, name="qkv")(h)
        h = attention(q, k, v).reshape(x.shape)
        return layers.Conv(
            self.features, 1, initial=self.initial_zero, dtype=self.dtype, name="proj"
        )(h)

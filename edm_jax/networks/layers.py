"""The layers that the networks share: linear, convolution, norm, embeddings, dropout.

Parameters are float32. `dtype` is the compute type of convolutions and matrix products; statistics,
embeddings and softmax stay in float32. A float32 layer asks for the highest matmul precision, since
accelerators would otherwise round its inputs to TF32 or bfloat16.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import randomness
from edm_jax.networks.initialization import ONES, ZEROS, Init, Law, param
from edm_jax.networks.resample import downsample, normalized, upsample


def wide(dtype: Any) -> Any:
    """Returns the type for statistics, softmax and outputs: float32, or float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)


def precision(dtype: Any) -> jax.lax.Precision:
    """Returns HIGHEST for float32 and float64 (no TF32, no bfloat16 passes), else DEFAULT."""
    half = jnp.dtype(dtype).itemsize < 4
    return jax.lax.Precision.DEFAULT if half else jax.lax.Precision.HIGHEST


class Dense(nn.Module):
    """Linear layer y = x W + b with `kernel` W [in, out]; computes in x's own dtype.

    features: number of outputs.
    initial: how kernel and bias are drawn.
    use_bias: whether there is a bias.
    """

    features: int
    initial: Init = Init()
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., features]."""
        fans = (x.shape[-1], self.features)
        weight_law, bias_law = self.initial.laws(*fans)
        kernel = param(self, "kernel", weight_law, fans)
        y = jnp.dot(x, kernel.astype(x.dtype), precision=precision(x.dtype))
        if self.use_bias:
            bias = param(self, "bias", bias_law, (self.features,))
            y = y + bias.astype(x.dtype)
        return y


class Conv(nn.Module):
    """Convolution, kernel 1 or 3, zero padding, with optional resampling by two before it.

    features: output channels.
    kernel: side of the kernel, 1 or 3; `kernel` is stored HWIO.
    resample: None, "up" (filter, then convolve) or "down".
    fused: for "down": convolve without bias on the image padded by the filter's reach, then filter
      without padding, then add the bias, so that responses just outside the image contribute.
    resample_filter: taps of the separable filter.
    stride: take every so many pixels of the result, from the first.
    initial: how kernel and bias are drawn.
    dtype: compute type.
    """

    features: int
    kernel: int = 3
    resample: str | None = None
    fused: bool = False
    resample_filter: tuple[float, ...] = (1, 1)
    stride: int = 1
    initial: Init = Init()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, in] to [B, H', W', features], H' = H, 2H, H / 2 or H / stride."""
        side, channels = self.kernel, x.shape[-1]
        fans = (channels * side**2, self.features * side**2)
        weight_law, bias_law = self.initial.laws(*fans)
        kernel = param(self, "kernel", weight_law, (side, side, channels, self.features))
        bias = param(self, "bias", bias_law, (self.features,))
        fused = self.fused and self.resample == "down"
        x = x.astype(self.dtype)
        if self.resample == "up":
            x = upsample(x, self.resample_filter)
        elif self.resample == "down" and not fused:
            x = downsample(x, self.resample_filter)
        reach = (normalized(self.resample_filter).size - 1) // 2 if fused else 0
        x = convolve(x, kernel.astype(self.dtype), side // 2 + reach, stride=self.stride)
        if fused:
            x = downsample(x, self.resample_filter, padding=0)
        return x + bias


def convolve(x: jax.Array, kernel: jax.Array, padding: int, *, stride: int = 1) -> jax.Array:
    """Returns the convolution of x [B, H, W, I] with kernel [k, k, I, O], zero padded, no bias.

    A 1x1 kernel is a matrix product: its weight gradient is then one too, several times faster on a
    CPU than a convolution's.
    """
    if kernel.shape[:2] == (1, 1) and not padding and stride == 1:
        return jnp.dot(x, kernel[0, 0], precision=precision(x.dtype))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision(x.dtype),
    )


def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float
) -> jax.Array:
    """Returns (x - mean) / sqrt(variance + eps) scale + bias, per example and group, in float32.

    The variance is the mean of (x - mean)^2: mean(x^2) - mean^2 loses all digits for a large mean.
    The sums run over pixels first, then over the channels of a group, so that no axis of
    C / groups elements lies innermost, which a TPU would pad to 128.

    Args:
      x: [B, H, W, C].
      scale, bias: broadcast against x.
      groups: divides C.
      eps: added to the (biased) variance.

    Returns:
      [B, H, W, C] float32 (float64 for float64).
    """
    batch, channels = x.shape[0], x.shape[-1]

    def group_mean(values: jax.Array) -> jax.Array:
        mean = values.mean((1, 2)).reshape(batch, groups, -1)
        mean = jnp.broadcast_to(mean.mean(2, keepdims=True), mean.shape)
        return mean.reshape(batch, 1, 1, channels)

    x = x.astype(wide(x.dtype))
    x = x - group_mean(x)
    return x * (jax.lax.rsqrt(group_mean(jnp.square(x)) + eps) * scale) + bias


def norm_groups(channels: int, *, least: int = 4) -> int:
    """Returns the groups of a norm over C channels, min(32, C // least); 0 if C has no such part.

    Args:
      channels: C.
      least: the fewest channels of a group.
    """
    groups = min(32, channels // least)
    return groups if groups and channels % groups == 0 else 0


class GroupNorm(nn.Module):
    """Group normalisation with min(32, C // least) groups, then silu if wanted, in float32.

    Its intermediate results are recomputed in the backward pass: they are cheap, and storing them
    is more than half of a network's activation memory.

    eps: added to the (biased) variance.
    activate: whether silu follows.
    least: the fewest channels of a group.
    dtype: of the result.
    """

    eps: float = 1e-6
    activate: bool = True
    least: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, factor: jax.Array | None = None, shift: jax.Array | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to the same shape; norm(x) factor + shift when these are given.

        Raises:
          ValueError: if the channels do not divide into their groups.
        """
        channels = x.shape[-1]
        groups = norm_groups(channels, least=self.least)
        if not groups:
            raise ValueError(
                f"channels must divide into min(32, channels // {self.least}) groups, "
                f"got {channels}"
            )
        scale = param(self, "scale", ONES, (channels,))
        bias = param(self, "bias", ZEROS, (channels,))
        if factor is not None and shift is not None:
            scale, bias = scale * factor, bias * factor + shift

        @jax.checkpoint
        def norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
            h = normalize(x, scale, bias, groups, self.eps)
            return (nn.silu(h) if self.activate else h).astype(self.dtype)

        return norm(x, scale, bias)


def positional_embedding(values: jax.Array, channels: int, *, endpoint: bool = False) -> jax.Array:
    """Returns [cos(v f) | sin(v f)], f_i = 10000^(-i / (channels / 2 - endpoint)).

    Args:
      values: [B] noise labels.
      channels: width of the embedding, even.
      endpoint: whether the last frequency is exactly 1 / 10000.

    Returns:
      [B, channels].
    """
    half = channels // 2
    frequencies = np.power(1e-4, np.arange(half) / (half - endpoint)).astype(np.float32)
    phase = values[:, None] * frequencies
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)


class FourierEmbedding(nn.Module):
    """Random Fourier features [cos(2 pi f v) | sin(2 pi f v)], f ~ scale N(0, 1), never trained.

    channels: width of the embedding, even.
    scale: standard deviation of the frequencies.
    """

    channels: int
    scale: float = 16.0

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        """Maps [B] noise labels to [B, channels]."""
        freqs = param(self, "freqs", Law("normal", self.scale), (self.channels // 2,))
        phase = values[:, None] * (2 * np.pi * jax.lax.stop_gradient(freqs))
        return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)


def keep_mask(keys: jax.Array, index: int, rate: float, shape: Sequence[int]) -> jax.Array:
    """Draws which elements survive dropout, each example from its own key.

    One 32-bit draw serves two elements, so the rate is rounded to a multiple of 2^-16.

    Args:
      keys: [B] typed keys.
      index: number of the layer; no two layers share it, so no two share a mask.
      rate: probability of dropping an element.
      shape: shape of one example.

    Returns:
      [B, *shape] booleans.
    """
    size = int(np.prod(shape))

    def draw(key: jax.Array) -> jax.Array:
        words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
        halves = jnp.stack([words & 0xFFFF, words >> 16], axis=-1).reshape(-1)[:size]
        return (halves >= _threshold(rate)).reshape(shape)

    return jax.vmap(draw)(randomness.fold_in(keys, index))


def _threshold(rate: float) -> int:
    # The rate in 2^-16ths, as `keep_mask` compares it.
    return round(rate * 65536)


def dropout(x: jax.Array, keys: jax.Array | None, index: int, rate: float) -> jax.Array:
    """Returns inverted dropout of x [B, ...]; x itself when keys is None (evaluation)."""
    if keys is None or not rate:
        return x
    keep = 1 - _threshold(rate) / 65536  # what `keep_mask` keeps exactly, so the mean is kept
    return jnp.where(keep_mask(keys, index, rate, x.shape[1:]), x / keep, 0).astype(x.dtype)

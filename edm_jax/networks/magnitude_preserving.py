"""Layers through which the magnitude of activations passes unchanged (Karras et al. 2024, EDM2).

Weights are drawn from N(0, 1) and normalised where they are used, so only their direction counts.
A training step normalises them for good too, before the gradient is taken (`normalize_kernels`):
their size would grow otherwise, and the effective learning rate fall with it.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.networks import layers
from edm_jax.networks.initialization import Law, param

EPS = 1e-4
SILU_RMS = 0.596  # of silu(N(0, 1))


def normalize(x: jax.Array, axis: Sequence[int]) -> jax.Array:
    """Returns x / (eps + rms(x)), the root mean square over some axes in float32; eps is 1e-4.

    The gradient at x = 0 is finite.

    Args:
      x: [...].
      axis: over which the mean is taken.

    Returns:
      Of x's shape and type.
    """
    square = jnp.square(x.astype(layers.wide(x.dtype))).mean(tuple(axis), keepdims=True)
    rms = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return x / (EPS + rms).astype(x.dtype)


def normalize_kernels(params: Any) -> Any:
    """Returns a parameter tree with every `kernel` normalised: each output filter to unit rms.

    Args:
      params: nested dicts; kernels are [..., in, out].
    """

    def leaf(path: Any, value: jax.Array) -> jax.Array:
        return _normalized(value) if path[-1].key == "kernel" else value

    return jax.tree_util.tree_map_with_path(leaf, params)


def _normalized(kernel: jax.Array) -> jax.Array:
    return normalize(kernel, range(kernel.ndim - 1))


def weight(
    module: nn.Module, shape: Sequence[int], dtype: Any, *, gain: jax.Array | float = 1.0
) -> jax.Array:
    """Declares a layer's `kernel` and returns gain N(W) / sqrt(fan in), in the compute type.

    Args:
      module: the layer.
      shape: [..., in, out].
      dtype: compute type; the arithmetic here is in float32.
      gain: a factor.
    """
    kernel = param(module, "kernel", Law("normal", 1.0), shape).astype(layers.wide(dtype))
    return (_normalized(kernel) * (gain / math.sqrt(math.prod(shape[:-1])))).astype(dtype)


class Dense(nn.Module):
    """Linear layer y = x W without bias, W normalised; computes in x's own dtype.

    features: number of outputs.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, gain: jax.Array | float = 1.0) -> jax.Array:
        """Maps [..., in] to [..., features]."""
        kernel = weight(self, (x.shape[-1], self.features), x.dtype, gain=gain)
        return jnp.dot(x, kernel, precision=layers.precision(x.dtype))


class Conv(nn.Module):
    """Convolution without bias, kernel 1 or 3, zero padding, weights normalised.

    features: output channels.
    kernel: side of the kernel, 1 or 3; `kernel` is stored HWIO.
    dtype: compute type.
    """

    features: int
    kernel: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, gain: jax.Array | float = 1.0) -> jax.Array:
        """Maps [B, H, W, in] to [B, H, W, features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = weight(self, shape, self.dtype, gain=gain)
        return layers.convolve(x.astype(self.dtype), kernel, self.kernel // 2)


class FourierFeatures(nn.Module):
    """Random features sqrt(2) cos(f v + p), f ~ 2 pi N(0, 1), p uniform on a circle, never trained.

    channels: number of features.
    """

    channels: int

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        """Maps [B] noise labels to [B, channels]."""
        laws = {"freqs": Law("normal", 2 * np.pi), "phases": Law("uniform", np.pi)}
        freqs, phases = (
            jax.lax.stop_gradient(param(self, name, law, (self.channels,)))
            for name, law in laws.items()
        )
        return np.sqrt(2).astype(np.float32) * jnp.cos(values[:, None] * freqs + phases)


def silu(x: jax.Array) -> jax.Array:
    """Returns silu(x) / 0.596, of unit magnitude for x ~ N(0, 1)."""
    return nn.silu(x) / SILU_RMS


def mix(a: jax.Array, b: jax.Array, share: float) -> jax.Array:
    """Returns ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2): of unit magnitude where a and b are.

    Args:
      a, b: broadcast against each other; uncorrelated.
      share: t, the share of b.
    """
    return ((1 - share) * a + share * b) / math.hypot(1 - share, share)


def concatenate(a: jax.Array, b: jax.Array, share: float) -> jax.Array:
    """Returns [a | b] along the last axis, weighted to contribute as (1 - t) : t, whatever widths.

        sqrt((Na + Nb) / ((1 - t)^2 + t^2)) [(1 - t) a / sqrt(Na) | t b / sqrt(Nb)]

    Args:
      a: [..., Na].
      b: [..., Nb].
      share: t, the share of b.

    Returns:
      [..., Na + Nb].
    """
    scale = math.sqrt(a.shape[-1] + b.shape[-1]) / math.hypot(1 - share, share)
    parts = ((1 - share, a), (share, b))
    return jnp.concatenate([scale * t / math.sqrt(p.shape[-1]) * p for t, p in parts], axis=-1)

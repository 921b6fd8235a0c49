"""The Inception network of FID: TensorFlow's graph of 2015-12-05, as torch-fidelity holds it.

Not torchvision's Inception v3: the average pools count no padding, the last block takes a maximum,
there are 1008 logits, and images are resized by TensorFlow 1's rule.
"""

import functools
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.evaluation import inception_names
from edm_jax.evaluation.batch_norm import folded, tensor
from edm_jax.evaluation.resize import tf1_bilinear

PIXELS, FEATURES, LOGITS = 299, 2048, 1008
INPUT = f"TF1 bilinear to {PIXELS}x{PIXELS}, (x - 128) / 128"
EPS = 1e-3  # of the batch norms
_OWNER = "the Inception of FID"
_SPATIAL = 7  # channels of Mixed_6d.branch1x1 that sFID takes


class Unit(nn.Module):
    """A convolution, in which its batch norm is folded, then ReLU.

    features: output channels.
    kernel: height and width, odd.
    stride: of both axes.
    pad: whether zeros keep the size at stride 1; else it shrinks by the kernel.
    """

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    pad: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H', W', features]."""
        return nn.relu(
            nn.Conv(
                self.features,
                self.kernel,
                self.stride,
                [(n // 2, n // 2) if self.pad else (0, 0) for n in self.kernel],
                dtype=x.dtype,
                precision=jax.lax.Precision.HIGHEST,
                name="conv",
            )(x)
        )


def _unit(
    x: jax.Array,
    name: str,
    features: int,
    height: int = 1,
    width: int = 1,
    *,
    stride: int = 1,
    pad: bool = True,
) -> jax.Array:
    return Unit(features, (height, width), stride, pad, name=name)(x)


def _join(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, -1)


def _halved(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _averaged(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=False)


class MixedA(nn.Module):
    """The blocks of 35x35 pixels.

    pool: channels of the path that averages.
    """

    pool: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 35, 35, C] to [B, 35, 35, 224 + pool]."""
        a = _unit(x, "branch1x1", 64)
        b = _unit(x, "branch5x5_1", 48)
        b = _unit(b, "branch5x5_2", 64, 5, 5)
        c = _unit(x, "branch3x3dbl_1", 64)
        c = _unit(c, "branch3x3dbl_2", 96, 3, 3)
        c = _unit(c, "branch3x3dbl_3", 96, 3, 3)
        return _join(a, b, c, _unit(_averaged(x), "branch_pool", self.pool))


class MixedB(nn.Module):
    """From 35x35 to 17x17 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 35, 35, 288] to [B, 17, 17, 768]."""
        a = _unit(x, "branch3x3", 384, 3, 3, stride=2, pad=False)
        b = _unit(x, "branch3x3dbl_1", 64)
        b = _unit(b, "branch3x3dbl_2", 96, 3, 3)
        b = _unit(b, "branch3x3dbl_3", 96, 3, 3, stride=2, pad=False)
        return _join(a, b, _halved(x))


class MixedC(nn.Module):
    """The blocks of 17x17 pixels.

    inner: channels within the paths.
    """

    inner: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 17, 17, 768] to the same shape."""
        a = _unit(x, "branch1x1", 192)
        self.sow("spatial", "first", a)
        b = _unit(x, "branch7x7_1", self.inner)
        b = _unit(b, "branch7x7_2", self.inner, 1, 7)
        b = _unit(b, "branch7x7_3", 192, 7, 1)
        c = _unit(x, "branch7x7dbl_1", self.inner)
        c = _unit(c, "branch7x7dbl_2", self.inner, 7, 1)
        c = _unit(c, "branch7x7dbl_3", self.inner, 1, 7)
        c = _unit(c, "branch7x7dbl_4", self.inner, 7, 1)
        c = _unit(c, "branch7x7dbl_5", 192, 1, 7)
        return _join(a, b, c, _unit(_averaged(x), "branch_pool", 192))


class MixedD(nn.Module):
    """From 17x17 to 8x8 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 17, 17, 768] to [B, 8, 8, 1280]."""
        a = _unit(x, "branch3x3_1", 192)
        a = _unit(a, "branch3x3_2", 320, 3, 3, stride=2, pad=False)
        b = _unit(x, "branch7x7x3_1", 192)
        b = _unit(b, "branch7x7x3_2", 192, 1, 7)
        b = _unit(b, "branch7x7x3_3", 192, 7, 1)
        b = _unit(b, "branch7x7x3_4", 192, 3, 3, stride=2, pad=False)
        return _join(a, b, _halved(x))


class MixedE(nn.Module):
    """The blocks of 8x8 pixels.

    maximum: whether the path that pools takes the maximum in place of the average.
    """

    maximum: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 8, 8, C] to [B, 8, 8, 2048]."""
        a = _unit(x, "branch1x1", 320)
        b = _unit(x, "branch3x3_1", 384)
        b = _join(_unit(b, "branch3x3_2a", 384, 1, 3), _unit(b, "branch3x3_2b", 384, 3, 1))
        c = _unit(x, "branch3x3dbl_1", 448)
        c = _unit(c, "branch3x3dbl_2", 384, 3, 3)
        c = _join(_unit(c, "branch3x3dbl_3a", 384, 1, 3), _unit(c, "branch3x3dbl_3b", 384, 3, 1))
        around = ((1, 1), (1, 1))
        pooled = nn.max_pool(x, (3, 3), (1, 1), around) if self.maximum else _averaged(x)
        return _join(a, b, c, _unit(pooled, "branch_pool", 192))


class Inception(nn.Module):
    """From resized images in [-1, 1] to 2048 features; all names are those of the published file.

    `apply(…, mutable="spatial")` also gives the first path of the blocks C, of which the first
    seven channels in Mixed_6d are the features of sFID.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, 299, 299, 3] to [B, 2048]."""
        x = _unit(x, "Conv2d_1a_3x3", 32, 3, 3, stride=2, pad=False)
        x = _unit(x, "Conv2d_2a_3x3", 32, 3, 3, pad=False)
        x = _unit(x, "Conv2d_2b_3x3", 64, 3, 3)
        x = _unit(_halved(x), "Conv2d_3b_1x1", 80)
        x = _unit(x, "Conv2d_4a_3x3", 192, 3, 3, pad=False)
        x = _halved(x)
        for name, pool in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = MixedA(pool, name=name)(x)
        x = MixedB(name="Mixed_6a")(x)
        for letter, inner in zip("bcde", (128, 160, 160, 192)):
            x = MixedC(inner, name=f"Mixed_6{letter}")(x)
        x = MixedD(name="Mixed_7a")(x)
        x = MixedE(False, name="Mixed_7b")(x)
        x = MixedE(True, name="Mixed_7c")(x)
        return x.mean((1, 2))


def features(params: Any, images: jax.Array) -> jax.Array:
    """The features that FID is of.

    Args:
      params: by `from_state_dict`.
      images: uint8 [B, H, W, 3 or 1], of any size.

    Returns:
      float32 [B, 2048].
    """
    return cast(jax.Array, Inception().apply({"params": params}, inputs(images)))


def spatial_features(params: Any, images: jax.Array) -> jax.Array:
    """The features that sFID is of (Nash et al. 2021), which know where things are.

    Args:
      params: by `from_state_dict`.
      images: uint8 [B, H, W, 3 or 1], of any size.

    Returns:
      float32 [B, 2023].
    """
    _, kept = Inception().apply({"params": params}, inputs(images), mutable="spatial")
    taken = kept["spatial"]["Mixed_6d"]["first"][0][..., :_SPATIAL]
    return taken.reshape(len(images), -1)


def inputs(images: jax.Array) -> jax.Array:
    """Bytes [B, H, W, 3 or 1] as the network takes them, float32 [B, 299, 299, 3] in [-1, 1)."""
    return (tf1_bilinear(images, PIXELS) - 128) / 128


@functools.cache
def parameter_shapes() -> Mapping[str, Any]:
    """The shapes and types of the parameters of `Inception`, by the published names."""
    image = jax.ShapeDtypeStruct((1, PIXELS, PIXELS, 3), jnp.float32)
    return cast(Mapping, jax.eval_shape(Inception().init, jax.random.key(0), image)["params"])


def from_state_dict(weights: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], np.ndarray]:
    """The parameters of a published file, with each batch norm folded into its convolution.

    Args:
      weights: torch-fidelity's names -> arrays: `Mixed_5b.branch1x1.conv.weight`, `.bn.bias`, …,
        `fc.weight`; `num_batches_tracked` is passed over. Or NVIDIA's names.

    Returns:
      The parameters of `Inception`, float32, and the weights [1008, 2048] of the logits, whose
      bias the inception score leaves out.

    Raises:
      WeightsError: a tensor is missing or has another shape.
    """
    if inception_names.MARK in weights:
        weights = inception_names.from_nvidia(weights)

    def read(prefix: str, units: Mapping[str, Any]) -> dict[str, Any]:
        if "conv" not in units:
            return {name: read(f"{prefix}{name}.", inner) for name, inner in units.items()}
        height, width, inputs, count = units["conv"]["kernel"].shape
        shape = count, inputs, height, width
        return {"conv": folded(weights, f"{prefix}conv.weight", f"{prefix}bn", shape, _OWNER, EPS)}

    head = tensor(weights, "fc.weight", (LOGITS, FEATURES), _OWNER)
    return read("", parameter_shapes()), head.astype(np.float32)

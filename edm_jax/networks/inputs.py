"""What the networks ask of their arguments and inputs, checked before anything is traced."""

from typing import Any

import jax
import jax.numpy as jnp

from edm_jax.checks import check_keys
from edm_jax.networks import layers
from edm_jax.quoting import quoted


def check_arguments(net: Any) -> None:
    """Raises ValueError naming the argument of a network (its fields) that cannot be used."""

    def require(name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {quoted(getattr(net, name))}")

    for name in ("img_resolution", "in_channels", "out_channels", "model_channels", "num_blocks"):
        require(name, getattr(net, name) >= 1, "at least 1")
    for name in ("label_dim", "augment_dim"):
        require(name, getattr(net, name) >= 0, "at least 0")
    for name in ("dropout", "label_dropout"):
        require(name, 0 <= getattr(net, name) < 1, "in [0, 1)")
    require("model_channels", net.model_channels % 4 == 0, "a multiple of 4")
    require("channel_mult", len(net.channel_mult) > 0, "at least one multiplier")
    require(
        "channel_mult",
        min(net.channel_mult) >= net.least_mult,
        f"multipliers of at least {net.least_mult}",
    )
    halvings = len(net.channel_mult) - 1
    require(
        "img_resolution",
        net.img_resolution % 2**halvings == 0,
        f"divisible by 2^{halvings}, for {halvings + 1} levels of channel_mult",
    )
    require("dtype", jnp.issubdtype(net.dtype, jnp.floating), "a floating point type")


def check_inputs(
    net: Any, x: jax.Array, c_noise: jax.Array, dropout_keys: jax.Array | None
) -> jax.Array:
    """Checks x [B, H, W, C] and the keys [B] and returns c_noise as float32 (or float64) [B].

    Raises:
      ValueError: if x is not a batch of the network's images, c_noise not [], [1] or [B], or the
        keys are not typed keys [B].
    """
    shape = (net.img_resolution, net.img_resolution, net.in_channels)
    if x.ndim != 4 or x.shape[1:] != shape:
        raise ValueError(f"x must have shape [B, {', '.join(map(str, shape))}], got {x.shape}")
    c_noise = jnp.asarray(c_noise, layers.wide(net.dtype)).reshape(-1)
    if c_noise.size not in (1, x.shape[0]):
        raise ValueError(f"c_noise must have 1 or {x.shape[0]} values, got {c_noise.size}")
    if dropout_keys is not None:
        check_keys(dropout_keys, x.shape[0], name="dropout_keys")
    return jnp.broadcast_to(c_noise, (x.shape[0],))


def check_jump(net: Any, jump: jax.Array | None, c_noise: jax.Array) -> jax.Array:
    """Returns a jump as [B] of c_noise's type: zeros when None.

    Raises:
      ValueError: if the network is no flow map, or the jump not [], [1] or [B].
    """
    if jump is None:
        return jnp.zeros_like(c_noise)
    if not net.flow_map:
        raise ValueError("jump must be left out for a network that is no flow map, got one")
    jump = jnp.asarray(jump, c_noise.dtype).reshape(-1)
    if jump.size not in (1, c_noise.size):
        raise ValueError(f"jump must have 1 or {c_noise.size} values, got {jump.size}")
    return jnp.broadcast_to(jump, c_noise.shape)


def conditioning(
    name: str, labels: jax.Array | None, width: int, like: jax.Array
) -> jax.Array | None:
    """Returns labels as [B, width] floats: zeros when None, None when the network takes none.

    Args:
      name: of the argument, for the message.
      labels: [B, width] or [1, width] or None.
      width: label_dim or augment_dim of the network; 0 if it takes none.
      like: [B, ...] gives B and the type of the result.

    Raises:
      ValueError: if the shape is another one (an empty [B, 0] counts as None).
    """
    batch, dtype = like.shape[0], like.dtype
    if labels is not None and labels.size == 0:
        labels = None
    if labels is None:
        return jnp.zeros((batch, width), dtype) if width else None
    if labels.ndim != 2 or labels.shape[0] not in (1, batch) or labels.shape[1] != width:
        raise ValueError(f"{name} must have shape [{batch}, {width}], got {labels.shape}")
    return jnp.broadcast_to(labels, (batch, width)).astype(dtype)


def drop_labels(labels: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
    """Zeros the label row [B, L] of each example with the given probability; keys None: of none."""
    if keys is None or not rate:
        return labels
    return labels * layers.keep_mask(keys, 0, rate, (1,))

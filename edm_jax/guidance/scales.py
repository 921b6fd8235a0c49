"""Guidance scales: numbers, one for each sample, or functions of the noise level."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import checks
from edm_jax.checks import column

# A number, [B] numbers, or sigma ([] or [B]) -> either.
Scale = float | jax.Array | Callable[[jax.Array], Any]


def check_scale(scale: Scale, *, name: str = "scale") -> Scale:
    """Returns a scale whose numbers, where they are known, are finite.

    Args:
      scale: a number, [B] numbers, or a function of sigma.
      name: what the message calls it.

    Raises:
      ValueError: NaN, infinity, or more than one dimension.
    """
    if callable(scale):
        return scale
    if isinstance(scale, jax.core.Tracer):
        known = None
    else:
        known = np.asarray(scale, np.float64)
    if np.ndim(scale) > 1 or (known is not None and not np.isfinite(known).all()):
        raise ValueError(f"{name} must be a finite number, or [B] of them, got {scale}")
    return scale


def at(scale: Scale, sigma: jax.Array, x: jax.Array) -> jax.Array:
    """The scale at a noise level, shaped to multiply x [B, ...]: [] or [B, 1, ...]."""
    return column(scale(sigma) if callable(scale) else jnp.asarray(scale), x)


def linear_over_frames(num_frames: int, max_scale: float, *, min_scale: float = 1.0) -> np.ndarray:
    """Scales that rise with the frame of a video, from min_scale to max_scale.

    Stable Video Diffusion's (`LinearPredictionGuider` of generative-models). A batch of videos is
    [video, frame] flattened: repeat with `jnp.tile(scales, num_videos)`.

    >>> linear_over_frames(3, 2.5).tolist()
    [1.0, 1.75, 2.5]

    Args:
      num_frames: F, positive.
      max_scale: the scale of the last frame.
      min_scale: the scale of the first frame.

    Returns:
      [F] scales, float64.

    Raises:
      ValueError: no frames, a scale that is not finite.
    """
    return min_scale + (max_scale - min_scale) * _frames(num_frames, min_scale, max_scale)


def triangle_over_frames(
    num_frames: int,
    max_scale: float,
    *,
    min_scale: float = 1.0,
    period: float | Sequence[float] = 1.0,
    fuse: Literal["mean", "multiply", "max"] = "mean",
) -> np.ndarray:
    """Scales that rise and fall with the frame of a video, for orbits that close.

        min + (max - min) tri(t),   tri(t) = 2 |t/p - floor(t/p + 1/2)|,   t = frame / (F - 1)

    SV3D's (`TrianglePredictionGuider` of generative-models). Several periods are fused before the
    range is applied.

    >>> triangle_over_frames(5, 2.0).tolist()
    [1.0, 1.5, 2.0, 1.5, 1.0]

    Args:
      num_frames: F, positive.
      max_scale: the scale at the top.
      min_scale: the scale of the first frame.
      period: p, in videos, positive; or several.
      fuse: "mean", "multiply" or "max": how the triangles of several periods become one.

    Returns:
      [F] scales, float64.

    Raises:
      ValueError: no frames, a scale that is not finite, a period not positive, unknown fuse.
    """
    checks.one_of("fuse", fuse, ("mean", "multiply", "max"))
    periods = np.atleast_1d(np.asarray(period, np.float64))
    if periods.ndim != 1 or not periods.size or not (periods > 0).all():
        raise ValueError(f"period must be positive, or a list of such, got {period}")
    turns = _frames(num_frames, min_scale, max_scale) / periods[:, None]
    triangles = 2 * np.abs(turns - np.floor(turns + 0.5))
    fused = {
        "mean": triangles.mean(axis=0),
        "multiply": triangles.prod(axis=0),
        "max": triangles.max(axis=0),
    }
    return min_scale + (max_scale - min_scale) * fused[fuse]


def _frames(num_frames: int, *scales: float) -> np.ndarray:
    """The time of each frame, in [0, 1]."""
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    if not all(math.isfinite(scale) for scale in scales):
        raise ValueError(f"min_scale and max_scale must be finite, got {scales}")
    return np.linspace(0.0, 1.0, num_frames)

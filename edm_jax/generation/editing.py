"""Images of one's own through a model: drawn again from a noise level, inverted, interpolated."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edm_jax import randomness, samplers
from edm_jax.checks import inner
from edm_jax.generation.guided import Guided
from edm_jax.generation.seeds import NOISE, PATH, keys_of
from edm_jax.model import Model
from edm_jax.samplers import Tableau


class Inversion(NamedTuple):
    """Images, where they come from, and how far the way there and back is off.

    Attributes:
      latents: [B, H, W, C], about standard normal: what `samplers.ddim` draws the images from.
      images: [B, H, W, C], what it draws.
      error: [B], the root mean square of their difference from the images given.
    """

    latents: jax.Array
    images: jax.Array
    error: jax.Array


def redraw(
    model: Model | Guided,
    sampler: Tableau,
    images: jax.Array,
    seeds: jax.Array,
    *,
    class_labels: jax.Array | None = None,
) -> jax.Array:
    """Noises images to the first level of a sampler and draws them anew (SDEdit, Meng et al. 2022).

    The level decides how much stays: below it the image's coarse shapes, above it nothing. Pure;
    jit it.

    Args:
      model: a model, or a `Guided` one.
      sampler: a tableau whose grid begins at the level to noise to.
      images: [B, H, W, C] in [-1, 1].
      seeds: [B] integers, of the noise.
      class_labels: [B, label_dim] one-hot rows of what to draw; all zeros, or None, is "no label".

    Returns:
      Images [B, H, W, C], about in [-1, 1].
    """
    keys = keys_of(seeds)
    noise = randomness.normal(keys[:, NOISE], images.shape[1:])
    start = images + sampler.start[0, 0] * noise
    path = keys[:, PATH] if sampler.stochastic else None
    return samplers.sample(model.denoiser(class_labels), sampler, start=start, keys=path)


def invert(
    model: Model | Guided,
    sigmas: np.ndarray,
    images: jax.Array,
    *,
    class_labels: jax.Array | None = None,
) -> Inversion:
    """Sends images to noise by DDIM's steps and back (Song, Meng, Ermon 2021, section 4.3).

    More steps come nearer: the error falls in proportion to their number. Pure; jit it.

    Args:
      model: a model, or a `Guided` one.
      sigmas: [N + 1] descending noise levels, the last may be 0.
      images: [B, H, W, C] in [-1, 1].
      class_labels: [B, label_dim] one-hot rows of the images' classes; None is "no label".

    Returns:
      The latents, what is drawn from them, and the error.
    """
    denoise = model.denoiser(class_labels)
    latents = samplers.sample(denoise, samplers.ddim_inversion(sigmas), images)
    back = samplers.sample(denoise, samplers.ddim(sigmas), latents)
    return Inversion(latents, back, jnp.sqrt(jnp.mean((back - images) ** 2, axis=(1, 2, 3))))


def interpolate(a: jax.Array, b: jax.Array, shares: ArrayLike) -> jax.Array:
    """Spherical interpolation of latents (Shoemake 1985), each pair over its own great circle.

        [sin((1 - t) w) a + sin(t w) b] / sin(w),   w the angle between a and b

    Noise of many dimensions is near a sphere, which a straight line between two would leave.

    >>> a, b = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    >>> interpolate(a, b, jnp.array([0.5])).round(2)
    Array([[[0.71, 0.71]]], dtype=float32)

    Args:
      a: [B, ...] latents at share 0.
      b: [B, ...] latents at share 1.
      shares: [n] t, in [0, 1].

    Returns:
      [B, n, ...].
    """
    cosine = inner(a, b) / jnp.sqrt(inner(a, a) * inner(b, b))
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))[:, None]
    t = jnp.asarray(shares, a.dtype).reshape((1, -1) + (1,) * (a.ndim - 1))
    straight = angle < 1e-3  # where the sines are 0
    safe = jnp.where(straight, 1.0, angle)
    near = jnp.where(straight, 1.0 - t, jnp.sin((1.0 - t) * safe) / jnp.sin(safe))
    far = jnp.where(straight, t, jnp.sin(t * safe) / jnp.sin(safe))
    return near * a[:, None] + far * b[:, None]

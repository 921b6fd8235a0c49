"""Non-leaky augmentation: the transforms of EDM's training, drawn per sample, applied on device.

Karras et al. 2022 (arXiv 2206.00364), appendix F.2, after the pipeline of Karras et al. 2020
(arXiv 2006.06676). The network is told what was done to each image (`labels`), so that zeros at
sampling ask for images to which nothing was done.

Three pure functions, `draw`, `apply` and `labels`, and `augment`, which is all three. What
happens to sample i is a function of its own key and image: neighbours and batch size are not seen.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.augment import affine, colour
from edm_jax.checks import check_keys


class Settings(NamedTuple):
    """What may happen to an image, how often and how strongly.

    A transform's probability is min(1, p * its multiplier); at multiplier 0 it is absent: not
    drawn, not applied, without label entries. The widths scale the standard draws.

    Attributes:
      p: overall probability in [0, 1].
      xflip .. saturation: the multipliers, >= 0, in the order of application and of the labels.
      translate_int_max: largest whole-pixel shift, in image sizes.
      scale_std, aniso_std: standard deviations of log2 of the zoom and of the stretch.
      rotate_frac_max: largest rotation, in half turns.
      aniso_rotate_prob: probability that the axis of the stretch is turned.
      translate_frac_std: standard deviation of the sub-pixel shift, in image sizes.
      brightness_std: of the added constant (images in [-1, 1]).
      contrast_std, saturation_std: of log2 of the factors.
      hue_max: largest hue rotation, in half turns.
    """

    p: float = 1.0
    xflip: float = 0.0
    yflip: float = 0.0
    rotate_int: float = 0.0
    translate_int: float = 0.0
    scale: float = 0.0
    rotate_frac: float = 0.0
    aniso: float = 0.0
    translate_frac: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    translate_int_max: float = 0.125
    scale_std: float = 0.2
    rotate_frac_max: float = 1.0
    aniso_std: float = 0.2
    aniso_rotate_prob: float = 0.5
    translate_frac_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1.0
    saturation_std: float = 1.0


class Parameters(NamedTuple):
    """What happens to each image of a batch; None for a transform that is absent.

    Attributes:
      xflip, yflip, lumaflip: [B], 1 where mirrored, else 0.
      rotate_int: [B], counter-clockwise quarter turns, 0 to 3.
      translate_int: [B, 2], (x, y) in units of the largest shift, in [-1, 1].
      scale, brightness, contrast, saturation: [B], standard normal.
      rotate_frac, hue: [B], radians.
      aniso: [B, 2], log-stretch (standard normal) and direction of its axis (radians).
      translate_frac: [B, 2], (x, y), standard normal.
    """

    xflip: jax.Array | None = None
    yflip: jax.Array | None = None
    rotate_int: jax.Array | None = None
    translate_int: jax.Array | None = None
    scale: jax.Array | None = None
    rotate_frac: jax.Array | None = None
    aniso: jax.Array | None = None
    translate_frac: jax.Array | None = None
    brightness: jax.Array | None = None
    contrast: jax.Array | None = None
    lumaflip: jax.Array | None = None
    hue: jax.Array | None = None
    saturation: jax.Array | None = None


LABEL_ENTRIES = dict(zip(Parameters._fields, (1, 1, 2, 2, 1, 2, 2, 2, 1, 1, 1, 2, 1)))
GEOMETRIC = ("scale", "rotate_frac", "aniso", "translate_frac")
COLOUR = ("brightness", "contrast", "lumaflip", "hue", "saturation")


def edm(p: float = 0.12) -> Settings:
    """The settings of EDM's training: flips in x always, five more transforms with probability p.

    p is 0.12 for CIFAR-10, 0.15 for FFHQ and AFHQv2 (the official training options).

    Args:
      p: probability of each of the five, in [0, 1].

    >>> label_dim(edm())
    9
    """
    return Settings(p, xflip=1e8, yflip=1, scale=1, rotate_frac=1, aniso=1, translate_frac=1)


def label_dim(settings: Settings) -> int:
    """The number of entries of `labels`: the network's `augment_dim`."""
    return sum(n for name, n in LABEL_ENTRIES.items() if getattr(settings, name) > 0)


def draw(keys: jax.Array, settings: Settings) -> Parameters:
    """Draws what will happen to each image.

    A key gives a fixed table of uniform numbers with a row per transform, so enabling one changes
    no other's draw.

    Args:
      keys: [B] typed keys, one per sample, consumed.
      settings: which transforms, how often. Its multipliers are static, p may be traced.

    Returns:
      float32 [B] or [B, 2] each; zeros where a transform does not happen.

    Raises:
      ValueError: if keys are not [B] typed keys, a multiplier is negative or p outside [0, 1].
    """
    _check_settings(settings)
    check_keys(keys)
    # One call of the generator: thirteen would take ten times as long to compile.
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    shape = (len(Parameters._fields), 4)
    table = jax.vmap(lambda key: jax.random.uniform(key, shape, minval=lowest, maxval=1.0))(keys)

    drawn = {}
    for index, name in enumerate(Parameters._fields):
        multiplier = getattr(settings, name)
        if multiplier > 0:
            first, second, third, gate = jnp.moveaxis(table[:, index], 1, 0)
            value = _value(name, first, second, third, settings)
            happens = _unit(gate) < multiplier * settings.p
            happens = happens if value.ndim == 1 else happens[:, None]
            drawn[name] = jnp.where(happens, value, 0.0).astype(jnp.float32)
    return Parameters(**drawn)


def _value(name, first, second, third, settings):
    """The draw of one transform from numbers uniform in (-1, 1)."""
    if name in ("xflip", "yflip", "lumaflip"):
        return first > 0
    if name == "rotate_int":
        return jnp.minimum(jnp.floor(4 * _unit(first)), 3)
    if name == "translate_int":
        return jnp.stack([first, second], 1)
    if name == "rotate_frac":
        return first * np.float32(np.pi * settings.rotate_frac_max)
    if name == "hue":
        return first * np.float32(np.pi * settings.hue_max)
    if name == "translate_frac":
        return jnp.stack([_normal(first), _normal(second)], 1)
    if name == "aniso":
        turned = _unit(third) < settings.aniso_rotate_prob
        return jnp.stack([_normal(first), jnp.where(turned, second * np.float32(np.pi), 0)], 1)
    return _normal(first)


def _unit(uniform):
    return (uniform + 1) / 2


def _normal(uniform):
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def labels(
    parameters: Parameters,
    *,
    image_shape: tuple[int, ...] | None = None,
    settings: Settings = Settings(),
) -> jax.Array:
    """What the network is told: zeros exactly where nothing happened.

    For `edm()`: [xflip, yflip, w, cos a - 1, sin a, w' cos r, w' sin r, w_x, w_y] of scale w,
    rotation a, stretch (w', r) and shift (w_x, w_y).

    Args:
      parameters: of `draw`.
      image_shape: (..., H, W, C), needed only by `translate_int`, whose shift is whole pixels.
      settings: read for `translate_int_max`.

    Returns:
      [B, label_dim(settings)] float32.

    Raises:
      ValueError: if there are no transforms, or `translate_int` without `image_shape`.
    """
    columns = []
    present = {name: value for name, value in parameters._asdict().items() if value is not None}
    for name, value in present.items():
        if name in ("rotate_frac", "hue"):
            columns += [jnp.cos(value) - 1.0, jnp.sin(value)]
        elif name == "aniso":
            columns += [value[:, 0] * jnp.cos(value[:, 1]), value[:, 0] * jnp.sin(value[:, 1])]
        elif name == "rotate_int":
            columns += [(value == 1) | (value == 2), (value == 2) | (value == 3)]
        elif name == "translate_int":
            if image_shape is None:
                raise ValueError("image_shape must be given for translate_int, got None")
            height, width = image_shape[-3:-1]
            reach = _extent(height, width, settings.translate_int_max)
            columns += list((jnp.round(value * reach) / reach).T)
        else:
            columns += [value] if value.ndim == 1 else list(value.T)
    if not columns:
        raise ValueError("parameters must hold a transform, got none: settings have no multiplier")
    return jnp.stack([jnp.asarray(column, jnp.float32) for column in columns], axis=1)


def apply(
    images: jax.Array, parameters: Parameters, *, settings: Settings = Settings()
) -> jax.Array:
    """Applies the transforms to the images; nothing is clipped.

    Flips and quarter turns, the whole-pixel shift, then scale, rotation, stretch and sub-pixel
    shift as one resampling (see `resampling`), then colour as one affine map of RGB.

    Args:
      images: [B, H, W, C] float32.
      parameters: of `draw`, for the same B.
      settings: read for the widths only.

    Returns:
      [B, H, W, C] float32; an image to which nothing happens is returned bit for bit.

    Raises:
      ValueError: if the images are not [B, H, W, C], not square for `rotate_int`, or neither grey
        nor RGB for a colour transform.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape [B, H, W, C], got {images.shape}")
    images = jnp.asarray(images, jnp.float32)
    _, height, width, _ = images.shape
    images = _flip(images, 2, parameters.xflip)
    images = _flip(images, 1, parameters.yflip)
    if parameters.rotate_int is not None:
        if height != width:
            raise ValueError(f"images must be square for rotate_int, got {height}x{width}")
        turns = parameters.rotate_int
        images = _flip(images, 2, (turns == 1) | (turns == 2))
        images = _flip(images, 1, (turns == 2) | (turns == 3))
        odd = ((turns == 1) | (turns == 3))[:, None, None, None]
        images = jnp.where(odd, images.swapaxes(1, 2), images)
    if parameters.translate_int is not None:
        reach = _extent(height, width, settings.translate_int_max)
        shift = jnp.round(parameters.translate_int * reach).astype(jnp.int32)
        rows = affine.reflect(jnp.arange(height) + shift[:, 1:], height)
        columns = affine.reflect(jnp.arange(width) - shift[:, :1], width)
        images = jnp.take_along_axis(images, rows[:, :, None, None], axis=1)
        images = jnp.take_along_axis(images, columns[:, None, :, None], axis=2)
    if _any(parameters, GEOMETRIC):
        linear, shift = inverse_map(parameters, height, width, settings=settings)
        still = jnp.all(linear == jnp.eye(2), (1, 2)) & jnp.all(shift == 0, 1)
        moved = affine.resample(images, linear, shift)
        images = jnp.where(still[:, None, None, None], images, moved)
    if _any(parameters, COLOUR):
        images = colour.recolour(images, *_colour_map(parameters, settings))
    return images


def augment(keys: jax.Array, images: jax.Array, settings: Settings) -> tuple[jax.Array, jax.Array]:
    """Draws, applies and describes: `(apply(images, drawn), labels(drawn))`.

    Args:
      keys: [B] typed keys, one per sample, consumed.
      images: [B, H, W, C] float32.
      settings: for example `edm(0.12)`.

    Returns:
      The augmented images [B, H, W, C] and their labels [B, label_dim(settings)].

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> augment_jitted = jax.jit(augment, static_argnames="settings")
    >>> moved, told = augment_jitted(keys, jnp.zeros((2, 8, 8, 3)), settings=edm(0.12))
    >>> moved.shape, told.shape
    ((2, 8, 8, 3), (2, 9))
    """
    drawn = draw(keys, settings)
    told = labels(drawn, image_shape=images.shape, settings=settings)
    return apply(images, drawn, settings=settings), told


def inverse_map(
    parameters: Parameters, height: int, width: int, *, settings: Settings = Settings()
) -> tuple[jax.Array, jax.Array]:
    """Where each output pixel comes from: input = linear @ output + shift.

    Coordinates are (x right, y down) in pixels from the image centre. The transforms multiply
    from the right: G = S(1/s) R(a) R(-r) S(1/s', s') R(r) T(-shift).

    Args:
      parameters: of `draw`; absent transforms are identities.
      height, width: of the images, in pixels.
      settings: read for the widths.

    Returns:
      linear [B, 2, 2] and shift [B, 2], float32.
    """
    given = [getattr(parameters, name) for name in GEOMETRIC]
    batch = next(value.shape[0] for value in given if value is not None)
    one, zero = jnp.ones(batch, jnp.float32), jnp.zeros(batch, jnp.float32)
    linear, shift = _matrix(one, zero, zero, one), jnp.zeros((batch, 2), jnp.float32)
    if parameters.scale is not None:
        linear = linear * jnp.exp2(-parameters.scale * settings.scale_std)[:, None, None]
    if parameters.rotate_frac is not None:
        linear = _product(linear, _rotation(parameters.rotate_frac))
    if parameters.aniso is not None:
        size, axis = parameters.aniso.T
        factor = jnp.exp2(size * settings.aniso_std)
        stretch = _product(_matrix(1 / factor, zero, zero, factor), _rotation(axis))
        stretch = _product(_rotation(-axis), stretch)
        # R(-r) R(r) is the identity only up to rounding, and no stretch is to be no change.
        stretch = jnp.where((size == 0)[:, None, None], jnp.eye(2), stretch)
        linear = _product(linear, stretch)
    if parameters.translate_frac is not None:
        pixels = parameters.translate_frac * _extent(height, width, settings.translate_frac_std)
        shift = -jnp.sum(linear * pixels[:, None, :], -1)
    return linear, shift


def _colour_map(parameters, settings):
    """(linear [B, 3, 3], offset [B, 3]) of the colour transforms."""

    def times(value, width):
        return None if value is None else value * width

    def factor(value, width):
        return None if value is None else jnp.exp2(value * width)

    return colour.affine_map(
        brightness=times(parameters.brightness, settings.brightness_std),
        contrast=factor(parameters.contrast, settings.contrast_std),
        luma_flip=parameters.lumaflip,
        hue=parameters.hue,
        saturation=factor(parameters.saturation, settings.saturation_std),
    )


def _flip(images, axis, where):
    if where is None:
        return images
    where = where.astype(bool)[:, None, None, None]
    return jnp.where(where, jnp.flip(images, axis), images)


def _any(parameters, names):
    return any(getattr(parameters, name) is not None for name in names)


def _product(left, right):
    # Elementwise, not a dot: a dot of float32 runs in bfloat16 or TF32 on accelerators.
    return jnp.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def _extent(height, width, share):
    return np.array([width, height], np.float32) * np.float32(share)


def _matrix(a, b, c, d):
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def _rotation(angle):
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix(cos, -sin, sin, cos)


def _check_settings(settings):
    if isinstance(settings.p, (int, float)) and not 0 <= settings.p <= 1:
        raise ValueError(f"p must be in [0, 1], got {settings.p}")
    for name in Parameters._fields:
        if not getattr(settings, name) >= 0:
            raise ValueError(f"{name} must be a multiplier >= 0, got {getattr(settings, name)}")

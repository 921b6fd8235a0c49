"""Every measurement by its name: what the command line, the documentation and the tests read."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from edm_jax import checks
from edm_jax.inverse import operators, spectral
from edm_jax.inverse.operators import Operator, adjoint
from edm_jax.options import Option, check_options, find, options_of


class Task(NamedTuple):
    """A measurement of the registry.

    Attributes:
      make: (shape [H, W, C] of one image, **options) -> the operator.
      about: what is measured, in a few words.
    """

    make: Callable[..., Operator]
    about: str

    @property
    def options(self) -> dict[str, Option]:
        """What `make` takes beside the shape."""
        return options_of(self.make)


def inpaint(
    shape: Sequence[int],
    *,
    box: Sequence[int] | None = None,
    share: float | None = None,
    mask_seed: int = 0,
) -> Operator:
    """Hides a box of an image, or a share of its pixels; all channels of a pixel.

    Args:
      shape: [H, W, C] of one image.
      box: (top, left, height, width) of what is hidden. Without it and without share the middle,
        half as high and as wide as the image.
      share: of the pixels, hidden at random, the same ones of every image.
      mask_seed: decides which.

    Returns:
      x [B, H, W, C] -> [B, k], the known elements in the order of the image.

    Raises:
      ValueError: a box outside the image, or of no pixels; one that hides everything, as a share
        may; box and share both.
    """
    height, width, channels = shape
    if share is None:
        if box is None:
            box = height // 4, width // 4, max(height // 2, 1), max(width // 2, 1)
        keep = _without_box(height, width, box)
    elif box is not None:
        raise ValueError(f"share must be left out where a box is given, got {share}")
    else:
        checks.between("share", share, 0.0, 1.0)
        keep = np.ones(height * width, bool)
        order = np.random.default_rng(mask_seed).permutation(keep.size)
        keep[order[: round(share * keep.size)]] = False
    if keep.all() or not keep.any():
        what = "nothing" if keep.all() else "everything"
        raise ValueError(f"box or share must hide some pixels and not all, got {what} hidden")
    return spectral.mask(np.repeat(keep.reshape(height, width, 1), channels, axis=2))


def _without_box(height: int, width: int, box: Sequence[int]) -> np.ndarray:
    fine = len(box) == 4 and all(isinstance(n, (int, np.integer)) for n in box)
    if fine:
        top, left, high, wide = box
        fine = high > 0 and wide > 0 and 0 <= top <= height - high and 0 <= left <= width - wide
    if not fine:
        raise ValueError(
            f"box must be top,left,height,width within {height} x {width} pixels, got {box}"
        )
    keep = np.ones((height, width), bool)
    keep[top : top + high, left : left + wide] = False
    return keep


def super_resolve(
    shape: Sequence[int], *, factor: int = 2, kernel: Literal["box", "bicubic"] = "box"
) -> Operator:
    """A smaller image.

    Args:
      shape: [H, W, C] of one image.
      factor: divides H and W.
      kernel: "box", means of factor x factor pixels, or "bicubic".

    Returns:
      x [B, H, W, C] -> [B, H / factor, W / factor, C].

    Raises:
      ValueError: a factor that does not divide, or 1.
    """
    checks.one_of("kernel", kernel, ("box", "bicubic"))
    if factor == 1:
        raise ValueError("factor must be at least 2, got 1")
    make = spectral.box_downsample if kernel == "box" else spectral.bicubic_downsample
    return make(shape, factor)


def deblur(shape: Sequence[int], *, std: float = 1.0) -> Operator:
    """Blur by a Gaussian.

    Args:
      shape: [H, W, C] of one image.
      std: deviation in pixels, positive.

    Returns:
      x [B, H, W, C] -> the same shape.

    Raises:
      ValueError: a deviation that is not positive.
    """
    return spectral.gaussian_blur(shape, std)


def motion_deblur(shape: Sequence[int], *, length: int = 5, angle: float = 0.0) -> Operator:
    """Blur by a camera that moves along a line.

    Args:
      shape: [H, W, C] of one image.
      length: of the line in pixels, odd, at most H.
      angle: of the line, in degrees from the horizontal, counter-clockwise.

    Returns:
      x [B, H, W, C] -> the same shape.

    Raises:
      ValueError: a length that is even, or longer than the image; an angle that is not finite.
    """
    if not length <= min(shape[:2]):
        raise ValueError(f"length must be at most {min(shape[:2])} pixels, got {length}")
    if not np.isfinite(angle):
        raise ValueError(f"angle must be finite, got {angle}")
    return operators.blur(operators.motion_kernel(length, angle=angle))


def colorize(shape: Sequence[int]) -> Operator:
    """The mean of the channels.

    Args:
      shape: [H, W, C] of one image.

    Returns:
      x [B, H, W, C] -> [B, H, W, 1].

    Raises:
      ValueError: images of one channel.
    """
    if shape[2] == 1:
        raise ValueError(f"images must have colours to be measured in gray, got {tuple(shape)}")
    return spectral.gray(shape, weights=(1.0 / shape[2],) * shape[2])


def fourier(shape: Sequence[int], *, share: float = 0.5, mask_seed: int = 0) -> Operator:
    """Some of an image's frequencies: compressed sensing.

    Args:
      shape: [H, W, C] of one image.
      share: of the frequencies, known, chosen at random; the mean of the image is among them.
      mask_seed: decides which.

    Returns:
      x [B, H, W, C] -> [B, k, C, 2], real and imaginary parts.

    Raises:
      ValueError: a share out of (0, 1].
    """
    checks.between("share", share, 0.0, 1.0, open_low=True)
    keep = np.zeros(shape[0] * shape[1], bool)
    others = 1 + np.random.default_rng(mask_seed).permutation(keep.size - 1)
    keep[[0, *others[: round(share * keep.size) - 1]]] = True
    return operators.fourier_mask(keep.reshape(shape[:2]))


def phase_retrieval(shape: Sequence[int], *, pad: int | None = None) -> Operator:
    """The modulus of the Fourier transform of the padded image: not linear.

    Args:
      shape: [H, W, C] of one image.
      pad: zeros on each side, in pixels; without it a quarter of the height, as DPS pads.

    Returns:
      x [B, H, W, C] -> [B, H + 2 pad, W + 2 pad, C].

    Raises:
      ValueError: a negative pad.
    """
    return operators.phase_retrieval(shape[0] // 4 if pad is None else pad)


TASKS: dict[str, Task] = {
    "inpaint": Task(inpaint, "a box, or a share of the pixels, is hidden"),
    "super-resolve": Task(super_resolve, "the image is smaller"),
    "deblur": Task(deblur, "blurred by a Gaussian"),
    "motion-deblur": Task(motion_deblur, "blurred by a motion"),
    "colorize": Task(colorize, "gray"),
    "fourier": Task(fourier, "a share of the frequencies is known"),
    "phase-retrieval": Task(phase_retrieval, "the modulus of the Fourier transform is known"),
}


def build_operator(name: str, shape: Sequence[int], **options: Any) -> Operator:
    """Builds the operator of a task by its name.

    >>> import jax.numpy as jnp
    >>> build_operator("super-resolve", (8, 8, 1), factor=4)(jnp.ones((1, 8, 8, 1))).shape
    (1, 2, 2, 1)

    Args:
      name: a key of `TASKS`.
      shape: [H, W, C] of one image.
      **options: what the task takes beside the shape.

    Returns:
      The operator.

    Raises:
      ValueError: an unknown name, with the nearest one; an option that the task does not take;
        what the task says of its options.
    """
    task = find("task", name, TASKS)
    check_options(f"the task {name!r}", task.options, options)
    return task.make(tuple(shape), **options)


def picture(operator: Operator, y: jax.Array, shape: Sequence[int]) -> jax.Array:
    """A measurement as an image to look at: enlarged, or A^T y where it is no image itself.

    Args:
      operator: A.
      y: [B, ...], the measurement.
      shape: [H, W, C] of one image.

    Returns:
      [B, H, W, C].
    """
    whole = (len(y), *shape)
    if y.ndim == len(whole) and y.shape[-1] in (1, shape[-1]):
        return jax.image.resize(y, whole, "nearest")
    return adjoint(operator, jax.ShapeDtypeStruct(whole, y.dtype))(y)

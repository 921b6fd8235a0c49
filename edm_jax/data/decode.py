"""Image files to uint8 arrays, and files of latents to float32 ones."""

import contextlib
import functools
import io
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from edm_jax.data import compressed, moments, pool

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
LONGEST = 1000  # characters of a message
CHUNK_PIXELS = 1 << 20  # that a worker decodes between two answers
# Pixels that any file may hold, and for each byte of a larger one: photographs have 4 to 20.
SPARE_PIXELS, PIXELS_PER_BYTE = 1 << 25, 64


class TooLargeError(ValueError):
    """An image of more pixels than a file of its length is decoded to."""


@contextlib.contextmanager
def opened_image(data: bytes) -> Iterator[Image.Image]:
    """Opens an image file; its pixels, which are not decoded yet, are within a budget.

    Args:
      data: the file.

    Raises:
      TooLargeError: more than `PIXELS_PER_BYTE` for each byte and `SPARE_PIXELS`, or more than
        `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    limit = max(SPARE_PIXELS, PIXELS_PER_BYTE * len(data))
    limit = min(limit, Image.MAX_IMAGE_PIXELS or limit)
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(f"images must have at most {limit:,} pixels, got more") from None
    with image:
        if image.width * image.height > limit:
            raise TooLargeError(
                f"images must have at most {limit:,} pixels in a file of {len(data):,} bytes, got "
                f"{image.width}x{image.height}"
            )
        yield image


def losses(image: Image.Image) -> tuple[str, ...]:
    """Says in words what `to_array` leaves out of a picture, to go after a number of pictures.

    >>> losses(Image.new("RGBA", (2, 3), (255, 0, 0, 0)))
    ('were transparent, and laid over white',)
    """
    found = []
    # The other pictures of an MPO, as telephones write them, are previews and maps of brightness.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        found.append("had several frames, of which the first was taken")
    if image.mode.startswith("I") or any(map(_has_16_bits, getattr(image, "tile", ()))):
        found.append("had 16 bits a channel, of which the upper 8 were kept")
    if image.mode.startswith("I"):
        if "transparency" in image.info:
            found.append("had one transparent gray, which was kept as it is")
    elif _may_be_transparent(image) and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        found.append("were transparent, and laid over white")
    if image.mode in ("CMYK", "LAB", "HSV"):
        found.append(f"were {image.mode}, and became RGB without a colour profile")
    return tuple(found)


def _has_16_bits(tile: Any) -> bool:
    """Whether a part of a file, as Pillow lists them, has 16 bits a channel."""
    codec, _, _, arguments = tile
    layout, limit = arguments, None
    if isinstance(arguments, tuple):
        layout, limit = (*arguments, None, None)[:2]
    # "RGB;16B" in PNG and TIFF; in PPM the largest value. "BGR;16" is 5 to 6 bits a channel.
    deep = isinstance(layout, str) and ";16" in layout and not layout.startswith("BGR")
    return deep or (codec.startswith("ppm") and isinstance(limit, int) and limit > 255)


def _may_be_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def to_array(image: Image.Image) -> np.ndarray:
    """Converts a picture of any mode to uint8 [H, W, 1] (gray) or [H, W, 3] (colour).

    Of several frames the first is taken; 16 bits keep their upper 8; transparency is laid over
    white; palettes and CMYK become RGB. See `losses`.

    >>> to_array(Image.new("RGBA", (2, 3), (255, 0, 0, 0))).shape
    (3, 2, 3)
    """
    if image.mode == "I" and image.format == "TIFF":  # what is white among 32 bits, nothing says
        raise ValueError("images must have 8 or 16 bits a channel, got integers of 32 bits")
    if image.mode.startswith("I"):  # PNG and TIFF of 16 bits; Pillow's own conversion would clip
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None]
    if image.mode == "F":
        raise ValueError("images must have 8 or 16 bits a channel, got floating-point values")
    if _may_be_transparent(image):
        colour = image.mode not in ("LA", "La", "L", "1")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB" if colour else "L")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Callable[[str], bytes]]:
    """Opens a zip file or a folder, and gives a function from a member's name to its bytes."""
    path = pathlib.Path(path)
    if path.is_dir():
        yield lambda name: (path / name).read_bytes()
    else:
        with zipfile.ZipFile(path) as file:
            yield functools.partial(compressed.read_member, file)


def dtype_of(shape: Sequence[int]) -> np.dtype:
    """The type of decoded members (H, W, C): uint8, or float32 of latents."""
    return np.dtype(np.float32 if shape[-1] == moments.CHANNELS else np.uint8)


def decode(data: bytes) -> np.ndarray:
    """Decodes the bytes of one image file, or of one file of latents.

    Args:
      data: a whole PNG, JPEG, WebP or other file that Pillow reads, or .npy of latents.

    Returns:
      uint8 [H, W, C] with C 1 or 3, or float32 [H, W, 8].

    Raises:
      ValueError: the file is damaged, truncated, no image, or one of too many pixels.
    """
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        return moments.read(data)
    try:
        with opened_image(data) as image:
            return to_array(image)
    except (TooLargeError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise ValueError("not an image file, or damaged at its beginning") from None
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise ValueError(f"cannot be decoded: {one_line(error)}") from None


def decode_members(
    read: Callable[[str], bytes],
    names: Sequence[str],
    *,
    shape: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Decodes several members of an archive, all of the same shape.

    Args:
      read: from a member's name to its bytes.
      names: [N] the members.
      shape: (H, W, C) that each must have; by default that of the first.

    Returns:
      uint8 [N, H, W, C], or float32 of latents.

    Raises:
      ValueError: names the member that is damaged or has another shape.
    """
    images = []
    for name in names:
        try:
            image = decode(read(name))
        except MemoryError:  # says nothing of the archive
            raise
        except Exception as error:  # the zip reader raises many kinds on damaged archives
            raise ValueError(f"{name}: {one_line(error)}") from None
        shape = shape or image.shape
        if image.shape != shape:
            found, wanted = shape_name(image.shape), shape_name(shape)
            raise ValueError(f"{name}: image must be {wanted}, as the first one, got {found}")
        images.append(image)
    return np.stack(images)


@contextlib.contextmanager
def opened_decoder(
    path: str | os.PathLike, shape: tuple[int, int, int]
) -> Iterator[Callable[[Sequence[str]], np.ndarray]]:
    """Opens an archive, and gives `decode_members` for it."""
    with opened(path) as read:
        yield lambda names: decode_members(read, names, shape=shape)


def decode_all(
    path: str | os.PathLike,
    names: Sequence[str],
    shape: tuple[int, int, int],
    *,
    workers: int | None = None,
) -> Iterator[np.ndarray]:
    """Decodes all members of an archive, in parallel.

    Args:
      path: the zip file or folder.
      names: [N] the members.
      shape: (H, W, C) of every image.
      workers: the number of processes; by default one a core, or none (this one does the work)
        when there is little to do.

    Yields:
      uint8 [n, H, W, C] (float32 of latents), block after block in the order of `names`.

    Raises:
      ValueError: names the member that is damaged or has another shape.
    """
    step = max(1, CHUNK_PIXELS // (shape[0] * shape[1]))
    if workers is None:  # a process pays off from about half a second of decoding
        workers = min(pool.cores(), len(names) * shape[0] * shape[1] // (2 << 20))
    chunks = (names[start : start + step] for start in range(0, len(names), step))
    yield from pool.imap(functools.partial(opened_decoder, path, shape), chunks, workers)


def shape_name(shape: tuple[int, ...]) -> str:
    """Names a shape the way people do: width x height x channels.

    >>> shape_name((32, 48, 3))
    '48x32x3'
    """
    return f"{shape[1]}x{shape[0]}x{shape[2]}"


def one_line(error: Exception | str) -> str:
    """Says what went wrong without line breaks, and not at length: damaged files are quoted."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

"""Pictures of batches: PNG files and labelled grids."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edm_jax.runtime import files

_INK, _PAPER = 40, 255


def to_image(pixels: np.ndarray) -> Image.Image:
    """A Pillow image of uint8 [H, W, C] pixels, C = 1 or 3."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def read(path: str | os.PathLike) -> np.ndarray:
    """The uint8 [H, W, C] pixels of a PNG."""
    with files.located(path).open("rb") as stream, Image.open(stream) as image:
        return np.atleast_3d(np.asarray(image))


def grid(
    images: np.ndarray,
    columns: int,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    size: int = 1000,
) -> Image.Image:
    """Images in rows, with labels at the left and on top.

    Args:
      images: [N, H, W, C] uint8, row by row.
      columns: images in a row.
      row_labels: a name for each row, or none.
      column_labels: a name for each column, or none.
      size: small images are enlarged by whole factors, up to about this width and height.

    Returns:
      An RGB image.
    """
    count, height, side = images.shape[:3]
    rows = -(-count // columns)
    zoom = max(1, min(size // (columns * side), size // (rows * height)))
    gap = max(1, zoom * side // 16)
    height, side = height * zoom, side * zoom
    letters = min(20, max(10, side // 3))
    font = ImageFont.load_default(size=letters)
    left = max((int(font.getlength(t)) for t in row_labels), default=-2 * gap) + 2 * gap
    top = int(letters * 1.5) if len(column_labels) else 0
    canvas = Image.new(
        "RGB",
        (left + columns * (side + gap) + gap, top + rows * (height + gap) + gap),
        (_PAPER,) * 3,
    )
    draw = ImageDraw.Draw(canvas)
    for i, pixels in enumerate(images):
        row, column = divmod(i, columns)
        tile = to_image(pixels).resize((side, height), Image.Resampling.NEAREST)
        canvas.paste(tile, (left + gap + column * (side + gap), top + gap + row * (height + gap)))
    for row, text in enumerate(row_labels):
        middle = top + gap + row * (height + gap) + height // 2
        draw.text((left - gap, middle), text, fill=(_INK,) * 3, font=font, anchor="rm")
    for column, text in enumerate(column_labels):
        middle = left + gap + column * (side + gap) + side // 2
        draw.text((middle, top // 2), text, fill=(_INK,) * 3, font=font, anchor="mm")
    return canvas


def write(image: Image.Image, path: str | os.PathLike) -> None:
    """Writes a PNG, whole or not at all."""
    with files.whole(path) as file:
        image.save(file, format="PNG")

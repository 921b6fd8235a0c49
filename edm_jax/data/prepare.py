"""Making an archive in the field's format: square PNG files of one size, and their labels."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image

from edm_jax import checks
from edm_jax.data import archive, dataset_json, decode, moments, pool, sources, writer
from edm_jax.runtime import pictures

TRANSFORMS = ("none", "center-crop", "center-crop-wide")
_KINDS = {1: "gray", 3: "RGB", moments.CHANNELS: "latents"}
CHUNK = 64  # images between two entries in the journal


class Format(NamedTuple):
    """How images are converted: TRANSFORMS, then to width x height, with 1 or 3 channels.

    Latents, of 8 channels, are kept as they are.
    """

    transform: str
    width: int
    height: int
    channels: int
    fixed: bool  # no size was asked for: all images must have this one


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a conversion did.

    count: images in the archive. total: images of the source.
    skipped, notes: {reason: (how many, the first one)}.
    """

    path: pathlib.Path
    count: int
    total: int
    format: Format
    label_dim: int
    skipped: dict[str, tuple[int, str]]
    notes: dict[str, tuple[int, str]]

    def line(self) -> str:
        """Says it all in one line."""
        side, colours = self.format.width, _KINDS[self.format.channels]
        classes = f"{self.label_dim} classes" if self.label_dim else "no labels"
        parts = [f"{self.path}: {self.count:,} images, {side}x{side} {colours}, {classes}"]
        if self.skipped:
            number = sum(count for count, _ in self.skipped.values())
            parts.append(f"skipped {number:,} of {self.total:,}: {_listing(self.skipped)}")
        if self.notes:
            parts.append(_listing(self.notes))
        return "; ".join(parts)


def _listing(reasons: dict[str, tuple[int, str]]) -> str:
    return ", ".join(f"{n:,} {reason} (first {name})" for reason, (n, name) in reasons.items())


def prepare(
    source: str | os.PathLike,
    dest: str | os.PathLike,
    *,
    resolution: int | tuple[int, int] | None = None,
    transform: str = "none",
    channels: int | None = None,
    split: str = "train",
    max_images: int | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Callable | None = None,
) -> Summary:
    """Converts images of any kind to an archive; goes on where a killed conversion stopped.

    The bytes of the archive depend on the images and settings alone (and on Pillow's version).

    Args:
      source: one of `sources.KINDS`. Labels come with it, or are the sub-folders by name.
      dest: a .zip. Until it is whole, its beginning is beside it as .zip.partial.
      resolution: in pixels; (width, height) for center-crop-wide. By default that of the first
        image, which all must have.
      transform: "none": resized as it is, also when not square; "center-crop": the square in
        the middle; "center-crop-wide": the middle of that aspect, on a black square.
      channels: 1 or 3; by default 1 if all of a sample of 64 images are gray.
      split: "train" or "test", where the source has both.
      max_images: take this many, evenly spread over the source.
      overwrite: replace `dest`.
      workers: processes; by default as many as pay off.
      progress: makes a progress bar, with the arguments of `tqdm.tqdm`; by default none.

    Returns:
      What was done and what was skipped.

    Raises:
      FileNotFoundError, FileExistsError: `source` is missing; `dest` is there.
      ValueError: an argument or the source is wrong, or no image could be read; in one line.
    """
    dest = pathlib.Path(dest)
    if dest.suffix.lower() != ".zip":
        raise ValueError(f"dest must end in .zip, got {dest}")
    writer.check_free(dest, overwrite=overwrite)
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images must be at least 1, got {max_images}")
    images = sources.open_source(source, split=split, pad=resolution is None)
    chosen: Sequence[int] = range(len(images.items))
    if max_images is not None and max_images < len(chosen):
        chosen = [i * len(images.items) // max_images for i in range(max_images)]
    format_ = _format(source, images, chosen, resolution, transform, channels)
    settings = [images.fingerprint, format_, list(chosen) if max_images else None, PIL.__version__]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    if workers is None:
        workers = min(pool.cores(), len(chosen) // 500)
    bar = None
    with writer.opened(dest, key, overwrite=overwrite) as out:
        if progress:
            bar = progress(
                total=len(chosen), initial=len(out.records), desc=f"writing {dest.name}", unit="img"
            )
        try:
            for done in _converted(images, chosen[len(out.records) :], format_, workers):
                start = len(out.records)
                indices = range(start, start + len(done))
                out.add([(_name(i, format_), *result) for i, result in zip(indices, done)])
                if bar is not None:
                    bar.update(len(done))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        finally:
            if bar is not None:
                bar.close()
        return _finish(source, dest, images, chosen, format_, out)


def _finish(source, dest, images, chosen, format_, out) -> Summary:
    """Writes the labels, gives the archive its name, and counts what happened."""
    kept = [i for i, record in enumerate(out.records) if record.name]
    reasons: tuple[dict, dict] = ({}, {})
    for i, record in enumerate(out.records):
        if record.note:
            table = reasons[bool(record.name)]
            for note in record.note.split("; "):
                count, first = table.get(note, (0, images.title(chosen[i])))
                table[note] = (count + 1, first)
    skipped, notes = reasons
    if not kept:
        raise ValueError(f"{source}: none of {len(chosen):,} images is of use: {_listing(skipped)}")
    labels = [images.targets[chosen[i]] if images.targets else None for i in kept]
    if any(label is None for label in labels):
        missing = [i for i, label in zip(kept, labels) if label is None]
        if len(missing) < len(kept):
            reason = "have no label, so that the archive has none"
            notes[reason] = (len(missing), images.title(chosen[missing[0]]))
        content: dict[str, Any] = {"labels": None}
        label_dim = 0
    else:
        content = {"labels": [[out.records[i].name, label] for i, label in zip(kept, labels)]}
        if images.classes:
            content["classes"] = images.classes
        with archive.naming(source):
            targets = dataset_json.targets(labels)
            dataset_json.one_each(images.classes, targets)  # a reader would refuse too few
        label_dim = dataset_json.label_dim(targets)
        if targets.ndim == 1:
            present = set(targets.tolist())
            empty = [i for i in range(max(label_dim, len(images.classes))) if i not in present]
            if empty:
                first = images.classes[empty[0]] if images.classes else str(empty[0])
                notes["classes have no image"] = (len(empty), first)
    out.finish("dataset.json", json.dumps(content, separators=(",", ":")).encode())
    return Summary(dest, len(kept), len(chosen), format_, label_dim, skipped, notes)


def _name(index: int, format_: Format) -> str:
    latents = format_.channels == moments.CHANNELS
    file = f"img-mean-std-{index:08d}.npy" if latents else f"img{index:08d}.png"
    return f"{index:08d}"[:5] + f"/{file}"


def _format(source, images, chosen, resolution, transform, channels) -> Format:
    """Settles what all images become, from the arguments and a look at a few images."""
    checks.one_of("transform", transform, TRANSFORMS)
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    sample = [chosen[i * len(chosen) // 64] for i in range(64)] if len(chosen) > 64 else chosen
    first, gray = None, True
    with images.opened() as read:
        for i in sample:
            if channels is not None and first is not None:
                break
            with contextlib.suppress(Exception):  # a damaged image is counted when its turn comes
                shape = read(images.items[i])[0].shape
                first, gray = first or shape, gray and shape[2] == 1
    if first is None:
        raise ValueError(f"{source}: none of its first images can be read")
    if first[2] == moments.CHANNELS:
        for name, value in (("resolution", resolution), ("channels", channels)):
            if value is not None:
                raise ValueError(f"{name} must be left out for latents, got {value}")
        resolution, channels = None, moments.CHANNELS
    channels = channels or (1 if gray else 3)
    if resolution is None:
        height, width = first[:2]
        if transform != "none":
            raise ValueError(f"resolution must be given for transform {transform!r}, got None")
        if width != height:
            raise ValueError(
                f"{source}: the first image must be square, got {width}x{height}: "
                "give a resolution, and center-crop as the transform"
            )
        return Format(transform, width, height, channels, True)
    width, height = (resolution, resolution) if np.ndim(resolution) == 0 else resolution
    if width < 1 or height < 1:
        raise ValueError(f"resolution must be at least 1, got {width}x{height}")
    if transform == "center-crop-wide":
        if width <= height:
            raise ValueError(
                f"resolution must be wider than high for {transform}, got {width}x{height}"
            )
    elif width != height:
        raise ValueError(f"resolution must be square for {transform}, got {width}x{height}")
    return Format(transform, width, height, channels, False)


def _converted(
    images: sources.Source, chosen: Sequence[int], format_: Format, workers: int
) -> Iterator[list[tuple[bytes | None, str | None]]]:
    """Converts images in parallel: blocks of (PNG or None, note)."""
    tasks = (
        [images.items[i] for i in chosen[start : start + CHUNK]]
        for start in range(0, len(chosen), CHUNK)
    )
    return pool.imap(functools.partial(_opened, images.opened, format_), tasks, workers)


@contextlib.contextmanager
def _opened(opened: Callable, format_: Format) -> Iterator[Callable[[list], list]]:
    with opened() as read:
        yield lambda items: [convert(read, item, format_) for item in items]


def convert(read: Callable, item: Any, format_: Format) -> tuple[bytes | None, str | None]:
    """Reads and converts an image.

    Args:
      read: from `item` to uint8 [H, W, C] and notes (`sources.Source`).
      item: which image.
      format_: what it shall become.

    Returns:
      The PNG file (.npy of latents), or None if the image is left out; and why, or what is worth a
      note, with "; " between several.

    Raises:
      ValueError: no size was asked for, and the image has another one than the first; or latents
        among images.
    """
    try:
        pixels, lost = read(item)
    except MemoryError:
        raise
    except decode.TooLargeError:
        return None, "of too many pixels for a file of its length"
    except Exception:  # damaged files fail in many ways
        return None, "not readable"
    latents = moments.CHANNELS in (format_.channels, pixels.shape[2])
    if latents:
        wanted = (format_.height, format_.width, format_.channels)
        if pixels.shape != wanted:
            raise ValueError(
                f"{item}: latents must be {decode.shape_name(wanted)}, as the first ones, got "
                f"{decode.shape_name(pixels.shape)}"
            )
        return moments.write(pixels), None
    if format_.channels < pixels.shape[2] and (pixels != pixels[..., :1]).any():
        lost += ("were in colour, and became gray",)
    image = pictures.to_image(pixels).convert({1: "L", 3: "RGB"}[format_.channels])
    wanted = (format_.width, format_.height)
    if format_.fixed and image.size != wanted:
        title = f"{item}: " if isinstance(item, str) else ""
        raise ValueError(
            f"{title}image must be {wanted[0]}x{wanted[1]}, as the first one, got"
            f" {image.width}x{image.height}: give a resolution"
        )
    data, note = transformed(image, format_)
    if data is None:
        return None, note
    return data, "; ".join((*lost, note) if note else lost) or None


def transformed(image: Image.Image, format_: Format) -> tuple[bytes | None, str | None]:
    """Crops, resizes and encodes an image.

    Args:
      image: gray or RGB, as the archive is to be.
      format_: what it shall become.

    Returns:
      The PNG file, or None where the image is left out, and why or what is worth a note.
    """
    wanted, note = (format_.width, format_.height), None
    if format_.transform != "none":
        # The largest area of the wanted aspect, in the middle.
        width = min(image.width, image.height * wanted[0] // wanted[1])
        height = min(image.height, image.width * wanted[1] // wanted[0])
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    elif image.width != image.height:
        note = "were stretched to a square"
    if format_.transform == "center-crop-wide" and image.width < wanted[0]:
        return None, f"smaller than {wanted[0]}x{wanted[1]}"
    if image.size != wanted:
        if image.width < wanted[0] or image.height < wanted[1]:
            note = note or "were enlarged"
        image = image.resize(wanted, Image.Resampling.LANCZOS)
    if wanted[0] != wanted[1]:
        canvas = Image.new(image.mode, (wanted[0], wanted[0]))
        canvas.paste(image, (0, (wanted[0] - wanted[1]) // 2))
        image = canvas
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=0)
    return buffer.getvalue(), note

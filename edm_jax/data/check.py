"""What an archive holds: numbers, and a contact sheet."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from PIL import Image

from edm_jax import latents
from edm_jax.data.archive import Dataset
from edm_jax.runtime import pictures

BLOCK = 4096  # images at a time: a memory-mapped set does not have to fit
TILE = 128  # pixels
USUAL = 0.5  # sigma_data of the paper's settings (Karras et al. 2022, table 1)
FAR = 1.5  # the factor from which it is worth another


@dataclasses.dataclass(frozen=True)
class Report:
    """The numbers of a data set, for values in [-1, 1].

    count: images.
    resolution: their height and width, in pixels.
    channels: 1 for gray, 3 for RGB, 4 for latents.
    label_dim: the width L of a label; 0 where there are none.
    classes: the names of the classes, one for each of `label_dim`, or ().
    class_counts: [L] images of each class; () where labels are no classes.
    mean, std: [C] of each channel.
    sigma_data: the standard deviation of all values together, the sigma_data of EDM's
      preconditioning (Karras et al. 2022, table 1).
    """

    count: int
    resolution: int
    channels: int
    label_dim: int
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    mean: np.ndarray
    std: np.ndarray
    sigma_data: float

    def lines(self) -> list[str]:
        """Says it line by line."""
        colours = {1: "gray", 3: "RGB", latents.CHANNELS: "latents"}[self.channels]
        return [
            f"images      {self.count:,}",
            f"size        {self.resolution}x{self.resolution} {colours}",
            f"labels      {self._labels()}",
            f"mean        {_numbers(self.mean)}",
            f"std         {_numbers(self.std)}",
            f"sigma_data  {self.sigma_data:.4f}{self._advice()}",
        ]

    def _advice(self) -> str:
        """Whether the usual sigma_data serves: the network sees values of std ratio, for 1."""
        ratio = self.sigma_data / USUAL
        if round(max(ratio, 1 / max(ratio, 1e-9)), 1) <= FAR:
            return f" (within a factor of {FAR:g} of {USUAL}, which serves as it is)"
        return (
            f" (set it in training: at {USUAL} the network's inputs and targets would have a "
            f"standard deviation of {ratio:.2g} where 1 is meant)"
        )

    def _labels(self) -> str:
        if not self.label_dim:
            return "none"
        if not self.class_counts:
            return f"vectors of {self.label_dim} numbers"
        fewest, most = min(self.class_counts), max(self.class_counts)
        each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        names = f" ({', '.join(self.classes)})" if 0 < len(self.classes) <= 20 else ""
        empty = [i for i, number in enumerate(self.class_counts) if not number]
        first = ", ".join(self.classes[i] if self.classes else str(i) for i in empty[:20])
        without = f"; {len(empty)} without images: {first}" if empty else ""
        without += ", …" if len(empty) > 20 else ""
        return f"{self.label_dim} classes of {each} images{names}{without}"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:+.4f}" for value in values)


def report(dataset: Dataset) -> Report:
    """Counts a data set, exactly: mean and variance come from integer sums.

    >>> from edm_jax.data import archive
    >>> found = report(archive.load("digits"))
    >>> found.count, found.class_counts[:3], round(found.sigma_data, 4)
    (1797, (178, 182, 177), 0.7518)
    """
    mean, std, sigma_data = (_of_latents if dataset.latents else _of_images)(dataset)
    class_counts = ()
    if dataset.targets is not None and dataset.targets.ndim == 1:
        class_counts = tuple(np.bincount(dataset.targets).tolist())
    return Report(
        len(dataset.images),
        dataset.resolution,
        dataset.channels,
        dataset.label_dim,
        dataset.classes,
        class_counts,
        mean,
        std,
        sigma_data,
    )


def _blocks(dataset: Dataset) -> Iterator[np.ndarray]:
    for start in range(0, len(dataset.images), BLOCK):
        yield np.asarray(dataset.images[start : start + BLOCK])


def _of_images(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and deviation of each channel, and the deviation of all."""
    counts = np.zeros((dataset.channels, 256), np.int64)
    for block in _blocks(dataset):
        for channel in range(dataset.channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    return *_moments(counts), float(_moments(counts.sum(axis=0))[1])


def _of_latents(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, float]:
    """The same of latents as a model sees them: var x = scale^2 (var mean + E deviation^2)."""
    first, second = np.zeros(latents.CHANNELS), np.zeros(latents.CHANNELS)
    count = np.prod(dataset.images.shape[:3])
    for block in _blocks(dataset):
        mean, deviation = np.split(block.astype(np.float64), 2, axis=-1)
        x = mean * latents.SCALE + latents.BIAS
        first += x.sum((0, 1, 2))
        second += (x**2 + (deviation * latents.SCALE) ** 2).sum((0, 1, 2))
    mean = first / count
    variance = second.mean() / count - mean.mean() ** 2
    return mean, np.sqrt(second / count - mean**2), float(np.sqrt(variance))


def _moments(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of values / 127.5 - 1 that occur `counts` [..., 256] times."""
    values = np.arange(256) / 127.5 - 1
    share = counts / counts.sum(axis=-1, keepdims=True)
    mean = share @ values
    return mean, np.sqrt((share * (values - mean[..., None]) ** 2).sum(axis=-1))


def contact_sheet(dataset: Dataset, *, columns: int = 10) -> Image.Image:
    """Draws images: a row for each of up to 20 classes, or 100 from all over the set."""
    count = len(dataset.images)
    if dataset.targets is not None and dataset.targets.ndim == 1:
        present = np.unique(dataset.targets)
        present = present[np.arange(min(20, len(present))) * len(present) // min(20, len(present))]
        rows = [_spread(np.flatnonzero(dataset.targets == label), columns) for label in present]
        names = [_class_name(dataset, label) for label in present]
        indices = np.concatenate(rows)
    else:
        indices = _spread(np.arange(count), min(count, columns * 10))
        names = []
    tiles = np.stack([_tile(_picture(dataset.images[i])) for i in indices])
    return pictures.grid(tiles, columns, row_labels=names)


def _spread(indices: np.ndarray, wanted: int) -> np.ndarray:
    """Takes `wanted` of the indices, from the first to the last; repeats where they are fewer."""
    return indices[np.arange(wanted) * len(indices) // wanted]


def _class_name(dataset: Dataset, label: int) -> str:
    return dataset.classes[label] if label < len(dataset.classes) else str(label)


def _picture(image: np.ndarray) -> np.ndarray:
    """An image itself; of latents the means of three channels, which show shapes."""
    if image.dtype == np.uint8:
        return image
    x = image[..., : latents.CHANNELS] * latents.SCALE + latents.BIAS
    return np.clip(127.5 * x[..., :3] + 128, 0, 255).astype(np.uint8)


def _tile(image: np.ndarray) -> np.ndarray:
    """Shrinks an image that is too large for a contact sheet."""
    if image.shape[0] <= TILE:
        return image
    small = pictures.to_image(image).resize((TILE, TILE), Image.Resampling.LANCZOS)
    return np.asarray(small).reshape(TILE, TILE, -1)

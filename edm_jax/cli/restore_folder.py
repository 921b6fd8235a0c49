"""The folder of restored images: names, scores by the files that are there, a picture of them."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from etils import epath

from edm_jax import generation, inverse
from edm_jax.cli.images import inputs
from edm_jax.data import archive
from edm_jax.generation import Problem
from edm_jax.runtime import files, pictures

RECORD, GRID = "restore.json", "grid.png"
PARTS = "truth", "measured", "draws", "mean", "deviation"
GRID_ROWS, GRID_DRAWS = 8, 4  # the most that the picture shows
GRID_SIZE = 1200  # pixels, about: room for the titles


def name_of(part: str, place: int, draw: int | None = None) -> str:
    """Where an image goes.

    >>> name_of("truth", 7), name_of("draws", 7, 2)
    ('truth/000007.png', 'draws/000007-02.png')

    Args:
      part: one of `PARTS`.
      place: the image's, in its data set.
      draw: which, of the draws.
    """
    return f"{part}/{place:06d}{'' if draw is None else f'-{draw:02d}'}.png"


def check(folder: epath.Path, images: archive.Images, places: np.ndarray) -> None:
    """Checks that a folder is this command's, and of the same images.

    Args:
      folder: it need not be there.
      images: uint8 [N, H, W, C], of the data set.
      places: [n] those that are to be restored.

    Raises:
      ValueError: other files, or images of another data set.
    """
    if not folder.exists():
        return
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if others and not (folder / RECORD).exists():
        raise ValueError(f"--out must be a new folder, or one of restored images, got {folder}")
    for place in places:
        path = folder / name_of("truth", place)
        if path.exists() and not np.array_equal(pictures.read(path), images[place]):
            raise ValueError(
                f"--data must be what {folder} was made of, got another image at place {place}; "
                "choose another folder, or remove that one"
            )


def write_inputs(
    folder: epath.Path,
    problem: Problem,
    dataset: archive.Dataset,
    places: np.ndarray,
    batch_size: int,
) -> None:
    """Writes the images and pictures of their measurements, where they are not yet there.

    Args:
      folder: where they go.
      problem: the measurement.
      dataset: of the images.
      places: [n] which of them.
      batch_size: images at once.
    """
    for part in PARTS:
        files.made(folder / part)
    shape = dataset.images.shape[1:]

    @jax.jit
    def measured(x: jax.Array, places: jax.Array) -> jax.Array:
        y = generation.measure(problem, x, places)
        return generation.to_uint8(inverse.picture(problem.operator, y, shape))

    # That of the measurement is written last: where it is, the image is too.
    missing = [p for p in places if not (folder / name_of("measured", p)).exists()]
    for start in range(0, len(missing), batch_size):
        rows = np.array(missing[start : start + batch_size])
        pixels = np.asarray(measured(inputs(dataset, rows), rows))
        for place, truth, one in zip(rows, dataset.images[rows], pixels):
            for part, image in (("truth", truth), ("measured", one)):
                pictures.write(pictures.to_image(image), folder / name_of(part, place))


def metrics() -> tuple[Callable[..., float | None], Callable[..., float]]:
    """PSNR and SSIM of (truth, image), uint8 or in its range, by scikit-image.

    Raises:
      ValueError: scikit-image is not installed.
    """
    try:
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    except ImportError:
        raise ValueError("restore needs scikit-image: pip install 'edm_jax[restore]'") from None

    def psnr(truth: np.ndarray, image: np.ndarray) -> float | None:
        if np.array_equal(truth, image):
            return None
        return float(peak_signal_noise_ratio(truth, image, data_range=255))

    def ssim(truth: np.ndarray, image: np.ndarray) -> float:
        window = ssim_window(truth.shape)
        return float(
            structural_similarity(truth, image, data_range=255, channel_axis=-1, win_size=window)
        )

    return psnr, ssim


def ssim_window(shape: tuple[int, ...]) -> int:
    """The side of the windows that SSIM compares: scikit-image's 7, or what a smaller image has."""
    side = min(shape[:2])
    return min(7, side - 1 + side % 2)


def finish(folder: epath.Path, places: Iterable[int], draws: int) -> list[dict[str, Any]]:
    """Writes the mean and the deviation of the draws, and the picture; scores all.

    Everything is computed from the files of truth and draws, so that it does not depend on how
    often the command was stopped; what was left unfinished then goes.

    Args:
      folder: where they all are.
      places: of the images.
      draws: how many there are of each.

    Returns:
      For each image its place, the PSNR and SSIM of each draw, and those of their mean; PSNR in
      decibels of 255, None for equal images.
    """
    psnr, ssim = metrics()
    for part in PARTS:
        files.remove_unfinished(folder / part)
    rows, tiles = [], []
    for place in places:
        truth = pictures.read(folder / name_of("truth", place)).astype(np.float64)
        drawn = [pictures.read(folder / name_of("draws", place, k)) for k in range(draws)]
        whole = np.stack(drawn).astype(np.float64)
        row: dict[str, Any] = {"image": place}
        row |= {"psnr": [psnr(truth, one) for one in whole]}
        row |= {"ssim": [ssim(truth, one) for one in whole]}
        shown = [name_of("truth", place), name_of("measured", place)]
        shown += [name_of("draws", place, k) for k in range(min(draws, GRID_DRAWS))]
        if draws > 1:
            mean, deviation = whole.mean(axis=0), whole.std(axis=0, ddof=1)
            row |= {"psnr_of_mean": psnr(truth, mean), "ssim_of_mean": ssim(truth, mean)}
            _write(folder / name_of("mean", place), mean)
            _write(folder / name_of("deviation", place), 2 * deviation)
            shown += [name_of("mean", place), name_of("deviation", place)]
        rows.append(row)
        if len(rows) <= GRID_ROWS:
            tiles += [pictures.read(folder / name) for name in shown]
    titles = ["truth", "measured", *(f"{k + 1}" for k in range(min(draws, GRID_DRAWS)))]
    titles += ["mean", "deviation"] if draws > 1 else []
    tiled = np.stack(tiles)
    picture = pictures.grid(tiled, len(titles), column_labels=titles, size=GRID_SIZE)
    pictures.write(picture, folder / GRID)
    return rows


def _write(path: epath.Path, pixels: np.ndarray) -> None:
    rounded = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    pictures.write(pictures.to_image(rounded), path)


def averages(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The mean of each score over images and draws; equal images have no PSNR and do not count."""
    found: dict[str, float | None] = {}
    for name in (name for name in rows[0] if name != "image"):
        each = [value for row in rows for value in np.atleast_1d(row[name]) if value is not None]
        found[name] = float(np.mean(each)) if each else None
    return found

"""Images of a data set for a model: that they fit it, which ones, and as it takes them."""

import numpy as np

from edm_jax.data import archive
from edm_jax.model import Model


def load_fitting(path: str, model: Model, *, labelled: bool = True) -> archive.Dataset:
    """Loads what --data names.

    Args:
      path: "digits", a zip or a folder.
      model: what the images are for.
      labelled: whether labels are needed, where the model has classes.

    Raises:
      ValueError: images of another size, or of other classes, than the model was made for.
      OSError: no such data.
    """
    classes = model.config.label_dim if labelled else 0
    dataset = archive.load(path, labels=None if classes else False)
    if dataset.images.shape[1:] != model.image_shape:
        raise ValueError(
            f"--data must have images of {model.image_shape}, as the model has, "
            f"got {dataset.images.shape[1:]}"
        )
    if dataset.label_dim != classes:
        raise ValueError(
            f"--data must have {classes} classes, as the model has, got {dataset.label_dim}"
        )
    return dataset


def evenly_spread(dataset: archive.Dataset, count: int) -> np.ndarray:
    """Indices of `count` images, evenly spread; of all, where there are fewer."""
    whole = len(dataset.images)
    return np.linspace(0, whole, min(count, whole), endpoint=False).astype(int)


def inputs(dataset: archive.Dataset, rows: np.ndarray) -> np.ndarray:
    """The images of some rows, float32 in [-1, 1]."""
    return np.asarray(dataset.images[rows], np.float32) / 127.5 - 1

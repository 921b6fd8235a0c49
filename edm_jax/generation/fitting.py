"""A data set for a model: loaded, and checked to be of its size and its classes."""

from edm_jax.data import archive
from edm_jax.model import Model


def load_fitting(
    path: str, model: Model, *, labelled: bool = True, name: str = "--data"
) -> archive.Dataset:
    """Loads a data set that a model is to see.

    Args:
      path: "digits", a zip or a folder.
      model: what the images are for.
      labelled: whether labels are needed, where the model has classes.
      name: what messages call it.

    Raises:
      ValueError: images of another size, or of other classes, than the model was made for.
      OSError: no such data.
    """
    classes = model.config.label_dim if labelled else 0
    dataset = archive.load(path, labels=None if classes else False)
    found = (*dataset.images.shape[1:3], dataset.channels)
    if found != model.image_shape:
        raise ValueError(
            f"{name} must have images of {model.image_shape}, as the model has, got {found}"
        )
    if dataset.label_dim != classes:
        raise ValueError(
            f"{name} must have {classes} classes, as the model has, got {dataset.label_dim}"
        )
    return dataset

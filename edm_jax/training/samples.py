"""The pictures that a run draws of itself."""

import numpy as np
from PIL import Image

from edm_jax import generation
from edm_jax.model import Model
from edm_jax.runtime import pictures
from edm_jax.training.config import Config


def grid(model: Model, config: Config) -> Image.Image:
    """A picture of samples: a row for each of up to ten classes, or ten rows without classes.

    Args:
      model: with the parameters to draw from.
      config: the run's settings; `sample_steps` are the sampler's.
    """
    rows = min(10, model.config.label_dim) or 10
    classes = list(range(rows)) if model.config.label_dim else None
    seeds = range(10) if classes else range(100)
    sampler = generation.sampler_for(model, config.sample_steps)
    parts = generation.generate(model, sampler, seeds, classes=classes, batch_size=50)
    images = np.concatenate([part.images for part in parts])
    names = model.config.class_names[:rows] or map(str, classes or ())
    return pictures.grid(images, columns=10, row_labels=list(names))

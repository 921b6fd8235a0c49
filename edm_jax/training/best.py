"""Scores of the averaged model on the way, and the best model so far, kept by its step."""

import re
from typing import Any

import jax
import numpy as np
from etils import epath

from edm_jax import generation
from edm_jax.evaluation import references, scores
from edm_jax.model import Model
from edm_jax.runtime import files
from edm_jax.training import metrics
from edm_jax.training.config import Config
from edm_jax.weights import save

FOLDER = "best"
_NAME = re.compile(r"step-(\d{8})")
_BATCH = 64


class Measure:
    """Draws images of a model and scores them: `edm-jax evaluate fid` on the way."""

    def __init__(self, config: Config, model: Model):
        """Reads the reference, so that one that cannot be used stops a run before it begins.

        Args:
          config: with `eval_reference`, `eval_images` and `sample_steps`.
          model: of the images that are to be measured; its parameters do not matter.

        Raises:
          ValueError: no reference, or one of features that cannot be made here, or of other
            images.
          OSError: it cannot be read.
        """
        self._reference, self._extractor = references.opened(config.eval_reference or "")
        one = jax.ShapeDtypeStruct((1, *model.image_shape), np.uint8)
        width = jax.eval_shape(self._extractor.apply, self._extractor.params, one).shape[1]
        if width != (known := len(self._reference.statistics.mean)):
            raise ValueError(
                f"eval_reference must be of {width} features, those of this model's images, "
                f"got {known}"
            )
        self._count, self._steps = config.eval_images, config.sample_steps
        self._settings = scores.settings(self._count, self._reference)

    def __call__(self, model: Model) -> dict[str, float]:
        """Scores of images of seeds 0, 1, …, or none where an image holds NaN or infinity.

        Args:
          model: with the averaged parameters.

        Returns:
          Name -> score; the first is the distance by which models are compared.
        """
        sampler = generation.sampler_for(model, self._steps)
        parts = generation.generate(model, sampler, range(self._count), batch_size=_BATCH)
        drawn = list(parts)
        if not all(part.finite.all() for part in drawn):
            return {}
        images = (part.images for part in drawn)
        features = np.concatenate(list(self._extractor.over(images, batch_size=_BATCH)))
        return scores.measure(features, self._reference, self._extractor, self._settings)


def keep(model: Model, workdir: epath.Path, step: int, found: dict[str, float]) -> bool:
    """Keeps a model in place of the one that was the best before, where its distance is lower.

    Args:
      model: with the averaged parameters.
      workdir: the run's folder, whose stats.jsonl has the scores of the one before.
      step: optimizer steps taken.
      found: its scores; the first decides.

    Returns:
      Whether it was kept.
    """
    name, value = next(iter(found.items()))
    before = _kept(workdir)
    known = {r["step"]: r[name] for r in metrics.read(workdir) if r.get(name) is not None}
    if any(known.get(other, value) <= value for other in before if other != step):
        return False
    save(model, workdir / FOLDER / f"step-{step:08d}", overwrite=True)
    for other, path in before.items():
        if other != step:
            files.remove(path)
    return True


def rewind(workdir: epath.Path, step: int) -> int:
    """Removes a model of a later step, which a run that goes on measures again.

    Args:
      workdir: the run's folder.
      step: where it goes on.

    Returns:
      How many were removed.
    """
    late = [path for other, path in _kept(workdir).items() if other > step]
    for path in late:
        files.remove(path)
    return len(late)


def _kept(workdir: epath.Path) -> dict[int, Any]:
    folder = workdir / FOLDER
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    matches = [(_NAME.fullmatch(path.name), path) for path in paths]
    return {int(match[1]): path for match, path in matches if match}

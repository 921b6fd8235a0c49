"""Scores of the averaged model on the way: of images that it draws, and of images held out."""

from typing import Any

import numpy as np

from edm_jax import generation
from edm_jax.checks import one_of
from edm_jax.evaluation import likelihoods, references, scores
from edm_jax.generation.fitting import load_fitting
from edm_jax.model import Model
from edm_jax.runtime import processes
from edm_jax.training.config import Config

_BATCH = 64


class Measure:
    """All scores that a run asks for.

    Attributes:
      best_by: the score that decides which model is the best.
    """

    def __init__(self, config: Config, model: Model):
        """Reads references and images, so that a run is stopped before it begins where it must be.

        Args:
          config: with the settings `eval_…` and `sample_steps`.
          model: what is to be measured; its parameters do not matter.

        Raises:
          ValueError: a reference or images that do not fit the model, or features that cannot be
            made here; a score to decide by that will not be there.
          OSError: a file that cannot be read.
        """
        self._parts: list[_Drawn | _HeldOut] = []
        if config.eval_reference:
            self._parts.append(_Drawn(config, config.eval_reference, model))
        if config.eval_data:
            self._parts.append(_HeldOut(config, config.eval_data, model))
        names = [name for part in self._parts for name in part.names]
        self.best_by = one_of("eval_best", config.eval_best or names[0], names)

    def __call__(self, model: Model) -> dict[str, float]:
        """The scores, or none where an image or a likelihood is NaN or infinite.

        Args:
          model: with the averaged parameters.

        Returns:
          Name -> score.
        """
        found: dict[str, float] = {}
        for part in self._parts:
            scored = part(model)
            if not scored:
                return {}
            found |= scored
        return found


class _Drawn:
    """Draws images and scores them: `edm-jax evaluate fid` on the way."""

    def __init__(self, config: Config, path: str, model: Model):
        self._reference, self._extractor = references.opened(
            path, model.image_shape, name="eval_reference"
        )
        self._count, self._steps = config.eval_images, config.sample_steps
        self._settings = scores.settings(self._count, self._reference)
        self.names = scores.names(self._extractor, self._settings)

    def __call__(self, model: Model) -> dict[str, float]:
        sampler = generation.sampler_for(model, self._steps)
        parts = generation.generate(model, sampler, range(self._count), batch_size=_BATCH)
        drawn = list(parts)
        if not all(part.finite.all() for part in drawn):
            return {}
        images = (part.images for part in drawn)
        features = np.concatenate(list(self._extractor.over(images, batch_size=_BATCH)))
        return scores.measure(features, self._reference, self._extractor, self._settings)


class _HeldOut:
    """Bits per dimension of images: `edm-jax evaluate bpd` on the way, to the same numbers."""

    names = ("bits_per_dim", "elbo_bits_per_dim")

    def __init__(self, config: Config, path: str, model: Model):
        self._data = load_fitting(path, model, name="eval_data")
        likelihoods.grids(model, likelihoods.Settings())  # refuses models without likelihoods
        known, count = len(self._data.images), config.eval_data_images
        if count > known:
            raise ValueError(f"eval_data_images must be at most {known}, got {count}")
        self._chosen = references.evenly_spread(known, count)
        # No more than a device's share, since the last batch is padded.
        self._batch = min(_BATCH, -(-count // processes.local_device_count()))

    def __call__(self, model: Model) -> dict[str, float]:
        def rows(indices: np.ndarray) -> tuple[Any, Any]:
            labels = self._data.label_rows(indices) if model.config.label_dim else None
            return self._data.images[indices], labels

        settings = likelihoods.Settings()
        chosen, size = self._chosen, self._batch
        parts = list(likelihoods.batches(model, settings, rows, chosen, batch_size=size))
        if not all(part.finite.all() for part in parts):
            return {}
        flow, elbo = (
            np.concatenate(each).mean(dtype=np.float64)
            for each in ([p.flow for p in parts], [p.elbo.sum(1, np.float64) for p in parts])
        )
        return dict(zip(self.names, (float(flow), float(elbo))))

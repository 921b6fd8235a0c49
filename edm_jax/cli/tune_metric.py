"""A score of drawn images by which a tuned sampler is chosen, as the options of `tune` say it."""

import argparse

import numpy as np

from edm_jax import generation
from edm_jax.checks import one_of
from edm_jax.evaluation import references, scores
from edm_jax.model import Model
from edm_jax.samplers import Tableau


def add_metric_arguments(parser: argparse.ArgumentParser) -> None:
    """--metric, --reference and --metric-images."""
    add = parser.add_argument_group("choice by a score of images").add_argument
    add(
        "--metric",
        metavar="NAME",
        help="choose by this score of the reference's features, such as fid, frechet_pixels or "
        "recall (by distance from the flow)",
    )
    add(
        "--reference",
        metavar="FILE",
        help="a file by edm-jax evaluate reference, or an official one",
    )
    add(
        "--metric-images",
        type=int,
        metavar="N",
        help="images to choose on, and as many others to tell the score of (1000)",
    )


class Metric:
    """A score of a sampler's images, of two sets of seeds.

    Attributes:
      name: of the score.
    """

    def __init__(
        self, args: argparse.Namespace, drawn: Model | generation.Guided, seeds: list[int]
    ) -> None:
        """Reads the reference.

        Args:
          args: with what `add_metric_arguments` adds, and --batch; --metric is given.
          drawn: what images are drawn from.
          seeds: that the search takes; images are of others, those after them.

        Raises:
          ValueError: no reference, or one of features that cannot be made here or of other images;
            a score that will not be there; too few images, or too few seeds for them.
          OSError: the reference cannot be read.
        """
        if args.reference is None:
            raise ValueError("--reference must be given with --metric, got none")
        if drawn.config.latents:
            raise ValueError("--metric must be left out for a model of latents")
        count = 1000 if args.metric_images is None else args.metric_images
        first = max(seeds) + 1
        if not 2 <= count <= (2**32 - first) // 2:
            raise ValueError(f"--metric-images must be at least 2 and leave seeds, got {count}")
        self._sets = [range(first + part * count, first + (part + 1) * count) for part in (0, 1)]
        self._drawn, self._batch = drawn, args.batch
        self._reference, self._extractor = references.opened(
            args.reference, drawn.image_shape, name="--reference"
        )
        self._settings = scores.settings(count, self._reference)
        self.name = one_of("--metric", args.metric, scores.names(self._extractor, self._settings))

    def to_choose(self, tableau: Tableau) -> float:
        """How bad the images of the first seeds are: the lower, the better."""
        return self._of(tableau, 0) * (-1 if self.name in scores.HIGHER else 1)

    def to_tell(self, tableau: Tableau) -> float:
        """The score of images of the other seeds, which nothing was chosen on."""
        return self._of(tableau, 1)

    def _of(self, tableau: Tableau, part: int) -> float:
        parts = generation.generate(self._drawn, tableau, self._sets[part], batch_size=self._batch)
        images = [found.images for found in parts if found.finite.all()]
        if sum(map(len, images)) < len(self._sets[part]):  # no sampler at all
            return float("-inf" if self.name in scores.HIGHER else "inf")
        features = np.concatenate(list(self._extractor.over(images, batch_size=self._batch)))
        found = scores.measure(features, self._reference, self._extractor, self._settings)
        return found[self.name]

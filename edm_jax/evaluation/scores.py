"""All scores of one set of features against a reference, with the settings they were made by."""

from typing import Any

import numpy as np

from edm_jax.evaluation.features import Extractor
from edm_jax.evaluation.frechet_distance import frechet, frechet_infinity
from edm_jax.evaluation.kernel import kernel_distance
from edm_jax.evaluation.neighbours import PrecisionRecall, precision_recall
from edm_jax.evaluation.predictions import inception_score
from edm_jax.evaluation.references import Reference, evenly_spread
from edm_jax.evaluation.statistics import Statistics

SUBSETS, SUBSET = 100, 1000  # of KID
NEIGHBOURS, POINTS = 3, 10_000  # of precision and recall, density and coverage
SPLITS = 10  # of the inception score
SIZES, SMALLEST = 15, 5000  # of FID∞
# Scores of which more is better.
HIGHER = frozenset({*PrecisionRecall._fields, "inception_score"})


def settings(count: int, reference: Reference) -> dict[str, Any]:
    """The settings of the scores of `count` images; those of the papers, where there are enough.

    Args:
      count: images of each set that is measured, at least 2.
      reference: what they are measured against.

    Returns:
      By the name of a group of scores; a group is missing where it cannot be measured.
    """
    smallest = SMALLEST if count > SMALLEST else max(2, count // 10)
    found: dict[str, Any] = {"inception_score": {"splits": min(SPLITS, count)}}
    if count > smallest:
        found["infinity"] = {"sizes": SIZES, "smallest": smallest}
    kept = len(_kept(reference))
    if kept >= 2:
        found["kernel"] = {"subsets": SUBSETS, "size": min(SUBSET, count, kept)}
    if min(count, kept) > NEIGHBOURS:
        points = [min(POINTS, count), min(POINTS, kept)]
        found["neighbours"] = {"k": NEIGHBOURS, "fake": points[0], "real": points[1]}
    return found


def measure(
    features: np.ndarray, reference: Reference, extractor: Extractor, chosen: dict[str, Any]
) -> dict[str, float]:
    """The scores of images.

    Args:
      features: [n, d] of the images, in the order in which they were made.
      reference: what they are measured against.
      extractor: what made both.
      chosen: by `settings`.

    Returns:
      Name -> score. Of Inception's features `fid`, `kid`, `fid_infinity`; of others `frechet_…`,
      `kernel_…` and `frechet_infinity_…` with their name, so that nobody takes them for FID.

    Raises:
      ValueError: features of another width than the reference's, NaN or infinity.
    """
    distance, infinity, kernel = _names(extractor)
    found = {distance: frechet(Statistics.of(features), reference.statistics)}
    if "infinity" in chosen:
        limit = frechet_infinity(features, reference.statistics, **chosen["infinity"])
        found[infinity] = limit.value
    if "kernel" in chosen:
        kid = kernel_distance(features, _kept(reference), **chosen["kernel"])
        found[kernel] = kid.mean
    if "neighbours" in chosen:
        near = chosen["neighbours"]
        real = _kept(reference)[evenly_spread(len(_kept(reference)), near["real"])]
        fake = features[evenly_spread(len(features), near["fake"])]
        found |= precision_recall(real, fake, k=near["k"])._asdict()
    if extractor.head is not None:
        logits = (part @ extractor.head.T for part in np.array_split(features, 64))
        predictions = np.concatenate(list(logits))
        found["inception_score"] = inception_score(predictions, **chosen["inception_score"]).mean
    return found


def _names(extractor: Extractor) -> tuple[str, str, str]:
    if extractor.name == "inception":
        return "fid", "fid_infinity", "kid"
    name = extractor.name
    return f"frechet_{name}", f"frechet_infinity_{name}", f"kernel_{name}"


def names(extractor: Extractor, chosen: dict[str, Any]) -> list[str]:
    """What `measure` is going to measure, in its order; the distance first.

    Args:
      extractor: what makes the features.
      chosen: by `settings`.
    """
    distance, infinity, kernel = _names(extractor)
    groups = {"infinity": [infinity], "kernel": [kernel], "neighbours": PrecisionRecall._fields}
    found = [distance, *(n for group, each in groups.items() if group in chosen for n in each)]
    return found + ["inception_score"] * (extractor.head is not None)


def _kept(reference: Reference) -> np.ndarray:
    """The features of the data that the reference has; of none, no rows."""
    return np.empty((0, 1)) if reference.features is None else reference.features


def notes(count: int, reference: Reference, *, full: int) -> list[str]:
    """What a reader of the scores has to know.

    Args:
      count: images of each set that is measured.
      reference: what they are measured against.
      full: images of a published FID.
    """
    width, known = len(reference.statistics.mean), reference.statistics.num
    said = []
    if count != full:
        said.append(f"{count} images, not {full}: not comparable with published numbers")
    for whose, number in (("images", count), ("images of the reference", known)):
        if number is not None and number <= width:
            said.append(
                f"{number} {whose} and {width} features: the covariance has a rank of at most "
                f"{number - 1}; the distance is exact of it"
            )
    return said


def summary(values: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Each score over several sets of images: all values, the smallest, the mean, the spread.

    >>> summary([{"fid": 2.0}, {"fid": 3.0}])["fid"]
    {'values': [2.0, 3.0], 'min': 2.0, 'mean': 2.5, 'max': 3.0, 'std': 0.5}

    Args:
      values: the scores of each set; the same names in all.
    """
    found = {}
    for name in values[0]:
        each = [scores[name] for scores in values]
        found[name] = {
            "values": each,
            "min": min(each),
            "mean": float(np.mean(each)),
            "max": max(each),
            "std": float(np.std(each)),
        }
    return found

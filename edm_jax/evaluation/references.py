"""Reference files: statistics of a data set's features, and some of the features themselves."""

import hashlib
import io
import json
import os
from typing import Any, NamedTuple

import numpy as np

from edm_jax.evaluation.features import Extractor
from edm_jax.evaluation.statistics import Statistics, check_features, read_arrays, read_statistics
from edm_jax.runtime import files


class Reference(NamedTuple):
    """What images are measured against.

    Attributes:
      statistics: of all the data's features.
      features: float32 [m, d], of some of the data, evenly spread; None in files of others, which
        then know Fréchet distances alone.
      extractor: what its features are, like `Extractor.about()`; None in files of others.
      sha256: of the file.
    """

    statistics: Statistics
    features: np.ndarray | None
    extractor: dict[str, str] | None
    sha256: str


def save(
    path: str | os.PathLike, features: np.ndarray, extractor: Extractor, *, keep: int = 10_000
) -> None:
    """Writes a reference file: `mu` and `sigma` as the field has them, and more beside them.

    Args:
      path: the .npz to make; one that exists is replaced.
      features: [n, d] of a whole data set, without flips.
      extractor: what they are by.
      keep: how many features to keep, evenly spread over the data: KID, precision, recall,
        density and coverage need them.

    Raises:
      ValueError: features that have no statistics, or keep below 1.
      OSError: the path cannot be written.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    found = Statistics.of(features)
    with files.whole(path) as file:
        np.savez(
            file,
            mu=found.mean,
            sigma=found.covariance,
            count=np.int64(len(features)),
            features=np.float32(features[evenly_spread(len(features), keep)]),
            extractor=np.array(json.dumps(extractor.about())),
        )


def evenly_spread(whole: int, count: int) -> np.ndarray:
    """Indices of `count` of `whole` things, evenly spread; of all, where there are fewer."""
    return np.linspace(0, whole, min(count, whole), endpoint=False).astype(int)


def load(path: str | os.PathLike, extractor: Extractor) -> Reference:
    """Reads a reference file: one of ours, or `mu` and `sigma` of EDM or ADM.

    Args:
      path: the .npz; nothing in it is executed.
      extractor: what is going to be compared with it.

    Returns:
      The reference.

    Raises:
      ValueError: no such file, damaged, or of the features of something else.
      OSError: it cannot be read.
    """
    content = files.located(path).read_bytes()
    statistics = read_statistics(io.BytesIO(content), name=os.fspath(path))
    arrays = read_arrays(io.BytesIO(content), ("features", "extractor"), name=os.fspath(path))
    about: dict[str, Any] | None = None
    if "extractor" in arrays:
        about = json.loads(str(arrays["extractor"]))
        for part, value in extractor.about().items():
            if about.get(part) != value:
                raise ValueError(
                    f"{os.fspath(path)}: must be of features whose {part} is {value!r}, got "
                    f"{about.get(part)!r}"
                )
    features = arrays.get("features")
    if features is not None and check_features(features).shape[1] != len(statistics.mean):
        raise ValueError(f"{os.fspath(path)}: features must have the width of mu")
    return Reference(statistics, features, about, hashlib.sha256(content).hexdigest())

"""Reference files: statistics of a data set's features, and some of the features themselves."""

import hashlib
import io
import json
import os
from typing import Any, NamedTuple

import jax
import numpy as np

from edm_jax.evaluation.features import EXTRACTORS, Extractor, pca
from edm_jax.evaluation.principal import Components
from edm_jax.evaluation.statistics import Statistics, check_features, read_arrays, read_statistics
from edm_jax.quoting import quoted
from edm_jax.runtime import files


class Reference(NamedTuple):
    """What images are measured against.

    Attributes:
      statistics: of all the data's features.
      features: float32 [m, d], of some of the data, evenly spread; of the images that are in ADM's
        files. None in other files, which then know Fréchet distances alone.
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
            **(extractor.params._asdict() if isinstance(extractor.params, Components) else {}),
        )


def evenly_spread(whole: int, count: int) -> np.ndarray:
    """Indices of `count` of `whole` things, evenly spread; of all, where there are fewer."""
    return np.linspace(0, whole, min(count, whole), endpoint=False).astype(int)


def opened(
    path: str | os.PathLike, image_shape: tuple[int, ...], *, name: str = "path"
) -> tuple[Reference, Extractor]:
    """Reads a reference file, and makes the extractor that its features are by.

    Args:
      path: the .npz. Of a file of others it is Inception's. Files of weights are those that
        environment variables name.
      image_shape: [H, W, C] of the images to be measured against it.
      name: what `path` is called where it was given.

    Raises:
      ValueError: no such file, damaged, of features that cannot be made here, or not as many as
        such images have.
      OSError: it cannot be read.
    """
    with files.located(path).open("rb") as file:
        about = _about(read_arrays(file, ("extractor",), name=os.fspath(path)))
    kind = "inception" if about is None else str(about.get("name"))
    if kind not in EXTRACTORS:
        known = ", ".join(EXTRACTORS)
        raise ValueError(f"{os.fspath(path)}: must be of features by one of {known}, got {kind!r}")
    extractor = fitted(path) if kind == "pca" else EXTRACTORS[kind]()
    reference = load(path, extractor)
    one = jax.ShapeDtypeStruct((1, *image_shape), np.uint8)
    width = jax.eval_shape(extractor.apply, extractor.params, one).shape[1]
    if width != (given := len(reference.statistics.mean)):
        raise ValueError(
            f"{name} must be of {width} features, those of this model's images, got {given}"
        )
    return reference, extractor


def fitted(path: str | os.PathLike) -> Extractor:
    """The extractor of principal components that a reference file was made by.

    Args:
      path: the .npz.

    Raises:
      ValueError: no such file, damaged, or of features that were not fitted.
      OSError: it cannot be read.
    """
    with files.located(path).open("rb") as file:
        arrays = read_arrays(file, (*Components._fields, "extractor"), name=os.fspath(path))
    about = _about(arrays) or {"name": "inception"}
    if about.get("name") != "pca" or not set(Components._fields) <= set(arrays):
        raise ValueError(
            f"{os.fspath(path)}: must be of features by pca, got {quoted(about.get('name'))}"
        )
    return pca(Components(*(arrays[part] for part in Components._fields)))


def _about(arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    return json.loads(str(arrays["extractor"])) if "extractor" in arrays else None


def load(path: str | os.PathLike, extractor: Extractor) -> Reference:
    """Reads a reference file: one of ours, or `mu` and `sigma` of EDM, EDM2 or ADM.

    Args:
      path: the .npz or .pkl; nothing in it is executed.
      extractor: what is going to be compared with it; of ADM's images it makes features.

    Returns:
      The reference.

    Raises:
      ValueError: no such file, damaged, or of the features of something else.
      OSError: it cannot be read.
    """
    content, name = files.located(path).read_bytes(), os.fspath(path)
    statistics = read_statistics(io.BytesIO(content), name=name, features=extractor.name)
    parts = ("features", "extractor", "arr_0")
    arrays = read_arrays(io.BytesIO(content), parts, name=name, features=extractor.name)
    about = _about(arrays)
    if about is not None:
        for part, value in extractor.about().items():
            if about.get(part) != value:
                raise ValueError(
                    f"{name}: must be of features whose {part} is {value!r}, got "
                    f"{about.get(part)!r}"
                )
    features = extractor(arrays["arr_0"]) if "arr_0" in arrays else arrays.get("features")
    if features is not None and check_features(features).shape[1] != len(statistics.mean):
        raise ValueError(f"{name}: features must have the width of mu")
    return Reference(statistics, features, about, hashlib.sha256(content).hexdigest())

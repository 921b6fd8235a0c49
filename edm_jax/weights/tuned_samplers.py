"""Tuned samplers as a file beside their model: tableaux, and the weights they were tuned to."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from edm_jax.runtime import files
from edm_jax.samplers import Tableau

NAME = "samplers.json"


class TunedSampler(NamedTuple):
    """One tuned sampler.

    Attributes:
      name: what it is, in words.
      tableau: the sampler.
      error: its distance from the flow on held-out noise.
      fixed: the best fixed choice, in words.
      fixed_error: that one's distance.
    """

    name: str
    tableau: Tableau
    error: float
    fixed: str
    fixed_error: float


class TunedSamplers(NamedTuple):
    """What the file holds.

    Attributes:
      weights: the hash of the model's parameters.
      guidance: the guidance they were tuned under, as a record of samples has it.
      samplers: number of calls -> sampler.
    """

    weights: str
    guidance: Mapping[str, Any]
    samplers: Mapping[int, TunedSampler]


def beside(checkpoint: str | os.PathLike) -> epath.Path:
    """Where the file of a model is: in its folder; beside a model that is a file.

    Args:
      checkpoint: what `--checkpoint` names; one checkpoint of a run means the run.
    """
    path = files.absolute(checkpoint)
    if not path.is_dir():
        return path.with_name(f"{path.name}.{NAME}")
    if path.parent.name == "checkpoints" and path.name.isdecimal():
        path = path.parent
    return (path.parent if path.name == "checkpoints" else path) / NAME


def save(tuned: TunedSamplers, path: str | os.PathLike) -> None:
    """Writes the file, whole or not at all; every number comes back to the last bit.

    Args:
      tuned: what it shall hold.
      path: the file; one that exists is replaced.

    Raises:
      OSError: the path cannot be written.
    """
    samplers = {}
    for nfe, sampler in tuned.samplers.items():
        table = json.loads(sampler.tableau.to_json())
        samplers[str(nfe)] = {**sampler._asdict(), "tableau": table}
    content = {"weights": tuned.weights, "guidance": dict(tuned.guidance), "samplers": samplers}
    files.write(path, json.dumps(content, indent=1) + "\n")


def load(path: str | os.PathLike) -> TunedSamplers:
    """Reads what `save` wrote.

    Args:
      path: the file.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is something else, or damaged.
    """
    try:
        content = json.loads(files.located(path).read_text())
        samplers = {
            int(nfe): TunedSampler(**{**found, "tableau": _tableau(found["tableau"])})
            for nfe, found in content["samplers"].items()
        }
        return TunedSamplers(str(content["weights"]), dict(content["guidance"]), samplers)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be what `edm-jax tune` writes, got something else or damage: {error!r}"
        ) from None


def _tableau(found: Mapping[str, Any]) -> Tableau:
    sigma, weights = found["sigma"], found["weights"]
    return Tableau.from_rows(found["start"], list(zip(sigma, weights, strict=True)))

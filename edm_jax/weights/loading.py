"""`load`: the model in whatever a path holds, by a table of what there may be."""

import os
from collections.abc import Callable
from typing import NamedTuple

from etils import epath

from edm_jax.model import Model
from edm_jax.runtime import files
from edm_jax.weights import directory
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official import (
    adm_classifier,
    guided_diffusion,
    nvidia,
    nvidia_objects,
    state_dicts,
    torch_tensors,
)


class Sight(NamedTuple):
    """What a path shows before it is read.

    Attributes:
      path: itself, from the root.
      names: what a folder holds, sorted; empty for a file.
      head: the first nine bytes of a file; empty for a folder.
      size: of a file, in bytes.
    """

    path: epath.Path
    names: tuple[str, ...]
    head: bytes
    size: int


class Kind(NamedTuple):
    """One sort of thing that holds a model.

    Attributes:
      name: in words, for messages.
      recognises: whether a path is one, by its content.
      read: its model; raises WeightsError.
    """

    name: str
    recognises: Callable[[Sight], bool]
    read: Callable[[epath.Path], Model]


def load(path: str | os.PathLike) -> Model:
    """The model that a path holds; the content decides, not the name.

    Args:
      path: on a disk or a URL such as gs://…: the folder of a training run (its newest averaged
        parameters; or the folder of one checkpoint in it), a directory that `save` wrote, a
        safetensors file with our metadata, an official network snapshot (or training-state-*.pt),
        which is read without executing anything, or guided-diffusion's 64x64_diffusion.pt
        and its classifiers.

    Returns:
      The model, ready for `model.denoiser(labels)`.

    Raises:
      WeightsError: a ValueError; nothing there, something else there, or damaged. The message
        names the path and what was found.
      ValueError: a URL of a kind that is not read.
    """
    path = files.located(path)
    with naming(path):
        sight = _look(path)
        for kind in KINDS:
            if kind.recognises(sight):
                return kind.read(path)
        known = "; ".join(kind.name for kind in KINDS)
        raise WeightsError(f"must hold one of: {known}; got no model: {_in_words(sight)}")


def _look(path: epath.Path) -> Sight:
    whole = files.absolute(path)
    if path.is_dir():
        return Sight(whole, tuple(sorted(entry.name for entry in path.iterdir())), b"", 0)
    with path.open("rb") as file:
        return Sight(whole, (), file.read(9), path.stat().length)


def _in_words(sight: Sight) -> str:
    if sight.path.is_dir():
        more = ", …" if len(sight.names) > 8 else ""
        return f"the folder holds {', '.join(sight.names[:8]) or 'nothing'}{more}"
    return f"the file begins with {sight.head!r}" if sight.head else "the file is empty"


def _official(path: epath.Path) -> Model:
    data = path.read_bytes()
    file = torch_tensors.read_any(data, nvidia_objects.ALLOWED)
    if guided_diffusion.recognises(file.value):
        return guided_diffusion.from_published(state_dicts.weights_of(file))
    if adm_classifier.recognises(file.value):
        return adm_classifier.from_published(state_dicts.weights_of(file))
    return nvidia.from_state_dict(*nvidia_objects.network_of(file))


def _run(workdir: epath.Path, step: int | None = None) -> Model:
    from edm_jax.weights import runs  # orbax takes seconds to import: only when needed

    try:
        return runs.restore_model(workdir, step=step)
    except (OSError, ValueError, KeyError) as error:
        message = " ".join(str(error).split())
        prefix = "" if message.startswith(str(workdir)) else f"{workdir}: "
        raise WeightsError(prefix + message) from error


# Asked from top to bottom.
KINDS = (
    Kind(
        "a saved model (config.json and weights.safetensors)",
        lambda sight: {directory.CONFIG, directory.WEIGHTS} <= set(sight.names),
        directory.load_saved,
    ),
    Kind("a training run's folder", lambda sight: directory.CHECKPOINTS in sight.names, _run),
    Kind(
        "its checkpoints",
        lambda sight: bool(sight.names) and sight.path.name == directory.CHECKPOINTS,
        lambda path: _run(files.absolute(path).parent),
    ),
    Kind(
        "one checkpoint",
        lambda sight: sight.path.parent.name == directory.CHECKPOINTS and sight.path.name.isdigit(),
        lambda path: _run(files.absolute(path).parent.parent, int(files.absolute(path).name)),
    ),
    Kind(
        "an official .pkl or .pt",
        lambda sight: sight.head[:4] == b"PK\x03\x04" or sight.head[:1] == b"\x80",
        _official,
    ),
    Kind(
        "a .safetensors file",
        lambda sight: (
            sight.head[8:] == b"{" and int.from_bytes(sight.head[:8], "little") < sight.size
        ),
        directory.import_safetensors,
    ),
)

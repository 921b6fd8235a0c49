"""`load`: the model in whatever a path holds."""

import os

from etils import epath

from edm_jax.model import Model
from edm_jax.weights import directory
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official import guided_diffusion, nvidia, torch_tensors

_KINDS = (
    "a training run's folder, a saved model (config.json and weights.safetensors), a .safetensors "
    "file, or an official .pkl"
)


def load(path: str | os.PathLike) -> Model:
    """The model that a path holds; the content decides, not the name.

    Args:
      path: on a disk or a URL such as gs://…: the folder of a training run (its newest averaged
        parameters; or the folder of one checkpoint in it), a directory that `Model.save` wrote, a
        safetensors file with our metadata, an official network snapshot (or training-state-*.pt),
        which is read without executing anything, or guided-diffusion's 64x64_diffusion.pt.

    Returns:
      The model, ready for `model.denoiser(labels)`.

    Raises:
      WeightsError: a ValueError; nothing there, something else there, or damaged. The message
        names the path and what was found.
    """
    path = epath.Path(path)
    with naming(path):
        if path.is_dir():
            return _folder(path)
        with path.open("rb") as file:
            head = file.read(9)
        if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
            return _pickle(path.read_bytes())
        if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().length:
            return directory.import_safetensors(path)
        start = f"begins with {head!r}" if head else "is empty"
        raise WeightsError(f"is no model: the file {start}; expected {_KINDS}")


def _pickle(data: bytes) -> Model:
    file = torch_tensors.read_any(data, nvidia.ALLOWED)
    if guided_diffusion.recognises(file.value):
        return guided_diffusion.from_published(guided_diffusion.weights_of(file))
    return nvidia.from_state_dict(*nvidia.network_of(file, len(data)))


def _folder(path: epath.Path) -> Model:
    names = sorted(entry.name for entry in path.iterdir())
    if directory.CONFIG in names and directory.WEIGHTS in names:
        return directory.load_saved(path)
    from edm_jax.training import checkpoint  # orbax takes seconds to import: only when needed

    if checkpoint.FOLDER in names:
        return _run(str(path))
    if path.name == checkpoint.FOLDER:
        return _run(str(path.parent))
    if path.parent.name == checkpoint.FOLDER and path.name.isdigit():
        return _run(str(path.parent.parent), int(path.name))
    found = ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"
    raise WeightsError(f"is no model: the folder holds {found}; expected {_KINDS}")


def _run(workdir: str, step: int | None = None) -> Model:
    from edm_jax.training.checkpoint import restore_model

    try:
        return restore_model(workdir, step)
    except (OSError, ValueError, KeyError) as error:
        message = " ".join(str(error).split())
        prefix = "" if message.startswith(workdir) else f"{workdir}: "
        raise WeightsError(prefix + message) from error

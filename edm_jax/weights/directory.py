"""A model in one directory that needs nothing but this package, and as one file for others.

    OUT/config.json            what the network and its preconditioner are
    OUT/weights.safetensors    the parameters, under the official names

The second file alone is what users of PyTorch take; its metadata hold the configuration too, so
it can be read back without the first.
"""

import contextlib
import dataclasses
import json
import os
from typing import Any

from etils import epath

from edm_jax.model import Model
from edm_jax.networks.config import ModelConfig
from edm_jax.quoting import quoted
from edm_jax.runtime import files
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official.arguments import arguments_from_config, config_from_arguments
from edm_jax.weights.official.nvidia import model_from_weights, weights_of_model
from edm_jax.weights.safetensors import read_safetensors, write_safetensors

CONFIG, WEIGHTS, SUFFIX = "config.json", "weights.safetensors", ".safetensors"
CHECKPOINTS = "checkpoints"  # what a training run's folder has instead, see `weights.runs`
_FORMAT = "edm_jax model"
_VERSION = 1


def save(model: Model, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Writes a model to a new directory or file, whole or not at all.

    Args:
      model: any model of ours, under any preconditioner.
      path: a name that ends in .safetensors: one file, for this package and for PyTorch (see
        `export_safetensors`); without an ending: a directory, an empty one is taken too. Folders
        above it are made.
      overwrite: replace a file or a saved model that is there.

    Raises:
      WeightsError: the path is taken, has another ending, or cannot be written.
    """
    path = files.located(path)
    with naming(path):
        check_free(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == SUFFIX:
            export_safetensors(model, path)
        else:
            _save_directory(model, path)


def check_free(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Whether a model can be written here, before there is one.

    Args:
      path: a name that ends in .safetensors, or one without an ending: a directory.
      overwrite: a file or a saved model that is there may be replaced.

    Raises:
      WeightsError: the path is taken, or has an ending that is not written.
    """
    path = files.located(path)
    with naming(path):
        if path.suffix[1:].isalpha() and path.suffix != SUFFIX:
            raise WeightsError(f"must end in {SUFFIX} or have no ending, got {path.suffix}")
        if not path.exists():
            return
        if path.is_dir():
            found = {entry.name for entry in path.iterdir()}
            if not found and path.suffix != SUFFIX:
                return
            if path.suffix == SUFFIX or not found <= {CONFIG, WEIGHTS}:
                raise WeightsError("exists and is not a saved model; nothing was written")
        elif path.suffix != SUFFIX:
            raise WeightsError("exists and is not a directory; nothing was written")
        if not overwrite:
            raise WeightsError("exists already; overwrite=True (--overwrite) replaces it")


def _save_directory(model: Model, path: epath.Path) -> None:
    mark = f"{os.getpid()}.tmp"
    temporary, old = (path.with_name(f".{path.name}.{part}{mark}") for part in ("", "old."))
    try:
        temporary.mkdir()
        (temporary / CONFIG).write_text(json.dumps(_record(model.config), indent=1) + "\n")
        export_safetensors(model, temporary / WEIGHTS)
        if path.exists():
            path.replace(old)
        try:
            temporary.replace(path)
        except OSError:
            old.replace(path)
            raise
    finally:
        temporary.rmtree(missing_ok=True)
    old.rmtree(missing_ok=True)


def load_saved(path: str | os.PathLike) -> Model:
    """Reads what `save` wrote.

    Raises:
      WeightsError: no such directory, another format, or weights that do not fit the network.
    """
    path = files.located(path)
    with naming(path):
        try:
            record = json.loads((path / CONFIG).read_text())
        except (ValueError, RecursionError):
            raise WeightsError(f"{CONFIG} is not JSON") from None
        weights, _ = read_safetensors(path / WEIGHTS)
        return _model(weights, _config(record))


def export_safetensors(model: Model, path: str | os.PathLike) -> None:
    """Writes a model's parameters under the official names, for this package and for PyTorch.

    Args:
      model: any model of ours.
      path: the file to make; one that exists is replaced. Its metadata hold `format` ("pt"),
        `edm_jax` (our configuration, JSON) and, where the preconditioner has an official wrapper,
        `arguments` (its constructor keywords, JSON).

    Raises:
      WeightsError: the path cannot be written.
    """
    metadata = {"format": "pt", "edm_jax": json.dumps(_record(model.config))}
    # Our other preconditioners have no wrapper there; the weights are the same.
    with contextlib.suppress(WeightsError):
        metadata["arguments"] = json.dumps(_finite(arguments_from_config(model.config)))
    write_safetensors(path, weights_of_model(model), metadata=metadata)


def import_safetensors(path: str | os.PathLike) -> Model:
    """Reads a file of official names whose metadata say what the network is.

    Args:
      path: what `export_safetensors` wrote, or a file by others whose metadata hold `arguments`.

    Raises:
      WeightsError: no such file, no such metadata, or weights that do not fit the network.
    """
    with naming(path):
        weights, metadata = read_safetensors(path)
        try:
            if "edm_jax" in metadata:
                return _model(weights, _config(json.loads(metadata["edm_jax"])))
            if "arguments" in metadata:
                arguments = json.loads(metadata["arguments"])
                if type(arguments) is dict:
                    return _model(weights, config_from_arguments(arguments, u=weights.get("u")))
        except (json.JSONDecodeError, RecursionError):
            raise WeightsError("damaged: the metadata are not JSON") from None
        raise WeightsError(
            "holds weights and not what the network is: its metadata have neither 'edm_jax' nor "
            "'arguments'; read_safetensors and from_state_dict take the arguments from you"
        )


def _record(config: ModelConfig) -> dict[str, Any]:
    return {"format": _FORMAT, "version": _VERSION, "model": dataclasses.asdict(config)}


def _config(record: Any) -> ModelConfig:
    if type(record) is not dict or record.get("format") != _FORMAT:
        raise WeightsError(f"the configuration is not that of an {_FORMAT}")
    if record.get("version") != _VERSION or type(record.get("model")) is not dict:
        raise WeightsError(f"version must be {_VERSION}, got {quoted(record.get('version'))}")
    try:
        return ModelConfig.from_dict(record["model"])
    except (ValueError, TypeError) as error:
        raise WeightsError(str(error)) from None


def _model(weights: dict, config: ModelConfig) -> Model:
    return model_from_weights({k: v for k, v in weights.items() if k != "u"}, config)


def _finite(arguments: dict[str, Any]) -> dict[str, Any]:
    # JSON has no infinity; an argument left out has its default, which is where one comes from.
    return {k: v for k, v in arguments.items() if v not in (float("inf"), float("-inf"))}

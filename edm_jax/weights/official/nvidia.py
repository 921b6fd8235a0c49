"""NVIDIA's network snapshots of EDM and EDM2: reading the .pkl files without executing them.

An official snapshot is a pickle of Python objects that carry their own source text, which normal
unpickling executes. `read_pickle` takes the numbers and the constructor arguments out of it as
data. `from_state_dict` and `to_state_dict` turn them into a Model and back.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np

from edm_jax import tables
from edm_jax.model import Model, params_like
from edm_jax.networks.config import ModelConfig
from edm_jax.weights.errors import WeightsError, naming
from edm_jax.weights.official import nvidia_objects, torch_tensors
from edm_jax.weights.official.arguments import arguments_from_config, config_from_arguments
from edm_jax.weights.official.names import params_from_state_dict, state_dict_from_params


def read_pickle(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads an official network snapshot; executes nothing and needs no PyTorch.

    Also reads the `training-state-*.pt` that the official training writes; its network is the
    training one, not the EMA.

    Args:
      path: an official .pkl, which holds the EMA network under "ema", or a training state.

    Returns:
      weights: tensor name -> array, the names and the order of the official state dict, buffers
      (`resample_filter`, `freqs`, `u`) included.
      arguments: the constructor keywords of the preconditioning wrapper, with its `class_name`
      ("EDMPrecond", ...) and `precond` ("edm", "vp", "ve", "iddpm" or "edm2").

    Raises:
      WeightsError: a ValueError; the file is missing, damaged or something else, or names a
        global that such files do not need. The message names the file.
    """
    with naming(path):
        data = pathlib.Path(path).read_bytes()
        return parse_pickle(data)


def parse_pickle(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Takes the network out of the bytes of an official snapshot.

    Args:
      data: of a .pkl or a `training-state-*.pt`.

    Returns:
      weights: tensor name -> array, the names and the order of the official state dict, buffers
      included.
      arguments: the constructor keywords of the wrapper, with `class_name` and `precond`.

    Raises:
      WeightsError: damaged, something else, or a global that such files do not need.
    """
    return nvidia_objects.network_of(torch_tensors.read_any(data, nvidia_objects.ALLOWED))


def from_state_dict(weights: Mapping[str, np.ndarray], arguments: Mapping[str, Any]) -> Model:
    """The model of an official state dict.

    Args:
      weights: official names -> arrays; filter buffers may be absent, `u` is needed by iDDPM
        networks.
      arguments: the constructor keywords of the wrapper, with `precond` ("edm", "vp", "ve",
        "iddpm", "edm2") or `class_name` ("EDMPrecond", ...); they decide the network and the
        preconditioner.

    Returns:
      The model, its parameters float32 arrays on the host. The `u` table is in
      `config.preconditioner_arguments`; `use_fp16` becomes `config.dtype == "float16"`.

    Raises:
      WeightsError: an unknown argument; tensors that are missing, extra, misshapen or not floats.
    """
    config = config_from_arguments(arguments, u=weights.get("u"))
    if config.preconditioner == "iddpm":
        weights = {name: value for name, value in weights.items() if name != "u"}
    return model_from_weights(weights, config)


def to_state_dict(model: Model) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The inverse of `from_state_dict`, bit for bit.

    What the official networks have no argument for and only training asks for, such as the label
    dropout of EDM2's, is left out.

    Args:
      model: a network under a preconditioner that officially go together.

    Returns:
      weights: every tensor of the official state dict, in its order and layout, buffers included.
      arguments: every constructor keyword of the wrapper.

    Raises:
      WeightsError: the model's preconditioner has no official wrapper.
    """
    arguments = arguments_from_config(model.config)
    return weights_of_model(model), arguments


def model_from_weights(weights: Mapping[str, np.ndarray], config: ModelConfig) -> Model:
    """The model of a configuration around official names; every tensor must fit.

    Raises:
      WeightsError: tensors that are missing, extra, misshapen or not floats, or a configuration
        that describes no network.
    """
    for name, value in weights.items():
        if not np.issubdtype(value.dtype, np.floating):
            raise WeightsError(f"tensor {name!r} must be of floats, got {value.dtype}")
    try:
        like = params_like(config, tensors=len(weights))
        taps = _taps(config)
        params = params_from_state_dict(weights, like, prefix=_prefix(config), resample_filter=taps)
        return Model.build(config, params)
    except (ValueError, TypeError, ArithmeticError, LookupError, flax.errors.FlaxError) as error:
        raise WeightsError(" ".join(str(error).split())[:2000]) from None


def _prefix(config: ModelConfig) -> str:
    return "unet." if config.architecture == "edm2" else "model."


def _taps(config: ModelConfig) -> tuple[int, ...] | None:
    if config.architecture == "edm2":  # its filters are no buffers
        return None
    return getattr(config, "resample_filter", (1, 1))  # ADM's is always the box


def weights_of_model(model: Model) -> dict[str, np.ndarray]:
    """The official state dict of any model: names -> float32 arrays in the official layouts."""
    taps, prefix = _taps(model.config), _prefix(model.config)
    params = jax.device_get(model.params)
    weights = state_dict_from_params(params, resample_filter=taps, prefix=prefix)
    if model.config.preconditioner == "iddpm":
        given = dict(model.config.preconditioner_arguments)
        c_1, c_2 = given.get("c_1", 0.001), given.get("c_2", 0.008)
        u = given.get("u")
        if u is None:
            u = tables.iddpm(
                given.get("num_train_steps", 1000), c_1=c_1, c_2=c_2, variant="network"
            )
        weights = {"u": np.asarray(u, np.float32), **weights}
    return weights

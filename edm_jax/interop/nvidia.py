"""NVIDIA's EDM network snapshots: reading the official .pkl files without executing them.

An official snapshot is a pickle of Python objects that carry their own source text, which normal
unpickling executes. `read_pickle` takes the numbers and the constructor arguments out of it as
data. `from_state_dict` and `to_state_dict` turn them into a Model and back.
"""

import os
import pathlib
from typing import Any

import numpy as np

from edm_jax.interop import torch_tensors
from edm_jax.interop.errors import WeightsError, naming
from edm_jax.interop.pickle_records import Call, Global, parse

_PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
_MODULE_DICT = Global("torch.nn.modules.container", "ModuleDict")
_SETS = {Global("builtins", "set"), Global("__builtin__", "set")}  # protocols before 4
ALLOWED = frozenset(
    {_PERSISTENT, _MODULE_DICT}
    | _SETS
    | torch_tensors.TENSOR_GLOBALS
    | torch_tensors.SCALAR_GLOBALS
)
_PERSISTENCE_VERSION = 6
_MAX_DEPTH = 32  # of modules within modules

# The wrappers, and their own constructor arguments in order; all others belong to the network.
_COMMON = ("img_resolution", "img_channels", "label_dim", "use_fp16")
WRAPPERS = {
    "VPPrecond": ("vp", (*_COMMON, "beta_d", "beta_min", "M", "epsilon_t", "model_type")),
    "VEPrecond": ("ve", (*_COMMON, "sigma_min", "sigma_max", "model_type")),
    "iDDPMPrecond": ("iddpm", (*_COMMON, "C_1", "C_2", "M", "model_type")),
    "EDMPrecond": ("edm", (*_COMMON, "sigma_min", "sigma_max", "sigma_data", "model_type")),
}


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
      ("EDMPrecond", ...) and `precond` ("edm", "vp", "ve" or "iddpm").

    Raises:
      WeightsError: a ValueError; the file is missing, damaged or something else, or names a
        global that such files do not need. The message names the file.
    """
    with naming(path):
        data = pathlib.Path(path).read_bytes()
        return parse_pickle(data)


def parse_pickle(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As `read_pickle`, from the bytes of the file."""
    storages: dict[str, np.ndarray] = {}
    if data[:4] == b"PK\x03\x04":
        snapshot, storages = torch_tensors.read_zip(data, ALLOWED)
    else:
        stream = parse(data, ALLOWED)
        snapshot = stream.value
        if stream.end != len(data):
            raise WeightsError(f"damaged: {len(data) - stream.end} bytes after the pickle")
    if type(snapshot) is dict:
        found = [key for key in ("ema", "net") if snapshot.get(key) is not None]
        if not found:
            keys = ", ".join(str(key)[:40] for key in list(snapshot)[:8])
            raise WeightsError(f"holds no network: keys {keys or 'none'}; 'ema' or 'net' is needed")
        snapshot = snapshot[found[0]]
    wrapper, state = _persistent_object(snapshot)
    if wrapper not in WRAPPERS:
        raise WeightsError(
            f"holds a {wrapper[:80]}; known networks are wrapped in {', '.join(WRAPPERS)}"
        )
    return _Weights(len(data), storages).collect(snapshot), _arguments(wrapper, state)


class _Weights:
    """Collects the tensors of a tree of modules, each module once and no more than is there."""

    def __init__(self, file_size: int, storages: dict[str, np.ndarray]):
        self.budget = file_size
        self.storages = storages
        self.weights: dict[str, np.ndarray] = {}
        self.seen: set[int] = set()

    def collect(self, module: Call) -> dict[str, np.ndarray]:
        self._module(module, "", 0)
        if not self.weights:
            raise WeightsError("holds a network without tensors")
        return self.weights

    def _module(self, module: Any, prefix: str, depth: int) -> None:
        where = prefix.rstrip(".") or "the network"
        # The file may refer to one object from many places: without this a small file could
        # describe an endless tree.
        if id(module) in self.seen or depth > _MAX_DEPTH:
            raise WeightsError(f"damaged: {where} occurs within itself or twice")
        self.seen.add(id(module))
        if type(module) is Call and module.function == _MODULE_DICT and type(module.state) is dict:
            state = module.state
        else:
            _, state = _persistent_object(module, where)
        for group in ("_parameters", "_buffers"):
            for name, tensor in _named(state, group, where):
                self._tensor(tensor, prefix + name)
        for name, child in _named(state, "_modules", where):
            self._module(child, f"{prefix}{name}.", depth + 1)

    def _tensor(self, record: Any, name: str) -> None:
        try:
            value = torch_tensors.array(record, self.storages)
        except WeightsError as error:
            raise WeightsError(f"tensor {name!r} {error}") from None
        if not np.issubdtype(value.dtype, np.floating):
            raise WeightsError(f"tensor {name!r} is {value.dtype}; weights are floats")
        self.budget -= value.nbytes // (2 if value.dtype == np.float32 else 1)
        if self.budget < 0:
            raise WeightsError("damaged: the tensors together are larger than the file")
        self.weights[name] = value


def _persistent_object(record: Any, where: str = "the network") -> tuple[str, dict]:
    """Returns the class name and the attributes of an object that carries its own source."""
    if (
        type(record) is not Call
        or record.function != _PERSISTENT
        or len(record.arguments) != 1
        or type(record.arguments[0]) is not dict
    ):
        raise WeightsError(f"{where} is not an object of an official snapshot")
    meta = record.arguments[0]
    if meta.get("type") != "class" or meta.get("version") != _PERSISTENCE_VERSION:
        raise WeightsError(f"{where} is written in an unknown version of the format")
    name, state = meta.get("class_name"), meta.get("state")
    if type(name) is not str or type(state) is not dict:
        raise WeightsError(f"damaged: {where} has no class name or no attributes")
    return name, state


def _named(state: dict, group: str, where: str) -> list[tuple[str, Any]]:
    entries = state.get(group)
    if type(entries) is not dict or any(type(name) is not str for name in entries):
        raise WeightsError(f"damaged: {where} has no {group}")
    return [(name, entry) for name, entry in entries.items() if entry is not None]


def _arguments(wrapper: str, state: dict) -> dict[str, Any]:
    """The constructor keywords; those left at their default are taken from the attributes."""
    precond, names = WRAPPERS[wrapper]
    positional, keywords = state.get("_init_args", ()), state.get("_init_kwargs")
    if type(positional) is not tuple or type(keywords) is not dict or len(positional) > len(names):
        raise WeightsError("damaged: the constructor arguments are not there")
    given = dict(zip(names, positional, strict=False)) | keywords
    for name in names:
        if name in state:
            given.setdefault(name, state[name])
    arguments: dict[str, Any] = {"class_name": wrapper, "precond": precond}
    for name, value in given.items():
        if type(name) is not str:
            raise WeightsError("damaged: a constructor argument without a name")
        try:
            arguments[name] = _plain(value, 0)
        except WeightsError as error:
            raise WeightsError(f"constructor argument {name!r} {error}") from None
    return arguments


def _plain(value: Any, depth: int) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple) and depth < 3 and len(value) <= 1000:
        return [_plain(item, depth + 1) for item in value]
    if type(value) is Call:
        return torch_tensors.number(value)
    raise WeightsError(f"is a {type(value).__name__}; plain values are expected")

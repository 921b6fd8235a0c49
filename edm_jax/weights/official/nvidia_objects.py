"""The network in an official snapshot of EDM or EDM2: tensors and constructor arguments.

Out of the inert records of the pickle: objects that carry their own source text, which is not read,
within one another as their modules are.
"""

from typing import Any

import numpy as np

from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import numpy_records, torch_tensors
from edm_jax.weights.official.arguments import WRAPPERS, keywords
from edm_jax.weights.official.pickle_records import EASY_DICT, Call, Global

_PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
_MODULE_DICT = Global("torch.nn.modules.container", "ModuleDict")
_SETS = {Global("builtins", "set"), Global("__builtin__", "set")}  # protocols before 4
ALLOWED = frozenset(
    {_PERSISTENT, _MODULE_DICT, EASY_DICT}
    | _SETS
    # NumPy arrays stand beside the tensors, and nothing of them is used.
    | numpy_records.ARRAY_GLOBALS
    | numpy_records.SCALAR_GLOBALS
    | torch_tensors.TENSOR_GLOBALS
)
_PERSISTENCE_VERSION = 6
_MAX_DEPTH = 32  # of modules within modules


def network_of(file: torch_tensors.TorchFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Takes the network out of the records of an official snapshot.

    Args:
      file: what `torch_tensors.read_any` made of it.

    Returns:
      weights: tensor name -> array, the names and the order of the official state dict, buffers
      included.
      arguments: the constructor keywords of the wrapper, with `class_name` and `precond`.

    Raises:
      WeightsError: damaged, or no network in a known wrapper.
    """
    snapshot = file.value
    if type(snapshot) is dict:
        found = [key for key in ("ema", "net") if snapshot.get(key) is not None]
        if not found:
            keys = ", ".join(str(key)[:40] for key in list(snapshot)[:8])
            raise WeightsError(f"must hold a network, 'ema' or 'net', got keys {keys or 'none'}")
        snapshot = snapshot[found[0]]
        if type(snapshot) is dict:
            raise WeightsError(
                "must say what the network is; a training state of EDM2 does not: "
                "take the network-snapshot of the same time"
            )
    wrapper, state = _persistent_object(snapshot)
    if wrapper not in WRAPPERS:
        raise WeightsError(
            f"the network must be wrapped in {', '.join(WRAPPERS)}, got a {wrapper[:80]}"
        )
    weights, arguments = _Weights(file).collect(snapshot), _arguments(wrapper, state)
    if arguments["precond"] == "edm2" and "logvar_linear.weight" in weights:
        arguments.setdefault("logvar_channels", weights["logvar_linear.weight"].shape[-1])
    return weights, arguments


class _Weights:
    """Collects the tensors of a tree of modules, each module once and no more than is there."""

    def __init__(self, file: torch_tensors.TorchFile):
        self.budget = torch_tensors.Budget(file.size)
        self.storages = file.storages
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
            value = torch_tensors.array(record, self.storages, self.budget)
        except WeightsError as error:
            raise WeightsError(f"tensor {name!r} {error}") from None
        if not np.issubdtype(value.dtype, np.floating):
            raise WeightsError(f"tensor {name!r} must be of floats, got {value.dtype}")
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
    names = keywords(wrapper)
    positional, given = state.get("_init_args", ()), state.get("_init_kwargs")
    if type(positional) is not tuple or type(given) is not dict or len(positional) > len(names):
        raise WeightsError("damaged: the constructor arguments are not there")
    given = dict(zip(names, positional, strict=False)) | given
    for name in names:
        if name in state:
            given.setdefault(name, state[name])
    arguments: dict[str, Any] = {"class_name": wrapper, "precond": WRAPPERS[wrapper]}
    for name, value in given.items():
        if type(name) is not str:
            raise WeightsError("damaged: a constructor argument without a name")
        try:
            arguments[name] = _plain(value)
        except WeightsError as error:
            raise WeightsError(f"constructor argument {name!r} {error}") from None
    return arguments


def _plain(value: Any, within_list: bool = False) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple) and not within_list and len(value) <= 1000:
        return [_plain(item, within_list=True) for item in value]
    if type(value) is Call:
        return numpy_records.number(value)
    raise WeightsError(f"must be a plain value, got a {type(value).__name__}")

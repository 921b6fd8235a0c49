"""The official wrappers' constructor arguments to and from our ModelConfig."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edm_jax import preconditioning
from edm_jax.networks.config import ARCHITECTURES, ModelConfig
from edm_jax.quoting import quoted
from edm_jax.weights.errors import WeightsError

# The official defaults, where a file leaves an argument out. Our configurations have others.
_NETWORKS: dict[str, dict[str, Any]] = {
    "SongUNet": {
        "augment_dim": 0,
        "model_channels": 128,
        "channel_mult": (1, 2, 2, 2),
        "channel_mult_emb": 4,
        "num_blocks": 4,
        "attn_resolutions": (16,),
        "dropout": 0.10,
        "label_dropout": 0.0,
        "embedding_type": "positional",
        "channel_mult_noise": 1,
        "encoder_type": "standard",
        "decoder_type": "standard",
        "resample_filter": (1, 1),
    },
    "DhariwalUNet": {
        "augment_dim": 0,
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "channel_mult_emb": 4,
        "num_blocks": 3,
        "attn_resolutions": (32, 16, 8),
        "dropout": 0.10,
        "label_dropout": 0.0,
    },
    "UNet": {
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "channel_mult_noise": 0,
        "channel_mult_emb": 0,
        "num_blocks": 3,
        "attn_resolutions": (16, 8),
        "label_balance": 0.5,
        "concat_balance": 0.5,
        "resample_filter": (1, 1),
        "channels_per_head": 64,
        "dropout": 0.0,
        "res_balance": 0.3,
        "attn_balance": 0.3,
        "clip_act": 256.0,
        "logvar_channels": 128,
    },
}
_ARCHITECTURES = {"SongUNet": "song", "DhariwalUNet": "dhariwal", "UNet": "edm2"}
_OURS = {"channels_per_head": "head_channels"}  # where our name is another
_NONE_IS_ZERO = ("channel_mult_noise", "channel_mult_emb", "clip_act")  # of EDM2's network

# precond -> class name, network, and official argument -> (ours, official default).
_WRAPPERS: dict[str, tuple[str, str, dict[str, tuple[str, float]]]] = {
    "vp": (
        "VPPrecond",
        "SongUNet",
        {
            "beta_d": ("beta_d", 19.9),
            "beta_min": ("beta_min", 0.1),
            "M": ("num_train_steps", 1000),
            "epsilon_t": ("epsilon_t", 1e-5),
        },
    ),
    "ve": (
        "VEPrecond",
        "SongUNet",
        {"sigma_min": ("sigma_min", 0.02), "sigma_max": ("sigma_max", 100.0)},
    ),
    "iddpm": (
        "iDDPMPrecond",
        "DhariwalUNet",
        {"C_1": ("c_1", 0.001), "C_2": ("c_2", 0.008), "M": ("num_train_steps", 1000)},
    ),
    "edm": (
        "EDMPrecond",
        "DhariwalUNet",
        {
            "sigma_min": ("sigma_min", 0.0),
            "sigma_max": ("sigma_max", math.inf),
            "sigma_data": ("sigma_data", 0.5),
        },
    ),
    "edm2": ("Precond", "UNet", {"sigma_data": ("sigma_data", 0.5)}),
}
WRAPPERS = {row[0]: name for name, row in _WRAPPERS.items()}  # class name -> precond
_MAX_INTEGER = 2**20  # of pixels, channels, classes, steps: beyond it is damage
_NOT_THE_NETWORKS = ("class_name", "precond", "arch", "model_type", "use_fp16")


def keywords(class_name: str) -> tuple[str, ...]:
    """The wrapper's own constructor arguments in order; all others belong to the network."""
    settings = _WRAPPERS[WRAPPERS[class_name]][2]
    common = ("img_resolution", "img_channels", "label_dim", "use_fp16")
    last = "logvar_channels" if WRAPPERS[class_name] == "edm2" else "model_type"
    return (*common, *settings, last)


def config_from_arguments(
    arguments: Mapping[str, Any], *, u: np.ndarray | None = None
) -> ModelConfig:
    """Our configuration of an official network.

    Args:
      arguments: the wrapper's constructor keywords, with `precond` ("edm", "vp", "ve", "iddpm",
        "edm2") or `class_name` ("EDMPrecond", ...); what is left out has its official default.
      u: [M + 1] noise levels that an iDDPM network brings with it.

    Returns:
      The configuration; dtype is "float16" where use_fp16 is set.

    Raises:
      WeightsError: an argument is missing, unknown, or not of its kind.
    """
    precond = arguments.get("precond", WRAPPERS.get(str(arguments.get("class_name"))))
    if not isinstance(precond, str) or precond not in _WRAPPERS:
        raise WeightsError(f"precond must be one of {', '.join(_WRAPPERS)}, got {precond!r}")
    class_name, model_type, settings = _WRAPPERS[precond]
    if arguments.get("class_name", class_name) != class_name:
        raise WeightsError(
            f"class_name must be {class_name!r} where precond is {precond!r}, "
            f"got {arguments['class_name']!r}"
        )
    model_type = arguments.get("model_type", model_type)
    if not isinstance(model_type, str) or model_type not in _NETWORKS:
        raise WeightsError(f"model_type must be one of {', '.join(_NETWORKS)}, got {model_type!r}")
    edm2 = precond == "edm2"
    if edm2 != (model_type == "UNet"):
        raise WeightsError(f"model_type of the precond {precond!r} cannot be {model_type!r}")
    defaults = _NETWORKS[model_type]
    if edm2:
        zeros = {n: 0 for n in _NONE_IS_ZERO if n in arguments and arguments[n] is None}
        arguments = {"use_fp16": True, **arguments, **zeros}
    shape = {"img_resolution": "resolution", "img_channels": "channels", "label_dim": "label_dim"}
    known = {*_NOT_THE_NETWORKS, *defaults, *settings, *shape}
    for name in arguments:
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise WeightsError(f"the constructor arguments must be among {allowed}, got {name!r}")
    values: dict[str, Any] = {}
    for name, ours in shape.items():
        values[ours] = _checked(name, arguments.get(name, 0 if name == "label_dim" else None), 0)
    for name, default in defaults.items():
        value = arguments.get(name, default)
        values[_OURS.get(name, name)] = _checked(name, value, default)
    given = {}
    for name, (ours, default) in settings.items():
        value = _checked(name, arguments.get(name, default), default)
        if precond != "edm" or name == "sigma_data" or value != default:
            given[ours] = value
    if precond == "iddpm":
        given["u"] = _levels(u, given["num_train_steps"])
    values["dtype"] = "float16" if arguments.get("use_fp16") else "float32"
    kind = ARCHITECTURES[_ARCHITECTURES[model_type]]
    name = "edm" if edm2 else precond
    config = kind(preconditioner=name, preconditioner_arguments=given, **values)
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            preconditioning.build(name, **given)
    except (ValueError, ArithmeticError) as error:
        raise WeightsError(f"the preconditioner's arguments make none: {error}") from None
    return config


def arguments_from_config(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `config_from_arguments`: every keyword, none left to its default.

    Raises:
      WeightsError: the network or the preconditioner is none of the official ones.
    """
    types = {ours: name for name, ours in _ARCHITECTURES.items()}
    if config.architecture not in types:
        raise WeightsError(
            f"architecture must be an official one, {', '.join(types)}, got {config.architecture!r}"
        )
    model_type = types[config.architecture]
    edm2 = model_type == "UNet"
    precond = "edm2" if edm2 and config.preconditioner == "edm" else config.preconditioner
    if precond not in _WRAPPERS or edm2 != (precond == "edm2"):
        raise WeightsError(
            f"preconditioner must be an official one, {', '.join(_WRAPPERS)}, "
            f"got {config.preconditioner!r}"
        )
    if config.flow_map:
        raise WeightsError("flow_map must be False for an official network, got True")
    class_name, _, settings = _WRAPPERS[precond]
    arguments: dict[str, Any] = {
        "class_name": class_name,
        "precond": precond,
        "img_resolution": config.resolution,
        "img_channels": config.channels,
        "label_dim": config.label_dim,
        "use_fp16": config.dtype == "float16",
    }
    for name, (ours, default) in settings.items():
        arguments[name] = config.preconditioner_arguments.get(ours, default)
    if not edm2:
        arguments["model_type"] = model_type
    for name in _NETWORKS[model_type]:
        value = getattr(config, _OURS.get(name, name))
        arguments[name] = list(value) if isinstance(value, tuple) else value
        if edm2 and name in _NONE_IS_ZERO and not value:
            arguments[name] = None
    return arguments


def _checked(name: str, value: Any, like: Any) -> Any:
    """`value` in the kind of `like`: text, float, int, or a tuple of numbers."""
    if isinstance(like, str) and isinstance(value, str):
        return value
    if isinstance(like, tuple) and isinstance(value, (list, tuple)) and _numbers(value):
        return tuple(value)
    if _numbers([value]):
        if isinstance(like, float):
            return float(value)
        if isinstance(like, int) and 0 <= value <= _MAX_INTEGER and int(value) == value:
            return int(value)
    kinds = {str: "a text", float: "a number", int: "a whole number", tuple: "a list of numbers"}
    raise WeightsError(f"{name} must be {kinds[type(like)]}, got {quoted(value)}")


def _numbers(values: Any) -> bool:
    return all(
        type(v) is int or (type(v) is float and not math.isnan(v)) or isinstance(v, np.number)
        for v in values
    )


def _levels(u: np.ndarray | None, num_train_steps: int) -> list[float]:
    if u is None or np.shape(u) != (num_train_steps + 1,):
        got = "none" if u is None else f"shape {np.shape(u)}"
        raise WeightsError(f"u must be M + 1 noise levels for M = {num_train_steps}, got {got}")
    return [float(level) for level in u]

"""Official state-dict names and layouts to and from our parameter tree, both ways.

The tree is made for it: `enc.16x16_block0.conv0.weight` is params["enc_16x16_block0"]["conv0"]
["kernel"]. Only layouts differ: convolutions OIHW against HWIO, linear layers [out, in] against
[in, out]. Resampling filters are buffers there and arguments here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edm_jax.networks.resample import filter_2d

_FILTER = "resample_filter"
_TOP = (
    "map_noise", "map_jump", "map_label", "map_augment", "map_layer0", "map_layer1", "enc", "dec",
)  # fmt: skip
_TOP_ADM = ("map_jump", "map_augment", "map_layer0", "map_layer1", "map_label", "enc", "dec")
_TOP_EDM2 = (
    "out_gain", "emb_jump_gain", "emb_fourier", "emb_noise", "emb_jump", "emb_label", "enc", "dec",
)  # fmt: skip
_UNITS = ("conv", "in", "up", "down", "aux_down", "aux_skip", "aux_residual", "block")
_TAIL = ("aux_up", "aux_norm", "aux_conv")
_LAYERS = (
    "norm0", "conv0", "affine", "norm1", "conv1", "skip", "norm2", "qkv", "proj",
    "conv_res0", "emb_linear", "conv_res1", "conv_skip", "attn_qkv", "attn_proj",
)  # fmt: skip
_POOL = ("qkv", "proj")
_LEAVES = (
    "freqs",
    "phases",
    "positional",
    "out_gain",
    "emb_gain",
    "emb_jump_gain",
    "weight",
    "bias",
    _FILTER,
)
_LAST = ("out_norm", "out_conv", "out_pool", "out_linear", "logvar_fourier", "logvar_linear")
_UNIT = re.compile(r"(enc|dec)\.(\d+)x\d+_([a-z_]+)(\d*)$")


def flatten(params: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Returns the leaves of a nested mapping by their path."""
    leaves: dict[tuple[str, ...], Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            leaves |= {(name, *path): leaf for path, leaf in flatten(value).items()}
        else:
            leaves[(name,)] = value
    return leaves


def official_name(path: Sequence[str]) -> str:
    """Returns the official name of the parameter at a path of our tree.

    >>> official_name(("enc_16x16_block0", "conv0", "kernel"))
    'enc.16x16_block0.conv0.weight'
    """
    *layers, leaf = path
    if layers and layers[0].startswith(("enc_", "dec_")):
        layers[0] = layers[0].replace("_", ".", 1)
    return ".".join((*layers, {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)))


def _prefixed(prefix: str, name: str) -> str:
    return name if name.startswith("logvar_") else prefix + name  # EDM2's is beside its network


def _to_official(array: Any) -> np.ndarray:
    array = np.asarray(array)
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(array.ndim)
    return np.asarray(array if axes is None else array.transpose(axes), order="C")


def _official_shape(shape: Sequence[int]) -> tuple[int, ...]:
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(len(shape), range(len(shape)))
    return tuple(shape[axis] for axis in axes)  # no array: a damaged shape may be any size


def params_from_state_dict(
    weights: Mapping[str, np.ndarray],
    like: Mapping[str, Any],
    *,
    prefix: str = "model.",
    resample_filter: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Returns our parameter tree holding the tensors of an official state dict.

    Args:
      weights: official names, each starting with `prefix`, to arrays; filter buffers may be absent.
      like: arrays or `jax.ShapeDtypeStruct`s of the network (`jax.eval_shape(net.init, …)`).
      prefix: of every name but a log-variance's; "model." inside the official wrappers, "unet." in
        that of EDM2.
      resample_filter: taps that the network resamples with; when given, every filter buffer must
        agree with them.

    Returns:
      A nested dict of numpy arrays with the structure, shapes and dtypes of `like`.

    Raises:
      ValueError: naming the missing, extra and misshapen tensors, or the filter that disagrees.
    """
    paths = {_prefixed(prefix, official_name(path)): path for path in flatten(like)}
    shapes = flatten(like)
    missing = [name for name in paths if name not in weights]
    extra = [name for name in weights if name not in paths and not name.endswith("." + _FILTER)]
    misshapen = []
    for name, path in paths.items():
        if name in weights:
            expected, found = _official_shape(shapes[path].shape), np.shape(weights[name])
            if found != expected:
                misshapen.append(f"{name} {list(found)} (expected {list(expected)})")
    problems = [
        f"{label}: {', '.join(sorted(names))}"
        for label, names in (("missing", missing), ("extra", extra), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise ValueError("weights do not fit the network; " + "; ".join(problems))
    if resample_filter is not None:
        _check_filters(weights, filter_2d(resample_filter))

    params: dict[str, Any] = {}
    for name, path in paths.items():
        array = np.asarray(weights[name])
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim)
        array = array if axes is None else array.transpose(axes)
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = np.array(array, dtype=shapes[path].dtype, order="C")
    return params


def _check_filters(weights: Mapping[str, np.ndarray], expected: np.ndarray) -> None:
    for name, value in weights.items():
        if name.endswith("." + _FILTER):
            value = np.asarray(value, np.float32)
            if value.shape != expected.shape or not np.allclose(value, expected, atol=1e-6):
                raise ValueError(
                    f"{name} must be the filter that the network resamples with, "
                    f"{expected.squeeze().tolist()}, got {value.squeeze().tolist()}"
                )


def state_dict_from_params(
    params: Mapping[str, Any],
    *,
    resample_filter: Sequence[float] | None = (1, 1),
    prefix: str = "model.",
) -> dict[str, np.ndarray]:
    """Returns the official state dict of a network: every name, in the official order.

    Args:
      params: our parameter tree.
      resample_filter: taps that the network resamples with, for the filter buffers; None for a
        network that has no such buffers.
      prefix: put before every name but a log-variance's.

    Returns:
      Official names to arrays in the official layouts, filter buffers [1, 1, K, K] included.
    """
    weights = {official_name(path): _to_official(leaf) for path, leaf in flatten(params).items()}
    if resample_filter is not None:
        weights |= {name: filter_2d(resample_filter) for name in _filter_names(weights)}
    top = _TOP_EDM2 if "out_gain" in params else _TOP_ADM if "out_norm" in params else _TOP
    ordered = sorted(weights, key=lambda name: _order(name, top))
    return {_prefixed(prefix, name): weights[name] for name in ordered}


def _filter_names(weights: Mapping[str, Any]) -> list[str]:
    """Returns the names of the filter buffers that go with these parameters."""
    units = {".".join(name.split(".")[:2]) for name in weights if name.startswith(("enc.", "dec."))}
    names = []
    for unit in units:
        if unit.endswith(("_down", "_up")):
            names += [f"{unit}.conv0.{_FILTER}", f"{unit}.skip.{_FILTER}"]
        elif unit.endswith("_aux_skip"):
            names.append(unit.removesuffix("_aux_skip") + f"_aux_down.{_FILTER}")
        elif unit.endswith("_aux_residual"):
            names.append(f"{unit}.{_FILTER}")
        elif unit.endswith("_aux_norm") and unit.replace("_aux_norm", "_up") in units:
            # A skip decoder has an image at every level; a standard one only at the first.
            sides = [u for u in units if u.endswith("_aux_norm")]
            if len(sides) > 1:
                names.append(unit.removesuffix("_aux_norm") + f"_aux_up.{_FILTER}")
    return names


def _order(name: str, top: Sequence[str]) -> tuple[int, ...]:
    """Returns the sorting key of a name: the position in which the official code registers it."""
    parts = name.split(".")
    leaf = _LEAVES.index(parts[-1])
    if parts[0] not in ("enc", "dec"):
        names = (*top, *_LAST)
        layer = _POOL.index(parts[1]) if len(parts) == 3 else -1
        return (names.index(parts[0]), layer, leaf)
    match = _UNIT.match(".".join(parts[:2]))
    if match is None:
        raise ValueError(f"name must be one of a U-Net's layers, got {name!r}")
    side, unit, number = match.groups()[1:]
    level = -int(side) if parts[0] == "enc" else int(side)
    rank = (*_UNITS, *_TAIL).index(unit)
    layer = _LAYERS.index(parts[2]) if len(parts) == 4 else 0
    return (top.index(parts[0]), level, rank, int(number or 0), layer, leaf)

"""Whether a run that goes on is the run that began: what must stay as it was, and what changed."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from edm_jax.data.archive import Dataset
from edm_jax.networks.config import ModelConfig
from edm_jax.training.config import Config

SAMPLE = 64  # images that a fingerprint looks at
# Beside the model, the data and the objective: what decides the state's arrays and every draw.
FIXED = ("batch_size", "seed", "init", "ema_std", "ema_more_kimg", "ema_power")
# Of the objective's settings: how much a noise level counts may change on the way.
FREE = ("loss.weight", "loss.weight_arguments")


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What tells a data set from another, for JSON.

    Args:
      dataset: its images may be on the disk still; a few are read.

    Returns:
      count: of images; shape: [H, W, C] of each; labels: a hash of all, or None; images: a hash of
      `SAMPLE` images, evenly spread.
    """
    count, labels = len(dataset.images), dataset.targets
    spread = np.unique(np.linspace(0, count - 1, SAMPLE).astype(np.int64))
    images = np.ascontiguousarray(dataset.images[spread])
    return {
        "count": count,
        "shape": list(images.shape[1:]),
        "labels": None if labels is None else _hash(np.ascontiguousarray(labels)),
        "images": _hash(images),
    }


def check_same_run(
    saved: dict[str, Any], config: Config, model: ModelConfig, data: dict[str, Any]
) -> None:
    """Refuses to go on with another model, objective or data set.

    Args:
      saved: the JSON item of the checkpoint, made by `checkpoint.record`.
      config: the settings now.
      model: what was built from them and the data.
      data: the data set's `fingerprint`. A run that was made before there was one has none.

    Raises:
      ValueError: names the first setting that differs, and both values.
    """
    was, now = _both(saved, config)
    fixed = [name for name in now if name in FIXED or name.startswith("loss.")]
    pairs = {name: (was[name], now[name]) for name in fixed if name not in FREE}
    # Through ModelConfig: a field that is newer than the run has its default there.
    before, after = (_plain(m) for m in (ModelConfig.from_dict(saved["model"]), model))
    pairs |= {
        f"model.{name}": (before.get(name), value)
        for name, value in after.items()
        if name != "class_names"  # older runs do not know them, and they change no number
    }
    for name, (earlier, value) in pairs.items():
        if earlier != value:
            raise ValueError(
                f"{name} must be that of the run in this workdir, {earlier}, got {value}; "
                "another run needs another workdir"
            )
    known = saved.get("data") or data
    for name, value in data.items():
        if known.get(name) != value:
            raise ValueError(
                "data.archive must hold the images of the run in this workdir, "
                f"got another data set: {_difference(name, known.get(name), value)}; "
                "another run needs another workdir"
            )


def changes(saved: dict[str, Any], config: Config) -> list[str]:
    """Settings that are not what they were at a checkpoint, as "learning_rate 0.001 -> 0.002".

    Args:
      saved: the JSON item of the checkpoint.
      config: the settings now.
    """
    was, now = _both(saved, config)
    return [f"{name} {was[name]} -> {now[name]}" for name in now if was[name] != now[name]]


def _both(saved: dict[str, Any], config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a checkpoint and of now by dotted name; newer ones have their defaults."""
    defaults, now = (_flat(json.loads(each.to_json())) for each in (Config(), config))
    was = {**defaults, **_flat(saved["config"])}
    limits = was["loss.weight_arguments"]
    if was["loss.weight"] == "min_snr" and "gamma" in limits:  # its name once
        was["loss.weight_arguments"] = {"limit": limits["gamma"]}
    return {name: was[name] for name in now}, now


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in config.items() if not isinstance(value, dict)}
    for part in ("data", "loss"):
        flat |= {f"{part}.{name}": value for name, value in config.get(part, {}).items()}
    return flat


def _plain(model: ModelConfig) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(model)))


def _difference(name: str, was: Any, now: Any) -> str:
    if name in ("labels", "images"):
        return f"its {name} differ"
    return f"its {name} is {now}, not {was}"


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(str(array.dtype).encode() + array.tobytes()).hexdigest()

"""The settings of a training run: typed dataclasses that `configs/*.py` fill in."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

from edm_jax import objectives
from edm_jax.checks import one_of
from edm_jax.generation.choice import check_denoises
from edm_jax.model import Model
from edm_jax.networks.config import ModelConfig, SongConfig, setting
from edm_jax.samplers import DEFAULT_STEPS
from edm_jax.training import averages
from edm_jax.weights import load


def choices(text: str, *sets: tuple[str, ...]) -> list[str]:
    """Reads the argument of a configuration file, `configs/cifar10.py:uncond-ncsnpp`.

    Args:
      text: words between hyphens, in any order; a set without a word takes its first.
      *sets: the words to choose one of, each set with its default first.

    Returns:
      One word for each set.

    Raises:
      ValueError: an unknown word, or two of one set.

    >>> choices("ncsnpp", ("cond", "uncond"), ("ddpmpp", "ncsnpp"))
    ['cond', 'ncsnpp']
    """
    words = [word for word in text.split("-") if word]
    known = [word for group in sets for word in group]
    for word in words:
        if word not in known:
            raise ValueError(
                f"the configuration's argument must be of {', '.join(known)}, got {word!r}"
            )
    found = []
    for group in sets:
        chosen = [word for word in words if word in group]
        if len(chosen) > 1:
            raise ValueError(
                f"the configuration's argument must have one of {', '.join(group)}, got {text!r}"
            )
        found.append(chosen[0] if chosen else group[0])
    return found


@dataclasses.dataclass
class DataConfig:
    """Which images, and with which labels."""

    archive: str = setting("digits", "data set: 'digits', or the path of a zip or folder")
    conditional: bool = setting(True, "give the class labels to the network")
    xflip: bool = setting(False, "double the data set with mirrored copies")
    loader: str = setting("auto", "memory, mapped (a cached file), stream, or auto: by size")
    cache_dir: str | None = setting(None, "folder of mapped files; none: ~/.cache/edm_jax")
    workers: int | None = setting(None, "processes that decode; none: as many as pay off")


@dataclasses.dataclass
class LossConfig:
    """The training objective: which noise levels, how much each counts, what else is learned."""

    name: str = setting("edm", "objective: edm, vp, ve, iddpm, ddpm, flow, v, ect, cmt, …")
    arguments: dict[str, Any] = setting({}, "its parameters, such as p_mean and p_std for edm")
    weight: str | None = setting(
        None, "instead of its own weight: edm, epsilon, x0, v, flow or min_snr"
    )
    weight_arguments: dict[str, Any] = setting({}, "of that weight, such as limit of min_snr")
    uncertainty: bool = setting(False, "learn how much each noise level counts (EDM2)")
    variance_weight: float = setting(
        0.0, "of L_vlb beside the loss: learns the variance (iddpm: 0.001); 0: none"
    )
    importance: bool = setting(False, "draw levels of large loss more often (iddpm, ddpm)")
    teacher: str | None = setting(
        None, "model to distil (scm) or to follow (cmt); none: data alone"
    )

    def build(self, model: Model) -> objectives.Objective:
        """The objective.

        Args:
          model: what is to be trained with it; its parameters are not used.

        Raises:
          ValueError: an unknown name, or settings that do not go together, or not with the model.
        """
        if self.variance_weight and not model.config.predicts_variance:
            raise ValueError(
                "model.learned_variance must be True where loss.variance_weight is not 0, got "
                f"{model.config.learned_variance}"
            )
        # An objective is told only what differs from "nothing of the kind": not all know all.
        chosen = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("name", "arguments") and getattr(self, field.name)
        }
        if self.teacher:
            chosen["teacher"] = teacher = load(self.teacher)
            for name in ("resolution", "channels", "label_dim"):
                asked, its = getattr(model.config, name), getattr(teacher.config, name)
                if asked != its:
                    raise ValueError(
                        f"loss.teacher must be a model of {name} {asked}, got one of {its}"
                    )
            check_denoises(teacher, "learn from it", name="loss.teacher")
            if model.config.label_dim and model.config.label_dropout:
                raise ValueError(
                    "model.label_dropout must be 0 with loss.teacher, which always has the label, "
                    f"got {model.config.label_dropout}"
                )
        return objectives.build(self.name, model, **self.arguments, **chosen)


@dataclasses.dataclass
class Config:
    """A training run. Durations count thousands of images (kimg), batch sizes are global."""

    model: ModelConfig = dataclasses.field(default_factory=SongConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    seed: int = setting(0, "decides initial weights, order of the data and every draw")
    duration_kimg: float = setting(200_000.0, "images to train on")
    batch_size: int = setting(512, "images per step over all devices")
    microbatch: int = setting(0, "images at once on one device; 0: its whole share of the batch")
    steps_per_call: int = setting(1, "steps in one program, for small networks on accelerators")
    optimizer: str = setting("adam", "adam, or radam, which needs no ramp")
    learning_rate: float = setting(1e-3, "Adam's, after the ramp")
    rampup_kimg: float = setting(10_000.0, "length of the learning rate's ramp")
    decay_steps: float = setting(
        0.0, "after which it falls as 1/sqrt(step / decay_steps) (EDM2); 0: never"
    )
    adam_b1: float = setting(0.9, "Adam's beta 1")
    adam_b2: float = setting(0.999, "Adam's beta 2")
    adam_eps: float = setting(1e-8, "Adam's epsilon")
    clip_gradient: float = setting(0.0, "largest norm of the gradient; 0: any (see grad_norm)")
    infinite_gradient: float = setting(1e5, "what it becomes, with its sign (EDM2: 0)")
    weight_decay: float = setting(0.0, "of all parameters, times the learning rate (AdamW)")
    ema_halflife_kimg: float = setting(500.0, "half-life of the parameters' moving average")
    ema_rampup_ratio: float | None = setting(
        0.05, "the half-life is at most this share of the images seen"
    )
    ema_std: float = setting(
        0.0, "relative width of the moving average as a power function (EDM2); 0: by half-life"
    )
    ema_more_kimg: tuple[float, ...] = setting((), "half-lives of further averages")
    ema_power: tuple[float, ...] = setting(
        (), "relative widths of averages to choose from afterwards, such as (0.05, 0.1)"
    )
    ema_snapshot_kimg: float = setting(0.0, "between two snapshots of those; 0: none")
    init: str | None = setting(None, "model to start from (--init); its EMA has no ramp")
    loss_scale: float = setting(1.0, "factor of the loss in float16's backward pass")
    augment: float = setting(0.12, "probability of each augmentation; 0: none")
    engine: str = setting("auto", "auto, pmap or jit")
    fsdp: bool = setting(False, "spread parameters and optimizer state over the devices (jit)")
    log_kimg: float = setting(50.0, "between two lines of stats.jsonl")
    sample_kimg: float = setting(2_500.0, "between two grids of samples; 0: none")
    sample_steps: int = setting(DEFAULT_STEPS, "steps of the sampler that draws those grids")
    eval_kimg: float = setting(0.0, "between two measurements; 0: none")
    eval_reference: str | None = setting(
        None, "what samples are measured against, a file by edm-jax evaluate reference; none: not"
    )
    eval_images: int = setting(2_048, "samples that are measured, of seeds 0, 1, ...")
    eval_data: str | None = setting(
        None, "images held out, a data set, whose bits per dimension are measured; none: not"
    )
    eval_data_images: int = setting(256, "how many of them, evenly spread")
    eval_best: str | None = setting(
        None, "score that decides which model is kept, such as kid or bits_per_dim; none: the first"
    )
    checkpoint_kimg: float = setting(2_500.0, "between two checkpoints")
    keep_checkpoints: int = setting(2, "how many of the newest checkpoints stay")

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return -int(-self.duration_kimg * 1000 // self.batch_size)

    def every(self, kimg: float) -> int:
        """An interval in steps, at least 1; 0 stays 0."""
        return max(1, round(kimg * 1000 / self.batch_size)) if kimg > 0 else 0

    def to_json(self) -> str:
        """This configuration as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)


OPTIMIZERS = ("adam", "radam")
# What is allowed of the numbers, in words; every comparison with NaN is false.
_ALLOWED: dict[str, Callable[[float], bool]] = {
    "positive and finite": lambda value: 0 < value < math.inf,
    "finite and not negative": lambda value: 0 <= value < math.inf,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in [0, 2**32)": lambda value: 0 <= value < 2**32,
}
_RULES = {
    "positive and finite": "duration_kimg batch_size learning_rate adam_eps ema_halflife_kimg "
    "ema_rampup_ratio loss_scale log_kimg sample_steps checkpoint_kimg keep_checkpoints "
    "eval_images eval_data_images steps_per_call",
    "finite and not negative": "microbatch rampup_kimg decay_steps clip_gradient "
    "infinite_gradient weight_decay ema_snapshot_kimg sample_kimg eval_kimg",
    "in [0, 1]": "augment",
    "in [0, 1)": "adam_b1 adam_b2",
    "in [0, 2**32)": "seed",  # a key has no more
}
_OPTIONAL = ("ema_rampup_ratio",)


def check(config: Config, devices: int) -> None:
    """Refuses settings that cannot be trained with, before anything is allocated.

    Args:
      config: the run's settings.
      devices: devices that share a batch.

    Raises:
      ValueError: naming the setting, its value and what is allowed.
    """
    for rule, names in _RULES.items():
        for name in names.split():
            value = getattr(config, name)
            if not (value is None and name in _OPTIONAL) and not _ALLOWED[rule](value):
                raise ValueError(f"{name} must be {rule}, got {value!r}")
    one_of("optimizer", config.optimizer, OPTIMIZERS)
    if config.ema_std:
        averages.by_power(config.ema_std)
    if config.ema_std in config.ema_power:
        raise ValueError(
            f"ema_power must name other widths than ema_std, {config.ema_std}, "
            f"got {config.ema_power}"
        )
    if config.ema_snapshot_kimg and not (config.ema_power or config.ema_std):
        raise ValueError(
            "ema_power must name what snapshots are of, such as (0.05, 0.1), where "
            f"ema_snapshot_kimg is {config.ema_snapshot_kimg}, got {config.ema_power}"
        )
    for name in ("sample_kimg", "eval_kimg"):
        if config.model.classifies and (value := getattr(config, name)):
            raise ValueError(f"{name} must be 0 for a classifier, which draws nothing, got {value}")
    if config.eval_kimg and not (config.eval_reference or config.eval_data):
        raise ValueError(
            "eval_reference must name a file by edm-jax evaluate reference, or eval_data a data "
            f"set, where eval_kimg is {config.eval_kimg}, got none"
        )
    averages.shares(config.batch_size, halflives_kimg=config.ema_more_kimg, powers=config.ema_power)
    if config.batch_size % devices:
        raise ValueError(
            f"batch_size must be a multiple of the {devices} devices, got {config.batch_size}"
        )
    share = config.batch_size // devices
    if config.microbatch and share % config.microbatch:
        raise ValueError(
            f"microbatch must divide a device's share of {share} images, got {config.microbatch}"
        )
    for name in ("log", "sample", "eval", "checkpoint", "ema_snapshot"):
        every = config.every(getattr(config, f"{name}_kimg"))
        if every < config.total_steps and every % config.steps_per_call:
            raise ValueError(
                f"steps_per_call must divide the {every} steps of {name}_kimg, "
                f"got {config.steps_per_call}"
            )


def fit(
    config: ModelConfig,
    resolution: int,
    channels: int,
    label_dim: int,
    augment_dim: int,
    *,
    class_names: tuple[str, ...] = (),
) -> ModelConfig:
    """`config` for the data at hand: zeros are filled in, anything else must agree.

    Raises:
      ValueError: the configuration asks for another resolution or number of channels.
    """
    for name, found in (("resolution", resolution), ("channels", channels)):
        asked = getattr(config, name)
        if asked not in (0, found):
            raise ValueError(
                f"model.{name} must be that of the data set's images, {found} (or 0, to take it "
                f"from them), got {asked}"
            )
    return dataclasses.replace(
        config,
        resolution=resolution,
        channels=channels,
        label_dim=label_dim,
        augment_dim=augment_dim,
        class_names=class_names,
    )

"""What a model is: a frozen dataclass for each architecture, and the table of them by name."""

import copy
import dataclasses
import json
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from edm_jax import latents
from edm_jax.checks import one_of
from edm_jax.networks.classifier import DOWN, POOLS, Classifier
from edm_jax.networks.dhariwal import DhariwalUNet
from edm_jax.networks.edm2 import EDM2UNet
from edm_jax.networks.magnitude_preserving import normalize_kernels
from edm_jax.networks.song import SongUNet
from edm_jax.quoting import quoted

DTYPES = ("float32", "bfloat16", "float16")


def setting(default: Any, text: str, **options: Any) -> Any:
    """A dataclass field with a default and a line of help.

    Args:
      default: its value; a list, dict or dataclass is copied for every instance.
      text: what the setting means, for `--help`.
      **options: further arguments of `dataclasses.field`.
    """
    options["metadata"] = {"help": text}
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), **options)
    return dataclasses.field(default=default, **options)


def _architecture(name: str) -> Any:
    return setting(name, "of the network; decided by the class, written into files", init=False)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What decides a network and its preconditioner, in JSON's own types; base of the others.

    It can be hashed and compared, so it may be static under `jax.jit`. Two class attributes make
    an architecture: `architecture`, its name, and `module`, its Flax module, which takes the
    settings that are not this class's own by their names here.
    """

    module: ClassVar[type[nn.Module]]
    # Whether the network predicts the class label, and is not told one.
    classifies: ClassVar[bool] = False
    # Whether the network learns u(sigma), the logarithm of its expected loss.
    learns_log_variance: ClassVar[bool] = False
    # Settings that records of this architecture carried once, without a meaning.
    former: ClassVar[tuple[str, ...]] = ()

    architecture: str = _architecture("")
    resolution: int = setting(32, "side of the square images; 0: the data's")
    channels: int = setting(3, "of the images; 0: the data's")
    label_dim: int = setting(0, "number of classes, from the data; 0: none")
    class_names: tuple[str, ...] = setting((), "of the classes, from the data; empty: unnamed")
    augment_dim: int = setting(0, "width of the augmentation labels, from `augment`; 0: none")
    model_channels: int = setting(128, "width that channel_mult multiplies")
    channel_mult: tuple[int, ...] = setting(
        (2, 2, 2), "a multiplier for each level, from the full resolution down by halves"
    )
    channel_mult_emb: int = setting(4, "width of the embedding over model_channels")
    num_blocks: int = setting(4, "residual blocks in a level")
    attn_resolutions: tuple[int, ...] = setting((16,), "sides of the levels with attention")
    dropout: float = setting(0.13, "probability of dropping an element inside a block")
    label_dropout: float = setting(0.0, "probability of training an image without its label")
    preconditioner: str = setting("edm", "what the network predicts: edm, vp, ve, iddpm, v, …")
    preconditioner_arguments: dict[str, Any] = setting(
        {}, "its parameters, such as sigma_data for edm", hash=False
    )
    flow_map: bool = setting(False, "tell the network how far to jump (meanflow)")
    learned_variance: bool = setting(False, "predict a variance too (iddpm always does)")
    dtype: str = setting("float32", f"of convolutions and products: {', '.join(DTYPES)}")
    remat: bool = setting(False, "recompute blocks in the backward pass: less memory, more time")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # JSON has lists for tuples
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        names = self.class_names
        if type(names) is not tuple or not all(type(name) is str for name in names):
            raise ValueError(f"class_names must be a list of texts, got {quoted(names)}")
        if names and len(names) != self.label_dim:
            raise ValueError(
                f"class_names must be as many as label_dim, {quoted(self.label_dim)}, "
                f"got {len(names)}"
            )

    @property
    def predicts_variance(self) -> bool:
        """Whether the network predicts a variance too, in a second half of its channels."""
        return self.learned_variance or self.preconditioner == "iddpm"

    @property
    def is_consistency(self) -> bool:
        """Whether its denoiser maps noise to data at once: a consistency function or a flow map."""
        return self.flow_map or self.preconditioner == "consistency"

    @property
    def latents(self) -> bool:
        """Whether it is of latents, which have four channels, and not of images."""
        return self.channels == latents.CHANNELS

    @property
    def label_inputs(self) -> int:
        """Width of the label rows that the network is told; 0 for none."""
        return 0 if self.classifies else self.label_dim

    @property
    def outputs(self) -> int:
        """Channels of the network's result; of a classifier, the classes."""
        return self.channels * (2 if self.predicts_variance else 1)

    def network(self) -> nn.Module:
        """The network that this describes; nothing is allocated.

        Raises:
          ValueError: a setting that cannot be used.
        """
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _NOT_THE_NETWORKS
        }
        return self.module(
            img_resolution=self.resolution,
            in_channels=self.channels,
            out_channels=self.outputs,
            label_dim=self.label_inputs,
            **settings | {"dtype": jnp.dtype(one_of("dtype", self.dtype, DTYPES))},
        )

    def project(self, params: Any) -> Any:
        """What the parameters become where a training step begins: themselves, for most.

        Args:
          params: the network's parameter tree.
        """
        return params

    def to_json(self) -> str:
        """This configuration as a line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "ModelConfig":
        """The inverse of `dataclasses.asdict`, lists back to tuples.

        Args:
          values: settings by name; "architecture" says whose they are ("song" without one), and
            settings left out have their defaults.

        Raises:
          ValueError: an unknown architecture, a setting that it does not have, or one whose type is
            not that of its default.
        """
        name = one_of("architecture", values.get("architecture", "song"), tuple(ARCHITECTURES))
        kind = ARCHITECTURES[name]
        known = [field.name for field in dataclasses.fields(kind) if field.init]
        given = {k: v for k, v in values.items() if k != "architecture" and k not in kind.former}
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(
                f"the settings of {name!r} must be among {', '.join(known)}, "
                f"got {quoted(unknown[0])}"
            )
        config = kind(**given)
        for setting, default in dataclasses.asdict(kind()).items():
            value = getattr(config, setting)
            if type(value) is not type(default) and (type(default), type(value)) != (float, int):
                wanted = type(default).__name__
                raise ValueError(f"{setting} must be of type {wanted}, got {quoted(value)}")
        return config


_NOT_THE_NETWORKS = {
    "architecture", "resolution", "channels", "label_dim", "class_names", "preconditioner",
    "preconditioner_arguments", "learned_variance",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SongConfig(ModelConfig):
    """SongUNet; the defaults are DDPM++ as EDM trains it on CIFAR-10."""

    module = SongUNet
    architecture: str = _architecture("song")
    embedding_type: str = setting("positional", "of the noise level: positional or fourier")
    channel_mult_noise: int = setting(1, "width of the noise embedding over model_channels")
    encoder_type: str = setting("standard", "standard, skip or residual")
    decoder_type: str = setting("standard", "standard or skip")
    resample_filter: tuple[int, ...] = setting((1, 1), "taps of the resampling filter")


@dataclasses.dataclass(frozen=True)
class DhariwalConfig(ModelConfig):
    """DhariwalUNet; the defaults are ADM as EDM trains it on ImageNet-64."""

    module = DhariwalUNet
    former = (
        "embedding_type", "channel_mult_noise", "encoder_type", "decoder_type", "resample_filter",
    )  # fmt: skip
    architecture: str = _architecture("dhariwal")
    resolution: int = setting(64, "side of the square images; 0: the data's")
    model_channels: int = setting(192, "width that channel_mult multiplies")
    channel_mult: tuple[int, ...] = setting(
        (1, 2, 3, 4), "a multiplier for each level, from the full resolution down by halves"
    )
    num_blocks: int = setting(3, "residual blocks in a level")
    attn_resolutions: tuple[int, ...] = setting((32, 16, 8), "sides of the levels with attention")
    dropout: float = setting(0.10, "probability of dropping an element inside a block")


@dataclasses.dataclass(frozen=True)
class EDM2Config(ModelConfig):
    """EDM2UNet; the defaults are EDM2's on ImageNet-512, size S."""

    module = EDM2UNet
    learns_log_variance = True
    architecture: str = _architecture("edm2")
    resolution: int = setting(64, "side of the square images; 0: the data's")
    model_channels: int = setting(192, "width that channel_mult multiplies")
    channel_mult: tuple[int, ...] = setting(
        (1, 2, 3, 4), "a multiplier for each level, from the full resolution down by halves"
    )
    channel_mult_emb: int = setting(0, "width of the embedding likewise; 0: the widest level's")
    num_blocks: int = setting(3, "residual blocks in a level")
    attn_resolutions: tuple[int, ...] = setting((16, 8), "sides of the levels with attention")
    dropout: float = setting(0.0, "probability of dropping an element inside a block")
    channel_mult_noise: int = setting(0, "width of the noise features; 0: the first level's")
    head_channels: int = setting(64, "of an attention head; levels of fewer have no attention")
    label_balance: float = setting(0.5, "share of the class in the embedding")
    concat_balance: float = setting(0.5, "share of the encoder in what the decoder's blocks see")
    res_balance: float = setting(0.3, "share of the residual branch of a block")
    attn_balance: float = setting(0.3, "share of the attention of a block")
    clip_act: float = setting(256.0, "blocks clip their result to +- this; 0: no clipping")
    resample_filter: tuple[int, ...] = setting((1, 1), "taps of the resampling filter")
    logvar_channels: int = setting(128, "features of the learned log-variance")

    def project(self, params: Any) -> Any:
        """Forced weight normalisation: every kernel of the tree at unit magnitude."""
        return normalize_kernels(params)


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(ModelConfig):
    """Classifier of noisy images; the defaults are ADM's for ImageNet-64.

    Of the preconditioner it takes what the network is given, c_in and c_noise.
    """

    module = Classifier
    classifies = True
    architecture: str = _architecture("classifier")
    resolution: int = setting(64, "side of the square images; 0: the data's")
    channel_mult: tuple[float, ...] = setting(  # type: ignore[assignment]
        (1, 2, 3, 4), "a multiplier for each level, from the full resolution down by halves"
    )
    attn_resolutions: tuple[int, ...] = setting((32, 16, 8), "sides of the levels with attention")
    dropout: float = setting(0.0, "probability of dropping an element inside a block")
    head_channels: int = setting(64, "channels of an attention head")
    pool: str = setting("attention", f"how the pixels become one: {' or '.join(POOLS)}")
    down: str = setting("residual", f"how a level leads to the next: {' or '.join(DOWN)}")

    @property
    def outputs(self) -> int:
        """Logits of the network, one for each class.

        Raises:
          ValueError: there is nothing to tell apart, or a setting that only denoisers have.
        """
        if self.label_dim < 2:
            raise ValueError(
                "label_dim must be at least 2 for a classifier (data.conditional gives it the "
                f"data's), got {self.label_dim}"
            )
        if self.learned_variance:
            raise ValueError("learned_variance must be False for a classifier, got True")
        return self.label_dim


# Where a further architecture comes in: a class in this table.
ARCHITECTURES: dict[str, type[ModelConfig]] = {
    kind.architecture: kind for kind in (SongConfig, DhariwalConfig, EDM2Config, ClassifierConfig)
}


def ddpmpp(**changes: Any) -> SongConfig:
    """DDPM++ (the paper's "VP" architecture); `changes` replace settings."""
    return SongConfig(**changes)


def ncsnpp(**changes: Any) -> SongConfig:
    """NCSN++ (the paper's "VE" architecture); `changes` replace settings."""
    base = SongConfig(
        embedding_type="fourier",
        channel_mult_noise=2,
        encoder_type="residual",
        resample_filter=(1, 3, 3, 1),
    )
    return dataclasses.replace(base, **changes)


def adm(**changes: Any) -> DhariwalConfig:
    """ADM (Dhariwal and Nichol 2021), on ImageNet-64 as in EDM; `changes` replace settings."""
    return DhariwalConfig(**changes)


def edm2(**changes: Any) -> EDM2Config:
    """EDM2's network (Karras et al. 2024), size S on ImageNet-512; `changes` replace settings."""
    return EDM2Config(**changes)

"""A model: a network, its preconditioner and its parameters, as one immutable pytree."""

import dataclasses
import functools
import json
import typing
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from edm_jax import preconditioning
from edm_jax.networks import DhariwalUNet, SongUNet

ARCHITECTURES = ("song", "dhariwal")
DTYPES = ("float32", "bfloat16", "float16")
PRECONDITIONERS = {
    name: getattr(preconditioning, name)
    for name in (
        "edm",
        "vp",
        "ve",
        "iddpm",
        "epsilon",
        "x0",
        "v",
        "flow",
        "trigflow",
        "consistency",
    )
}
_SONG_ONLY = (
    "embedding_type",
    "channel_mult_noise",
    "encoder_type",
    "decoder_type",
    "resample_filter",
)


@dataclasses.dataclass
class ModelConfig:
    """Everything that decides a network and its preconditioner, in JSON's own types.

    The defaults are DDPM++ under the EDM preconditioner, for 32×32 RGB images.
    """

    architecture: str = "song"
    resolution: int = 32
    channels: int = 3
    label_dim: int = 0
    augment_dim: int = 0
    model_channels: int = 128
    channel_mult: tuple[int, ...] = (2, 2, 2)
    channel_mult_emb: int = 4
    num_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.13
    label_dropout: float = 0.0
    embedding_type: str = "positional"
    channel_mult_noise: int = 1
    encoder_type: str = "standard"
    decoder_type: str = "standard"
    resample_filter: tuple[int, ...] = (1, 1)
    preconditioner: str = "edm"
    preconditioner_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    learned_variance: bool = False
    dtype: str = "float32"
    remat: bool = False

    def to_json(self) -> str:
        """This configuration as a line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of `dataclasses.asdict`, lists back to tuples; unknown names are refused."""
        hints = typing.get_type_hints(cls)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise ValueError(f"ModelConfig has no field {unknown[0]!r}; it has {', '.join(hints)}")
        return cls(
            **{k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()}
        )

    def __hash__(self) -> int:
        return hash(self.to_json())


def ddpmpp(**changes: Any) -> ModelConfig:
    """DDPM++ (the paper's "VP" architecture); `changes` replace fields."""
    return dataclasses.replace(ModelConfig(), **changes)


def ncsnpp(**changes: Any) -> ModelConfig:
    """NCSN++ (the paper's "VE" architecture); `changes` replace fields."""
    base = ModelConfig(
        embedding_type="fourier",
        channel_mult_noise=2,
        encoder_type="residual",
        resample_filter=(1, 3, 3, 1),
    )
    return dataclasses.replace(base, **changes)


def adm(**changes: Any) -> ModelConfig:
    """ADM (Dhariwal and Nichol 2021) as EDM trains it on ImageNet-64; `changes` replace fields."""
    base = ModelConfig(
        architecture="dhariwal",
        resolution=64,
        model_channels=192,
        channel_mult=(1, 2, 3, 4),
        num_blocks=3,
        attn_resolutions=(32, 16, 8),
        dropout=0.10,
    )
    return dataclasses.replace(base, **changes)


@functools.lru_cache(maxsize=64)
def _preconditioner(name: str, arguments: str) -> preconditioning.Preconditioner:
    # One object for equal settings: it is static under jit, so a new one would compile anew.
    if name not in PRECONDITIONERS:
        raise ValueError(f"preconditioner is {name!r}; known are {', '.join(PRECONDITIONERS)}")
    try:
        return PRECONDITIONERS[name](**json.loads(arguments))
    except TypeError as error:
        raise ValueError(f"preconditioner_arguments of {name!r}: {error}") from None


def build_preconditioner(config: ModelConfig) -> preconditioning.Preconditioner:
    """The preconditioner that `config` names."""
    return _preconditioner(
        config.preconditioner, json.dumps(config.preconditioner_arguments, sort_keys=True)
    )


def build_network(config: ModelConfig) -> nn.Module:
    """The network that `config` describes (nothing is allocated)."""
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture is {config.architecture!r}; known are {', '.join(ARCHITECTURES)}"
        )
    if config.dtype not in DTYPES:
        raise ValueError(f"dtype is {config.dtype!r}; allowed are {', '.join(DTYPES)}")
    settings = dataclasses.asdict(config)
    for name in (
        "architecture", "preconditioner", "preconditioner_arguments", "learned_variance"
    ):  # fmt: skip
        del settings[name]
    # Improved DDPM's network also predicts a variance per channel.
    wide = config.preconditioner == "iddpm" or config.learned_variance
    settings["img_resolution"] = settings.pop("resolution")
    settings["in_channels"] = settings.pop("channels")
    settings["out_channels"] = config.channels * (2 if wide else 1)
    settings["dtype"] = jnp.dtype(config.dtype)
    if config.architecture == "song":
        return SongUNet(**settings)
    for name in _SONG_ONLY:
        del settings[name]
    return DhariwalUNet(**settings)


def init_params(key: jax.Array, config: ModelConfig) -> Any:
    """Fresh float32 parameters; use under `jax.jit` or `jax.eval_shape` for large networks.

    Args:
      key: a typed key; it is consumed.
      config: the model's configuration.

    Returns:
      The parameter tree of `build_network(config)`.
    """
    side, channels = config.resolution, config.channels
    return build_network(config).init(
        key,
        jnp.zeros((1, side, side, channels)),
        jnp.zeros((1,)),
        jnp.zeros((1, config.label_dim)) if config.label_dim else None,
        jnp.zeros((1, config.augment_dim)) if config.augment_dim else None,
    )["params"]


@flax.struct.dataclass
class Model:
    """A denoiser's parts. A pytree whose leaves are `params`: pass it to jit, grad and pmap.

    Attributes:
      params: the parameter tree.
      network: Flax module, `apply({"params": params}, x, c_noise, class_labels, augment_labels)`.
      preconditioner: turns the network into a denoiser (paper, eq. 7).
      config: what the two were built from, and what is saved beside the parameters.
    """

    params: Any
    network: nn.Module = flax.struct.field(pytree_node=False)
    preconditioner: preconditioning.Preconditioner = flax.struct.field(pytree_node=False)
    config: ModelConfig = flax.struct.field(pytree_node=False)

    @classmethod
    def build(cls, config: ModelConfig, params: Any) -> "Model":
        """The model of `config` around parameters that exist."""
        return cls(params, build_network(config), build_preconditioner(config), config)

    @classmethod
    def init(cls, key: jax.Array, config: ModelConfig) -> "Model":
        """A freshly initialised model; `key` is consumed."""
        return cls.build(config, init_params(key, config))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return self.config.resolution, self.config.resolution, self.config.channels

    def denoiser(
        self,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """D(x; sigma), with the labels closed over.

        Args:
          class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".
          augment_labels: [B, augment_dim], or None outside training.
          dropout_keys: [B] typed keys for training; None turns dropout off.

        Returns:
          denoise(x, sigma): x [B, H, W, C], sigma [] or [B] -> [B, H, W, C], float32.
        """
        call = self.caller(class_labels, augment_labels, dropout_keys)
        return preconditioning.denoiser(call, self.preconditioner)

    def caller(
        self,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The network F(x; c_noise) itself, with the labels closed over; see `denoiser`."""

        def network(x, c_noise):
            labels = class_labels
            if labels is None and self.config.label_dim:
                labels = jnp.zeros((x.shape[0], self.config.label_dim))
            return self.network.apply(
                {"params": self.params},
                x,
                c_noise,
                labels,
                augment_labels,
                dropout_keys=dropout_keys,
            )

        return network


def parameter_count(params: Any) -> int:
    """The number of trainable parameters (the fixed Fourier frequencies are not counted)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if getattr(path[-1], "key", "") != "freqs")

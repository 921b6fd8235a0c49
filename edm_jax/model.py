"""A model: a network, its preconditioner and its parameters, as one immutable pytree."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from edm_jax import preconditioning
from edm_jax.checks import Classifier, Denoiser, DenoiserWithVariance, FlowMap
from edm_jax.networks.config import ModelConfig

_MAX_WIDTH = 2**16  # pixels a side, channels
FIXED = ("freqs", "phases")  # of random Fourier features: never trained


def init_params(key: jax.Array, config: ModelConfig) -> Any:
    """Fresh float32 parameters; use under `jax.jit` or `jax.eval_shape` for large networks.

    Args:
      key: a typed key; it is consumed.
      config: the model's configuration.

    Returns:
      The parameter tree of `config.network()`.
    """
    side, channels = config.resolution, config.channels
    return config.network().init(
        key,
        jnp.zeros((1, side, side, channels)),
        jnp.zeros((1,)),
        jnp.zeros((1, config.label_inputs)) if config.label_inputs else None,
        jnp.zeros((1, config.augment_dim)) if config.augment_dim else None,
    )["params"]


def params_like(config: ModelConfig, *, tensors: int) -> Any:
    """The shapes of the parameters that a file must hold; nothing is allocated.

    Args:
      config: the model's configuration, as it was read.
      tensors: how many arrays the file holds. Tracing takes as long as the network is deep: one
        far deeper than its arrays is damage.

    Returns:
      A tree of `jax.ShapeDtypeStruct`, of the structure that `init_params` gives.

    Raises:
      ValueError: the network is deeper than that, or too wide to be one.
    """
    depth = max(1, config.num_blocks) * len(config.channel_mult)
    widths = (config.resolution, config.channels, config.model_channels, *config.channel_mult)
    if depth > tensors or max(widths) > _MAX_WIDTH:
        raise ValueError(
            f"weights do not fit the network: {tensors} tensors for {config.num_blocks} blocks "
            f"at each of {len(config.channel_mult)} levels, resolution {config.resolution}, width "
            f"{config.model_channels}"
        )
    return jax.eval_shape(lambda: init_params(jax.random.key(0), config))


class Model(struct.PyTreeNode):
    """A denoiser's parts, or a classifier's; a pytree whose leaves are `params`, for jit and grad.

    Attributes:
      params: the parameter tree.
      network: Flax module, `apply({"params": params}, x, c_noise, class_labels, augment_labels)`.
      preconditioner: turns the network into a denoiser (paper, eq. 7).
      config: what the two were built from, and what is saved beside the parameters.
    """

    params: Any
    network: nn.Module = struct.field(pytree_node=False)
    preconditioner: preconditioning.Preconditioner = struct.field(pytree_node=False)
    config: ModelConfig = struct.field(pytree_node=False)

    def __repr__(self) -> str:
        config, side = self.config, self.config.resolution
        classes = f"{config.label_dim} classes" if config.label_dim else "no classes"
        return (
            f"Model({config.architecture}, {side}x{side}x{config.channels}, {classes}, "
            f"preconditioner {config.preconditioner}, {parameter_count(self.params):,} parameters)"
        )

    @classmethod
    def build(cls, config: ModelConfig, params: Any) -> "Model":
        """The model of `config` around parameters that exist."""
        preconditioner = preconditioning.build(
            config.preconditioner, **config.preconditioner_arguments
        )
        return cls(params, config.network(), preconditioner, config)

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
        *,
        dropout_keys: jax.Array | None = None,
    ) -> Denoiser:
        """D(x; sigma), with the labels closed over; of a flow map the consistency function.

        Args:
          class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".
          augment_labels: [B, augment_dim], or None outside training.
          dropout_keys: [B] typed keys for training; None turns dropout off.

        Returns:
          denoise(x, sigma): x [B, H, W, C], sigma [] or [B] -> [B, H, W, C], float32.
        """
        if self.config.flow_map:
            mapped = self.flow_map(class_labels, augment_labels, dropout_keys=dropout_keys)
            return lambda x, sigma: mapped(x, sigma, jnp.zeros(()))
        network = self.prediction(class_labels, augment_labels, dropout_keys=dropout_keys)
        return preconditioning.denoiser(network, self.preconditioner)

    def flow_map(
        self,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> FlowMap:
        """D(x; sigma, rho) for a jump along the flow (`preconditioning.flow_map`).

        Args:
          class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".
          augment_labels: [B, augment_dim], or None outside training.
          dropout_keys: [B] typed keys for training; None turns dropout off.

        Returns:
          (x, sigma, rho): x [B, H, W, C], sigma and rho [] or [B] -> [B, H, W, C], float32.

        Raises:
          ValueError: a network that is not told how far to jump.
        """
        if not self.config.flow_map:
            raise ValueError("model.flow_map must be True of a network that jumps, got False")
        given = functools.partial(
            self.prediction, class_labels, augment_labels, dropout_keys=dropout_keys
        )
        return preconditioning.flow_map(lambda jump: given(jump=jump), self.preconditioner)

    def denoiser_with_variance(
        self,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        *,
        dropout_keys: jax.Array | None = None,
    ) -> DenoiserWithVariance:
        """(D, v)(x; sigma) of a network that also predicts a variance, with the labels closed over.

        Args:
          class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".
          augment_labels: [B, augment_dim], or None outside training.
          dropout_keys: [B] typed keys for training; None turns dropout off.

        Returns:
          denoise(x, sigma): x [B, H, W, C], sigma [] or [B] -> (D, v), both [B, H, W, C] float32;
          v in about [0, 1] is the place of ln variance between its bounds
          (`preconditioning.with_variance`).
          It raises ValueError for a network that predicts no variance.
        """
        network = self.prediction(class_labels, augment_labels, dropout_keys=dropout_keys)
        return preconditioning.with_variance(network, self.preconditioner)

    def classifier(
        self, augment_labels: jax.Array | None = None, *, dropout_keys: jax.Array | None = None
    ) -> Classifier:
        """The logits of the classes (x; sigma); `guidance.log_prob` makes a guide of them.

        Args:
          augment_labels: [B, augment_dim], or None outside training.
          dropout_keys: [B] typed keys for training; None turns dropout off.

        Returns:
          (x, sigma): x [B, H, W, C], sigma [] or [B] -> [B, label_dim] float32. It raises
          ValueError for a network that is no classifier.
        """
        network = self.prediction(None, augment_labels, dropout_keys=dropout_keys)
        return preconditioning.classifier(network, self.preconditioner)

    @property
    def log_variance(self) -> Callable[[jax.Array], jax.Array] | None:
        """u(sigma), the logarithm of the expected loss: [B] -> [B]; None where none is learned."""
        if not self.config.learns_log_variance:
            return None

        def log_variance(sigma: jax.Array) -> jax.Array:
            c_noise = self.preconditioner.c_noise(sigma)
            found = self.network.apply({"params": self.params}, c_noise, method="log_variance")
            return cast(jax.Array, found)

        return log_variance

    def prediction(
        self,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        *,
        dropout_keys: jax.Array | None = None,
        jump: jax.Array | None = None,
    ) -> preconditioning.Network:
        """F(x_in; c_noise), what the network itself returns, with the labels closed over.

        Args:
          class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".
          augment_labels: [B, augment_dim], or None outside training.
          dropout_keys: [B] typed keys for training; None turns dropout off.
          jump: [B] how far a flow map goes; None is 0.

        Returns:
          (x_in [B, H, W, C], c_noise [B]) -> the output, of the network's own channels.
        """

        told: dict[str, Any] = {} if jump is None else {"jump": jump}  # not all take one

        def network(x: jax.Array, c_noise: jax.Array) -> jax.Array:
            labels = class_labels
            if labels is None and self.config.label_inputs:
                labels = jnp.zeros((x.shape[0], self.config.label_inputs))
            output = self.network.apply(
                {"params": self.params},
                x,
                c_noise,
                labels,
                augment_labels,
                dropout_keys=dropout_keys,
                **told,
            )
            return cast(jax.Array, output)

        return network


def parameter_count(params: Any) -> int:
    """The number of trainable parameters (fixed Fourier frequencies and phases are not counted)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if getattr(path[-1], "key", "") not in FIXED)

"""What the U-Nets share: their settings, how they are initialised and called, and their blocks."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from edm_jax.networks import inputs, layers
from edm_jax.networks.block import UNetBlock
from edm_jax.networks.initialization import Init, init_in_one_draw

# (x, name, features, resample=None, attend=False, **style) -> x, by the network's next block.
Block = Callable[..., jax.Array]


class Told(NamedTuple):
    """What the embedding is made of: the arguments of `UNet.__call__` beside x, checked."""

    c_noise: jax.Array
    jump: jax.Array
    class_labels: jax.Array | None
    augment_labels: jax.Array | None
    dropout_keys: jax.Array | None


class UNet(nn.Module):
    """A U-Net over levels of halved resolution; base of the others, which say how it is made.

    img_resolution: side of the square images; divisible by 2^(levels - 1).
    in_channels, out_channels: of x and of the result (with predicted variances: twice x's).
    label_dim: number of classes; 0 for none.
    augment_dim: width of the augmentation labels; 0 for none.
    model_channels: width that channel_mult multiplies.
    channel_mult: one multiplier a level, from the full resolution down.
    channel_mult_emb: width of the embedding over model_channels.
    num_blocks: residual blocks a level (one more in the decoder).
    attn_resolutions: sides of the levels with attention; the decoder's lowest always has it.
    dropout: probability of dropping an element inside a block.
    label_dropout: probability of dropping an example's class label.
    flow_map: whether it is told how far to jump, of which it knows nothing before training.
    dtype: compute type.
    remat: whether the backward pass recomputes each block instead of storing its activations.
    """

    least_mult: ClassVar[float] = 1  # of channel_mult

    img_resolution: int
    in_channels: int
    out_channels: int
    label_dim: int = 0
    augment_dim: int = 0
    model_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    channel_mult_emb: int = 4
    num_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.10
    label_dropout: float = 0.0
    flow_map: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError naming an argument that cannot be used; warns of one without effect."""
        inputs.check_arguments(self)
        if not self._fits(self.model_channels):
            width = self.model_channels
            below = next(filter(self._fits, range(width, 0, -4)), None)
            above = next(filter(self._fits, itertools.count(width, 4)))
            near = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                "model_channels must give every level a width that divides into the groups of its"
                f" norms and into its heads, such as {near}, got {width}"
            )
        sides = [self.img_resolution >> level for level in range(len(self.channel_mult))]
        if self.attn_resolutions and not set(self.attn_resolutions) & set(sides):
            warnings.warn(
                f"attn_resolutions must be among the levels' sides {', '.join(map(str, sides))} to"
                f" have an effect, got {self.attn_resolutions!r}",
                stacklevel=2,
            )
        super().__post_init__()

    @nn.nowrap
    def init(self, rngs: Any, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Returns fresh variables {"params": tree} for a key; runs nothing but one draw."""
        key = rngs["params"] if isinstance(rngs, Mapping) else rngs
        return init_in_one_draw(super().init, key, *arguments, **keywords)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        c_noise: jax.Array,
        class_labels: jax.Array | None = None,
        augment_labels: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
        jump: jax.Array | None = None,
    ) -> jax.Array:
        """Returns F(x; c_noise), before preconditioning; of a classifier, logits.

        Args:
          x: [B, R, R, in_channels] network input c_in(sigma) x.
          c_noise: [B] (or [] or [1]) noise labels.
          class_labels: [B, label_dim] one-hot rows; None or a row of zeros for no label.
          augment_labels: [B, augment_dim]; None or zeros for not augmented.
          dropout_keys: [B] typed keys, training; None for evaluation.
          jump: [B] (or [] or [1]) how far a flow map goes (`preconditioning.flow_map`); None is 0.

        Returns:
          [B, R, R, out_channels], or [B, out_channels] logits; float32 (float64 when dtype is).

        Raises:
          ValueError: on an input of another shape, or a jump for a network that is no flow map.
        """
        c_noise = inputs.check_inputs(self, x, c_noise, dropout_keys)
        length = inputs.check_jump(self, jump, c_noise)
        emb = self._embed(Told(c_noise, length, class_labels, augment_labels, dropout_keys))
        numbers = itertools.count(1)
        make: Any = nn.remat(self._block()) if self.remat else self._block()

        def block(
            x: jax.Array,
            name: str,
            features: int,
            resample: str | None = None,
            attend: bool = False,
            **style: Any,
        ) -> jax.Array:
            unit = make(
                features,
                resample,
                heads=self._heads(features) if attend else 0,
                index=next(numbers),
                dropout=self.dropout,
                dtype=self.dtype,
                name=name,
                **self._block_style(),
                **style,
            )
            return unit(x, emb, dropout_keys)

        return self._output(self._encode(x, block), block).astype(layers.wide(self.dtype))

    # What each network says of itself.

    @nn.nowrap
    def _embed(self, told: Told) -> jax.Array:
        """The embedding [B, channel_mult_emb model_channels] of what the network is told."""
        raise NotImplementedError

    @nn.nowrap
    def _encode(self, x: jax.Array, block: Block) -> list[jax.Array]:
        """The results of the input layer and of every block of the encoder, in their order."""
        raise NotImplementedError

    @nn.nowrap
    def _output(self, skips: list[jax.Array], block: Block) -> jax.Array:
        """The result, made of those: an image [B, R, R, out_channels], or logits."""
        raise NotImplementedError

    @nn.nowrap
    def _block(self) -> type[nn.Module]:
        """The class of its blocks."""
        return UNetBlock

    @nn.nowrap
    def _block_style(self) -> dict[str, Any]:
        """The arguments that all blocks have."""
        raise NotImplementedError

    @nn.nowrap
    def _join(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """What a block of the decoder sees of its input and the encoder's result."""
        return jnp.concatenate([x, skip], axis=-1)

    @nn.nowrap
    def _heads(self, features: int) -> int:
        """How many heads attention over this many channels has."""
        raise NotImplementedError

    @nn.nowrap
    def _first_mult(self) -> int:
        """Width of the input layer over model_channels."""
        raise NotImplementedError

    # What they build it from.

    @nn.nowrap
    def _classes(self, told: Told) -> jax.Array | None:
        """Class labels [B, label_dim], some dropped in training; None for a network without."""
        labels = inputs.conditioning(
            "class_labels", told.class_labels, self.label_dim, told.c_noise
        )
        if labels is None:
            return None
        return inputs.drop_labels(labels, told.dropout_keys, self.label_dropout)

    @nn.nowrap
    def _augmentation(self, told: Told) -> jax.Array | None:
        """Augmentation labels [B, augment_dim]; None for a network without."""
        return inputs.conditioning(
            "augment_labels", told.augment_labels, self.augment_dim, told.c_noise
        )

    @nn.nowrap
    def _with_jump(self, emb: jax.Array, told: Told) -> jax.Array:
        """An embedding [B, E], and of a flow map what the jump adds to it: nothing at first."""
        if not self.flow_map:
            return emb
        width = emb.shape[-1]
        features = layers.positional_embedding(told.jump, width)
        dense = layers.Dense(width, Init(weight=0.0), use_bias=False, name="map_jump")
        return emb + dense(features)

    @nn.nowrap
    def _encode_plainly(
        self, x: jax.Array, block: Block, conv: Callable[..., Any]
    ) -> list[jax.Array]:
        """An encoder of one convolution and blocks; `conv` makes a layer from width and name."""
        skips = []
        for level, mult in enumerate(self.channel_mult):
            side = self.img_resolution >> level
            name, width = f"enc_{side}x{side}", int(self.model_channels * mult)
            if level == 0:
                x = conv(width, name=f"{name}_conv")(x)
            else:
                x = self._down(x, f"{name}_down", block)
            skips.append(x)
            for i in range(self.num_blocks):
                x = block(x, f"{name}_block{i}", width, attend=side in self.attn_resolutions)
                skips.append(x)
        return skips

    @nn.nowrap
    def _down(self, x: jax.Array, name: str, block: Block) -> jax.Array:
        """The layer from one level of the encoder to the next."""
        return block(x, name, x.shape[-1], "down")

    @nn.nowrap
    def _decode(
        self, skips: list[jax.Array], block: Block, attend_from: int
    ) -> Iterator[tuple[int, jax.Array]]:
        """Yields (level, result) from the lowest level up; attention begins at this block."""
        x, lowest = skips[-1], len(self.channel_mult) - 1
        for level in range(lowest, -1, -1):
            side = self.img_resolution >> level
            name, width = f"dec_{side}x{side}", self.model_channels * self.channel_mult[level]
            if level == lowest:
                x = block(x, f"{name}_in0", x.shape[-1], attend=True)
                x = block(x, f"{name}_in1", x.shape[-1])
            else:
                x = block(x, f"{name}_up", x.shape[-1], "up")
            for i in range(self.num_blocks + 1):
                attend = i >= attend_from and side in self.attn_resolutions
                x = self._join(x, skips.pop())
                x = block(x, f"{name}_block{i}", width, attend=attend)
            yield level, x

    @nn.nowrap
    def _fits(self, model_channels: int) -> bool:
        """Whether every norm and every attention of a network this wide can be made."""
        mult, first = self.channel_mult, self._first_mult()
        # The decoder's blocks see a level's width beside that of the level below it, of its own
        # blocks, and of what entered it in the encoder.
        pairs = [*zip(mult, (*mult[1:], mult[-1])), *zip(mult, (first, *mult[:-1]))]
        pairs += zip(mult, mult) if self.num_blocks > 1 else ()
        normed = {first, *mult, *(a + b for a, b in pairs)}
        attended = {mult[-1]} | {
            m
            for level, m in enumerate(mult)
            if self.img_resolution >> level in self.attn_resolutions
        }
        return all(layers.norm_groups(model_channels * m) for m in normed) and not any(
            model_channels * m % max(1, self._heads(model_channels * m)) for m in attended
        )

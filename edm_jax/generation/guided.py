"""Models whose denoiser is made from those of others: guidance, thresholds, any rule."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from edm_jax import checks, guidance, preconditioning
from edm_jax.checks import Denoiser, Remembering
from edm_jax.guidance.scales import Scale
from edm_jax.model import Model
from edm_jax.networks.config import ModelConfig

# (labels [B, L] or None, *models) -> the denoiser to draw from.
Rule = Callable[..., Denoiser | Remembering]


class Guided(struct.PyTreeNode):
    """Models, and the rule that makes one denoiser of them; drawn from like a model.

    >>> def rule(labels, model):                                      # doctest: +SKIP
    ...     return guidance.zero_star(model.denoiser(labels), model.denoiser(), 2.0)
    >>> parts = generate(Guided(rule, (model,)), sampler, range(9))   # doctest: +SKIP

    Attributes:
      rule: (labels [B, L] or None, *models) -> denoiser.
      models: the first, a `Model`, says which images, classes and noise levels there are; more
        models, or any trees of arrays, may follow it.
    """

    rule: Rule = struct.field(pytree_node=False)
    models: tuple[Any, ...]

    @property
    def config(self) -> ModelConfig:
        """The first model's configuration."""
        return self.models[0].config

    @property
    def preconditioner(self) -> preconditioning.Preconditioner:
        """The first model's preconditioner."""
        return self.models[0].preconditioner

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return self.models[0].image_shape

    def denoiser(self, class_labels: jax.Array | None = None) -> Denoiser | Remembering:
        """The denoiser by the rule, with the labels closed over.

        Args:
          class_labels: [B, label_dim] one-hot rows; all zeros, or None, is "no label".
        """
        return self.rule(class_labels, *self.models)


def guided(
    model: Model,
    scale: Scale,
    *,
    guide: Model | None = None,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    threshold: float | Literal["static"] | None = None,
    one_call: bool = True,
) -> Guided:
    """A model under classifier-free guidance or autoguidance, to be drawn from in its place.

        D_w = D_guide + w (D_model - D_guide)

    >>> parts = generate(guided(model, 2.0), sampler, range(9), classes=3)    # doctest: +SKIP

    Args:
      model: what is guided.
      scale: w, a number or a function of sigma. The number 1 is no guidance, and no cost.
      guide: a worse model of the same images and classes, or one without classes. None is the
        model itself without its label, where it was trained with label dropout.
      interval: (low, high): guide where low < sigma <= high alone. None guides everywhere.
      rescale: phi in [0, 1]: how much of the model's own deviation is given back to the result.
      threshold: clip the result to [-1, 1], "static"; or to its quantile of this order
        (`guidance.dynamic_threshold`). None leaves it.
      one_call: ask the model with and without its label in one call of twice the batch, not in
        two. Another guide always has a call of its own.

    Returns:
      What `generate`, `paths`, `draw` and `sampler_for` take for a model.

    Raises:
      ValueError: a guide of another kind, of other images or classes; no guide, and a model that
        was trained without label dropout; a scale, an interval, rescale or threshold that is not
        allowed.
    """
    unguided = not callable(scale) and scale == 1.0
    if guide is not None:
        if guide.config.classifies:
            raise ValueError("guide must be a denoiser, got a classifier (guided_by_classifier)")
        _check_guide(model, guide)
        if guide.config.is_consistency != model.config.is_consistency:
            raise ValueError(
                "guide must be a denoiser where the model is one and a consistency model where it "
                f"is one, got one of the preconditioner {guide.config.preconditioner!r}"
            )
    elif not unguided:
        check_unlabelled(model, "guide", "another model")

    def rule(labels: jax.Array | None, model: Model, *others: Model) -> Denoiser:
        none = jax.tree.map(jnp.zeros_like, labels)
        if unguided:
            return _within(threshold, model.denoiser(labels))
        main: Denoiser
        second: Denoiser
        if others:
            main = model.denoiser(labels)
            second = others[0].denoiser(labels if others[0].config.label_dim else None)
        elif one_call:
            main, second = guidance.in_one_call(model.denoiser, labels, none)
        else:
            main, second = model.denoiser(labels), model.denoiser(none)
        return _within(
            threshold,
            guidance.classifier_free(main, second, scale, interval=interval, rescale=rescale),
        )

    # Arguments that are not allowed are refused here, not when the first image is drawn.
    alone = model.denoiser()
    guidance.classifier_free(alone, alone, scale, interval=interval, rescale=rescale)
    _within(threshold, alone)
    return Guided(rule, (model,) if guide is None else (model, guide))


def guided_by_classifier(
    model: Model,
    classifier: Model,
    scale: Scale,
    *,
    threshold: float | Literal["static"] | None = None,
) -> Guided:
    """A model, asked without its label, under the guidance of a classifier of noisy images.

        D_w = D + w sigma^2 grad_x log p(y | x; sigma)      (`guidance.classifier`)

    >>> guided = guided_by_classifier(model, classifier, 2.0)                 # doctest: +SKIP
    >>> parts = generate(guided, sampler, range(9), classes=3)                # doctest: +SKIP

    Args:
      model: what is guided, of labelled images and trained with label dropout.
      classifier: a model that is a classifier, of the same images and classes.
      scale: w, a number or a function of sigma; 0 draws of any class.
      threshold: clip D to [-1, 1], "static"; or to its quantile of this order
        (`guidance.dynamic_threshold`). What is added is not clipped. None leaves it.

    Returns:
      What `generate`, `paths`, `draw` and `sampler_for` take for a model.

    Raises:
      ValueError: no classifier, or one of other images or classes; a model that was trained
        without label dropout; a scale or a threshold that is not allowed.
    """
    if not classifier.config.classifies:
        raise ValueError(
            "classifier must be a classifier's model, got that of "
            f"{classifier.config.architecture!r}"
        )
    _check_guide(model, classifier, "classifier")
    check_unlabelled(model, "model", "one that can be asked without its label")

    def rule(labels: jax.Array | None, model: Model, classifier: Model) -> Denoiser:
        if labels is None:
            raise ValueError("classes must be given to be guided by a classifier, got none")
        denoise = _within(threshold, model.denoiser())
        log_prob = guidance.log_prob(classifier.classifier(), labels)
        return guidance.classifier(denoise, log_prob, scale)

    guidance.classifier(_within(threshold, model.denoiser()), lambda x, sigma: sigma, scale)
    return Guided(rule, (model, classifier))


def check_unlabelled(model: Model, name: str, instead: str) -> None:
    """Raises ValueError where a model has not learned to be asked without its label.

    Args:
      model: any.
      name: of the argument that asks, for the message.
      instead: what is allowed then, for the message.
    """
    config = model.config
    if not config.label_dim:
        raise ValueError(f"{name} must be {instead} where the model has no labels, got none")
    if not config.label_dropout:
        raise ValueError(
            f"{name} must be {instead} where the model was trained without label dropout "
            "(model.label_dropout=0.1), as it does not know images without a label, got none"
        )


def _check_guide(model: Model, guide: Model, name: str = "guide") -> None:
    mine, other = model.config, guide.config
    if guide.image_shape != model.image_shape:
        raise ValueError(
            f"{name} must have images of {model.image_shape}, as the model has, "
            f"got {guide.image_shape}"
        )
    if other.label_dim not in (0, mine.label_dim):
        raise ValueError(
            f"{name} must have {mine.label_dim} classes, as the model has, or none, "
            f"got {other.label_dim}"
        )
    if other.class_names and mine.class_names and other.class_names != mine.class_names:
        first = next(
            pair for pair in zip(mine.class_names, other.class_names) if pair[0] != pair[1]
        )
        raise ValueError(
            f"{name} must have the classes of the model, got {first[1]!r} for {first[0]!r}"
        )


def _within(threshold: float | Literal["static"] | None, denoise: Denoiser) -> Denoiser:
    if threshold is None:
        return denoise
    if threshold == "static":
        return guidance.clip(denoise)
    return guidance.dynamic_threshold(denoise, checks.between("threshold", threshold, 0.0, 1.0))

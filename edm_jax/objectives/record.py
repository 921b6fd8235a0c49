"""What an objective is: a record of pure functions, and what they hand to one another."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from edm_jax import preconditioning
from edm_jax.checks import Classifier, Denoiser, DenoiserWithVariance, FlowMap
from edm_jax.preconditioning import Network, Preconditioner


class State(NamedTuple):
    """What an objective remembers between steps: two pytrees, empty where it has no use for them.

    Attributes:
      trained: what the optimizer moves along with the network's parameters.
      kept: what `Objective.update` changes, and nothing else.
    """

    trained: Any = ()
    kept: Any = ()


class Losses(NamedTuple):
    """What is known of each example after its loss, [b] float32 each.

    Attributes:
      minimised: what the gradient is taken of, a sum over the example's elements or a norm.
      logged: what a log shows as the loss: a mean over elements, or that norm.
      each: the loss at `sigma`, a mean over elements, however often such a level is drawn.
      sigma: noise levels.
    """

    minimised: jax.Array
    logged: jax.Array
    each: jax.Array
    sigma: jax.Array


class Model(Protocol):
    """What objectives ask of a model with its parameters; `edm_jax.Model` and `Wrapped` have it."""

    @property
    def preconditioner(self) -> Preconditioner:
        """How its network becomes a denoiser."""

    @property
    def log_variance(self) -> Callable[[jax.Array], jax.Array] | None:
        """u(sigma), [B] -> [B], of a network that learns its own uncertainty; else None."""

    @property
    def denoiser(self) -> Callable[..., Denoiser]:
        """(**conditions) -> D(x; sigma); conditions such as `class_labels` lead with B."""

    @property
    def denoiser_with_variance(self) -> Callable[..., DenoiserWithVariance]:
        """(**conditions) -> (D, v)(x; sigma) of a network that also predicts a variance."""

    @property
    def flow_map(self) -> Callable[..., FlowMap]:
        """(**conditions) -> D(x; sigma, rho) of a network that is told how far to jump."""

    @property
    def prediction(self) -> Callable[..., Network]:
        """(**conditions) -> F(x_in; c_noise), what the network itself returns."""

    @property
    def classifier(self) -> Callable[..., Classifier]:
        """(**conditions) -> logits(x; sigma) of a network that tells classes apart."""


class Wrapped(NamedTuple):
    """A network of any library as a `Model`.

    Attributes:
      network: (x_in [B, ...], c_noise [B], **conditions) -> F, with its parameters.
      preconditioner: turns it into a denoiser.
      log_variance: sigma [B] -> u [B], of a network that learns its own uncertainty.
    """

    network: Callable[..., jax.Array]
    preconditioner: Preconditioner
    log_variance: Callable[[jax.Array], jax.Array] | None = None

    def prediction(self, **conditions: Any) -> Network:
        """F(x_in; c_noise) under the conditions."""
        return functools.partial(self.network, **conditions)

    def denoiser(self, **conditions: Any) -> Denoiser:
        """D(x; sigma) under the conditions, which the network takes as keywords."""
        return preconditioning.denoiser(self.prediction(**conditions), self.preconditioner)

    def flow_map(self, **conditions: Any) -> FlowMap:
        """(x, sigma, rho) -> D under the conditions, of a network that takes a `jump` too."""
        predict = lambda jump: self.prediction(jump=jump, **conditions)
        return preconditioning.flow_map(predict, self.preconditioner)

    def denoiser_with_variance(self, **conditions: Any) -> DenoiserWithVariance:
        """(x, sigma) -> (D, v) under the conditions, of a network that predicts a variance too."""
        return preconditioning.with_variance(self.prediction(**conditions), self.preconditioner)

    def classifier(self, **conditions: Any) -> Classifier:
        """(x, sigma) -> logits under the conditions, of a network that tells classes apart."""
        return preconditioning.classifier(self.prediction(**conditions), self.preconditioner)


class Objective(NamedTuple):
    """What is learned, and how it is scored. All four are pure and can be compiled.

    Attributes:
      init: () -> the state before the first step.
      draw: (state, keys [b, 2], y, conditions) -> examples. y is a pytree of [b, ...] data, and
        conditions a dict of pytrees of [b, ...] that the model is given; of each example's two
        typed keys the first is for its noise level, the second for its noise. The examples are
        any pytree whose leaves lead with b: they may be cut into microbatches.
      loss: (model, state, examples) -> `Losses`. The gradient is taken with respect to the model's
        parameters and `state.trained`.
      update: (state, examples, losses, gather) -> the state after the step. `gather` takes a tree
        of [b, ...] to that of the whole batch, in its order: over devices each sees a share.
    """

    init: Callable[[], State]
    draw: Callable[[State, jax.Array, Any, dict[str, Any]], Any]
    loss: Callable[[Model, State, Any], Losses]
    update: Callable[[State, Any, Losses, Callable[[Any], Any]], State]


def unchanged(state: State, examples: Any, losses: Losses, gather: Callable[[Any], Any]) -> State:
    """The `update` of an objective that learns nothing from a step."""
    return state

"""A run out of its settings: model, step and initial state, for the data and devices at hand."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from edm_jax import augment
from edm_jax.model import Model
from edm_jax.networks.config import ModelConfig
from edm_jax.objectives import variational
from edm_jax.runtime import engines, processes
from edm_jax.training import averages as ema
from edm_jax.training import optimizer, state
from edm_jax.training.config import Config, fit
from edm_jax.training.step import make_draw, make_train_step


class Parts(NamedTuple):
    """What a run consists of.

    Attributes:
      model: network, preconditioner and configuration, without parameters.
      step: (state, batch, key) -> (state, metrics), see `make_train_step`; not compiled.
      initial: () -> the state before the first step; to be called under jit.
      schedule: step -> learning rate.
    """

    model: Model
    step: Callable
    initial: Callable[[], state.TrainState]
    schedule: optax.Schedule


def assemble(
    config: Config, engine: engines.Engine, *, resolution: int, channels: int, label_dim: int
) -> Parts:
    """Builds what `config` describes; nothing is allocated.

    Args:
      config: the run's settings.
      engine: what will run the step.
      resolution, channels, label_dim: of the data set.

    Raises:
      ValueError: settings that do not go together, or not with the data set.
    """
    augmentation = augment.edm(config.augment) if config.augment else None
    model_config = fit(
        config.model,
        resolution=resolution,
        channels=channels,
        label_dim=label_dim,
        augment_dim=augment.label_dim(augmentation) if augmentation else 0,
    )
    model = Model.build(model_config, None)
    schedule = optimizer.learning_rate(
        config.learning_rate, config.rampup_kimg * 1e3, config.batch_size
    )
    adam = optimizer.adam(
        schedule, config.adam_b1, config.adam_b2, config.adam_eps, config.clip_gradient
    )
    objective = config.loss.build(model_config)
    # The average of a transferred model must not forget it in the first steps.
    ramp = None if config.init else config.ema_rampup_ratio
    averages = ema.shares(config.batch_size, config.ema_more_kimg, config.ema_power, ramp)
    augment_images = (
        functools.partial(augment.augment, settings=augmentation) if augmentation else None
    )
    share = config.batch_size // engine.devices
    step = make_train_step(
        model,
        make_draw(objective, augment_images),
        objective.weight,
        adam,
        batch_size=config.batch_size,
        ema_halflife=config.ema_halflife_kimg * 1e3,
        ema_rampup_ratio=ramp,
        averages=averages,
        bound=variational.bound(objective.levels) if config.loss.variance_weight else None,
        bound_weight=config.loss.variance_weight,
        loss_scale=config.loss_scale,
        rounds=share // config.microbatch if config.microbatch else 1,
        shards=engine.shards,
        unroll=processes.loops_are_slow(),
        axis_name=engine.axis_name,
    )
    initial = functools.partial(
        _initial_state,
        config.seed,
        model_config,
        adam,
        averages=averages,
        learn_uncertainty=config.loss.uncertainty,
        num_levels=len(objective.levels) if config.loss.importance else 0,
    )
    return Parts(model, step, initial, schedule)


def _initial_state(seed: int, config: ModelConfig, adam, **options: Any) -> state.TrainState:
    # Under jit: the weights are made where they live.
    return state.init(jax.random.fold_in(jax.random.key(seed), 0), config, adam, **options)

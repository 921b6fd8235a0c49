"""A run out of its settings: model, step and initial state, for the data and devices at hand."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from edm_jax import augment
from edm_jax.model import Model, init_params
from edm_jax.runtime import engines
from edm_jax.training import averages, optimizer, state
from edm_jax.training.config import Config, fit
from edm_jax.training.examples import prepare
from edm_jax.training.step import make_train_step


class Parts(NamedTuple):
    """What a run consists of.

    Attributes:
      model: network, preconditioner and configuration, without parameters.
      step: (state, batch, key) -> (state, metrics), made by `make_train_step`; not compiled.
      initial: () -> the state before the first step; to be called under jit.
      schedule: step -> learning rate.
    """

    model: Model
    step: Callable
    initial: Callable[[], state.TrainState]
    schedule: optax.Schedule


def assemble(
    config: Config,
    engine: engines.Engine,
    *,
    resolution: int,
    channels: int,
    label_dim: int,
    class_names: tuple[str, ...] = (),
) -> Parts:
    """Builds what `config` describes; nothing is allocated.

    Args:
      config: the run's settings.
      engine: what will run the step.
      resolution, channels, label_dim, class_names: of the data set.

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
        class_names=class_names,
    )
    if model_config.latents:
        for name, value, allowed in (
            ("augment", config.augment, 0),
            ("sample_kimg", config.sample_kimg, 0),
            ("eval_kimg", config.eval_kimg, 0),
            ("data.xflip", config.data.xflip, False),
        ):
            if value:
                raise ValueError(f"{name} must be {allowed} for latents, got {value}")
    model = Model.build(model_config, None)
    schedule = optimizer.learning_rate(
        config.learning_rate,
        config.rampup_kimg * 1e3,
        config.batch_size,
        decay_steps=config.decay_steps,
    )
    adam = optimizer.adam(
        schedule,
        b1=config.adam_b1,
        b2=config.adam_b2,
        eps=config.adam_eps,
        clip=config.clip_gradient,
        weight_decay=config.weight_decay,
        rectified=config.optimizer == "radam",
        infinite=config.infinite_gradient,
    )._replace(project=model_config.project)
    objective = config.loss.build(model)
    # The average of a transferred model must not forget it in the first steps.
    ramp = None if config.init else config.ema_rampup_ratio
    halflife = config.ema_halflife_kimg * 1e3
    kept = averages.Averages(
        averages.by_power(config.ema_std)
        if config.ema_std
        else averages.by_halflife(config.batch_size, halflife, rampup_ratio=ramp),
        averages.shares(
            config.batch_size,
            halflives_kimg=config.ema_more_kimg,
            powers=config.ema_power,
            rampup_ratio=ramp,
        ),
    )
    augment_images = (
        functools.partial(augment.augment, settings=augmentation) if augmentation else None
    )
    share = config.batch_size // engine.devices
    step = make_train_step(
        model,
        objective,
        adam,
        kept,
        prepared=prepare(augment_images, of_latents=model_config.latents),
        loss_scale=config.loss_scale,
        rounds=share // config.microbatch if config.microbatch else 1,
        shards=engine.shards,
        axis_name=engine.axis_name,
    )

    def initial() -> state.TrainState:
        params = init_params(jax.random.fold_in(jax.random.key(config.seed), 0), model_config)
        return state.create(params, objective, adam, averages=kept.further)

    return Parts(model, step, initial, schedule)

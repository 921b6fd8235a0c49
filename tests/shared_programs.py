"""Runs of one process that differ in what no step is made of share their compiled programs."""

import dataclasses
import functools
from typing import Any

import jax

from edm_jax import latents
from edm_jax.networks import ModelConfig
from edm_jax.runtime import engines
from edm_jax.training import loop

# What `assemble` does not look at, but to refuse some of it of latents.
ELSEWHERE = (
    "duration_kimg", "log_kimg", "checkpoint_kimg", "keep_checkpoints", "ema_snapshot_kimg",
    "sample_kimg", "sample_steps", "eval_kimg", "eval_reference", "eval_images", "data",
)  # fmt: skip
PARTS: dict[str, Any] = {}
new_engine, new_parts, new_calls = engines.engine, loop.assemble, loop.in_one_call


@functools.cache
def _engine(*arguments, **options):
    own = new_engine(*arguments, **options)
    steps: dict[Any, Any] = {}
    initials: dict[Any, Any] = {}

    def compile(step, state):
        if step not in steps:
            steps[step] = own.compile(step, state)
        return steps[step]

    def init(make):
        if make not in initials:
            layout = own.shardings(jax.eval_shape(make))
            initials[make] = jax.jit(make, out_shardings=layout)
        return initials[make]()

    return own._replace(compile=compile, init=init)


def _assemble(config, engine, **data):
    elsewhere = () if data["channels"] == latents.CHANNELS else ELSEWHERE
    same = dict.fromkeys(elsewhere) | {"init": bool(config.init)}
    network = ModelConfig.network.__qualname__  # or what a test has put in its place
    settings = repr((dataclasses.replace(config, **same), engine.name, data, network))
    if settings not in PARTS:
        PARTS[settings] = new_parts(config, engine, **data)
    return PARTS[settings]


_in_one_call = functools.cache(new_calls)


def share(patch: Any) -> None:
    """Makes `loop.train` trace and compile each kind of run once, in all modules together.

    Args:
      patch: pytest's MonkeyPatch.
    """
    patch.setattr(engines, "engine", _engine)
    patch.setattr(loop, "assemble", _assemble)
    patch.setattr(loop, "in_one_call", _in_one_call)

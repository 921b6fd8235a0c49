"""Runs of one process that differ in their length alone share their compiled programs."""

import dataclasses
import functools
from typing import Any

from edm_jax.runtime import engines
from edm_jax.training import loop

# What `assemble` does not look at.
LENGTHS = dict.fromkeys(
    ("duration_kimg", "log_kimg", "checkpoint_kimg", "ema_snapshot_kimg", "keep_checkpoints"), 1
)


def share(patch: Any) -> None:
    """Makes `loop.train` trace and compile each kind of run once.

    Args:
      patch: pytest's MonkeyPatch.
    """
    new_engine, new_parts, kept = engines.engine, loop.assemble, {}

    @functools.cache
    def engine(*arguments, **options):
        own, steps = new_engine(*arguments, **options), {}

        def compile(step, state):
            if step not in steps:
                steps[step] = own.compile(step, state)
            return steps[step]

        return own._replace(compile=compile)

    def assemble(config, engine, **data):
        settings = repr((dataclasses.replace(config, **LENGTHS), engine.name, data))
        if settings not in kept:
            kept[settings] = new_parts(config, engine, **data)
        return kept[settings]

    patch.setattr(engines, "engine", engine)
    patch.setattr(loop, "assemble", assemble)
    patch.setattr(loop, "in_one_call", functools.cache(loop.in_one_call))

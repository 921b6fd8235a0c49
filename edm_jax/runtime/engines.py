"""Engines: where the state lives, how a batch is split, what runs a training step.

A step is written once, in terms of its share of the batch. Two engines run it:

- `pmap`: one program per device over its own rows, gradients averaged by `lax.pmean`;
- `jit`: one program over all rows, laid out over a mesh, the average left to the compiler.

Both take and give the same state, and every draw is keyed by an example's index in the global
batch, so the engine and the number of devices change no draw.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from edm_jax.checks import one_of
from edm_jax.randomness import IMPLEMENTATION
from edm_jax.runtime.processes import AXIS, compile_once, mesh, process_count, split_local

ENGINES = ("auto", "pmap", "jit")


class Engine(NamedTuple):
    """A way to run a training step on the devices there are.

    Attributes:
      name: "pmap" or "jit".
      init: (function of no arguments that makes a state) -> state on the devices.
      key: seed -> the run's key, on the devices, as the compiled step takes it.
      put: this process's rows of a batch (tree of [b, ...] numpy arrays) -> device arrays.
      compile: (step, abstract state) -> the step compiled for these devices, (state, batch, key) ->
        (state, metrics); the state is donated.
      shardings: abstract state -> the sharding of each leaf.
      to_global, from_global: between the engine's arrays and those that checkpoints take.
      devices: how many share a batch.
      shards: how many blocks of rows a step sees at once (for splitting it into microbatches).
      axis_name: the mapped axis that the step averages over, or None.
    """

    name: str
    init: Callable[[Callable[[], Any]], Any]
    key: Callable[[int], jax.Array]
    put: Callable[[Any], Any]
    compile: Callable[[Callable, Any], Callable]
    shardings: Callable[[Any], Any]
    to_global: Callable[[Any], Any]
    from_global: Callable[[Any], Any]
    devices: int
    shards: int
    axis_name: str | None


def engine(name: str = "auto", *, fsdp: bool = False, devices: int | None = None) -> Engine:
    """The engine to train with.

    Args:
      name: "pmap", "jit", or "auto": pmap in one process, jit for several or for `fsdp`.
      fsdp: spread parameters, average and optimizer state over the devices (jit engine only).
      devices: how many of a lone process's devices to use; None is all, of every process.

    Raises:
      ValueError: an unknown name, `fsdp` with the pmap engine, or a number of devices that there
        are not.
    """
    if devices is not None and (process_count() > 1 or not 1 <= devices <= jax.device_count()):
        raise ValueError(
            f"devices must be from 1 to {jax.device_count()}, and left out where there are several "
            f"processes, got {devices} and {process_count()} process(es)"
        )
    one_of("engine", name, ENGINES)
    if name == "auto":
        name = "jit" if fsdp or jax.process_count() > 1 else "pmap"
    if name == "pmap":
        if fsdp:
            raise ValueError("engine must be 'jit' where fsdp is True, got 'pmap'")
        return _pmap_engine(devices)
    return _jit_engine(fsdp, devices)


def _pmap_engine(devices: int | None) -> Engine:
    local = NamedSharding(mesh(jax.local_devices()[:devices]), P())
    mapped = functools.partial(jax.pmap, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None)
    if devices is not None:  # told of devices, pmap does not take those of other processes
        mapped = functools.partial(mapped, devices=jax.local_devices()[:devices])

    def compile_step(step, _):
        # The key as numbers: of a typed one pmap makes a new array, through the host, every step
        # in which several processes take part.
        def run(state, batch, key):
            return step(state, batch, jax.random.wrap_key_data(key, impl=IMPLEMENTATION))

        return mapped(run, donate_argnums=0)

    # Orbax takes only arrays that span all processes; a pmapped state spans this one.
    if jax.process_count() > 1:
        world = mesh(jax.devices())
        to_global = functools.partial(
            multihost_utils.host_local_array_to_global_array, global_mesh=world, pspecs=P()
        )
        from_global = functools.partial(
            multihost_utils.global_array_to_host_local_array, global_mesh=world, pspecs=P()
        )
        kept = NamedSharding(world, P())
    else:
        to_global = from_global = lambda tree: tree
        kept = local
    return Engine(
        name="pmap",
        init=lambda make: compile_once(make, out_shardings=local)(),
        key=lambda seed: jax.random.key_data(_key(seed, local)),
        put=lambda batch: split_local(batch, devices),
        compile=compile_step,
        shardings=lambda state: jax.tree.map(lambda _: kept, state),
        to_global=to_global,
        from_global=from_global,
        devices=devices or jax.device_count(),
        shards=1,
        axis_name=AXIS,
    )


def _key(seed: int, sharding: NamedSharding) -> jax.Array:
    # Made where it lives: typed keys cannot be put onto devices of other processes.
    make = functools.partial(jax.random.key, seed, impl=IMPLEMENTATION)
    return jax.jit(make, out_shardings=sharding)()


def _jit_engine(fsdp: bool, devices: int | None) -> Engine:
    row = mesh(jax.devices()[:devices])
    everywhere = NamedSharding(row, P())
    rows = NamedSharding(row, P(AXIS))

    def spread(leaf):
        # The largest axis that the devices divide; small leaves cost more to gather than to hold.
        axes = [i for i, n in enumerate(leaf.shape) if n % row.size == 0]
        if not fsdp or not axes or np.prod(leaf.shape) < 1024:
            return everywhere
        axis = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(row, P(*[AXIS if i == axis else None for i in range(leaf.ndim)]))

    def shardings(state):
        return jax.tree.map(spread, state)

    def compile_step(step, state):
        layout = shardings(state)
        return jax.jit(
            step,
            in_shardings=(layout, rows, everywhere),
            out_shardings=(layout, everywhere),
            donate_argnums=0,
        )

    return Engine(
        name="jit",
        init=lambda make: compile_once(make, out_shardings=shardings(jax.eval_shape(make)))(),
        key=lambda seed: _key(seed, everywhere),
        put=lambda batch: jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(rows, a), batch
        ),
        compile=compile_step,
        shardings=shardings,
        to_global=lambda tree: tree,
        from_global=lambda tree: tree,
        devices=row.size,
        shards=row.size,
        axis_name=None,
    )

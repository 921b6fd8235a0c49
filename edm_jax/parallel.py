"""Devices and processes: where the state lives, how a batch is split, which engine runs a step.

A step is written once, in terms of its share of the batch. Two engines run it:

- `pmap`: one program per device over its own rows, gradients averaged by `lax.pmean`;
- `jit`: one program over all rows, laid out over a mesh, the average left to the compiler.

Both take and give the same state, and every draw is keyed by an example's index in the global
batch, so the engine and the number of devices change no draw.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from edm_jax.randomness import IMPLEMENTATION

AXIS = "data"
ENGINES = ("auto", "pmap", "jit")


# A process that is silent for so long is taken for dead: the coordinator, which runs in process 0,
# names it on the standard error of the others and ends them.
HEARTBEAT_SECONDS = 20
_FOR_EVER_SECONDS = 10**6


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a run; must come before anything else that uses JAX.

    Without arguments the processes are found through the environment of a TPU pod slice, Slurm or
    Open MPI; a lone process stays alone.

    Args:
      coordinator: "HOST:PORT" of process 0, the same for every process.
      num_processes: how many there are.
      process_id: this one's number, from 0.

    Raises:
      ValueError: some of the three are given and others are missing, or out of range.
    """
    given = (coordinator, num_processes, process_id)
    if any(value is not None for value in given):
        if None in given:
            raise ValueError("--coordinator, --num-processes and --process-id belong together")
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"--process-id is {process_id}; with {num_processes} processes it is from 0 to "
                f"{num_processes - 1}"
            )
        if not coordinator.rpartition(":")[2].isdigit():
            raise ValueError(f"--coordinator is {coordinator!r}; it must be HOST:PORT")
        if num_processes == 1:
            return
    elif not _in_a_cluster():
        return
    jax.distributed.initialize(*given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)


def _in_a_cluster() -> bool:
    count = lambda name: int(os.environ.get(name) or 1)
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    return (
        len(hosts) > 1
        or count("OMPI_COMM_WORLD_SIZE") > 1
        or (count("SLURM_NTASKS") > 1 and "SLURM_STEP_ID" in os.environ)
    )


def stop_was_asked(step: int) -> bool:
    """Whether the processes stop after this step, because one of them was sent SIGTERM.

    Every process must ask after every step; all get the same answer. Only with several processes.
    """
    return multihost_utils.reached_preemption_sync_point(step)


def barrier(name: str) -> None:
    """Waits until every process has come here, however long that takes; alone, not at all.

    Args:
      name: of the place; each is passed once in the life of a process.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint import multihost  # seconds to import

    # With `processes` the coordinator counts them; else the devices do, and may lose patience.
    everyone = set(range(jax.process_count()))
    multihost.sync_global_processes(name, timeout=_FOR_EVER_SECONDS, processes=everyone)


def process_index() -> int:
    """This process's number, from 0."""
    return jax.process_index()


def process_count() -> int:
    """The number of processes of the run."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this process is the one that prints and writes logs."""
    return jax.process_index() == 0


def device_count() -> int:
    """The number of devices of all processes."""
    return jax.device_count()


def local_device_count() -> int:
    """The number of devices of this process."""
    return jax.local_device_count()


def describe() -> str:
    """The devices in words, for a log."""
    kind = jax.devices()[0].device_kind
    return f"{jax.device_count()} × {kind} in {jax.process_count()} process(es)"


def loops_are_slow() -> bool:
    """Whether convolution gradients should be kept out of `lax.scan` (XLA's CPU backend)."""
    return jax.default_backend() == "cpu"


def compile_once(function: Callable, **options: Any) -> Callable:
    """`jax.jit` for a program that runs once, such as the one that draws the initial weights.

    XLA's CPU backend takes seconds to optimise each random draw; here that is not worth it.
    """
    if jax.default_backend() == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 1}
    return jax.jit(function, **options)


def by_process(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Devices in the order of their processes, as the rows of a batch are.

    On a TPU slice the numbers of a host's devices need not be consecutive.
    """
    return sorted(devices, key=lambda device: device.process_index)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(by_process(devices)), (AXIS,))


def _blocks(a: Any, count: int) -> Any:
    # Not -1: labels of no class have no elements.
    return a.reshape(count, a.shape[0] // count, *a.shape[1:])


def replicate_local(tree: Any, count: int | None = None) -> Any:
    """`tree` on each of this process's first `count` devices; None is all of them."""
    return jax.device_put(tree, NamedSharding(_mesh(jax.local_devices()[:count]), P()))


def local_shardings(tree: Any) -> Any:
    """For each leaf of `tree`, the sharding of a full copy on every device of this process."""
    whole = NamedSharding(_mesh(jax.local_devices()), P())
    return jax.tree.map(lambda _: whole, tree)


def gather_local(tree: Any) -> Any:
    """Global arrays as full copies on every device of this process; every process must call it."""
    if jax.process_count() > 1:
        everywhere = NamedSharding(_mesh(jax.devices()), P())
        tree = jax.jit(lambda t: t, out_shardings=everywhere)(tree)
        tree = jax.tree.map(lambda a: a.addressable_data(0), tree)
    return replicate_local(tree)


def split_local(tree: Any, count: int | None = None) -> Any:
    """Arrays [n·b, ...] as [n, b, ...], a slice on each of this process's first `count` devices."""
    devices = jax.local_devices()[:count]
    sharding = NamedSharding(_mesh(devices), P(AXIS))
    return jax.tree.map(
        lambda a: jax.device_put(_blocks(a, len(devices)), sharding), tree
    )


def map_local(function: Callable, in_axes: Any, count: int | None = None) -> Callable:
    """`function` on this process's first `count` devices, over a leading axis (pmap)."""
    return jax.pmap(function, in_axes=in_axes, devices=jax.local_devices()[:count])


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


def engine(name: str = "auto", fsdp: bool = False, devices: int | None = None) -> Engine:
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
            f"devices is {devices}; {process_count()} process(es) have {jax.device_count()} "
            "devices, of which only a lone process can leave some out"
        )
    if name not in ENGINES:
        raise ValueError(f"engine is {name!r}; allowed are {', '.join(ENGINES)}")
    if name == "auto":
        name = "jit" if fsdp or jax.process_count() > 1 else "pmap"
    if name == "pmap":
        if fsdp:
            raise ValueError("fsdp=True needs engine='jit'; engine is 'pmap'")
        return _pmap_engine(devices)
    return _jit_engine(fsdp, devices)


def _pmap_engine(devices: int | None) -> Engine:
    local = NamedSharding(_mesh(jax.local_devices()[:devices]), P())
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
        world = _mesh(jax.devices())
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
    mesh = _mesh(jax.devices()[:devices])
    everywhere = NamedSharding(mesh, P())
    rows = NamedSharding(mesh, P(AXIS))

    def spread(leaf):
        # The largest axis that the devices divide; small leaves cost more to gather than to hold.
        axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
        if not fsdp or not axes or np.prod(leaf.shape) < 1024:
            return everywhere
        axis = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, P(*[AXIS if i == axis else None for i in range(leaf.ndim)]))

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
        devices=mesh.size,
        shards=mesh.size,
        axis_name=None,
    )


def to_host(tree: Any) -> Any:
    """Numpy values of arrays that every device holds in full."""
    return jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), tree)

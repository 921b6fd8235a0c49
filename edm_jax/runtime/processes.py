"""Processes and devices: who is here, and how arrays are laid over the devices there are."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"

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
      ValueError: some of the three are given and others are missing, or out of range; or there
        are no devices such as JAX_PLATFORMS asks for.
    """
    _join(coordinator, num_processes, process_id)
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(
            "JAX_PLATFORMS must name devices that are here and that JAX is installed for "
            f"(pip install 'edm_jax[cuda]' or '[tpu]'), got {asked!r}"
        ) from error


def _join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    given = (coordinator, num_processes, process_id)
    if any(value is not None for value in given):
        if coordinator is None or num_processes is None or process_id is None:
            raise ValueError(
                "--coordinator, --num-processes and --process-id must be given together, "
                f"got {given}"
            )
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"--process-id must be from 0 to {num_processes - 1}, one less than "
                f"--num-processes, got {process_id}"
            )
        if not coordinator.rpartition(":")[2].isdigit():
            raise ValueError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
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


def from_main(number: int) -> int:
    """The main process's number, in every process; each must ask.

    Args:
      number: an int32; that of the other processes does not count.
    """
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


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


def device_summary() -> str:
    """The devices in words, for a log."""
    kind = jax.devices()[0].device_kind
    return f"{jax.device_count()} × {kind} in {jax.process_count()} process(es)"


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


def mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Devices in a row, in the order of their processes; the axis is `AXIS`."""
    return Mesh(np.asarray(by_process(devices)), (AXIS,))


def _blocks(a: Any, count: int) -> Any:
    # Not -1: labels of no class have no elements.
    return a.reshape(count, a.shape[0] // count, *a.shape[1:])


def replicate_local(tree: Any, count: int | None = None) -> Any:
    """`tree` on each of this process's first `count` devices; None is all of them."""
    return jax.device_put(tree, NamedSharding(mesh(jax.local_devices()[:count]), P()))


def local_shardings(tree: Any) -> Any:
    """For each leaf of `tree`, the sharding of a full copy on every device of this process."""
    whole = NamedSharding(mesh(jax.local_devices()), P())
    return jax.tree.map(lambda _: whole, tree)


def gather_local(tree: Any) -> Any:
    """Global arrays as full copies on every device of this process; every process must call it."""
    if jax.process_count() > 1:
        everywhere = NamedSharding(mesh(jax.devices()), P())
        tree = jax.jit(lambda t: t, out_shardings=everywhere)(tree)
        tree = jax.tree.map(lambda a: a.addressable_data(0), tree)
    return replicate_local(tree)


def split_local(tree: Any, count: int | None = None) -> Any:
    """Arrays [n·b, ...] as [n, b, ...], a slice on each of this process's first `count` devices."""
    devices = jax.local_devices()[:count]
    sharding = NamedSharding(mesh(devices), P(AXIS))
    return jax.tree.map(lambda a: jax.device_put(_blocks(a, len(devices)), sharding), tree)


def devices_for(batch_size: int, devices: int | None, images: int | None) -> int:
    """How many devices to use: as many as asked for, or all, but no more than have something to do.

    Args:
      batch_size: images per device and batch, checked too.
      devices: how many; None is all of this process's.
      images: how many there are; None is enough for all.

    Raises:
      ValueError: either is out of range.
    """
    here = local_device_count()
    devices = here if devices is None else devices
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 1 <= devices <= here:
        raise ValueError(f"devices must be 1 to {here}, those of this process, got {devices}")
    return devices if images is None else max(1, min(devices, -(-images // batch_size)))


def map_local(function: Callable, in_axes: Any, count: int | None = None) -> Callable:
    """`function` on this process's first `count` devices, over a leading axis (pmap)."""
    return jax.pmap(function, in_axes=in_axes, devices=jax.local_devices()[:count])


def all_finite(tree: Any) -> bool:
    """Whether arrays hold neither NaN nor infinity; every process must ask.

    The host looks, at one copy: a program over a thousand leaves takes half a minute to compile.

    Args:
      tree: arrays on the devices, in any layout.
    """
    shards = (shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards)
    finite = all(np.isfinite(shard.data).all() for shard in shards if shard.replica_id == 0)
    if jax.process_count() == 1:
        return finite
    return bool(multihost_utils.process_allgather(np.asarray(finite)).all())


def to_host(tree: Any) -> Any:
    """Numpy values of arrays that every device holds in full."""
    return jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), tree)

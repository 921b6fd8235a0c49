"""Eight CPU devices for every test, a compilation cache, and the reference numbers."""

import importlib.metadata
import os
import pathlib

# Compiling is most of what tests cost, and their networks are tiny: no optimisation, one module.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    + " --xla_cpu_parallel_codegen_split_count=1"
)
if importlib.metadata.version("jaxlib") < "0.11":  # the older emitters compile faster by a third
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A second run compiles nothing anew.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import formula
import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"
LONGEST = ("test_commands.py", "test_same_numbers.py", "test_configs.py", "test_loop.py")


def pytest_collection_modifyitems(items):
    """Begins with the longest files, so that no worker is left with one at the end."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def golden():
    """Returns a function: file name -> its arrays, from tests/golden."""

    def read(name):
        with np.load(GOLDEN / name) as arrays:
            return formula.filled({key: arrays[key] for key in arrays.files})

    return read


@pytest.fixture(scope="module")
def small_networks():
    """A module's models have a small network in place of a U-Net, and its runs few programs."""
    import shared_programs
    from small_network import instead_of_unets

    with pytest.MonkeyPatch.context() as patch:
        instead_of_unets(patch)
        shared_programs.share(patch)
        yield

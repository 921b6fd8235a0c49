"""Eight CPU devices for every test, a compilation cache, and the reference numbers."""

import os
import pathlib

# Random draws compile fourteen times as fast at level 1, and the networks here are tiny. (At level
# 0 XLA gives wrong gradients now and then.)
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A second run compiles nothing anew.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
SHARED = HERE.parent.parent / "shared"


@pytest.fixture(scope="session")
def golden():
    """Returns a function: file name -> its arrays, from tests/golden or a checkout's neighbour."""

    def read(name):
        for folder in (HERE / "golden", SHARED / "golden"):
            if (folder / name).is_file():
                with np.load(folder / name) as arrays:
                    return {key: arrays[key] for key in arrays.files}
        pytest.skip(f"{name} is not on this machine")

    return read


@pytest.fixture(scope="session")
def cifar10_archive():
    """The path of a CIFAR-10 archive of 50,000 JPEG images, where there is one."""
    path = SHARED / "data" / "cifar10-32x32-jpeg.zip"
    if not path.is_file():
        pytest.skip("no CIFAR-10 archive on this machine")
    return path


@pytest.fixture(scope="module")
def small_networks():
    """The models of a module's tests have a small network in place of a U-Net."""
    from small_network import instead_of_unets

    with pytest.MonkeyPatch.context() as patch:
        instead_of_unets(patch)
        yield

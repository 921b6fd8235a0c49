"""One run, on one device or many, in one process or two: the same numbers."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import same_steps
from processes import environment, free_port

from edm_jax.runtime import engines

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def alone():
    """The run on one device."""
    return same_steps.three_steps(engines.engine("jit", devices=1))


def assert_same_run(found, wanted):
    assert found.keys() == wanted.keys() >= {"y", "sigma", "noise", "class_labels", "dropout_keys"}
    for name, value in wanted.items():
        if name in ("loss", "params", "y"):
            continue
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    # Images pass the augmentation's arithmetic, which other programs may round otherwise.
    np.testing.assert_allclose(found["y"], wanted["y"], atol=2e-6)
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=2e-6)
    # Adam divides by the gradient's size: a weight whose gradient is rounding noise moves freely.
    error = np.abs(found["params"] - wanted["params"])
    assert np.median(error) < 1e-6 and error.max() < 2e-3


@pytest.mark.slow
def test_the_number_of_devices_does_not_matter(alone):
    # Of the engine jit: the test below, and test_step.py, where it agrees with this one.
    assert_same_run(same_steps.three_steps(engines.engine("pmap")), alone)


@pytest.mark.slow
@pytest.mark.processes
def test_the_number_of_processes_does_not_matter(alone, tmp_path):
    port, out = free_port(), tmp_path / "out.npz"
    command = [sys.executable, str(HERE / "same_steps.py"), str(port), "2"]
    children = [
        subprocess.Popen([*command, str(i), str(out)], env=environment(4), stderr=subprocess.PIPE)
        for i in range(2)
    ]
    for child in children:
        said = child.communicate(timeout=300)[1].decode()
        assert child.returncode == 0, said[-2000:]
    # The engine pmap in two processes: test_commands.py.
    with np.load(out) as found:
        assert_same_run(dict(found), alone)

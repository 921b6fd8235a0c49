"""What needs no devices brings in no JAX of its own; `edm_jax`'s public names do."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BARE = "import sys, types; bare = types.ModuleType('edm_jax'); bare.__path__ = ['edm_jax']; "


@pytest.mark.parametrize("name", ["runtime", "runtime.files", "runtime.pictures"])
def test_importing_it_brings_in_no_jax(name):
    code = f"sys.modules['edm_jax'] = bare; import edm_jax.{name}; print('jax' in sys.modules)"
    words = [sys.executable, "-c", BARE + code]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr

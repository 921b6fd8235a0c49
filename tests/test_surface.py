"""What `import edm_jax` gives: its public names, and nothing heavy."""

import importlib.metadata
import pathlib
import subprocess
import sys

import edm_jax

PROGRAM = """
import sys
from edm_jax import *
from edm_jax import load, generate, __version__
from edm_jax.evaluation import features, frechet
heavy = ("orbax", "tqdm", "edm_jax.training", "edm_jax.cli")
print([name for name in sys.modules if name.startswith(heavy)])
"""


def test_the_public_names_are_there_and_described():
    assert edm_jax.__all__ == sorted(edm_jax.__all__)
    for name in edm_jax.__all__:
        assert getattr(edm_jax, name).__doc__, name


def test_the_version_is_the_installed_one():
    assert edm_jax.__version__ == importlib.metadata.version("edm_jax")


def test_the_package_is_typed():
    assert (pathlib.Path(edm_jax.__file__).parent / "py.typed").is_file()


def test_importing_needs_neither_orbax_nor_the_training_room():
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr

"""What is installed: every module, the data, the configurations, and nothing else."""

import os
import pathlib
import subprocess
import sys

import pytest

import edm_jax

ROOT = pathlib.Path(__file__).parents[1]
FOUND = """
from edm_jax.cli.train import SHIPPED, parse
for name in ("digits", "configs/afhqv2.py:ncsnpp", "own.py"):
    config = parse([f"--config={name}"]).config
    print(SHIPPED.name, config.data.archive, config.model.dropout)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The files of a wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    words = f"setup.py -q egg_info --egg-base {folder} build_py --build-lib {folder}/lib"
    subprocess.run([sys.executable, *words.split()], cwd=ROOT, check=True, capture_output=True)
    return folder / "lib"


def test_the_citation_is_of_this_version():
    assert f"\nversion: {edm_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.processes
def test_a_wheel_holds_what_it_must(installed):
    package = [p for p in (ROOT / "edm_jax").rglob("*") if p.suffix in (".py", ".npz", ".typed")]
    wanted = {str(p.relative_to(ROOT)) for p in package}
    wanted |= {f"edm_jax/shipped/configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    found = {str(p.relative_to(installed)) for p in installed.rglob("*") if p.is_file()}
    assert found == wanted
    assert {"edm_jax/py.typed", "edm_jax/data/digits.npz"} <= found


@pytest.mark.processes
def test_configurations_are_found_without_a_checkout(installed, tmp_path):
    own = "from configs import cifar10\ndef get_config(): return cifar10.get_config()"
    (tmp_path / "own.py").write_text(own)
    found = subprocess.run(
        [sys.executable, "-c", FOUND], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )  # fmt: skip
    rows = [
        "shipped digits 0.0",
        "shipped data/afhqv2-64.zip 0.25",
        "shipped data/cifar10.zip 0.13",
    ]
    assert found.stdout.splitlines() == rows, found.stderr

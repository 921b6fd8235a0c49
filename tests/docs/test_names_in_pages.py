"""What the pages name is there: files, settings, and functions of the rooms."""

import dataclasses
import importlib
import importlib.util
import pathlib
import re

import pytest

from edm_jax import networks
from edm_jax.cli import settings
from edm_jax.training.config import Config

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "from").glob("*.md"))]
ROOMS = (
    "evaluation generation guidance ideal inverse latents likelihood networks objectives "
    "preconditioning samplers schedules score tables timesteps tuning"
).split()
FILES = re.compile(r"\b(?:configs|benchmarks|examples|tests|edm_jax)/[\w/]+\.py\b")
# As a table has the functions of another library, in its first column.
ELSEWHERE = {"evaluation.fid"}


@pytest.fixture(scope="module")
def known():
    """The names of all settings, of every architecture."""
    models = (networks.ddpmpp(), networks.adm(), networks.edm2(), networks.ClassifierConfig())
    of_models = {f"model.{f.name}" for model in models for f in dataclasses.fields(model)}
    return of_models | {setting.name for setting in settings.settings(Config())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_are_of_what_there_is(page, known):
    text = page.read_text()
    files = set(FILES.findall(text))
    assert not {name for name in files if not (ROOT / name).exists()}
    flags = set(re.findall(r"--config\.([a-z][\w.]+)", text))
    named = flags | set(re.findall(r"`((?:model|loss|data)\.[a-z]\w+)[=`]", text)) - {"model.py"}
    inside = re.compile(r"(loss\.arguments|model\.preconditioner_arguments)(\.|$)")
    assert not {name for name in named if name not in known and not inside.match(name)}
    functions = set(re.findall(rf"`(?:edm_jax\.)?((?:{'|'.join(ROOMS)})\.(?!py\b)\w+)", text))
    for name in functions - ELSEWHERE:
        room, function = name.split(".")
        found = hasattr(importlib.import_module(f"edm_jax.{room}"), function)
        assert found or importlib.util.find_spec(f"edm_jax.{name}"), name

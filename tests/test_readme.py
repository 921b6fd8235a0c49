"""The README's Python runs as it stands, and its map names every room."""

import pathlib
import re

import numpy as np
import pytest

import edm_jax
from edm_jax.model import Model

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text()


def python(word: str) -> str:
    """The one Python block that holds a word."""
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if word in b]
    return block


@pytest.mark.slow
def test_the_example_of_composition_draws_images():
    names: dict = {}
    exec(python("edm_jax.denoiser("), names)
    images = np.asarray(names["images"])
    assert images.shape == (16, 32, 32, 3)
    # The zero network is the ideal denoiser of N(0, 0.5^2).
    _, variance = edm_jax.moments(names["tableau"], 0.0, 0.25)
    assert images.std() == pytest.approx(float(np.sqrt(variance)), rel=0.02)


@pytest.mark.slow
def test_the_three_calls_of_the_command(monkeypatch):
    config = edm_jax.ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), dropout=0.0,
    )  # fmt: skip
    model = Model.init(edm_jax.sample_keys([0])[0], config)
    monkeypatch.setattr(edm_jax, "load", lambda path: model)
    names: dict = {}
    code = python("edm_jax.generate(")
    assert "range(100)" in code
    exec(code.replace("range(100)", "range(3)"), names)
    assert names["part"].images.shape == (3, 8, 8, 1) and names["part"].seeds.tolist() == [0, 1, 2]


def test_the_map_names_every_room():
    layout = PAGE[PAGE.index("## Layout") : PAGE.index("## Licence")]
    rooms = {p.name + ("/" if p.is_dir() else "") for p in (ROOT / "edm_jax").iterdir()}
    hidden = {"__pycache__/", "__init__.py", "__main__.py", "py.typed"}
    assert not {room for room in rooms - hidden if room not in layout}


def test_the_design_tells_of_every_room():
    rooms = {p.name + ("/" if p.is_dir() else "") for p in (ROOT / "edm_jax").iterdir()}
    hidden = {"__pycache__/", "__init__.py", "__main__.py", "py.typed"}
    design = (ROOT / "docs" / "design.md").read_text()
    assert not {room for room in rooms - hidden if f"`{room}`" not in design}

"""The README's Python runs, and its map names every room."""

import pathlib
import re

import numpy as np
import pytest
from small_network import model_of

import edm_jax
from edm_jax import inverse, samplers

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_fifteen_lines_draw_images(monkeypatch, small_networks):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.splitlines()) <= 16 and "range(100)" in code
    config = edm_jax.ddpmpp(
        resolution=8, channels=1, label_dim=10, model_channels=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(), dropout=0.0, label_dropout=0.1,
    )  # fmt: skip
    model = model_of(config)
    monkeypatch.setattr(edm_jax, "load", lambda path: model)
    names: dict = {}
    exec(code.replace("range(100)", "range(3)"), names)
    assert names["part"].images.shape == (3, 8, 8, 1) and names["part"].seeds.tolist() == [0, 1, 2]
    images = np.asarray(names["images"])
    assert images.shape == (16, 32, 32, 3)
    # The zero network is the ideal denoiser of N(0, 0.5^2).
    _, variance = edm_jax.moments(names["sampler"], 0.0, 0.25)
    assert images.std() == pytest.approx(float(np.sqrt(variance)), rel=0.02)


def test_what_it_counts_is_so():
    assert f"[{len(samplers.SOLVERS)} by name]" in PAGE
    assert f"[{len(inverse.METHODS)} methods]" in PAGE


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

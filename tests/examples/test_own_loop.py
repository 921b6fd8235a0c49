"""The example of a loop of one's own runs, learns, and is what the page about it shows."""

import pathlib
import runpy
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]


def test_the_loop_learns_the_moons():
    example = runpy.run_path(str(ROOT / "examples" / "own_loop.py"))
    denoise, losses = example["train"](400)
    # The best constant answer has a loss of about 1; a network that learns goes below.
    assert losses[-50:].mean() < 0.95 * losses[:20].mean()
    # At a low level a point of the data stays where it is; far outside it is drawn back.
    moons = np.asarray(example["two_moons"](example["jax"].random.key(5), 200))
    near = np.asarray(denoise(moons, np.float32(0.01)))
    assert np.abs(near - moons).max() < 0.05
    far = np.asarray(denoise(4 * moons, np.float32(10.0)))
    assert np.linalg.norm(far, axis=1).mean() < 0.5 * np.linalg.norm(4 * moons, axis=1).mean()


def test_the_command_draws(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "moons.png"
    monkeypatch.setattr(sys, "argv", ["own_loop.py", str(picture), "--steps", "20"])
    runpy.run_path(str(ROOT / "examples" / "own_loop.py"), run_name="__main__")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "loss:" in capsys.readouterr().out


def test_the_page_names_what_there_is():
    import edm_jax
    from edm_jax import objectives, preconditioning

    page = (ROOT / "docs" / "own_loop.md").read_text()
    for name in ("vp", "ve", "epsilon", "x0", "v", "flow"):
        assert f"`{name}`" in page and hasattr(preconditioning, name)
    for line in page.splitlines():
        if line.startswith("from edm_jax"):
            room, names = line.removeprefix("from ").split(" import ")
            module = edm_jax if room == "edm_jax" else objectives
            assert all(hasattr(module, name.strip()) for name in names.split(","))

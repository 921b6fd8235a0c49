"""The notebooks run, and print what is stored with them."""

import json
import pathlib
import re

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "notebooks"
NUMBER = re.compile(r" *-?\d+\.\d+")
SMALL = {"KIMG": 0.128, "EACH": 2, "PATHS": 4}


@pytest.fixture(autouse=True)
def off_screen(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")


def cells(name):
    """(code, what it has printed, how many pictures it has drawn), cell by cell, from the file."""
    for cell in json.loads((FOLDER / name).read_text())["cells"]:
        if cell["cell_type"] == "code":
            kinds = [o["output_type"] for o in cell["outputs"]]
            texts = ["".join(o.get("text", "")) for o in cell["outputs"]]
            yield "".join(cell["source"]), "".join(texts), kinds.count("display_data")


def numbers(text):
    return np.array([float(found) for found in NUMBER.findall(text)])


@pytest.mark.slow
def test_two_dimensions_prints_what_it_holds(capsys):
    names: dict = {}
    for code, stored, _ in cells("two_dimensions.ipynb"):
        exec(code, names)
        printed = capsys.readouterr().out
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", stored)
        np.testing.assert_allclose(numbers(printed), numbers(stored), rtol=0.02, atol=2e-3)
    names["plt"].close("all")


@pytest.mark.slow
def test_digits_runs_with_a_small_network(capsys, monkeypatch, tmp_path, small_networks):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for i, (code, stored, pictures) in enumerate(cells("digits.ipynb")):
        exec(code, names)
        assert NUMBER.sub("#", capsys.readouterr().out) == NUMBER.sub("#", stored)
        assert len(names["plt"].get_fignums()) == pictures == 1
        names["plt"].close("all")
        if i == 0:
            assert set(SMALL) <= set(names)
            names.update(SMALL)


def test_what_digits_says_is_what_it_holds():
    _, _, _, guided, restored, tuned = [stored for _, stored, _ in cells("digits.ipynb")]
    pairs = re.findall(r"([\d.]+) % +spread ([\d.]+)", guided)
    recognised, spread = np.array(pairs, float).T
    assert (np.diff(recognised) > 0).all() and recognised[-1] == 100
    assert (np.diff(spread) < 0).all()
    draw, mean = numbers(restored)
    assert mean > draw + 2
    usual, moved, learned, usual_away, tuned_away = numbers(tuned)
    assert min(moved, learned) < usual / 2 and tuned_away < usual_away / 2

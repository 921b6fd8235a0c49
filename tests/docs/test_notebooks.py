"""The notebooks run, and print what is stored with them."""

import json
import pathlib
import re

import numpy as np
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_prints_what_it_holds(path, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        exec("".join(cell["source"]), names)
        outputs = [o for o in cell["outputs"] if o["output_type"] == "stream"]
        stored = "".join("".join(o["text"]) for o in outputs)
        printed = capsys.readouterr().out
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", stored)
        numbers = [np.array([float(n) for n in NUMBER.findall(s)]) for s in (printed, stored)]
        np.testing.assert_allclose(*numbers, rtol=0.02, atol=2e-3)
    names["plt"].close("all")

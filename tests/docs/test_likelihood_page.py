"""The page about likelihoods: its program runs, and finds the numbers that stand beside it."""

import pathlib
import re

import pytest

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "likelihood.md").read_text()


@pytest.mark.slow
def test_the_three_views_give_one_number():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(program, names)
    rows = re.findall(r"^\| (?:the density|score|VAE|SDE).* \| −([\d.]+) \|$", PAGE, re.MULTILINE)
    shown = dict(zip(("exact", "flow", "vae", "sde"), (-float(row) for row in rows)))
    for name, tolerance in {"exact": 1e-4, "flow": 1e-4, "vae": 2e-3, "sde": 2e-3}.items():
        assert float(names[name]) == pytest.approx(shown[name], abs=tolerance)
        assert shown[name] == pytest.approx(shown["exact"], abs=0.02)

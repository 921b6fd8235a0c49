"""docs/design-space.md: every cell leads to what it names, and the columns are the paper's."""

import pathlib
import re
import textwrap

import numpy as np
import pytest

import edm_jax
from edm_jax import samplers

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design-space.md").read_text()
COLUMNS = ("vp", "ve", "iddpm", "ddim", "edm")


@pytest.fixture(scope="module")
def names():
    made: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(textwrap.dedent(block), made)
    return made


def test_every_link_leads_to_the_function_that_it_names():
    found = re.findall(r"\[`([\w.]+)`\]\(\.\./([\w/.]+)\)", PAGE)
    assert len(found) > 40
    for name, file in found:
        room, function = name.split(".")
        there = getattr(getattr(edm_jax, room, None) or edm_jax.networks, function)
        assert there.__module__ == file.removesuffix(".py").replace("/", "."), name


def test_the_table_is_full():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    table = rows[: rows.index(next(row for row in rows if row.startswith("| all of it"))) + 1]
    assert {row.count("|") for row in table} == {len(COLUMNS) + 2}
    last = re.findall(r"`(\w+)`", table[-1])
    assert set(last) <= set(edm_jax.objectives.OBJECTIVES)


@pytest.mark.parametrize("column", ["vp", "ve", "iddpm", "edm"])
def test_a_column_is_the_paper_s_sampler(names, column):
    words = {"schedule": column, "scaling": "none", "timesteps": column}
    if column == "vp":
        words |= {"scaling": "vp"}
    if column == "iddpm":
        words |= {"schedule": "edm"}
    by_name = samplers.ablation(
        18 if column == "edm" else 100, solver="heun" if column == "edm" else "euler", **words
    )
    for part in ("start", "sigma", "weights"):
        found, wanted = getattr(names[column], part), getattr(by_name, part)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_ddim_is_euler_in_sigma(names):
    levels = np.append(names["ddim"].sigma, 0.0)
    np.testing.assert_allclose(names["ddim"].weights, samplers.euler(levels).weights, atol=1e-12)
    assert names["mixed"].nfe == 35 and names["same"].nfe == 100

"""The tables of docs/samplers.md are the registry, and its examples run."""

import fnmatch
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import pytest

from edm_jax import sample, sample_keys, samplers, timesteps

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "samplers.md"


def table():
    rows = ["| solver | order | calls a step | noise | source |", "|---|---|---|---|---|"]
    for name, solver in samplers.SOLVERS.items():
        order = "–" if solver.order is None else solver.order
        calls = "–" if solver.nfe_per_step is None else solver.nfe_per_step
        noise = "yes" if solver.stochastic else "no"
        rows.append(f"| `{name}` | {order} | {calls} | {noise} | {solver.source} |")
    return "\n".join(rows)


def test_the_table_is_the_registry():
    assert table() in DOCS.read_text(), f"docs/samplers.md must hold this table:\n{table()}"


def test_the_options_are_of_the_solvers_that_the_page_names():
    text = DOCS.read_text()
    rows = re.findall(r"^\| (`.*?) \| (`.*?) \| .* \|$", text[text.index("## Options") :], re.M)
    assert len(rows) == 12
    for options, solvers in rows:
        for pattern in re.findall(r"`([\w*]+)`", solvers):
            found = fnmatch.filter(samplers.SOLVERS, pattern)
            known = {option for name in found for option in samplers.SOLVERS[name].options}
            asked = re.findall(r"`(\w+)`", options)
            assert known & set(asked) if "*" in pattern or len(asked) == 2 else known >= set(asked)
    defaults = [samplers.SOLVERS[s].options["order"].default for s in ("lms", "ipndm", "deis")]
    assert "the defaults are 4, 4, 3 and 2" in text and defaults == [4, 4, 3]


def test_every_name_in_the_text_exists():
    notes = DOCS.with_name("sampler-notes.md").read_text()
    for name in re.findall(r"`samplers\.([A-Za-z_.]+)", DOCS.read_text() + notes):
        found = samplers
        for part in name.split("."):
            found = getattr(found, part)


@pytest.mark.slow
def test_the_examples_run(capsys):
    first, path, report, hook, second = re.findall(
        r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    asked = []
    names = {"denoise": lambda x, sigma: asked.append(x) or x / (1 + sigma**2)}
    exec(first, names)
    assert names["x0"].shape == (64, 32, 32, 3) and names["tableau"].nfe == 35
    traced = len(asked)
    names["run"](names["noise"])
    assert len(asked) == traced  # compiled once
    exec(path, names)
    assert names["states"].shape == (4, 64, 32, 32, 3) and len(asked) > traced
    chex.assert_trees_all_equal(names["states"][-1], names["x0"])
    exec(report, names)
    jax.effects_barrier()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 18 and float(said[0].removeprefix("row 0: rms ")) == pytest.approx(80, 0.01)
    exec("import numpy as np\nimport jax.numpy as jnp\n" + hook, names)
    tableau = samplers.euler_ancestral(timesteps.edm(7))
    y, known = jnp.full((2, 3), 5.0), jnp.array([True, False, True])
    between = names["repaint"](tableau, y, known)
    keys = sample_keys([0, 1])
    _, states = sample(names["denoise"], tableau, y, keys, between=between, trajectory=[6])
    there = abs(states[0] - 5.0)[:, known]  # at the last level, 0.002
    assert (there > 0).all() and (there < 0.01).all()
    exec(second, names)
    levels = timesteps.edm(7)
    chex.assert_trees_all_close(names["euler"](levels), samplers.euler(levels), atol=1e-12)
    assert isinstance(names["x0"], jax.Array)

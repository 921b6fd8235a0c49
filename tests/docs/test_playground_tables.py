"""The numbers of docs/playground: its JavaScript against the library, in float64."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playground import DATA, PAGE, export, mixture, node, start_chromium
from playwright.sync_api import sync_playwright

import edm_jax
from edm_jax import guidance, ideal, samplers

EXPORT = export()
EDM = "edm_jax.timesteps.edm(18, rho=7)"
LINES = [
    f"edm_jax.samplers.{solver}"
    for solver in (
        f"euler({EDM})",
        f'euler({EDM}, schedule=edm_jax.schedules.process("ve", scaling="none"))',
        f'euler({EDM}, schedule=edm_jax.schedules.process("vp", scaling="vp", ends=(0.002, 80.0)))',
        f"euler({EDM}, churn=edm_jax.samplers.Churn(s_churn=5))",
        f"ipndm({EDM}, order=4)",
        f"dpmpp_2m({EDM})",
        f"dpmpp_3m({EDM})",
        f"unipc({EDM})",
        f"deis({EDM})",
        f"lms({EDM})",
        f"ddim({EDM}, eta=0.5)",
        f'ddpm({EDM}, variance="large")',
        f"euler_maruyama({EDM})",
        f"dpmpp_2m_sde({EDM}, eta=1.0)",
        f"sa_solver({EDM})",
        f"heun({EDM})",
        f"heun({EDM}, churn=edm_jax.samplers.Churn(s_churn=10))",
        f'heun({EDM}, schedule=edm_jax.schedules.process("edm", scaling="vp"))',
        f"dpmpp_2s({EDM})",
        f"dpm_solver_2({EDM})",
        f"dpmpp_sde({EDM})",
    )
]


# -- tables ------------------------------------------------------------------------------------

RUN = """
    const flat = (rows) => Float64Array.from(rows.flat());
    const classes = [1, null].map((label) => mixture(ofClass(given.data, label)));
    const runAll = async (tablesOf) => {
      const found = {};
      for (const line of given.lines) {
        const table = (await tablesOf(line.match(/samplers.([a-z0-9_]+)/)[1]))[line];
        const draw = (k) => flat(given.draws[k]), noise = draw(given.draws.length - 1);
        const states = run(table, guided(...classes, 2).denoise, noise, draw);
        found[line] = { table, x0: Array.from(states.pop()), before: states.length };
      }
      return found;
    };
"""


@pytest.fixture(scope="module")
def drawn():
    """Noise for the rows of the page's lines, their tables, and what `sample` makes of them."""
    one, all_of_them = (ideal.mixture(*mixture(DATA, chosen)) for chosen in (slice(1, 3), slice(3)))
    denoise = guidance.classifier_free(one, all_of_them, 2.0)
    tables = {line: EXPORT.evaluate(line) for line in LINES}
    draws = np.random.default_rng(0).standard_normal((40, 6, 1))
    with jax.enable_x64(True):
        call = jax.jit(lambda table, x, rows: edm_jax.sample(denoise, table, x, row_noise=rows))
        samples = {}
        for line, table in tables.items():
            # Of one size, so that tables of as many rows share one program.
            same = dataclasses.replace(samplers.pad(table, 6), stochastic=True)
            rows = jnp.asarray(draws[: table.nfe + 1])
            samples[line] = np.asarray(call(same, jnp.asarray(draws[-1]), rows))[:, 0]
        assert call._cache_size() <= 3
    return {"lines": LINES, "draws": draws, "data": DATA}, tables, samples


def check(found, tables, samples):
    assert list(found) == LINES and len(LINES) > 20
    for line, own in found.items():
        same_table(own["table"], tables[line])
        assert own["before"] == tables[line].nfe
        np.testing.assert_allclose(own["x0"], samples[line], rtol=0, atol=1e-9, err_msg=line)


def same_table(found, expected):
    """The same to rounding: a power may end in another last bit on another machine."""
    found = edm_jax.Tableau.from_json(json.dumps(found))
    assert found.stochastic == expected.stochastic
    for name in ("start", "sigma", "weights"):
        numbers = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-12)


def test_the_tables_give_what_sample_gives(drawn):
    given, tables, samples = drawn
    check(node(f"{RUN} return runAll(tablesIn);", given), tables, samples)


@pytest.mark.browser
def test_they_give_the_same_in_a_browser(drawn):
    given, tables, samples = drawn
    given = json.loads(json.dumps(given, default=np.ndarray.tolist))
    with sync_playwright() as driver:
        browser = start_chromium(driver)
        page = browser.new_page()
        page.goto((PAGE / "index.html").as_uri())
        found = page.evaluate(f"(given) => {{ {RUN} return runAll(tablesOf); }}", given)
        browser.close()
    check(found, tables, samples)


def test_what_is_there_is_what_the_library_makes():
    """Every line has its table; of the numbers some are made again."""
    choices = json.loads((PAGE / "choices.js").read_text().removeprefix("const CHOICES = ")[:-2])
    made = json.loads(json.dumps(EXPORT.choices()))
    for name, data in made["data"].items():
        there = choices["data"][name]
        for key in ("means", "stds", "weights", "labels"):
            np.testing.assert_allclose(there.pop(key), data.pop(key), atol=1e-12)
        assert there == data
    np.testing.assert_allclose(choices.pop("betas"), made.pop("betas"), rtol=1e-12)
    assert choices == made
    solvers = list(EXPORT.SOLVERS)
    assert {path.stem for path in (PAGE / "tables").iterdir()} == set(solvers)
    found = node(
        """
        const found = {};
        for (const solver of given) {
          const tables = await tablesIn(solver), lines = Object.keys(tables);
          const some = lines.filter((_, i) => i % 37 === 5);
          found[solver] = { lines, some: Object.fromEntries(some.map((l) => [l, tables[l]])) };
        }
        return found;
        """,
        solvers,
    )
    for solver, own in found.items():
        assert own["lines"] == EXPORT.lines(solver)
        assert own["some"]
        for line, table in own["some"].items():
            same_table(table, EXPORT.evaluate(line))
    assert sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file()) < 1_500_000


# -- the programs that the page shows ----------------------------------------------------------

STATES = [
    {"data": "peaks", "class": "all", "guidance": "none", "solver": "heun", "grid": "edm"},
    {"data": "spirals", "class": "1", "guidance": "classifier-free", "solver": "ddim"},
    {"data": "ring", "class": "0", "guidance": "autoguidance", "grid": "vp", "solver": "euler"},
]
COMMON = {
    "grid": "tangent",
    "steps": 6,
    "rho": 5,
    "schedule": "vp",
    "scaling": "none",
    "scale": 1.5,
}


@pytest.fixture(scope="module")
def programs():
    return node(
        """
        return Promise.all(given.map(async (state) => {
          const { denoise } = denoiserOf(state);
          const x = Float64Array.from([0.7, -0.2]);
          const table = (await tablesIn(state.solver))[lineOf(state)];
          return { line: lineOf(state), program: programOf(state), table, at: denoise(x, 0.8) };
        }));
        """,
        [COMMON | {"option": "0.5", "churn": 0} | state for state in STATES],
    )


@pytest.mark.parametrize("case", range(len(STATES)), ids=[s["data"] for s in STATES])
def test_the_programs_run_and_make_the_same(programs, case):
    own, names = programs[case], {}
    same_table(own["table"], EXPORT.evaluate(own["line"]))
    text = own["program"]
    if case:  # one of them draws: the others are as they are but for that
        text = text[: text.index("start, path")]
    exec(text, names)
    same_table(own["table"], names["tableau"])
    flat = names["means"].shape[1] == 1
    x = np.reshape([0.7, -0.2], (-1, 1) if flat else (1, 2)).astype(np.float32)
    np.testing.assert_allclose(own["at"], np.ravel(jax.jit(names["denoise"])(x, 0.8)), atol=2e-5)
    if not case:
        assert names["x0"].shape == (1000, 1)
        # Half of the data are at either peak.
        assert abs(np.mean(np.asarray(names["x0"]) > 0) - 0.5) < 0.06

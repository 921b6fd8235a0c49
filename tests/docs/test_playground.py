"""The numbers of docs/playground: its JavaScript against the library, in float64."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import playwright
import pytest

import edm_jax
from edm_jax import guidance, ideal

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "playground"
# The one that comes with playwright: a machine needs none of its own.
NODE = pathlib.Path(playwright.__file__).parent / "driver" / "node"
MEANS, STDS, WEIGHTS = np.array([[-1.3], [0.2], [1.2]]), np.array([0.12, 0.3, 0.06]), [2.0, 2.0, 1.0]
LABELS = np.array([0, 1, 1])
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
        f'heun({EDM}, schedule=edm_jax.schedules.process("vp", scaling="none", ends=(0.002, 80.0)))',
        f"dpmpp_2s({EDM})",
        f"dpm_solver_2({EDM})",
        f"dpmpp_sde({EDM})",
    )
]


@pytest.fixture(scope="module")
def export():
    spec = importlib.util.spec_from_file_location("export", PAGE / "export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def node(program, *arguments):
    """What a program returns that knows the page's functions, tables and `arguments`."""
    files = [str(PAGE / name) for name in ("sampler.js", "denoisers.js", "frames.js", "choices.js")]
    begin = f"""
        const fs = require("fs"), vm = require("vm");
        for (const file of {json.dumps(files)}) vm.runInThisContext(fs.readFileSync(file, "utf8"));
        globalThis.TABLES = {{}};
        const tables = (solver) => {{
          vm.runInThisContext(fs.readFileSync(`{PAGE}/tables/${{solver}}.js`, "utf8"));
          return unpack(TABLES[solver]);
        }};
        const given = JSON.parse(fs.readFileSync(0, "utf8"));
        const plain = (_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v;
        (async (...given) => {{ {program} }})(...given)
          .then((out) => console.log(JSON.stringify(out, plain)));
    """
    text = json.dumps(arguments, default=np.ndarray.tolist)
    done = subprocess.run([NODE, "-e", begin], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


DATA = {"means": MEANS, "stds": STDS, "weights": WEIGHTS, "labels": LABELS}
JS_DATA = {name: np.asarray(value).tolist() for name, value in DATA.items()}


def python_guided():
    """Class 1 of the data, guided away from all of them."""
    one = ideal.mixture(MEANS[1:], STDS[1:], WEIGHTS[1:])
    return guidance.classifier_free(one, ideal.mixture(MEANS, STDS, WEIGHTS), 2.0)


@pytest.fixture(scope="module")
def drawn(export):
    """Tables of the page's lines, noise for their rows, and what `sample` makes of them."""
    tables = {line: export.evaluate(line) for line in LINES}
    draws = np.random.default_rng(0).standard_normal((40, 6, 1))
    with jax.enable_x64(True):
        call = jax.jit(
            lambda table, noise, rows: edm_jax.sample(python_guided(), table, noise, row_noise=rows)
        )
        samples = {}
        for line, table in tables.items():
            # Of one size, so that the tables of as many rows share one program.
            same = dataclasses.replace(edm_jax.samplers.pad(table, 6), stochastic=True)
            rows = jnp.asarray(draws[: table.nfe + 1])
            samples[line] = np.asarray(call(same, jnp.asarray(draws[-1]), rows))
        assert call._cache_size() <= 3
    return tables, draws, samples


RUN = """
    const [lines, draws, data] = given;
    const denoise = guided(mixture(ofClass(data, 1)), mixture(ofClass(data, null)), 2).denoise;
    const flat = (rows) => Float64Array.from(rows.flat());
    const found = {};
    for (const line of lines) {
      const table = (await tables(/samplers\\.(\\w+)/.exec(line)[1]))[line];
      const states = run(table, denoise, flat(draws[draws.length - 1]), (k) => flat(draws[k]));
      found[line] = { table, x0: states[states.length - 1], states: states.length };
    }
    return found;
"""


def test_the_tables_of_the_page_give_what_sample_gives(drawn):
    tables, draws, samples = drawn
    found = node(RUN, LINES, draws, JS_DATA)
    assert list(found) == LINES and len(LINES) > 20
    for line, own in found.items():
        # Not to the last bit: a power may round otherwise on another machine.
        table = edm_jax.Tableau.from_json(json.dumps(own["table"]))
        np.testing.assert_allclose(table.sigma, tables[line].sigma, rtol=1e-12)
        np.testing.assert_allclose(table.weights, tables[line].weights, rtol=1e-9, atol=1e-12)
        assert own["states"] == tables[line].nfe + 1
        np.testing.assert_allclose(own["x0"], samples[line][:, 0], rtol=0, atol=1e-9, err_msg=line)

"""The page docs/playground for its tests: its functions in Node, and itself in a browser."""

import json
import pathlib
import runpy
import shutil
import subprocess
import types

import numpy as np
import playwright
import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "playground"
# The one that comes with playwright: a machine needs none of its own.
NODE = pathlib.Path(playwright.__file__).parent / "driver" / "node"
# Data of one dimension and of two.
DATA = {
    "means": np.array([[-1.3], [0.2], [1.2]]),
    "stds": np.array([0.12, 0.3, 0.06]),
    "weights": np.array([2.0, 2.0, 1.0]),
    "labels": np.array([0, 1, 1]),
}
PLANE = {
    "means": np.array([[1.0, 0.5], [-1.0, 0.3], [0.2, -1.1]]),
    "stds": np.array([0.2, 0.0, 0.4]),
    "weights": np.array([1.0, 3.0, 2.0]),
    "labels": np.array([0, 0, 1]),
}
SCRIPTS = ("choices", "sampler", "denoisers", "frames", "experiment")  # those without a document
BEGIN = """
    const fs = require("fs"), vm = require("vm");
    const page = process.argv[1];
    const load = (name) => vm.runInThisContext(fs.readFileSync(`${page}/${name}.js`, "utf8"));
    process.argv[2].split(" ").forEach(load);
    const tablesIn = (solver) => {
      vm.runInThisContext(fs.readFileSync(`${page}/tables/${solver}.js`, "utf8"));
      return vm.runInThisContext(`unpack(TABLES["${solver}"])`);
    };
    const plain = (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
    (async (given) => { %s })(JSON.parse(fs.readFileSync(0, "utf8")))
      .then((found) => console.log(JSON.stringify(found, plain)));
"""


def node(program, given=None):
    """What a program returns that knows the page's functions and what it is given."""
    done = subprocess.run(
        [NODE, "-e", BEGIN % program, str(PAGE), " ".join(SCRIPTS)],
        input=json.dumps(given, default=np.ndarray.tolist),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def export():
    """The module that writes the tables of the page."""
    return types.SimpleNamespace(**runpy.run_path(str(PAGE / "export.py")))


def start_chromium(driver):
    """A headless browser; without one on this machine the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), driver.chromium.executable_path)
    if not pathlib.Path(path).exists():
        pytest.skip(f"no browser on this machine: none of {', '.join(names)}")
    return driver.chromium.launch(executable_path=path)


def mixture(data, chosen=slice(None), *, wider=0.0):
    """What `ideal.mixture` takes: components of the data, blurred."""
    stds = np.hypot(data["stds"][chosen], wider)
    return data["means"][chosen], stds, data["weights"][chosen]

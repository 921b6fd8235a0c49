"""The numbers of docs/playground beside its tables: denoisers, flow, moments, noise, distances."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playground import DATA, PAGE, PLANE, export, mixture, node

import edm_jax
from edm_jax import guidance, ideal, schedules

EXPORT = export()


def test_the_denoisers_and_densities_are_those_of_the_library():
    points = np.random.default_rng(1).standard_normal((5, 2))
    found = node(
        """
        const { plane, points } = given, x = Float64Array.from(points.flat());
        const one = ofClass(plane, 0), first = mixture(one), all = mixture(ofClass(plane, null));
        const worse = mixture(blurred(one, 0.3));
        return [0.05, 0.7, 60].map((sigma) => [
          first.denoise(x, sigma), guided(first, all, 3).denoise(x, sigma),
          guided(first, worse, 2.5).denoise(x, sigma), all.logDensity(x, sigma),
        ]);
        """,
        {"plane": PLANE, "points": points},
    )
    with jax.enable_x64(True):
        x, of = jnp.asarray(points), slice(2)
        first, everything = ideal.mixture(*mixture(PLANE, of)), ideal.mixture(*mixture(PLANE))
        worse = ideal.mixture(*mixture(PLANE, of, wider=0.3))
        functions = (
            first,
            guidance.classifier_free(first, everything, 3.0),
            guidance.autoguidance(first, worse, 2.5),
            ideal.mixture_log_prob(*mixture(PLANE)),
        )
        call = jax.jit(lambda x, sigma: [function(x, sigma) for function in functions])
        for sigma, own in zip((0.05, 0.7, 60.0), found):
            for value, expected in zip(own, call(x, sigma)):
                np.testing.assert_allclose(value, np.ravel(expected), rtol=1e-11, atol=1e-11)


def test_the_moments_are_those_of_the_library():
    grid = "edm_jax.timesteps.edm(18, rho=7)"
    calls = (
        f"heun({grid})",
        f"heun({grid}, churn=edm_jax.samplers.Churn(s_churn=10))",
        f"ipndm({grid}, order=4)",
        f"sa_solver({grid})",
        f'ddpm({grid}, variance="large")',
    )
    lines = [f"edm_jax.samplers.{call}" for call in calls]
    found = node(
        """
        const found = {};
        for (const line of given) {
          const table = (await tablesIn(line.match(/samplers.([a-z0-9_]+)/)[1]))[line];
          found[line] = moments(table, 0.3, 0.25);
        }
        return found;
        """,
        lines,
    )
    assert list(found) == lines
    for line, own in found.items():
        expected = edm_jax.moments(EXPORT.evaluate(line), 0.3, 0.25)
        np.testing.assert_allclose([own["mean"], own["variance"]], expected, rtol=1e-11)


def below(x, data, sigma):
    """The share of one-dimensional data with noise that lies below x."""
    means, stds, weights = mixture(data)
    parts = (x - means[:, 0]) / np.hypot(stds, sigma) / math.sqrt(2)
    return sum(w * (1 + math.erf(p)) / 2 for w, p in zip(weights, parts)) / sum(weights)


def test_the_exact_flow_keeps_the_share_below():
    """On a line no path overtakes another, so the flow maps quantiles to quantiles."""
    begin = 80 * np.array([-2.0, -1.0, -0.4, -0.1, 0.1, 0.5, 1.7])
    ends, coarse, fine = node(
        """
        const end = (data, x, steps) =>
          exactFlow(mixture(data).denoise, Float64Array.from(x), 80, steps).pop().x;
        const { plane, line, begin } = given;
        return [end(line, begin, 240), ...[120, 1000].map((n) => end(plane, begin.slice(1), n))];
        """,
        {"plane": PLANE, "line": DATA, "begin": begin},
    )
    for x, y in zip(begin, ends):
        assert below(y, DATA, 0.0) == pytest.approx(below(x, DATA, 80.0), abs=1e-6)
    np.testing.assert_allclose(coarse, fine, atol=1e-4)


def test_the_noise_is_normal_and_knows_no_neighbour():
    few, many, other, after = node(
        """
        return [noiseOf(3, 2, 5, 2), noiseOf(3, 2, 20000, 2), noiseOf(4, 2, 20000, 2),
                noiseOf(3, 3, 20000, 2)];
        """
    )
    assert few == many[:10]
    rows = np.reshape([many, other, after], (3, -1, 2))
    series = [*rows.transpose(0, 2, 1).reshape(6, -1), np.roll(rows[0, :, 0], 1)]
    assert np.abs(np.mean(series, axis=1)).max() < 4 / np.sqrt(20_000)
    assert np.abs(np.cov(series) - np.eye(7)).max() < 6 / np.sqrt(20_000)
    assert abs((rows[0] ** 4).mean() - 3) < 0.3


def test_the_distance_to_data_and_what_chance_makes_of_it():
    shifted, mean, chance = node(
        """
        const normalData = { means: [[0]], stds: [1], weights: [1] };
        const each = [...Array(60).keys()].map((seed) => noiseOf(seed, 0, 500, 1));
        const of = each.map((draws) => wasserstein(draws, normalData, 0));
        const many = noiseOf(0, 0, 20000, 1).map((x) => x + 0.4);
        return [wasserstein(many, normalData, 0).found,
                of.reduce((sum, w) => sum + w.found, 0) / of.length, of[0].chance];
        """
    )
    assert shifted == pytest.approx(0.4, abs=0.02)
    assert mean == pytest.approx(chance, rel=0.1)


def test_the_frames_are_the_schedules():
    levels = np.array([0.002, 0.3, 4.0, 80.0])
    found = node(
        """
        return Object.fromEntries(Object.keys(CHOICES.schedules).map((name) => {
          const { time, sigma } = schedule(name, CHOICES.betas);
          const times = given.map(time);
          return [name, [times, times.map(sigma), given.map((s) => scaleOf("vp", s)), time(0)]];
        }));
        """,
        levels,
    )
    for name, (times, back, scales, begin) in found.items():
        law = schedules.process(name, scaling="vp", ends=(0.002, 80.0))
        np.testing.assert_allclose(times, law.sigma_inv(levels), rtol=1e-9)
        np.testing.assert_allclose(back, levels, rtol=1e-9)
        np.testing.assert_allclose(scales, law.scale(law.sigma_inv(levels)), rtol=1e-9)
        assert begin == 0


def test_the_distances_on_the_page_of_the_docs():
    """Its table, computed again."""
    text = (PAGE.parent / "playground.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| (\d+) \| ([\d.]+) \|$", text, re.MULTILINE)
    choices = {
        "schedule and scaling of EDM": {"schedule": "edm"},
        "those of VP": {"schedule": "vp", "scaling": "vp"},
        "VP's schedule without its scaling": {"schedule": "vp"},
        "those of VE": {"schedule": "ve"},
        "the grid with ρ = 1": {"rho": 1},
        "ρ = 3": {"rho": 3},
        "ρ = 7": {},
    }
    common = {"grid": "edm", "steps": 18, "rho": 7, "schedule": "edm", "scaling": "none"}
    common |= {"data": "peaks", "class": "all", "guidance": "none", "seed": "0", "churn": 0}
    found = node(
        """
        globalThis.tablesOf = tablesIn;
        const all = [];
        for (const state of given) all.push(await experimentOf(state));
        return all.map(({ error, table }) => [table.sigma.length, error]);
        """,
        [common | {"solver": name.lower()} | choices[what] for name, what, *_ in rows],
    )
    assert len(rows) == 8
    for (_, what, calls, distance), own in zip(rows, found):
        assert own == [int(calls), pytest.approx(float(distance), rel=1e-2)], what
    tables = sum(len(EXPORT.lines(solver)) for solver in EXPORT.SOLVERS)
    assert f"{tables:,} of them" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["same"] == names["tableau"]

"use strict";
// From the choices to what is shown: the line of Python, its table, a run and its numbers.

const TABLES = {};
const loaded = {};

/** The tables of a solver, by their lines of Python; its file is read once. */
function tablesOf(solver) {
  loaded[solver] ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `tables/${solver}.js`;
    script.onload = () => resolve(unpack(TABLES[solver]));
    script.onerror = () => reject(new Error(`tables/${solver}.js is not there`));
    document.head.append(script);
  });
  return loaded[solver];
}

/** The line of Python that makes the table of a choice. */
function lineOf(state) {
  const { scheduled, values } = CHOICES.solvers[state.solver];
  const grid = CHOICES.grids[state.grid].code
    .replace("{steps}", state.steps)
    .replace("{rho}", state.rho);
  const argument = scheduled
    ? CHOICES.processes[`${state.schedule} ${state.scaling}`] || CHOICES.churns[state.churn]
    : values.find(([value]) => value === state.option)?.[1];
  return `edm_jax.samplers.${state.solver}(${argument ? `${grid}, ${argument}` : grid})`;
}

/** The program that draws what the page draws, with noise of its own. */
function programOf(state) {
  const mixtureOf = (stds) => `edm_jax.ideal.mixture(means[of], ${stds}, weights[of])`;
  const guidance = {
    none: [],
    "classifier-free": [
      "everything = edm_jax.ideal.mixture(means, stds, weights)",
      `denoise = edm_jax.guidance.classifier_free(denoise, everything, ${state.scale})`,
    ],
    autoguidance: [
      `guide = ${mixtureOf(`np.hypot(stds[of], ${CHOICES.worse})`)}`,
      `denoise = edm_jax.guidance.autoguidance(denoise, guide, ${state.scale})`,
    ],
  };
  return [
    "import numpy as np",
    "",
    "import edm_jax",
    "",
    CHOICES.data[state.data].code,
    state.class === "all" ? "of = labels >= 0" : `of = labels == ${state.class}`,
    `denoise = ${mixtureOf("stds[of]")}`,
    ...guidance[state.guidance],
    "",
    `tableau = ${lineOf(state)}`,
    "start, path = edm_jax.split(edm_jax.sample_keys(range(1000)))",
    "noise = edm_jax.normal(start, means.shape[1:])",
    "x0 = edm_jax.sample(denoise, tableau, noise, path)",
    "",
  ].join("\n");
}

/** The data that are aimed at; the denoiser of the choice, and the density that it belongs to. */
function denoiserOf(state) {
  const data = CHOICES.data[state.data];
  const target = ofClass(data, state.class === "all" ? null : Number(state.class));
  if (state.guidance === "none") return { target, ...mixture(target) };
  const free = state.guidance === "classifier-free";
  const guide = free ? ofClass(data, null) : blurred(target, CHOICES.worse);
  return { target, ...guided(mixture(target), mixture(guide), Number(state.scale)) };
}

/** One axis of points of d numbers. */
const along = (axis, points, d) => points.filter((_, i) => i % d === axis);
const mean = (values) => values.reduce((a, b) => a + b) / values.length;
const last = (list) => list[list.length - 1];

/** Mean and variance of numbers. */
function momentsOfDraws(values) {
  const centre = mean(values);
  return { mean: centre, variance: mean(values.map((v) => (v - centre) ** 2)) };
}

/** The distance of drawn points to a mixture, and that of as many exact ones: the mean over axes. */
function distanceToData(points, target, d) {
  const axes = [...Array(d).keys()];
  const each = axes.map((axis) => wasserstein(along(axis, points, d), target, axis));
  return { found: mean(each.map((w) => w.found)), chance: mean(each.map((w) => w.chance)) };
}

/** The label of the nearest component of each point. */
function nearestLabels(points, target, d) {
  return Array.from({ length: points.length / d }, (_, i) => {
    const point = points.subarray(i * d, (i + 1) * d);
    const far = target.means.map((m) => Math.hypot(...m.map((v, j) => v - point[j])));
    return target.labels[far.indexOf(Math.min(...far))];
  });
}

/** All that is shown of a choice. */
async function experimentOf(state) {
  const tables = await tablesOf(state.solver);
  const line = lineOf(state);
  const table = tables[line];
  const { target, denoise, logDensity } = denoiserOf(state);
  const d = target.means[0].length;
  // Of so many samples the histogram is made, and of the first of them the paths and the errors.
  const [count, measured, flowSteps] = d === 1 ? [4000, 200, 240] : [1200, 100, 120];
  const seed = Number(state.seed);

  // Row 0 of the noise is what the sampler starts from; the table's own draws follow.
  const noise = (n) => noiseOf(seed, 0, n, d);
  const runOf = (table, n) => run(table, denoise, noise(n), (k) => noiseOf(seed, k + 1, n, d));
  const flowOf = (table) => {
    const start = combine([table.start[0][0]], [noise(measured)]);
    return exactFlow(denoise, start, table.sigma[0], flowSteps);
  };
  const toFlow = (points, flow) => distance(points.subarray(0, measured * d), last(flow).x, d);

  const states = runOf(table, count);
  const final = last(states);
  const flow = table.stochastic ? null : flowOf(table);
  const errors = CHOICES.steps.map((steps) => {
    const own = tables[lineOf({ ...state, steps })];
    const points = own === table ? final : last(runOf(own, own.stochastic ? 1000 : measured));
    const error = own.stochastic
      ? distanceToData(points, target, d).found
      : toFlow(points, own === table ? flow : flowOf(own));
    return { nfe: own.sigma.length, error, here: own === table };
  });

  const axes = [...Array(d).keys()];
  const exact = axes.map((axis) => momentsOf(target, axis));
  return {
    state, line, table, states, flow, target, d, count, measured, errors,
    density: logDensity,
    paths: Math.min(Number(state.paths), d === 1 ? measured : 12),
    draws: along(0, final, d),
    labels: d === 2 ? nearestLabels(final, target, d) : null,
    error: flow && toFlow(final, flow),
    toData: distanceToData(final, target, d),
    moments: {
      exact,
      drawn: axes.map((axis) => momentsOfDraws(along(axis, final, d))),
      gaussian: exact.map((m) => moments(table, m.mean, m.variance)),
    },
  };
}

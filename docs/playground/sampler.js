"use strict";
// A sampler is a table: start [R][2], sigma [K], weights [K][R][R + 2]. A batch of B points of d
// numbers is one Float64Array of B * d.

/** The sum of numbers times vectors. */
function combine(numbers, vectors) {
  const total = new Float64Array(vectors[0].length);
  numbers.forEach((number, j) => {
    if (number === 0) return;
    const vector = vectors[j];
    for (let i = 0; i < total.length; i++) total[i] += number * vector[i];
  });
  return total;
}

/**
 * Runs a table: Y = start [noise; z], and for each row Y <- weights [Y; D; z], D = denoise(Y[0]).
 * draw(k) is the noise of row k, 0 for the start; a deterministic table asks for none.
 * Returns the K + 1 states: where the denoiser was asked, and the sample.
 */
function run(table, denoise, noise, draw) {
  const z = (k) => (table.stochastic ? draw(k) : noise);
  let registers = table.start.map((row) => combine(row, [noise, z(0)]));
  const states = [registers[0]];
  table.sigma.forEach((sigma, k) => {
    const vectors = [...registers, denoise(registers[0], sigma), z(k + 1)];
    registers = table.weights[k].map((row) => combine(row, vectors));
    states.push(registers[0]);
  });
  return states;
}

/**
 * The exact mean and variance of what a table makes of Gaussian data, of one number.
 * The registers stay Gaussian: `state` is their mean, `factor` [R][] their combination of
 * independent unit normals.
 */
function moments(table, mean, variance) {
  const size = table.start.length;
  let state = new Array(size).fill(0);
  let factor = table.start;
  table.sigma.forEach((sigma, k) => {
    const gain = variance / (variance + sigma * sigma);
    const rows = table.weights[k];
    const step = rows.map((row) => row.slice(0, size).map((w, j) => w + (j ? 0 : gain * row[size])));
    const apply = (row, column) => row.reduce((sum, w, j) => sum + w * column[j], 0);
    state = step.map((row, r) => apply(row, state) + (1 - gain) * mean * rows[r][size]);
    const columns = factor[0].map((_, c) => factor.map((row) => row[c]));
    factor = step.map((row, r) => [...columns.map((c) => apply(row, c)), rows[r][size + 1]]);
  });
  return { mean: state[0], variance: factor[0].reduce((sum, f) => sum + f * f, 0) };
}

/** A standard normal number of (seed, sample, row, axis): it knows nothing of its neighbours. */
function normal(seed, sample, row, axis) {
  const bits = (last) => {
    let h = 0x9e3779b9;
    for (const word of [seed, sample, row, axis, last]) {
      h = Math.imul(h ^ word, 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      h ^= h >>> 16;
    }
    return ((h >>> 0) + 0.5) / 2 ** 32;
  };
  return Math.sqrt(-2 * Math.log(bits(0))) * Math.cos(2 * Math.PI * bits(1));
}

/** Noise of one row for samples 0 ... count - 1, of d numbers each. */
function noiseOf(seed, row, count, d) {
  return Float64Array.from({ length: count * d }, (_, i) =>
    normal(seed, Math.floor(i / d), row, i % d));
}

/** The tables of a solver's file, by their lines of Python. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

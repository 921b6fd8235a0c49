"use strict";
// The ideal denoiser of a mixture of Gaussians, guidance by two of them, and the exact flow.

/**
 * A mixture of isotropic Gaussians with noise: denoise(x, sigma) is E[y | x], logDensity(x, sigma)
 * the logarithm of p(x; sigma). means [K][d], stds [K], weights [K].
 */
function mixture({ means, stds, weights }) {
  const [count, d] = [means.length, means[0].length];
  const centres = Float64Array.from(means.flat());
  const total = weights.reduce((a, b) => a + b);
  const logWeights = weights.map((w) => Math.log(w / total));
  const shares = new Float64Array(count);

  /** For each point: its components' shares, not yet divided by their sum, and visit. */
  function each(x, sigma, visit) {
    const variances = stds.map((std) => std * std + sigma * sigma);
    const constants = variances.map((v, k) => logWeights[k] - 0.5 * d * Math.log(v));
    for (let at = 0; at < x.length; at += d) {
      let top = -Infinity;
      for (let k = 0; k < count; k++) {
        let square = 0;
        for (let j = 0; j < d; j++) square += (x[at + j] - centres[k * d + j]) ** 2;
        shares[k] = constants[k] - (0.5 * square) / variances[k];
        if (shares[k] > top) top = shares[k];
      }
      let sum = 0;
      for (let k = 0; k < count; k++) sum += shares[k] = Math.exp(shares[k] - top);
      visit(at, sum, top, variances);
    }
  }

  function denoise(x, sigma) {
    const out = new Float64Array(x.length);
    each(x, sigma, (at, sum, _, variances) => {
      for (let k = 0; k < count; k++) {
        const shrink = (stds[k] * stds[k]) / variances[k];
        for (let j = 0; j < d; j++) {
          const centre = centres[k * d + j];
          out[at + j] += (shares[k] / sum) * (centre + shrink * (x[at + j] - centre));
        }
      }
    });
    return out;
  }

  function logDensity(x, sigma) {
    const out = new Float64Array(x.length / d);
    each(x, sigma, (at, sum, top) => {
      out[at / d] = top + Math.log(sum) - 0.5 * d * Math.log(2 * Math.PI);
    });
    return out;
  }

  return { denoise, logDensity };
}

/** guide + w (main - guide), of denoised points and of log-densities (then up to a constant). */
function guided(main, guide, w) {
  const blend = (of) => (x, sigma) => combine([1 - w, w], [guide[of](x, sigma), main[of](x, sigma)]);
  return { denoise: blend("denoise"), logDensity: blend("logDensity") };
}

/** Those components of a data set that have a label; all for null. */
function ofClass({ means, stds, weights, labels }, label) {
  const chosen = (values) => values.filter((_, k) => label === null || labels[k] === label);
  return {
    means: chosen(means), stds: chosen(stds), weights: chosen(weights), labels: chosen(labels),
  };
}

/** The same data, less sharply known: what the guide of autoguidance has learned. */
function blurred(data, by) {
  return { ...data, stds: data.stds.map((std) => Math.hypot(std, by)) };
}

/**
 * The probability flow dx / d log(sigma) = x - D(x; sigma) from sigma_max to 0, to about 1e-7: the
 * fourth-order method of Runge and Kutta, even in log(sigma), then D at 1e-4.
 * Returns [{sigma, x}] along the way.
 */
function exactFlow(denoise, x, sigmaMax, steps) {
  const h = Math.log(1e-4 / sigmaMax) / steps;
  const slope = (x, sigma) => combine([1, -1], [x, denoise(x, sigma)]);
  const path = [{ sigma: sigmaMax, x }];
  for (let i = 0; i < steps; i++) {
    const [a, b, c] = [i, i + 0.5, i + 1].map((n) => sigmaMax * Math.exp(n * h));
    const first = slope(x, a);
    const second = slope(combine([1, h / 2], [x, first]), b);
    const third = slope(combine([1, h / 2], [x, second]), b);
    const fourth = slope(combine([1, h], [x, third]), c);
    x = combine([1, h / 6, h / 3, h / 3, h / 6], [x, first, second, third, fourth]);
    path.push({ sigma: c, x });
  }
  path.push({ sigma: 0, x: denoise(x, 1e-4) });
  return path;
}

/** The root of the mean square distance of points of d numbers. */
function distance(a, b, d) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt((sum * d) / a.length);
}

/** The error function, to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}

/**
 * The Wasserstein distance, the integral of |F_n - F|, of draws from one axis of a mixture, and
 * what that many exact draws would have by chance.
 */
function wasserstein(draws, { means, stds, weights }, axis) {
  const sorted = Float64Array.from(draws).sort();
  const total = weights.reduce((a, b) => a + b);
  const below = (x) =>
    weights.reduce((sum, w, k) => {
      const off = x - means[k][axis];
      const share = stds[k] ? 0.5 + 0.5 * erf(off / (stds[k] * Math.SQRT2)) : Number(off >= 0);
      return sum + (w / total) * share;
    }, 0);
  const low = Math.min(sorted[0], ...means.map((m, k) => m[axis] - 5 * stds[k]));
  const high = Math.max(sorted[sorted.length - 1], ...means.map((m, k) => m[axis] + 5 * stds[k]));
  const width = (high - low) / 4000;
  let [found, chance, passed] = [0, 0, 0];
  for (let x = low + width / 2; x < high; x += width) {
    while (passed < sorted.length && sorted[passed] <= x) passed++;
    const exact = below(x);
    found += Math.abs(passed / sorted.length - exact) * width;
    chance += Math.sqrt((2 / Math.PI) * exact * Math.max(1 - exact, 0) / sorted.length) * width;
  }
  return { found, chance };
}

/** Mean and variance of a mixture along an axis. */
function momentsOf({ means, stds, weights }, axis) {
  const total = weights.reduce((a, b) => a + b);
  const average = (values) => values.reduce((sum, v, k) => sum + (weights[k] / total) * v, 0);
  const mean = average(means.map((m) => m[axis]));
  return { mean, variance: average(means.map((m, k) => stds[k] ** 2 + (m[axis] - mean) ** 2)) };
}

"use strict";
// In which time and at which scale a picture is drawn: x_t = s (y + sigma(t) n).

/** sigma -> time and back, of a schedule; VP's goes through the range of the grids. */
function schedule(name, [betaD, betaMin]) {
  if (name === "edm") return { time: (sigma) => sigma, sigma: (t) => t };
  if (name === "ve") return { time: (sigma) => sigma * sigma, sigma: (t) => Math.sqrt(t) };
  return {
    time(sigma) {
      if (sigma === 0) return 0;
      const level = Math.log1p(sigma * sigma);
      const root = Math.sqrt(betaMin ** 2 + 2 * betaD * level);
      return betaMin > 0 ? (2 * level) / (root + betaMin) : (root - betaMin) / betaD;
    },
    sigma: (t) => Math.sqrt(Math.max(Math.expm1(t * (0.5 * betaD * t + betaMin)), 0)),
  };
}

/** s of a noise level. */
function scaleOf(scaling, sigma) {
  return scaling === "vp" ? 1 / Math.sqrt(1 + sigma * sigma) : 1;
}

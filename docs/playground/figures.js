"use strict";
// The paths of one dimension, and the two small pictures.

const TIMES = {
  edm: "time t, with σ(t) = t",
  ve: "time t, with σ(t) = √t",
  vp: "time t of the VP process",
};

/** Where the noise level is drawn along the time axis, in [0, 1], and back. */
function timeAxis(state) {
  const law = schedule(state.schedule, CHOICES.betas);
  if (state.axis === "log") {
    const [low, high] = [Math.log(CHOICES.sigma_min), Math.log(CHOICES.sigma_max * 1.5)];
    return {
      place: (sigma) => (Math.log(Math.max(sigma, CHOICES.sigma_min)) - low) / (high - low),
      level: (u) => Math.exp(low + u * (high - low)),
      ticks: [0.002, 0.01, 0.1, 1, 10, 80].map((s) => ({ sigma: s, text: short(s) })),
      title: "σ, logarithmic",
    };
  }
  const end = law.time(Number(state.axis)) * 1.03;
  return {
    place: (sigma) => law.time(sigma) / end,
    level: (u) => law.sigma(u * end),
    ticks: ticks(0, end, 6).map((t) => ({ sigma: law.sigma(t), text: short(t) })),
    title: TIMES[state.schedule],
  };
}

/** Density over the noise level, the sampler's paths and the exact flow: the paper's figure 3. */
function drawPaths(experiment) {
  const { state, table, states, flow, density, paths } = experiment;
  const board = canvasOf("picture");
  const { context, width, height, colour } = board;
  const time = timeAxis(state);
  const s = (sigma) => scaleOf(state.scaling, sigma);
  const box = { left: 52, top: 24, width: width - 62, height: height - 24 - 40 };
  // Room for the data and twice the deviation of the noise.
  const levelsShown = Array.from({ length: 51 }, (_, i) => time.level(i / 50));
  const half = Math.max(...levelsShown.map((sigma) => s(sigma) * (1.9 + 2.2 * sigma)));
  const across = (sigma) => box.left + box.width * time.place(sigma);
  const up = (x) => box.top + box.height * (0.5 - (0.5 * x) / half);

  const [columns, rows] = [Math.min(320, Math.round(box.width / 2)), 220];
  heat(board, box, columns, rows, (c) => {
    const sigma = Math.max(time.level((c + 0.5) / columns), (half / rows) * 0.5);
    const at = (i) => (half * (1 - (2 * i + 1) / rows)) / s(sigma);
    return density(Float64Array.from({ length: rows }, (_, i) => at(i)), sigma);
  });

  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  const levels = [...table.sigma, 0];
  const trace = (points) => {
    context.beginPath();
    points.forEach(([sigma, x], i) => context[i ? "lineTo" : "moveTo"](across(sigma), up(s(sigma) * x)));
    context.stroke();
  };
  if (state.exact && flow) {
    context.strokeStyle = colour("exact");
    context.lineWidth = 1.2;
    context.setLineDash([5, 4]);
    for (let i = 0; i < paths; i++) trace(flow.map(({ sigma, x }) => [sigma, x[i]]));
    context.setLineDash([]);
  }
  context.strokeStyle = context.fillStyle = colour("path");
  context.lineWidth = 1;
  for (let i = 0; i < paths; i++) {
    const points = states.map((x, k) => [levels[k], x[i]]);
    context.globalAlpha = 0.55;
    trace(points);
    context.globalAlpha = 0.85;
    for (const [sigma, x] of points) {
      context.beginPath();
      context.arc(across(sigma), up(s(sigma) * x), points.length > 50 ? 1.1 : 1.8, 0, 7);
      context.fill();
    }
  }
  context.restore();
  context.globalAlpha = 1;
  const above = [0, 0.5, 1, 2, 5, 10, 25, 80].filter((v) => time.place(v) <= 1);
  axes(board, box, {
    x: time.ticks.filter((t) => time.place(t.sigma) <= 1).map((t) => ({ at: across(t.sigma), text: t.text })),
    y: ticks(-half, half, 5).map((x) => ({ at: up(x), text: short(x) })),
    above: state.axis === "log" ? [] : above.map((v) => ({ at: across(v), text: `σ ${v}` })),
    xTitle: time.title,
    yTitle: state.scaling === "none" ? "x" : "x, scaled by s(t)",
  });
}

/** What was drawn along the first axis, over the density of the data. */
function drawHistogram({ state, draws, target, moments }) {
  const board = canvasOf("histogram");
  const { context, width, height, colour } = board;
  const box = { left: 10, top: 8, width: width - 20, height: height - 50 };
  const [half, bins] = [2.4, 72];
  const counts = new Float64Array(bins);
  for (const x of draws) {
    const bin = Math.floor(((x + half) / (2 * half)) * bins);
    if (bin >= 0 && bin < bins) counts[bin] += bins / (2 * half * draws.length);
  }
  // As wide as a bin at least: of points there is no density.
  const smooth = (2 * half) / bins / 2;
  const grid = Float64Array.from({ length: 400 }, (_, i) => half * (-1 + (2 * i + 1) / 400));
  const densityOf = (data) => mixture(data).logDensity(grid, smooth).map(Math.exp);
  const exact = densityOf({ ...target, means: target.means.map((m) => [m[0]]) });
  const { mean, variance } = moments.gaussian[0];
  const outcome = outcomeIsKnown(state, target)
    ? densityOf({ means: [[mean]], stds: [Math.sqrt(variance)], weights: [1] })
    : null;
  const top = 1.08 * Math.max(...counts, ...exact, ...(outcome ?? []));
  const across = (x) => box.left + (box.width * (x + half)) / (2 * half);
  const up = (p) => box.top + box.height * (1 - p / top);
  context.fillStyle = `rgb(${colour("density")} / 0.55)`;
  counts.forEach((p, bin) => {
    const left = across(-half + (bin * 2 * half) / bins);
    context.fillRect(left + 0.5, up(p), box.width / bins - 1, box.top + box.height - up(p));
  });
  const curve = (values) => {
    context.beginPath();
    values.forEach((p, i) => context[i ? "lineTo" : "moveTo"](across(grid[i]), up(p)));
    context.stroke();
  };
  context.strokeStyle = colour("exact");
  context.lineWidth = 1.6;
  curve(exact);
  if (outcome) {
    context.strokeStyle = colour("path");
    context.setLineDash([4, 3]);
    curve(outcome);
    context.setLineDash([]);
  }
  const marks = [-2, -1, 0, 1, 2].map((x) => ({ at: across(x), text: String(x) }));
  axes(board, box, { x: marks, y: [], xTitle: "" });
}

/** Error by the number of calls, on two logarithmic axes; of [{nfe, error, here}]. */
function drawErrors({ errors: points }) {
  const board = canvasOf("errors");
  const { context, width, height, colour } = board;
  const box = { left: 46, top: 8, width: width - 60, height: height - 50 };
  const shown = points.filter((p) => p.error > 0 && Number.isFinite(p.error));
  if (!shown.length) return;
  const range = (values, room) => {
    const logarithms = values.map(Math.log10);
    return [Math.min(...logarithms) - room, Math.max(...logarithms) + room];
  };
  const smallest = shown.map((p) => p.error).sort((a, b) => a - b);
  const [left, right] = range(shown.map((p) => p.nfe), 0.08);
  const [low, high] = range(smallest, 0.3);
  const across = (n) => box.left + (box.width * (Math.log10(n) - left)) / (right - left);
  const up = (e) => box.top + (box.height * (high - Math.log10(e))) / (high - low);
  const powers = Array.from({ length: 14 }, (_, i) => 10 ** (i - 9));
  const inside = powers.filter((p) => Math.log10(p) > low && Math.log10(p) < high);
  // Within one power of ten the ends say more.
  const labelled = inside.length > 1 ? inside : [smallest[0], smallest[smallest.length - 1]];
  axes(board, box, {
    x: shown.map((p) => ({ at: across(p.nfe), text: String(p.nfe) })),
    y: labelled.map((p) => ({ at: up(p), text: short(p) })),
    xTitle: "calls of the denoiser",
  });
  context.strokeStyle = context.fillStyle = colour("accent");
  context.lineWidth = 1.4;
  context.beginPath();
  shown.forEach((p, i) => context[i ? "lineTo" : "moveTo"](across(p.nfe), up(p.error)));
  context.stroke();
  for (const p of shown) {
    context.beginPath();
    context.arc(across(p.nfe), up(p.error), p.here ? 5.5 : 3, 0, 7);
    context.fill();
  }
}

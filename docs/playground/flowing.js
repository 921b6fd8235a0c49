"use strict";
// The picture of two dimensions: points that flow, a row of the table after another.

const BEAT = 260; // milliseconds a row, for tables of few; long ones play faster

/** Draws the points of a run between row k and the next. */
function drawPoints(experiment, position) {
  const { state, table, states, flow, density, labels } = experiment;
  const board = canvasOf("picture");
  const { context, width, height, colour } = board;
  const last = states.length - 1;
  const k = Math.min(Math.floor(position), last);
  const between = Math.min(position - k, 1);
  const levels = [...table.sigma, 0];
  // Where several calls are made at one level the camera stays.
  const sigma = levels[k] + between * ((levels[k + 1] ?? 0) - levels[k]);
  const s = scaleOf(state.scaling, sigma);
  // With s = 1 the camera comes nearer as the noise goes.
  const half = s * Math.max(2.5, state.scaling === "none" ? 2.2 + 1.6 * sigma : 2.5 * Math.hypot(1, sigma));
  const unit = Math.min(width, height) / (2 * half);
  const place = (x, y) => [width / 2 + unit * s * x, height / 2 - unit * s * y];

  const side = { x: width / 2 / unit / s, y: height / 2 / unit / s };
  const rows = 90;
  const columns = Math.max(1, Math.round((rows * width) / height));
  const grid = new Float64Array(2 * rows * columns);
  for (let c = 0; c < columns; c++) {
    for (let i = 0; i < rows; i++) {
      grid[2 * (c * rows + i)] = side.x * (-1 + (2 * c + 1) / columns);
      grid[2 * (c * rows + i) + 1] = side.y * (1 - (2 * i + 1) / rows);
    }
  }
  const seen = density(grid, Math.max(sigma, 0.06));
  const top = seen.reduce((a, v) => Math.max(a, v), -Infinity);
  heat(board, { left: 0, top: 0, width, height }, columns, rows, (c) =>
    // One scale for the whole picture: the highest value stands in every column, out of sight.
    Object.assign(new Float64Array(rows + 1).fill(top), seen.subarray(c * rows, (c + 1) * rows)));

  const [now, next] = [states[k], states[Math.min(k + 1, last)]];
  const count = now.length / 2;
  const size = count > 900 ? 1.5 : 2;
  for (let i = 0; i < count; i++) {
    const [x, y] = place(...[0, 1].map((j) => now[2 * i + j] + between * (next[2 * i + j] - now[2 * i + j])));
    context.fillStyle = colour(labels[i] ? "second" : "first");
    context.globalAlpha = 0.8;
    context.beginPath();
    context.arc(x, y, size, 0, 7);
    context.fill();
  }
  context.globalAlpha = 1;
  if (state.exact && flow) {
    const trace = (path, i) => {
      context.beginPath();
      path.forEach((x, n) => context[n ? "lineTo" : "moveTo"](...place(x[2 * i], x[2 * i + 1])));
      context.stroke();
    };
    context.strokeStyle = colour("path");
    context.lineWidth = 1;
    context.globalAlpha = 0.8;
    for (let i = 0; i < experiment.paths; i++) {
      trace(flow.map(({ x }) => x), i);
      context.setLineDash([2, 3]);
      trace(states.slice(0, k + 1), i);
      context.setLineDash([]);
    }
    context.globalAlpha = 1;
  }
}

/** Plays an experiment from noise to data; the reader may stop it and move by hand. */
function player(rowInput, playButton, output) {
  let [experiment, position, running, before] = [null, 0, false, 0];

  function show() {
    const k = Math.min(Math.floor(position), experiment.table.sigma.length);
    const sigma = [...experiment.table.sigma, 0][k];
    rowInput.value = String(k);
    output.textContent = `${k} of ${experiment.table.sigma.length}, σ = ${short(sigma)}`;
    playButton.textContent = running ? "Pause" : "Play";
    drawPoints(experiment, position);
  }

  function frame(time) {
    if (!running) return;
    const calls = experiment.table.sigma.length;
    // The time of a frame may lie a little before the call that asked for it.
    const passed = Math.min(Math.max(time - before, 0), 100);
    position = Math.min(position + passed / Math.min(BEAT, 6000 / calls), calls);
    before = time;
    if (position >= calls) running = false;
    show();
    if (running) requestAnimationFrame(frame);
  }

  function play(from) {
    [position, running, before] = [from, true, performance.now()];
    show();
    requestAnimationFrame(frame);
  }

  playButton.addEventListener("click", () => {
    const calls = experiment.table.sigma.length;
    if (running) {
      running = false;
      show();
    } else play(position >= calls ? 0 : position);
  });
  rowInput.addEventListener("input", () => {
    [position, running] = [Number(rowInput.value), false];
    show();
  });
  return {
    /** Takes a new experiment; it plays, or for those who want no motion shows its end. */
    load(next) {
      const alreadyRunning = running;
      experiment = next;
      rowInput.max = String(next.table.sigma.length);
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
        [position, running] = [next.table.sigma.length, false];
        show();
      } else if (alreadyRunning) position = 0;
      else play(0);
    },
    stop: () => { running = false; },
    redraw: () => experiment && show(),
  };
}

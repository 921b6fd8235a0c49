"use strict";
// What all pictures are drawn with.

/** A canvas ready to draw on: its context, its size in CSS pixels, the theme's colours. */
function canvasOf(id) {
  const canvas = document.getElementById(id);
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = '12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  context.lineJoin = "round";
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return { canvas, context, width, height, colour };
}

/** Round numbers inside [low, high], about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((f) => f * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

const short = (value) => {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) {
    return value.toExponential(0).replace("e+", "e");
  }
  return String(Number(value.toPrecision(3)));
};

/** Draws the frame of a plot with its ticks: [{at, text}] along x, y, and above. */
function axes({ context, colour }, box, { x, y, above = [], xTitle, yTitle }) {
  context.strokeStyle = colour("line");
  context.lineWidth = 1;
  context.strokeRect(box.left + 0.5, box.top + 0.5, box.width - 1, box.height - 1);
  context.fillStyle = colour("soft");
  const [right, bottom] = [box.left + box.width, box.top + box.height];
  const mark = (fromX, fromY, toX, toY) => {
    context.beginPath();
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
    context.stroke();
  };
  context.textAlign = "center";
  let taken = -Infinity;
  for (const { at, text } of x) {
    mark(at, bottom, at, bottom + 4);
    if (at - taken < 30) continue;
    context.fillText(text, at, bottom + 16);
    taken = at;
  }
  taken = -Infinity;
  for (const { at, text } of above) {
    if (at - taken < 30) continue;
    mark(at, box.top, at, box.top - 4);
    context.fillText(text, at, box.top - 8);
    taken = at;
  }
  context.fillText(xTitle, box.left + box.width / 2, bottom + 32);
  context.textAlign = "right";
  for (const { at, text } of y) {
    mark(box.left, at, box.left - 4, at);
    context.fillText(text, box.left - 7, at + 4);
  }
  if (yTitle) {
    context.save();
    context.translate(12, box.top + box.height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(yTitle, 0, 0);
    context.restore();
  }
  context.textAlign = "left";
  return { right, bottom };
}

/** Fills a box with logarithms of densities [rows][columns], each column relative to its highest. */
function heat({ context, colour }, box, columns, rows, logDensityOf) {
  const [r, g, b] = colour("density").split(" ").map(Number);
  const image = new ImageData(columns, rows);
  for (let c = 0; c < columns; c++) {
    const values = logDensityOf(c);
    const top = values.reduce((a, v) => Math.max(a, v), -Infinity);
    for (let i = 0; i < rows; i++) {
      const strength = Math.exp(0.6 * (values[i] - top));
      image.data.set([r, g, b, 170 * strength], 4 * (i * columns + c));
    }
  }
  const small = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, box.left, box.top, box.width, box.height);
}

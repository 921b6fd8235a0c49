"use strict";
// What is said of an experiment beside its pictures.

const at = (id) => document.getElementById(id);

/** A number of three digits or so. */
function three(value) {
  const size = Math.abs(value);
  if (size < 5e-7) return "0";
  return size < 1e-3 ? value.toExponential(1) : value.toFixed(size < 0.1 ? 4 : 3);
}

const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** An element with text or children. */
function element(tag, content, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...[content].flat());
  return made;
}

/** What the samples should be, in words. */
function targetOf(state) {
  return { all: "the data", 0: "the first class", 1: "the second class" }[state.class];
}

/** The numbers: calls, distances, order, moments. */
function tell({ state, table, d, count, error, toData, moments, measured }) {
  const solver = CHOICES.solvers[state.solver];
  const target = targetOf(state);
  const size = `${several(state.steps, "step")}, ${several(table.start.length, "register")}`;
  const chance = `Wasserstein; ${three(toData.chance)} by chance${d === 2 ? "; both axes" : ""}`;
  const facts = [
    ["Calls of the denoiser", String(table.sigma.length), size],
    error === null
      ? ["From the exact flow", "–", "each path draws noise of its own"]
      : ["From the exact flow", three(error), `root mean square of ${measured} paths`],
    [`From ${target}`, three(toData.found), chance],
    ["Order", String(solver.order ?? "none"), solver.source],
  ];
  at("numbers").replaceChildren(...facts.map(([term, value, more]) =>
    element("div", [element("dt", term), element("dd", [value, element("small", more)])])));
  const near = error === null ? `${three(toData.found)} from ${target}` : `${three(error)} from the exact flow`;
  at("brief").textContent = `${several(table.sigma.length, "call")}, ${near}`;

  const unguided = state.guidance === "none" ? "" : ", unguided";
  const rows = [
    [`${target[0].toUpperCase()}${target.slice(1)}, exactly`, moments.exact],
    [`${count} samples`, moments.drawn],
    [`What this table makes of a Gaussian of these moments, exactly${unguided}`, moments.gaussian],
  ];
  at("moments").tBodies[0].replaceChildren(...rows.map(([name, values]) =>
    element("tr", [
      element("th", name, { scope: "row" }),
      element("td", values.map((v) => three(v.mean)).join(", ")),
      element("td", values.map((v) => three(Math.sqrt(v.variance))).join(", ")),
    ])));
}

/** What the marks of the picture are. */
function legend({ state, flow, d }) {
  const density = state.guidance === "none" ? "density p(x; σ)" : "density p(x; σ), as guided";
  const marks = [["", "rgb(var(--density) / 0.6)", density]];
  if (d === 1) {
    marks.push(["dot", "var(--path)", "paths, a dot for each call"]);
    if (state.exact && flow) {
      marks.push(["thin dashed", "var(--exact)", "exact flow from the same noise"]);
    }
  } else {
    if (state.class !== "1") marks.push(["dot", "var(--first)", "ends in the first class"]);
    if (state.class !== "0") marks.push(["dot", "var(--second)", "ends in the second class"]);
    if (state.exact && flow) {
      marks.push(["thin", "var(--path)", "exact flow of some"]);
      marks.push(["thin dotted", "var(--path)", "the sampler's path"]);
    }
  }
  at("legend").replaceChildren(...marks.map(([className, colour, text]) => {
    const mark = element("span", text, { className });
    mark.style.setProperty("--mark", colour);
    return mark;
  }));
}

/** What the pictures show. */
function captions({ state, table, d, target }) {
  const guidance = state.guidance === "none" ? "" : `, ${state.guidance} at ${state.scale}`;
  const data = CHOICES.data[state.data].label;
  const what = `${CHOICES.solvers[state.solver].label} with ${several(state.steps, "step")} on “${data}”${guidance}`;
  at("caption").textContent = d === 1
    ? `${what}. Noise is on the right, data on the left.`
    : `${what}. From noise to data, a call of the denoiser at a time.`;
  const say = (id, text) => {
    at(id).setAttribute("aria-label", text);
    at(id).nextElementSibling.textContent = text;
  };
  const outcome = outcomeIsKnown(state, target) ? ", and what should be drawn, exactly (dashes)" : "";
  const axis = d === 2 ? " along the first axis" : "";
  say("histogram", `What was drawn${axis} (bars), ${targetOf(state)} (line)${outcome}.`);
  const measure = table.stochastic ? `Distance to ${targetOf(state)}` : "Distance to the exact flow";
  say("errors", `${measure} by calls of the denoiser: this sampler with other numbers of steps.`);
}

/** Whether moments say all of what comes out: one Gaussian, and no guidance. */
function outcomeIsKnown(state, target) {
  return target.means.length === 1 && state.guidance === "none";
}

/** A sum of numbers times names, as one writes it. */
function sum(numbers, names) {
  const terms = numbers.map((w, j) => [w, names[j]]).filter(([w]) => w !== 0);
  const text = terms.map(([w, name], i) => {
    const sign = w < 0 ? "−" : i ? "+" : "";
    const size = Math.abs(w) === 1 ? "" : `${Number(Math.abs(w).toPrecision(6))} `;
    return i ? `${sign} ${size}${name}` : `${sign}${size}${name}`;
  });
  return text.join(" ") || "0";
}

/** The rows of a table, written as equations. */
function equations({ start, sigma, weights }) {
  const registers = start.map((_, r) => `Y${r}`);
  const rows = (name, numbers, names) =>
    numbers.map((row, r) => `${(r ? "" : name).padEnd(14)}Y${r} ← ${sum(row, names)}`);
  return [
    ...rows("start", start, ["noise", "z"]),
    ...sigma.flatMap((level, k) =>
      rows(`σ ${Number(level.toPrecision(6))}`, weights[k], [...registers, "D", "z"])),
  ].join("\n");
}

"use strict";
// The form: what it offers, what is chosen, and what other choices leave without effect.

const form = document.getElementById("choices");
const CHOSEN = {
  solver: "heun", steps: 10, grid: "edm", rho: 7, churn: 0, schedule: "edm", scaling: "none",
  data: "peaks",
};
// Sliders over a list of values.
const STEPPED = {
  steps: CHOICES.steps,
  rho: CHOICES.rhos,
  churn: Object.keys(CHOICES.churns).map(Number),
};

/** Fills a select with [value, label] pairs, in groups where a value has one. */
function fill(select, entries, groupOf = () => null) {
  const groups = {};
  for (const [value, label] of entries) {
    const name = groupOf(value);
    if (name && !groups[name]) {
      groups[name] = Object.assign(document.createElement("optgroup"), { label: name });
      select.append(groups[name]);
    }
    (groups[name] ?? select).append(new Option(label, value));
  }
}

/** Fills the form with what there is to choose from. */
function prepare() {
  const labels = (record) => Object.entries(record).map(([name, { label }]) => [name, label]);
  fill(form.solver, labels(CHOICES.solvers));
  fill(form.grid, labels(CHOICES.grids));
  fill(form.schedule, Object.entries(CHOICES.schedules));
  fill(form.scaling, Object.entries(CHOICES.scalings));
  fill(form.data, labels(CHOICES.data), (name) =>
    CHOICES.data[name].means[0].length === 1 ? "One dimension" : "Two dimensions");
  for (const [name, values] of Object.entries(STEPPED)) {
    Object.assign(form[name], { min: 0, max: values.length - 1, step: 1 });
  }
  put(CHOSEN);
}

/** The choices of the form, by name. */
function read() {
  const state = { exact: form.exact.checked };
  for (const { name, value } of form.elements) {
    if (name && name !== "exact") state[name] = STEPPED[name] ? STEPPED[name][value] : value;
  }
  state.seed = String(Math.max(0, Math.round(Number(state.seed)) || 0));
  return state;
}

/** Puts choices into the form, the solver first: its options depend on it. */
function put(state) {
  const { solver = form.solver.value, ...others } = state;
  for (const [name, value] of [["solver", solver], ...Object.entries(others)]) {
    const control = form.elements[name];
    if (!control) continue;
    if (name === "exact") control.checked = String(value) === "true";
    else if (STEPPED[name]) {
      const place = STEPPED[name].indexOf(Number(value));
      if (place >= 0) control.value = place;
    } else {
      const known = control.options
        ? [...control.options].some((one) => one.value === value)
        : Number.isFinite(Number(value));
      if (known) control.value = value;
    }
    if (name === "solver") offer();
  }
}

/** Offers the options of the solver that is chosen. */
function offer() {
  const { option, values } = CHOICES.solvers[form.solver.value];
  form.option.replaceChildren();
  fill(form.option, values.map(([value]) => [value, value]));
  const label = form.option.closest("label");
  label.hidden = !option;
  label.firstElementChild.textContent = option;
}

/** Switches off what the other choices leave without effect, and says why. */
function adapt() {
  const note = (name, text) => { document.getElementById(`${name}-note`).textContent = text; };
  const { scheduled } = CHOICES.solvers[form.solver.value];
  const data = CHOICES.data[form.data.value];
  const plain = form.schedule.value === "edm" && form.scaling.value === "none";
  form.rho.disabled = form.grid.value !== "edm";
  form.churn.disabled = !(scheduled && plain);
  note("churn", !scheduled
    ? "On this page churn is for Euler and Heun."
    : plain ? "" : "On this page churn is for σ = t without scaling.");
  note("process", scheduled
    ? "The steps are taken in this time and at this scale."
    : "This solver steps in σ or log σ: here they only draw the picture.");

  const classes = new Set(data.labels).size;
  form.class.disabled = classes < 2;
  if (classes < 2) form.class.value = "all";
  const free = form.guidance.options[1];
  free.disabled = form.class.value === "all";
  if (free.disabled && free.selected) form.guidance.value = "none";
  form.scale.disabled = form.guidance.value === "none";
  note("guidance", {
    none: free.disabled && classes > 1 ? "Classifier-free guidance needs a class." : "",
    "classifier-free": "Away from the denoiser of all the data.",
    autoguidance: `Away from a denoiser that knows the data blurred by ${CHOICES.worse}.`,
  }[form.guidance.value]);

  const flat = data.means[0].length === 1;
  form.axis.closest("label").hidden = !flat;
  document.getElementById("player").hidden = flat;
  for (const input of form.querySelectorAll("input[type=range]")) {
    const text = String(STEPPED[input.name]?.[input.value] ?? Number(input.value));
    input.parentElement.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

"use strict";
// The page: a choice is computed, drawn, told, and kept in the address.

const film = player(at("row"), at("play"), at("at"));
let shown = null; // the experiment on the page
let asked = 0; // how many were asked for

function draw() {
  if (!shown || !at("picture").clientWidth) return; // nothing to show, or nowhere
  if (shown.d === 1) drawPaths(shown);
  else film.redraw();
  drawHistogram(shown);
  drawErrors(shown);
}

async function update() {
  adapt();
  const state = read();
  const turn = ++asked;
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
  await tablesOf(state.solver);
  await new Promise((next) => { setTimeout(next); });
  if (turn !== asked) return; // the reader has gone on
  shown = await experimentOf(state);
  tell(shown);
  legend(shown);
  captions(shown);
  // It may break after an opening bracket.
  const pieces = shown.line.match(/[^(]*\(?/g);
  at("line").replaceChildren(...pieces.flatMap((piece) => [piece, document.createElement("wbr")]));
  at("program").textContent = programOf(state);
  at("table").textContent = equations(shown.table);
  if (shown.d === 2) film.load(shown);
  else film.stop();
  draw();
  document.body.dataset.shown = turn;
}

async function copy(button) {
  const what = button.dataset.copy;
  const text = what === "json" ? JSON.stringify(shown.table) : at(what).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed, as in some browsers from a file: by way of a selection
    const area = element("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}

prepare();
put(Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  if (event.target === form.solver) offer();
  update();
});
form.addEventListener("reset", () => setTimeout(() => {
  put(CHOSEN);
  update();
}));
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(button));
}
document.addEventListener("themed", draw);
new ResizeObserver(draw).observe(at("picture"));
update();

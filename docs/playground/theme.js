"use strict";
// Light or dark: what the system says, unless the reader chooses. "themed" is told when it changes.
{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const read = () => { try { return localStorage.getItem("theme") || ""; } catch { return ""; } };
  const keep = (choice) => { try { localStorage.setItem("theme", choice); } catch { /* not kept */ } };
  let choice = read();

  const apply = () => {
    document.documentElement.dataset.theme = choice || (dark.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themed"));
  };
  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = choice;
    select.addEventListener("change", () => {
      choice = select.value;
      keep(choice);
      apply();
    });
  });
}

// The page, alive: charts drawn, runs hidden, tables sorted and filtered, axes chosen.
"use strict";

const charts = [...document.querySelectorAll(".chart")].map((place) => ({
  place,
  specification: place.querySelector("script").textContent,
  view: null,
}));
const hidden = new Set();

// What the reader chose for an axis, of all that a chart has for it.
function chosen(axis, choices = {}) {
  return [...document.querySelectorAll(`select[data-axis=${axis}]`)].map(({ value }) => value).find((it) => choices[it]);
}

function specificationOf(chart) {
  const given = JSON.parse(chart.specification);
  const { x, y } = given.usermeta || {};
  const [against, score] = [chosen("x", x), chosen("y", y)];
  if (against) {
    const { title, domain } = x[against];
    Object.assign(given.encoding.x, { field: against, title });
    if (domain) given.encoding.x.scale.domain = domain;
  }
  if (given.params) given.params[0].value = [...hidden];
  if (score) {
    given.params[1].value = score;
    given.encoding.y.title = y[score];
  }
  return given;
}

async function draw(chart) {
  if (chart.view) chart.view.finalize();
  const actions = { export: true, source: false, compiled: false, editor: false };
  const drawn = await vegaEmbed(chart.place, specificationOf(chart), { renderer: "svg", actions });
  chart.view = drawn.view;
  chart.place.querySelector("summary").setAttribute("aria-label", "save this chart");
  for (const group of chart.place.querySelectorAll("g[role='graphics-symbol']:not([aria-label])")) {
    group.removeAttribute("role"); // of marks that say nothing by themselves
    group.removeAttribute("aria-roledescription");
  }
}

function setHidden(run, isHidden) {
  if (isHidden) hidden.add(run);
  else hidden.delete(run);
  for (const key of document.querySelectorAll("[data-run]")) {
    if (key.dataset.run !== run) continue;
    if (key.matches("button")) key.setAttribute("aria-pressed", String(!isHidden));
    else key.hidden = isHidden;
  }
  for (const chart of charts) {
    if (chart.view && JSON.parse(chart.specification).params) chart.view.signal("hidden", [...hidden]).runAsync();
  }
}

for (const key of document.querySelectorAll("button[data-run]")) {
  key.addEventListener("click", () => setHidden(key.dataset.run, !hidden.has(key.dataset.run)));
}

for (const choice of document.querySelectorAll("select[data-axis]")) {
  choice.addEventListener("change", () => {
    for (const chart of charts) if (specificationOf(chart).usermeta) draw(chart);
  });
}

// "964.9k", "1.8 min", "≥ 1.2e15" and "−0.02" as numbers; what is none stands behind all that are.
const UNITS = { k: 1e3, M: 1e6, G: 1e9, min: 60, h: 3600 };
function number(cell) {
  const text = (cell.querySelector(".value") || cell).textContent.replace(/−/g, "-").replace(/[,≥]/g, "");
  const found = text.match(/^\s*([+-]?\d+(?:\.\d+)?(?:e\d+)?)\s*(k|M|G|min|h)?/);
  return found ? Number(found[1]) * (UNITS[found[2]] || 1) : NaN;
}

function sort(table, column, heading) {
  const rising = heading.getAttribute("aria-sort") === "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = table.tBodies[0];
  const compare = (one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    if (column === 0) return (rising ? -1 : 1) * a.textContent.localeCompare(b.textContent);
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return (rising ? 1 : -1) * (x - y);
  };
  const fixed = [...body.rows].filter((row) => row.classList.contains("baseline"));
  const moved = [...body.rows].filter((row) => !row.classList.contains("baseline")).sort(compare);
  body.append(...moved, ...fixed);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sort(table, column, heading));
  });
}

for (const filter of document.querySelectorAll("input.filter")) {
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    const rows = document.getElementById(filter.getAttribute("aria-controls")).tBodies[0].rows;
    for (const row of rows) row.classList.toggle("filtered", !row.cells[0].textContent.toLowerCase().includes(wanted));
  });
}

for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => dispatchEvent(new Event("resize"))); // charts in it had no room before
}

function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

Promise.all(charts.map(draw)).then(() => document.documentElement.classList.add("drawn"));

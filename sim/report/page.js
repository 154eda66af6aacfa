"use strict";
// Draws the page's charts, and answers to its buttons. Texts are only ever set as text.

const charts = JSON.parse(document.getElementById("charts").textContent);
const root = document.documentElement;
const themes = {
  light: {
    surface: "#ffffff", text: "#1c2430", soft: "#566070", line: "#e4e9ee", bar: "#0072B2",
    colours: ["#0072B2", "#C84E00", "#008260", "#B4558C", "#3A87B4", "#A87300", "#1c2430"],
    heat: ["#f4f7fa", "#8fc1e3", "#0a5aa8"],
  },
  dark: {
    surface: "#12161c", text: "#e4e9f0", soft: "#a3afbf", line: "#27303b", bar: "#58ABE6",
    colours: ["#58ABE6", "#F28C4B", "#3CC79A", "#E39AC8", "#A9D6F5", "#EDBB4A", "#e4e9f0"],
    heat: ["#1a2029", "#2f6ea3", "#9ccbfa"],
  },
};
const mostRows = 500; // of a table of data; the CSV has all
const asksForDark = window.matchMedia("(prefers-color-scheme: dark)");

function theme() {
  return root.dataset.theme || (asksForDark.matches ? "dark" : "light");
}

// How many entries of a legend stand beside each other.
function legendColumns(spec, width) {
  const names = spec.layer[0].encoding.color?.scale?.domain ?? [];
  const longest = Math.max(0, ...names.map((name) => String(name).length));
  return Math.max(1, Math.floor(width / (Math.min(longest, 34) * 6.8 + 42)));
}

function config(width, columns) {
  const now = themes[theme()];
  return {
    background: now.surface,
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: now.soft, titleColor: now.soft, gridColor: now.line, domainColor: now.line, tickColor: now.line,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
    },
    axisX: { labelFlush: true, titleAnchor: "middle" },
    axisY: { labelLimit: Math.max(110, Math.round(width * 0.36)) },
    legend: {
      orient: "bottom", labelColor: now.text, titleColor: now.soft, labelFontSize: 12, titleFontSize: 12,
      titleFontWeight: "normal", titleLimit: width - 20, symbolSize: 90, symbolStrokeWidth: 2, labelLimit: Math.max(80, Math.min(220, width - 80)),
      columns, gradientLength: Math.min(200, width - 60), columnPadding: 14,
    },
    range: { category: now.colours, heatmap: now.heat, ramp: now.heat },
    line: { color: now.bar }, bar: { color: now.bar }, point: { color: now.bar }, area: { color: now.bar },
    style: { segment: { stroke: now.surface, strokeWidth: 0.7 } },
    rule: { color: now.text }, text: { color: now.text, fontSize: 12 },
  };
}

function columnValues(column) {
  return column.names ? column.codes.map((code) => column.names[code]) : column.values;
}

function rowsOf(chart, some) {
  const values = chart.columns.map(columnValues);
  const places = some || values[0].map((_, at) => at);
  return places.map((at) => {
    const row = {};
    chart.columns.forEach((column, nth) => {
      row["c" + nth] = values[nth][at];
      if (column.names) row["c" + nth + "_nth"] = column.codes[at];
    });
    return row;
  });
}

async function draw(place) {
  const chart = charts[place.dataset.chart];
  const panel = chart.panels[Number(place.dataset.panel)];
  const spec = structuredClone(panel.spec);
  spec.datasets = { rows: rowsOf(chart, panel.rows) };
  await window.vegaEmbed(place, spec, {
    renderer: "svg",
    ast: true,
    actions: { export: { png: true, svg: true }, source: false, compiled: false, editor: false },
    downloadFileName: place.dataset.chart,
    tooltip: { theme: theme() },
    config: config(place.clientWidth, legendColumns(spec, place.clientWidth)),
  });
  const menu = place.querySelector("details > summary");
  if (menu) menu.setAttribute("aria-label", "Save this figure as PNG or SVG");
}

async function drawAll() {
  root.dataset.drawn = "";
  for (const place of document.querySelectorAll(".chart")) {
    try {
      await draw(place);
    } catch (error) {
      place.textContent = "This chart could not be drawn.";
      console.error(error);
    }
  }
  root.dataset.drawn = "yes";
}

// --- theme

const toggle = document.getElementById("theme");

function tellTheme() {
  const dark = theme() === "dark";
  toggle.textContent = dark ? "Light" : "Dark";
  toggle.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  toggle.setAttribute("aria-pressed", String(dark));
}

toggle.addEventListener("click", () => {
  root.dataset.theme = theme() === "dark" ? "light" : "dark";
  tellTheme();
  drawAll();
});
asksForDark.addEventListener("change", () => {
  tellTheme();
  drawAll();
});

// --- tables

function sortBy(button) {
  const head = button.closest("th");
  const body = button.closest("table").tBodies[0];
  const at = Number(button.dataset.sort);
  const rising = head.getAttribute("aria-sort") !== "ascending";
  const key = (row) => {
    const cell = row.cells[at];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const compared = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const rows = [...body.rows].sort((one, other) => (rising ? 1 : -1) * compared(key(one), key(other)));
  for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  body.append(...rows);
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function fillTable(details) {
  const chart = charts[details.dataset.table];
  const place = details.querySelector(".scroll");
  if (place.childElementCount) return;
  const values = chart.columns.map(columnValues);
  const count = values[0].length;
  const table = element("table", null);
  const told = count > mostRows ? `The first ${mostRows} of ${count} rows; the CSV has all.` : `${count} rows.`;
  table.append(element("caption", told));
  const heads = element("tr", null);
  chart.columns.forEach((column) => heads.append(element("th", column.name, { scope: "col" })));
  const head = element("thead", null);
  head.append(heads);
  const body = element("tbody", null);
  for (let at = 0; at < Math.min(count, mostRows); at++) {
    const row = element("tr", null);
    values.forEach((column) => {
      const value = column[at];
      row.append(element("td", value === null ? "-" : String(value), typeof value === "number" ? { class: "number" } : {}));
    });
    body.append(row);
  }
  table.append(head, body);
  place.append(table);
}

function quoted(value) {
  const text = value === null ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function saveCsv(name) {
  const chart = charts[name];
  const values = chart.columns.map(columnValues);
  const lines = [chart.columns.map((column) => quoted(column.name)).join(",")];
  for (let at = 0; at < values[0].length; at++) lines.push(values.map((column) => quoted(column[at])).join(","));
  const place = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  const link = element("a", null, { href: place, download: `${name}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(place), 1000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.sort !== undefined) sortBy(button);
  if (button.dataset.csv !== undefined) saveCsv(button.dataset.csv);
});
for (const details of document.querySelectorAll("details.data")) {
  details.addEventListener("toggle", () => details.open && fillTable(details));
}
for (const table of document.querySelectorAll("main table")) {
  const first = table.tBodies[0].rows[0];
  if (first) [...first.cells].forEach((cell, at) => {
    if (cell.classList.contains("number")) table.tHead.rows[0].cells[at].classList.add("right");
  });
}

// --- the entry of the contents that is read

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const reading = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -80% 0px" });
for (const section of document.querySelectorAll("main > section")) reading.observe(section);

tellTheme();
drawAll();

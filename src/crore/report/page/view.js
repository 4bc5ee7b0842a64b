// What the page says about a point, in the elements that the static page already holds.
const BADGES = {
  fits: ["✓", "Fits"],
  short: ["✕", "Does not fit"],
  idle: ["◐", "Fits, GPUs idle"],
  none: ["✕", "No plan"],
};

const tag = (evidence) => h("span", { class: "tag", "data-evidence": evidence }, evidence);

function showVerdict(point) {
  const [mark, words] = BADGES[point.state];
  const badge = byId("badge");
  badge.dataset.state = point.state;
  badge.replaceChildren(h("span", { "aria-hidden": "true" }, mark), words);
  byId("count").textContent = point.aria;
  byId("verdict").textContent = point.verdict.replace(/^(FITS|DOES NOT FIT|NO PLAN)\s+/, ""); // the badge says it
  byId("other").hidden = !state.answer || differing(state.answer.scenario).length === 0;
  byId("reason").textContent = point.verdict.includes(point.reason) ? "" : point.reason;
}

// What stays in sight while the pictures are looked at.
function showShort(point) {
  const [mark, words] = BADGES[point.state];
  const found = point.facts.filter(({ key }) => ["days", "cost_usd", "power_w"].includes(key));
  byId("short").dataset.state = point.state;
  byId("short").replaceChildren(
    h("span", { "aria-hidden": "true" }, mark), ` ${[words, ...found.map(({ value }) => value)].join(" · ")}`);
}

function factCard({ label, value, range, evidence, why }) {
  return h("div", { class: "card" },
    h("dt", {}, label),
    h("dd", {},
      h("strong", {}, value),
      h("span", { class: "range" }, range),
      evidence ? tag(evidence) : null,
      h("span", { class: "why" }, why)));
}

function showFacts(point) {
  const { facts } = point;
  byId("facts").replaceChildren(...facts.map(factCard));
  byId("sure").hidden = facts.length === 0;
  const groups = new Map();
  for (const { label, evidence } of facts)
    groups.set(evidence, [...(groups.get(evidence) ?? []), label]);
  byId("evidence").replaceChildren(...[...groups].map(([evidence, labels]) => {
    return h("li", {}, evidence ? tag(evidence) : null, labels.join(", "));
  }));
}

function showPlan(point) {
  for (const key of ["layout", "limit"]) {
    byId(key).textContent = point[key];
    byId(key).parentElement.hidden = !point[key];
  }
  for (const key of ["news", "change"]) {
    byId(key).replaceChildren(...point[key].map((text) => h("li", {}, text)));
    byId(key).parentElement.hidden = !point[key].length;
  }
}

// Rows of a twin; its caption and head are the static page's.
function fill(id, rows) {
  const table = byId(id)?.querySelector("table");
  if (!table) return;
  const cell = (text, i) => (i === 0 ? h("th", { scope: "row" }, text) : h("td", {}, text));
  table.tBodies[0].replaceChildren(...rows.map((row) => h("tr", {}, row.map(cell))));
}

function partRows(names, parts) {
  return parts.map(([i, , text, share]) => [names[i][1], text, share, names[i][2]]);
}

function showTwins(point) {
  const { memory } = point;
  fill("twin-memory", memory ? [
    ...partRows(sheet.parts.memory, memory.parts),
    ["In use", memory.used_text, "", ""],
    ["Usable", memory.usable_text, "", ""],
    ["Capacity", memory.capacity_text, "", ""],
  ] : []);
  const { step } = point;
  fill("twin-step", step ? [...partRows(sheet.parts.step, step.parts), ["The step", step.text, "", ""]] : []);
  fill("twin-fabric", point.fabric.map((t) => [t.tier, t.size_text, t.count_text, t.rate_text, t.axes, t.note]));
  for (const id of ["twin-goodput", "twin-pareto"])
    for (const row of byId(id)?.querySelector("table")?.tBodies[0].rows ?? [])
      if (row.cells[0].textContent === point.gpus_text) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
}

// The tiers as boxes in boxes: each row holds what it is made of.
function fabricPicture(point) {
  if (!point.fabric.length) return h("p", {}, BADGES[point.state][1]);
  return h("ol", { class: "tiers" }, point.fabric.map((tier, i) => {
    const box = h("li", {},
      h("span", { class: "tier" }, tier.tier),
      h("span", { class: "sizes" }, `${tier.count_text} × ${tier.size_text} GPUs`),
      h("span", { class: "rate" }, tier.rate_text),
      tier.axes ? h("span", { class: "axes" }, tier.axes) : null);
    box.style.setProperty("--tier", i / Math.max(point.fabric.length - 1, 1));
    return box;
  }));
}

const PICTURES = {
  memory: memoryPlot,
  step: stepPlot,
  goodput: goodputPlot,
  pareto: paretoPlot,
  supply: supplyPlot,
  power: powerPlot,
  fabric: fabricPicture,
};
const stale = new Set();
const REST_MS = 250;

// Draws what can be seen, and marks the rest to be drawn when it comes into view.
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.dataset.seen = isIntersecting ? "yes" : "no";
    if (isIntersecting && stale.has(target.dataset.plot)) picture(target.dataset.plot);
  }
}, { rootMargin: "200px" });

function picture(key) {
  const box = byId(`plot-${key}`);
  stale.delete(key);
  const width = Math.max(Math.floor(box.clientWidth), 240);
  box.replaceChildren(PICTURES[key](pointNow(), axesNow(), width));
}

// What is in sight at once, the rest when the slider rests or the rest comes into sight.
let redrawing = 0;
function showPictures(all = false) {
  const point = pointNow();
  for (const key of Object.keys(PICTURES)) {
    const box = byId(`plot-${key}`);
    if (!box) continue;
    box.setAttribute("aria-label", `${box.dataset.name}: ${point.aria}, ${BADGES[point.state][1]}`);
    if (all || box.dataset.seen !== "no") picture(key);
    else stale.add(key);
  }
  clearTimeout(redrawing);
  redrawing = setTimeout(() => [...stale].forEach(picture), REST_MS);
}

// Those that no slider moves: one step as a timeline, and what a run left.
function showFixed() {
  const draws = [["timeline", timelinePlot]];
  for (const plot of sheet.run?.plots ?? []) draws.push([`run-${plot.key}`, (width) => seriesPlot(plot, width)]);
  for (const [key, make] of draws) {
    const box = byId(`plot-${key}`);
    if (box) box.replaceChildren(make(Math.max(Math.floor(box.clientWidth), 240)));
  }
}

function show() {
  const point = pointNow();
  showVerdict(point);
  showShort(point);
  showFacts(point);
  showPlan(point);
  showTwins(point);
  showPictures();
  const slider = byId("slider");
  slider.value = state.position;
  slider.setAttribute("aria-valuetext", point.aria);
  if (document.activeElement !== byId("gpus")) byId("gpus").value = point.gpus_text;
}

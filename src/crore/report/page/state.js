// The sheet, where the slider stands, and the scenario in the address.
const sheet = JSON.parse(byId("sheet").textContent);
const live = sheet.live;
const HASH_BYTES = 2000;

// A point as it is drawn: facts with their labels; one whose GPUs are partly idle takes the plan of fewer.
function whole(point) {
  const plan = { ...(point.like == null ? {} : sheet.points[point.like]), ...point };
  plan.facts = plan.facts.map(([key, value, range, evidence, why]) =>
    ({ key, label: sheet.facts[key] ?? key, value, range, evidence, why }));
  return plan;
}
sheet.points = sheet.points.map(whole);

const state = {
  position: sheet.positions.indexOf(sheet.own),
  answer: null, // the server's point for what is off the grid, and the scenario that was asked
  pins: [], // { point, scenario, hash, grid }
};
const scenarioNow = () => ({
  ...(state.answer?.scenario ?? sheet.scenario),
  gpus: state.answer?.scenario.gpus ?? String(pointNow().gpus),
});
const pointNow = () => state.answer?.point ?? sheet.points[sheet.positions[state.position]];
const axesNow = () => ({ ...sheet.axes, ...(state.answer?.point.axes ?? {}) });

// The last position that shows the count, so that a repeated small one can be left to the right.
const positionOf = (index) => sheet.positions.lastIndexOf(index);

// What was typed -> a count: 16k, 1M, 16,384, 2e6. Not a number: NaN.
function countOf(text) {
  const match = /^\s*(\d[\d,_ ]*(?:\.\d+)?(?:e\d+)?)\s*([km]?)\s*$/i.exec(text);
  if (!match) return NaN;
  const unit = { "": 1, k: 1e3, m: 1e6 }[match[2].toLowerCase()];
  return Number(match[1].replace(/[,_ ]/g, "")) * unit;
}

// Nearest count of the grid on the log scale.
function nearestPosition(count) {
  const distance = (index) => Math.abs(Math.log(sheet.points[index].gpus) - Math.log(count));
  let best = 0;
  sheet.positions.forEach((index, i) => {
    if (distance(index) <= distance(sheet.positions[best])) best = i;
  });
  return best;
}

function hashOf(scenario, pins = []) {
  const pairs = Object.entries(scenario).filter(([, value]) => value !== "" && value != null);
  const parts = pairs.map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  if (pins.length) parts.push(`pins=${pins.join(",")}`);
  const hash = `#s=1;${parts.join(";")}`;
  if (hash.length <= HASH_BYTES) return hash;
  return pins.length ? hashOf(scenario, pins.slice(0, -1)) : `#s=1;gpus=${encodeURIComponent(scenario.gpus)}`;
}

// A pin in an address: a count of the grid, or in what a server was asked something else than this file.
function pinText({ point, scenario, grid }) {
  if (grid) return String(point.gpus);
  const keys = Object.keys({ ...sheet.scenario, ...scenario });
  const other = keys.filter((key) => key === "gpus" || scenario[key] !== sheet.scenario[key]);
  const pairs = other.map((key) => `${key}=${encodeURIComponent(scenario[key] ?? "")}`);
  return encodeURIComponent(pairs.join(";"));
}

// The scenario of a pin's text, laid over the file's; null where an escape is broken.
function pinned(text) {
  try {
    const pairs = text.split(";").map((pair) => pair.split("="));
    return { ...sheet.scenario, ...Object.fromEntries(pairs.map(([key, value]) => [key, decodeURIComponent(value ?? "")])) };
  } catch {
    return null;
  }
}

// "#s=1;model=…;gpus=…" -> { scenario, pins }, or null for an address that holds no scenario.
function readHash(hash) {
  if (!hash.startsWith("#s=1;") || hash.length > HASH_BYTES) return null;
  const scenario = {};
  for (const part of hash.slice(5).split(";")) {
    const at = part.indexOf("=");
    try {
      if (at > 0) scenario[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1));
    } catch {
      return null; // a broken escape
    }
  }
  const pins = (scenario.pins ?? "").split(",").filter(Boolean).slice(0, 4);
  delete scenario.pins;
  return { scenario, pins };
}

// The keys of a scenario in which the link differs from this file, the number of GPUs apart.
const differing = (scenario) =>
  Object.keys(scenario).filter((key) => key !== "gpus" && scenario[key] !== sheet.scenario[key]);

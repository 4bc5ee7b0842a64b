// Up to four points side by side. What differs is marked; no number is made here.
const PINS = 4;

const differs = (texts) => new Set(texts).size > 1;

function pinRows(points) {
  const rows = [["Verdict", points.map((p) => p.verdict)]];
  const keys = new Map(points.flatMap((p) => p.facts.map(({ key, label }) => [key, label])));
  for (const [key, label] of keys) {
    const fact = (p) => p.facts.find((f) => f.key === key);
    rows.push([label, points.map((p) => [fact(p)?.value, fact(p)?.range && `(${fact(p).range})`].filter(Boolean).join(" "))]);
  }
  rows.push(["Limit", points.map((p) => p.limit)], ["Layout", points.map((p) => p.layout)]);
  return rows;
}

// Where a difference comes from: what drives each point.
const causeRows = (points) =>
  sheet.drivers.map((label, i) => [label, points.map((p) => p.drivers[i] ?? "")]).filter(([, texts]) => differs(texts));

function pinTable(points, caption, rows) {
  const remove = (i) => h("button", {
    type: "button", class: "quiet", "aria-label": `Unpin ${points[i].aria}`, onclick: () => unpin(i),
  }, "✕");
  const head = points.map((p, i) => h("th", { scope: "col" }, p.aria, " ", caption.removable ? remove(i) : null));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption.text },
    h("table", {},
      h("caption", {}, caption.text),
      h("thead", {}, h("tr", {}, h("td", {}), head)),
      h("tbody", {}, rows.map(([label, texts]) =>
        h("tr", { class: differs(texts) ? "differs" : null },
          h("th", { scope: "row" }, label), texts.map((text) => h("td", {}, text)))))));
}

function showPins() {
  const points = state.pins.map(({ point }) => point);
  byId("compare").hidden = points.length === 0;
  const tables = points.length ? [pinTable(points, { text: "Pinned", removable: true }, pinRows(points))] : [];
  const causes = points.length > 1 ? causeRows(points) : [];
  if (causes.length) tables.push(pinTable(points, { text: "What the difference comes from" }, causes));
  byId("pins").replaceChildren(...tables);
  byId("causes").replaceChildren();
  if (live && points.length > 1) askCauses(state.pins.slice(-2).map(({ hash }) => hash));
}

function pin() {
  const point = pointNow();
  const hash = hashOf(scenarioNow());
  if (state.pins.some((other) => other.hash === hash)) return say(`${point.aria} is pinned already.`);
  if (state.pins.length === PINS) return say("All columns are taken: unpin one first.");
  state.pins.push({ point, hash, grid: !state.answer });
  showPins();
  writeHash();
  say(`Pinned ${point.aria}.`);
}

function unpin(i) {
  state.pins.splice(i, 1);
  showPins();
  writeHash();
  byId("pin").focus();
}

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
  if (state.pins.some(({ hash }) => hash === hashOf(scenarioNow()))) return say(`${point.aria} is pinned already.`);
  if (!keep({ point, scenario: scenarioNow(), grid: !state.answer })) return say("All columns are taken: unpin one first.");
  writeHash();
  const kept = location.hash.includes(state.pins.map(pinText).join(","));
  say(`Pinned ${point.aria}${kept ? "" : "; the address is full and does not hold all pins"}.`);
}

// The pins of an address: counts of the grid at once, others when the server has answered again.
async function repin(texts) {
  for (const text of texts) {
    const grid = sheet.points.find(({ gpus }) => gpus === Number(text));
    if (grid) keep({ point: grid, scenario: { ...sheet.scenario, gpus: text }, grid: true });
    else if (text.includes("=") && (await askPin(pinned(text)))) writeHash();
  }
}

function keep(pin) {
  const hash = hashOf(pin.scenario);
  if (state.pins.length === PINS || state.pins.some((other) => other.hash === hash)) return false;
  state.pins.push({ ...pin, hash });
  showPins();
  return true;
}

async function askPin(asked) {
  if (!live || !asked) {
    say(byId("controls").dataset.elsewhere);
    return false;
  }
  try {
    const answer = await post(asked);
    refuse(answer.error ?? "");
    return !answer.error && keep({ point: whole(answer), scenario: answer.scenario ?? asked, grid: false });
  } catch {
    gone();
    return false;
  }
}

function unpin(i) {
  state.pins.splice(i, 1);
  showPins();
  writeHash();
  byId("pin").focus();
}

// What is clicked, typed and dragged.
const SAID_MS = 6000;
let saying = 0;
function say(text, stays = false) {
  byId("status").textContent = text;
  clearTimeout(saying);
  if (!stays) saying = setTimeout(() => say(""), SAID_MS);
}

function writeHash() {
  history.replaceState(null, "", hashOf(scenarioNow(), state.pins.map(pinText)));
}

function move(position) {
  asking?.abort();
  state.position = Math.min(Math.max(position, 0), sheet.positions.length - 1);
  state.answer = null;
  for (const key of FIELDS) if (byId(key)) byId(key).value = sheet.scenario[key] ?? "";
  show();
}

// One move a frame, however fast the slider is. Another scenario than the file's is asked for.
let wanted = null;
function moveSoon(position) {
  const waits = wanted !== null;
  wanted = Math.min(Math.max(position, 0), sheet.positions.length - 1);
  if (!waits) requestAnimationFrame(() => {
    const there = wanted;
    wanted = null;
    if (live && differing(fieldsNow()).length) askSoon(there);
    else move(there);
    writeSoon();
  });
}

let resting = 0;
function askSoon(position) {
  state.position = position;
  byId("slider").value = position;
  const { gpus } = sheet.points[sheet.positions[position]];
  clearTimeout(resting);
  resting = setTimeout(() => ask({ ...fieldsNow(), gpus: String(gpus) }), REST_MS);
}

// Goes where the address says: a count of the grid, or a question to the server.
function follow() {
  const read = readHash(location.hash);
  if (!read) return;
  const { scenario, pins } = read;
  const count = countOf(scenario.gpus ?? "");
  const other = differing(scenario);
  const index = sheet.points.findIndex((point) => point.gpus === count);
  if (live && (other.length || index < 0)) {
    ask({ ...sheet.scenario, ...scenario });
    return repin(pins);
  }
  if (other.length) say(`${byId("controls").dataset.elsewhere} (${other.map((key) => `${key} ${scenario[key]}`).join(", ")})`);
  if (count >= 1) move(index < 0 ? nearestPosition(count) : positionOf(index));
  repin(pins);
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    say("The browser does not let a page copy here: take the address from its bar.");
  }
}

const root = document.documentElement;
const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=range]), select, textarea, dialog");
  const slider = event.target === byId("slider");
  const jumps = { PageUp: 10, PageDown: -10, ArrowRight: 1, ArrowLeft: -1 };
  if (typing) return;
  if (event.key in jumps && (slider || event.key.startsWith("Arrow"))) {
    if (!slider && event.target.closest(".scroll")) return; // a wide table scrolls
    moveSoon((wanted ?? state.position) + jumps[event.key]);
  } else if (/^[1-7]$/.test(event.key)) {
    const figure = document.querySelectorAll("figure[data-jump]")[Number(event.key) - 1];
    figure?.focus({ preventScroll: true });
    figure?.scrollIntoView({ block: "start" });
  } else if (event.key === "c") pin();
  else if (event.key === "/") (byId("model") ?? byId("gpus")).select();
  else if (event.key === "?") byId("help").showModal();
  else return;
  event.preventDefault();
}

let writing = 0;
function writeSoon() {
  clearTimeout(writing);
  writing = setTimeout(writeHash, 150);
}

function wireTwins() {
  byId("words").open = false;
  for (const twin of document.querySelectorAll("details.twin")) {
    twin.open = false;
    const table = twin.querySelector("table");
    const csv = () => {
      const rows = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
      save(`${twin.id}.csv`, "text/csv", csvOf({ head: rows[0], rows: rows.slice(1) }));
    };
    const buttons = [h("button", { type: "button", class: "quiet", onclick: csv }, "Save as CSV")];
    const picture = () => twin.closest("figure")?.querySelector("svg");
    if (picture()) buttons.push(h("button", {
      type: "button", class: "quiet", onclick: () => save(`${twin.id}.svg`, "image/svg+xml", svgText(picture())),
    }, "Save as SVG"));
    twin.append(h("p", { class: "buttons" }, buttons));
  }
}

function wire() {
  const slider = byId("slider");
  slider.addEventListener("input", () => {
    moveSoon(Number(slider.value));
    say("");
    refuse("");
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault()); // Enter is a change
  for (const key of [...FIELDS, "gpus"]) byId(key)?.addEventListener("change", typed);
  byId("pin").addEventListener("click", pin);
  byId("link").addEventListener("click", () => {
    writeHash();
    copy(location.href, "The address of this scenario is copied.");
  });
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
  });
  byId("keys").addEventListener("click", () => byId("help").showModal());
  for (const button of document.querySelectorAll("button[data-copy]"))
    button.addEventListener("click", () => copy(byId(button.dataset.copy).textContent, "Copied."));
  document.addEventListener("keydown", keys);
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => {
    showPictures(true);
    byId("words").open = true;
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (width === innerWidth) return;
    width = innerWidth;
    showPictures();
    showFixed();
  });
}

root.classList.add("js");
byId("strip").append(...sheet.positions.map((index) => h("i", { "data-state": sheet.points[index].state })));
show();
showFixed();
wireTwins();
wire();
follow();
for (const box of document.querySelectorAll(".plot[data-plot]")) watcher.observe(box);

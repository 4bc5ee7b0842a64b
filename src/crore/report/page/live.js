// Answers of `crore serve --planner` for what is off the grid; without a server the grid is all there is.
let asking = null;

async function post(body, signal) {
  const response = await fetch(live.url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(live.headers ?? {}) },
    body: JSON.stringify(body),
    signal,
  });
  const answer = await response.json();
  if (!answer.error && !response.ok) throw new Error(response.statusText);
  return answer;
}

// Only the newest question counts: an older answer that comes late is dropped.
async function ask(scenario) {
  asking?.abort();
  const mine = (asking = new AbortController());
  say("Asking the planner …");
  try {
    const answer = await post(scenario, mine.signal);
    if (mine.signal.aborted) return;
    dead(false);
    refuse(answer.error ?? "");
    if (answer.error) return say("");
    state.answer = { point: whole(answer), scenario: answer.scenario ?? scenario };
    state.position = nearestPosition(answer.gpus);
    show();
    writeHash();
    say(differing(scenario).length ? byId("controls").dataset.other : "");
  } catch (error) {
    if (error.name !== "AbortError") dead(true);
  }
}

async function askCauses(hashes) {
  try {
    const { table, causes = [] } = await post({ compare: hashes });
    byId("causes").replaceChildren(...(table ? [tableOf(table)] : []), listOf(causes));
  } catch {
    dead(true);
  }
}

// A dead server is said so; the counts in this page stay usable.
function dead(yes) {
  byId("dead").hidden = !yes;
  if (yes) say("");
}

function refuse(text) {
  const box = byId("refused");
  box.textContent = text;
  box.hidden = !text;
}

function fieldsNow() {
  const fields = { ...sheet.scenario };
  for (const key of ["model", "gpu", "tokens"]) if (byId(key)) fields[key] = byId(key).value.trim();
  return { ...fields, gpus: byId("gpus").value.trim() };
}

// A number typed: asked of the server, or the nearest count that this file holds.
function typed() {
  if (live) return ask(fieldsNow());
  const count = countOf(byId("gpus").value);
  if (!(count >= 1)) return refuse(byId("gpus").dataset.rule);
  refuse("");
  move(nearestPosition(count));
  const exact = pointNow().gpus === count;
  say(exact ? "" : `This file holds a grid of counts; the nearest is ${pointNow().aria}.`);
}

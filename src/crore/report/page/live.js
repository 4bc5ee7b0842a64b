// Answers of `crore serve --planner` for what is off the grid; without a server the grid is all there is.
const FIELDS = ["model", "gpu", "tokens"];
let asking = null;

async function post(body, signal) {
  const response = await fetch(live.url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const answer = await response.json();
  if (!response.ok && !answer.error) throw new Error(response.statusText);
  return answer;
}

// Only the newest question counts: an older answer that comes late is dropped.
async function ask(scenario) {
  asking?.abort();
  const mine = (asking = new AbortController());
  say("Asking the planner …", true);
  let answer;
  try {
    answer = await post(scenario, mine.signal);
  } catch {
    if (!mine.signal.aborted) gone();
    return;
  }
  if (mine.signal.aborted) return;
  byId("dead").hidden = true;
  say("");
  refuse(answer.error ?? "");
  if (answer.error) return;
  state.answer = { point: whole(answer), scenario: answer.scenario ?? scenario };
  state.position = nearestPosition(answer.gpus);
  show();
  writeHash();
}

async function askCauses(hashes) {
  try {
    const { table, causes = [], error } = await post({ compare: hashes });
    refuse(error ?? "");
    byId("causes").replaceChildren(...(table ? [tableOf(table)] : []), listOf(causes));
  } catch {
    gone();
  }
}

// A dead server is said so, and the page goes on with the counts it holds.
function gone() {
  byId("dead").hidden = false;
  say("");
  move(state.position);
}

function refuse(text) {
  const box = byId("refused");
  box.textContent = text;
  box.hidden = !text;
}

// What an address asked for beside the form's fields goes on.
function fieldsNow() {
  const fields = scenarioNow();
  for (const key of FIELDS) if (byId(key)) fields[key] = byId(key).value.trim();
  return { ...fields, gpus: byId("gpus").value.trim() };
}

// A number typed: asked of the server, or the nearest count that this file holds.
function typed() {
  if (live) return ask(fieldsNow());
  const count = countOf(byId("gpus").value);
  if (!(count >= 1)) return refuse(byId("gpus").dataset.rule);
  refuse("");
  move(nearestPosition(count));
  writeHash();
  const exact = pointNow().gpus === count;
  say(exact ? "" : `This file holds a grid of counts; the nearest is ${pointNow().aria}.`);
}

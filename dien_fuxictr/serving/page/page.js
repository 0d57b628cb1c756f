const MOST = LETTERS.length;
const ROWS = 200; // of the ranking
const $ = (id) => document.getElementById(id);

const page = { model: undefined, examples: [], titles: {}, itemFields: [] };
const shown = { request: undefined, scored: undefined, scores: [], unknown: undefined, chosen: new Map(), asked: 0, step: undefined };

class Refused extends Error {}

async function ask(path, body) {
  let reply, answer;
  try {
    reply = await fetch(path, body && { method: "POST", body: JSON.stringify(body) });
    answer = await reply.json();
  } catch {
    throw new Refused("The server does not answer.");
  }
  if (!reply.ok) throw Object.assign(new Refused(answer.error), { status: reply.status });
  if (page.model && answer.model !== page.model.model)
    $("facts").textContent = `The server has another model now, ${answer.model}. Reload the page.`;
  return answer;
}

/** The answer to the latest question; undefined where another one has been asked since. */
async function askLatest(path, body) {
  const asked = ++shown.asked;
  try {
    const answer = await ask(path, body);
    if (asked !== shown.asked) return undefined;
    $("error").textContent = "";
    return answer;
  } catch (error) {
    if (asked === shown.asked || !(error instanceof Refused)) throw error;
  }
}

/** Runs what asks the server. What is refused is said beside the request, and the older result is cleared. */
async function attempt(action, clear = clearAll) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    clear();
    $("error").textContent = error.message;
  }
}

const clearExplanation = () => $("sequences").replaceChildren();

function clearAll() {
  shown.asked++; // what is still asked comes too late
  for (const id of ["unknown", "rest", "full"]) $(id).textContent = "";
  $("ranking").tBodies[0].replaceChildren();
  clearExplanation();
}

const nameOf = (value) => (value === null || value === undefined ? "nothing" : (page.titles[value] ?? String(value)));
const namesOf = (columns, fields, row) => fields.filter((field) => columns[field]).map((field) => nameOf(columns[field][row]));
const lengthOf = (columns) => Math.max(0, ...Object.values(columns).map((values) => (Array.isArray(values) ? values.length : 0)));

/** Of a candidate: its item's fields, or the first two that it has. */
function candidateName(row) {
  const { candidates } = shown.scored;
  const known = page.model.features.map(({ name }) => name).filter((name) => candidates[name]);
  const fields = page.itemFields.filter((name) => candidates[name]);
  return namesOf(candidates, (fields.length ? fields : known).slice(0, 2), row).join(" · ");
}

/** A line for each field, so that a long history is still one that can be edited. */
function written(request) {
  const part = (name) => {
    const fields = Object.entries(request[name]).map(([field, value]) => `  ${JSON.stringify(field)}: ${JSON.stringify(value)}`);
    return ` ${JSON.stringify(name)}: {\n${fields.join(",\n")}}`;
  };
  return `{\n${Object.keys(request).map(part).join(",\n")}\n}`;
}

/** The request with the items of all examples for candidates; what is not the item's is that of its own first one. */
function withAllItems(request) {
  const own = request?.candidates ?? {};
  if (!Object.values(own).every(Array.isArray)) return request;
  const fields = page.itemFields.filter((field) => own[field]?.length);
  if (!fields.length) return request;
  const candidates = Object.fromEntries(Object.entries(own).map(([field, values]) => [field, [...values]]));
  const known = new Set(own[fields[0]]);
  for (const other of page.examples)
    for (const [row, item] of other.candidates[fields[0]].entries()) {
      if (known.has(item) || known.size >= page.model.limits.candidates) continue;
      known.add(item);
      for (const field of Object.keys(candidates))
        candidates[field].push(fields.includes(field) ? other.candidates[field][row] : own[field][0]);
    }
  return { ...request, candidates };
}

async function score(request) {
  shown.request = request;
  const scored = $("all").checked ? withAllItems(request) : request;
  const answer = await askLatest("v1/score", scored);
  if (!answer) return;
  const { scores, unknown } = answer;
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]);
  Object.assign(shown, { scored, scores, unknown, order, step: undefined });
  const [best, middle, last] = [order[0], order[(order.length - 1) >> 1], order.at(-1)];
  shown.chosen = new Map([...new Set(order.length ? [best, middle, last] : [])].map((row, slot) => [row, slot]));
  $("unknown").textContent = summary(unknown);
  $("full").textContent = "";
  rank();
  await attempt(explain, clearExplanation);
}

const fieldsUnknown = (count) => `${plural(count, "field")} unknown to the model`;

/** A mark beside a candidate or a behaviour of which training has not seen all. */
const mark = (count) => (count ? [make("span", { class: "unknown", text: `${count} unknown`, title: fieldsUnknown(count) })] : []);

/** What of the request the model does not know, in one line. */
function summary({ user, candidates, behaviours }) {
  const some = (counts) => counts.filter((count) => count > 0).length;
  const steps = Object.values(behaviours).map(some).reduce((sum, count) => sum + count, 0);
  const parts = [some(candidates) && plural(some(candidates), "candidate"), steps && plural(steps, "behaviour")].filter(Boolean);
  const said = parts.length ? [`Training has not seen all values of ${parts.join(" and ")}, which are marked: an unknown value is scored as any other unknown value.`] : [];
  return [...(user ? [`The user has ${fieldsUnknown(user)}.`] : []), ...said].join(" ");
}

function rank() {
  const { scores, order, chosen } = shown;
  const highest = Math.max(...scores);
  const rows = order.slice(0, ROWS).map((row, place) => {
    const slot = chosen.get(row);
    const bar = make("span", { class: "bar" });
    bar.style.width = `${(100 * scores[row]) / highest}%`;
    const button = make("button", { "aria-pressed": String(slot !== undefined), click: (event) => (event.stopPropagation(), choose(row)) });
    button.append(letter(slot), make("span", { text: candidateName(row) }), ...mark(shown.unknown.candidates[row]));
    const value = make("td", { class: "number", text: decimals(scores[row], 4) }, bar);
    return make("tr", { "data-slot": slot, click: () => choose(row) }, make("td", { text: place + 1 }), make("td", {}, button), value);
  });
  $("ranking").tBodies[0].replaceChildren(...rows);
  $("rest").textContent = order.length > ROWS ? `${plural(order.length - ROWS, "more candidate")} with lower scores` : "";
}

/** Compares a candidate, or no longer; one stays, and one too many is refused. */
function choose(row) {
  const { chosen } = shown;
  const isFull = !chosen.has(row) && chosen.size === MOST;
  $("full").textContent = isFull ? `${MOST} candidates are compared. Remove one before you add another.` : "";
  if (isFull) return;
  if (chosen.has(row)) {
    if (chosen.size === 1) return;
    chosen.delete(row);
  } else {
    const taken = [...chosen.values()];
    chosen.set(row, [...LETTERS].findIndex((_, slot) => !taken.includes(slot)));
  }
  const place = document.activeElement?.closest("#ranking tr")?.rowIndex;
  rank();
  if (place) $("ranking").rows[place].querySelector("button").focus();
  attempt(explain, clearExplanation);
}

async function explain() {
  const { scored, chosen } = shown;
  if (!chosen.size) return clearExplanation();
  const rows = [...chosen.keys()].sort((a, b) => chosen.get(a) - chosen.get(b));
  const columns = Object.entries(scored.candidates).map(([field, values]) => [field, rows.map((row) => values[row])]);
  const answer = await askLatest("v1/explain", { ...scored, candidates: Object.fromEntries(columns) });
  if (!answer) return;
  const { sequences } = answer;
  const slots = rows.map((row) => chosen.get(row));
  $("sequences").replaceChildren(...sequences.map((sequence) => sequenceSection(sequence, slots, rows.map(candidateName), sequences.length > 1)));
}

/** Of each behaviour of a sequence, how many fields are unknown. */
const unknownIn = (fields) => Object.entries(shown.unknown.behaviours).find(([name]) => fields.includes(name))?.[1] ?? [];

function sequenceSection(sequence, slots, compared, several) {
  const { fields, seen } = sequence;
  const { user } = shown.scored;
  const count = lengthOf(Object.fromEntries(fields.map((field) => [field, user[field]])));
  const heading = make("h2", { text: several ? `History: ${fields.join(", ")}` : "History" });
  const cut = count - new Set(seen.filter((place) => place >= 0)).size;
  const said = `${plural(count, "behaviour")}${cut ? `; the model does not see ${cut} of them (cut, or without an item)` : ""}.`;
  const unknown = unknownIn(fields);
  const drawn = explanation(sequence, {
    slots,
    compared,
    count,
    name: (place) => (place < 0 ? "nothing" : namesOf(user, fields.slice(0, 2), place).join(" · ")),
    marks: (place) => mark(unknown[place]),
    start: shown.step,
    moved: (step) => (shown.step = step),
  });
  return make("section", {}, heading, make("p", { class: "hint", text: said }), ...drawn);
}

function userButton(request, name, latest) {
  const button = make("button", { "aria-pressed": "false", text: name }, make("small", { text: latest }));
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("#users button")) other.setAttribute("aria-pressed", other === button);
    $("request").value = written(request);
    attempt(() => score(request));
  });
  return make("li", {}, button);
}

function userOf(request, number) {
  const sequences = page.model.features.filter(({ is, name }) => is === "sequence" && request.user[name]?.length);
  const latest = sequences.slice(0, 1).map(({ name }) => `latest: ${nameOf(request.user[name].at(-1))}`);
  return userButton(request, `User ${number}: ${plural(lengthOf(request.user), "behaviour")}`, latest.join(""));
}

async function start() {
  try {
    const model = await ask("v1/model");
    const { examples, titles, item_fields } = await ask("v1/examples");
    Object.assign(page, { model, examples, titles, itemFields: item_fields });
  } catch (error) {
    if (error.status !== 503) throw error;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return start();
  }
  const { model, examples } = page;
  document.title = document.querySelector("h1").textContent = model.expid;
  const metrics = Object.entries(model.metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  $("facts").textContent = [...metrics, `model ${model.model}`].join(", ");
  const users = examples.map((request, number) => userOf(request, number + 1));
  $("users").append(...(users.length ? users : [userButton(model.example, "The example of the API", "")]));
  $("more").hidden = examples.length < 2 || !page.itemFields.length;
  $("users").querySelector("button").click();
}

$("all").addEventListener("change", () => shown.request && attempt(() => score(shown.request)));
$("paste").addEventListener("submit", (event) => {
  event.preventDefault();
  for (const button of document.querySelectorAll("#users button")) button.setAttribute("aria-pressed", "false");
  attempt(() => {
    let request;
    shown.request = undefined;
    try {
      request = JSON.parse($("request").value);
    } catch (error) {
      throw new Refused(`The request is not JSON: ${error.message}`);
    }
    return score(request);
  });
});
$("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("paste").requestSubmit();
});
attempt(start);

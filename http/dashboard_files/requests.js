// Running requests, those that have ended, and why each went where it did.

import { dollars, seconds, waterfall } from "./charts.js";
import { $, cell, complain, fill, make, pill, sync, table, words } from "./dom.js";
import { world } from "./state.js";
import { Refused, ask } from "./wire.js";

const DECISIONS = 50;
const ENDINGS = { ok: "good", broken: "bad", left: "idle" };

const short = (id) => (id.length > 26 ? `${id.slice(0, 25)}…` : id);
const explainButton = (id) => make("button", { type: "button", class: "link id", title: id, onclick: () => explain(id) }, short(id));

const RUNNING = [["State"], ["Age", "n"], ["Model"], ["Provider"], ["Caller"], ["Tries", "n"]];

function begin({ id }) {
  const kill = make("button", { type: "button", class: "danger", "aria-label": `Kill request ${id}`, onclick: () => end(id) }, "Kill");
  const cells = RUNNING.map(([label, kind]) => cell(label, kind));
  return make("tr", { role: "row" }, cell("Request", "wide", explainButton(id)), ...cells, cell("", "act", kill));
}

function showRow(row, each) {
  const values = [each.killed ? "being killed" : words(each.state), seconds(each.age), each.model || each.requested || "–", each.provider || "–", each.caller || "–", String(each.attempts)];
  values.forEach((value, index) => fill(row.cells[index + 1], value));
}

export function showRequests() {
  const rows = world.overview.requests;
  const known = new Set();
  const named = rows.filter(({ id }) => !known.has(id) && known.add(id)); // callers may give several the same id
  sync($("requests").tBodies[0], named.map((each) => [each.id, each]), begin, showRow);
  fill($("running-count"), String(world.overview.in_flight));
  $("requests").parentElement.hidden = !rows.length;
  $("requests-none").hidden = rows.length > 0;
}

async function end(id) {
  try {
    await ask(`/requests/${encodeURIComponent(id)}`, "DELETE");
    complain("");
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) complain(`kill ${id}: ${error.message}`); // 404: it has ended meanwhile
  }
}

// Decisions.

const ending = (each) => ENDINGS[each.ending] ?? (each.fault === "caller" ? "warn" : "bad");
const outcome = (each) => (each.ending === "ok" ? "ok" : `${each.ending}${each.code ? `: ${words(each.code)}` : ""}`);

function decisionRow(each) {
  const when = new Date(each.at * 1000);
  const answered = each.provider ? `${each.provider} · ${each.model}` : each.cache === "hit" ? "from the cache" : "–";
  return make(
    "tr",
    { role: "row", "data-id": each.id },
    cell("When", "", make("time", { datetime: when.toISOString() }, when.toLocaleTimeString([], { hour12: false }))),
    cell("Request", "wide", explainButton(each.id)),
    cell("Asked for", "", each.requested || "–"),
    cell("Answered by", "", answered),
    cell("Outcome", "", pill(ending(each), outcome(each))),
    cell("Tries", "n", String(each.tried)),
    cell("First token", "n", seconds(each.first_token)),
    cell("Took", "n", seconds(each.latency)),
    cell("Cost", "n", dollars(each.cost)),
  );
}

export function showDecisions(fresh, all) {
  const body = $("decisions").tBodies[0];
  if (all) body.replaceChildren();
  for (const each of fresh) body.prepend(decisionRow(each));
  while (body.rows.length > DECISIONS) body.lastChild.remove();
  $("decisions").parentElement.hidden = !body.rows.length;
  $("decisions-none").hidden = body.rows.length > 0;
}

// Explanations.

function candidate(each, found) {
  const reason = each.verdict === "asked" ? { ok: "answered", running: "is asked now" }[each.reason] ?? words(each.reason) : `${words(each.verdict)}: ${words(each.reason)}`;
  const known = each.known.samples ? seconds(each.known.latency) : "–";
  const score = each.score === null ? "–" : String(Number(each.score.toPrecision(4)));
  const won = each.provider === found.provider && each.model === found.model;
  return [won, String(each.place ?? "–"), each.provider, each.model, score, known, String(each.known.load ?? "–"), each.detail ? `${reason} (${each.detail})` : reason];
}

function explanation(found) {
  const shown = {
    "Asked for": found.requested || "–",
    "Answered by": found.provider ? `${found.provider} · ${found.model}` : "–",
    Outcome: found.state === "running" ? "running" : outcome(found),
    Status: String(found.status ?? "–"),
    Strategy: found.strategy || "–",
    Caller: found.caller || "–",
    Took: seconds(found.latency),
    "First token": seconds(found.first_token),
    Waited: seconds(found.waited),
    "Our own time": seconds(found.overhead),
    Cost: dollars(found.cost),
  };
  const parts = [make("dl", { class: "summary" }, ...Object.entries(shown).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))))];
  if (found.message) parts.push(make("p", { class: "bad" }, found.message));
  const heads = [["Place", "n"], ["Provider"], ["Model"], ["Score", "n"], ["Average", "n"], ["Load", "n"], ["What became of it"]];
  if (found.candidates.length) parts.push(table("Candidates", heads, found.candidates.map((each) => candidate(each, found))));
  for (const [strategy, meaning] of Object.entries(found.scores)) parts.push(make("p", { class: "none" }, `Score of ${strategy}: ${meaning}.`));
  if (found.attempts.length) parts.push(make("h3", {}, "Attempts"), make("div", { class: "slide" }, waterfall(found.attempts, found.latency)));
  return parts;
}

async function explain(id) {
  try {
    const found = await ask(`/explain/${encodeURIComponent(id)}`);
    $("explain-title").replaceChildren("Request ", make("code", {}, id));
    $("explain-body").replaceChildren(...explanation(found));
    if (!$("explain").open) $("explain").showModal();
  } catch (error) {
    complain(`explain ${id}: ${error.message}`);
  }
}

$("explain-close").addEventListener("click", () => $("explain").close());

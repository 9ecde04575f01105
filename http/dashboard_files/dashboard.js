// The page: what the router tells, put into the document. Text is only ever set as text.

import { COLOURS, barChart, dollars, lineChart, seconds, svg, timeline, waterfall } from "./charts.js";
import { Refused, ask, follow, token } from "./wire.js";

const $ = (id) => document.getElementById(id);
const AGAIN_AFTER = [500, 1000, 2000, 5000];
const DECISIONS = 50;
const COSTS_EVERY = 60_000;
const world = { overview: null, history: new Map(), cards: new Map(), leftOut: 0 };

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const words = (text) => (text ?? "").replaceAll("_", " ");

function fill(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function colour(provider) {
  const names = world.overview.providers.map((each) => each.name);
  return Math.max(0, names.indexOf(provider)) % COLOURS;
}

function span(value) {
  const whole = Math.floor(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  return whole < 172_800 ? `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min` : `${Math.floor(whole / 86_400)} d`;
}

// The head of the page.

function facts() {
  const { overview } = world;
  const routable = overview.providers.filter((each) => each.routable).length;
  const shown = {
    State: overview.draining ? "draining" : overview.ready ? "ready" : "not ready",
    Routable: `${routable} of ${overview.providers.length}`,
    "In flight": String(overview.in_flight),
    Strategy: overview.strategy,
    Up: span(overview.uptime_seconds),
    Version: overview.version,
  };
  const list = $("facts");
  if (!list.childElementCount) {
    for (const name of Object.keys(shown)) list.append(make("div", {}, make("dt", {}, name), make("dd")));
  }
  Object.values(shown).forEach((value, index) => fill(list.children[index].lastChild, value));
}

function linked(state, text) {
  $("link").dataset.state = state;
  fill($("link"), text);
}

function complain(text) {
  $("alert").hidden = !text;
  fill($("alert"), text);
}

// Providers.

function tone(provider) {
  if (provider.routable) return "good";
  const passing = ["starting", "cooling_down", "requests_per_minute", "tokens_per_minute", "max_concurrent", "slow_start", "half_open_probe_in_flight", "draining"];
  if (provider.reason === "disabled") return "idle";
  return passing.includes(provider.reason) ? "warn" : "bad";
}

function why(provider) {
  const parts = [];
  if (provider.blocked_for !== null) parts.push(`${words(provider.reason)} for another ${span(Math.ceil(provider.blocked_for))}`);
  if (provider.health.error && provider.health.state !== "healthy") parts.push(provider.health.error);
  const last = provider.transitions.at(-1);
  if (!parts.length && last) parts.push(`${words(last.to)} ${span(last.seconds_ago)} ago: ${last.why}`);
  return parts.join("; ");
}

const VERBS = ["enable", "disable", "drain", "probe"];

function card(name) {
  const state = make("span", { class: "pill" });
  const kind = make("small");
  const numbers = make("dl", { class: "numbers" });
  for (const label of ["Health", "Circuit", "In flight", "Answer", "First token", "Failed lately"]) {
    numbers.append(make("div", {}, make("dt", {}, label), make("dd", {}, "–")));
  }
  const strip = make("div");
  const circuit = make("div", {}, make("div", { class: "strip-label" }, make("span", {}, "Circuit"), make("span", {}, "10 min")), strip);
  const buttons = make("div", { class: "buttons", role: "group", "aria-label": `Commands for ${name}` });
  for (const verb of VERBS) {
    const title = verb[0].toUpperCase() + verb.slice(1);
    buttons.append(make("button", { type: "button", "data-verb": verb, "aria-label": `${title} ${name}`, onclick: () => command(name, verb) }, title));
  }
  const parts = { state, kind, numbers, strip, why: make("p", { class: "why" }), meters: make("div", { class: "meters" }), buttons };
  const head = make("div", { class: "card-head" }, make("h3", {}, name, kind), state);
  parts.root = make("article", { class: "card", "aria-label": `Provider ${name}`, "data-provider": name }, head, parts.why, numbers, circuit, parts.meters, buttons);
  return parts;
}

function lastMinute(name) {
  const steps = recent(name).filter(([ago]) => ago < 12);
  return steps.reduce(([ok, failed], step) => [ok + step[1], failed + step[2]], [0, 0]);
}

function meters(holder, provider) {
  const { requests, tokens, max_concurrent: most } = provider.buckets;
  const rows = [];
  if (requests) rows.push(["Requests left", requests.level, requests.limit]);
  if (tokens) rows.push(["Tokens left", tokens.level, tokens.limit]);
  if (most) rows.push(["At once", provider.in_flight, most]);
  for (const told of provider.buckets.told) {
    for (const kind of ["requests", "tokens"]) {
      if (told[kind]?.limit) rows.push([`Its own ${kind} left`, told[kind].remaining, told[kind].limit]);
    }
  }
  while (holder.childElementCount > rows.length) holder.lastChild.remove();
  rows.forEach(([label, level, limit], index) => {
    let row = holder.children[index];
    if (!row) {
      row = make("div", {}, make("span"), make("meter", { min: "0" }), make("span", { class: "n" }));
      holder.append(row);
    }
    const shown = Math.max(0, Math.floor(level));
    fill(row.children[0], label);
    row.children[1].max = limit;
    row.children[1].value = shown;
    row.children[1].setAttribute("aria-label", `${label}: ${shown} of ${limit}`);
    fill(row.children[2], `${shown.toLocaleString("en")} / ${limit.toLocaleString("en")}`);
  });
}

function showProvider(provider) {
  const { name } = provider;
  let parts = world.cards.get(name);
  if (!parts) {
    parts = card(name);
    world.cards.set(name, parts);
    $("providers").append(parts.root);
  }
  const state = tone(provider);
  parts.root.dataset.state = parts.state.dataset.state = state;
  fill(parts.state, provider.routable ? "routable" : words(provider.reason));
  fill(parts.kind, provider.type);
  fill(parts.why, why(provider));
  const { ewma, circuit } = provider;
  const [ok, failed] = lastMinute(name);
  const average = (of) => (of.samples ? seconds(of.seconds) : "–");
  const values = [words(provider.health.state), words(circuit.state), String(provider.in_flight), average(ewma.response), average(ewma.first_token), ok + failed ? `${failed} of ${ok + failed}` : "–"];
  values.forEach((value, index) => fill(parts.numbers.children[index].lastChild, value));
  parts.strip.replaceChildren(timeline(provider.transitions, circuit.state, 600, world.overview.uptime_seconds));
  meters(parts.meters, provider);
  const off = { enable: provider.reason !== "disabled" && provider.reason !== "draining", disable: provider.reason === "disabled", drain: provider.reason === "draining" || provider.reason === "disabled" };
  for (const button of parts.buttons.children) {
    const disabled = Boolean(off[button.dataset.verb]);
    if (button.disabled !== disabled) {
      if (disabled && document.activeElement === button) parts.buttons.lastChild.focus(); // a disabled button would lose the keyboard
      button.disabled = disabled;
    }
  }
}

function providers() {
  const names = new Set(world.overview.providers.map((each) => each.name));
  for (const [name, parts] of world.cards) {
    if (!names.has(name)) {
      parts.root.remove();
      world.cards.delete(name);
    }
  }
  world.overview.providers.forEach(showProvider);
}

async function command(name, verb) {
  try {
    showProvider(await ask(`/providers/${encodeURIComponent(name)}/${verb}`, "POST"));
    complain("");
  } catch (error) {
    failed(error, `${verb} ${name}`);
  }
}

function failed(error, what) {
  if (error instanceof Refused && error.status === 401) askForToken(token.get() ? "That token is not this router's." : "");
  else complain(`${what}: ${error.message}`);
}

// Charts.

function learn(history) {
  for (const name of world.history.keys()) if (!(name in history.providers)) world.history.delete(name);
  for (const [name, steps] of Object.entries(history.providers)) {
    const known = world.history.get(name) ?? new Map();
    for (const [number, ...values] of steps) known.set(number, values);
    for (const number of known.keys()) if (number <= history.now - history.steps) known.delete(number);
    world.history.set(name, known);
  }
}

// [steps ago, went well, failed, seconds of an answer, seconds to its first token], the oldest first.
function recent(name) {
  const known = [...(world.history.get(name) ?? [])].sort(([one], [other]) => one - other);
  return known.map(([number, values]) => [world.overview.history.now - number, ...values]);
}

function charts() {
  const { seconds: step, steps } = world.overview.history;
  const points = (name, index) => recent(name).filter((each) => each[index] !== null).map((each) => [each[0], each[index]]);
  const lines = (index) => world.overview.providers.map(({ name }) => ({ name, colour: colour(name), points: points(name, index) }));
  for (const [id, index] of [["chart-latency", 3], ["chart-first", 4]]) {
    const figure = $(id);
    const width = Math.max(300, Math.round(figure.clientWidth - 28));
    const label = `${figure.firstElementChild.textContent}, average of each provider in the last ten minutes`;
    const chart = lineChart({ lines: lines(index), steps, step, label, width });
    figure.replaceChildren(figure.firstElementChild, chart);
  }
  const named = world.overview.providers.map(({ name }) => name).join("\n");
  if ($("legend").dataset.names !== named) {
    $("legend").dataset.names = named;
    $("legend").replaceChildren(...world.overview.providers.map(({ name }) => make("li", {}, dot(colour(name)), name)));
  }
}

const dot = (of) => svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("circle", { cx: 6, cy: 6, r: 5, class: `bar s${of}` }));

async function costs() {
  if (!world.overview.ledger) {
    $("chart-costs").hidden = true;
    fill($("costs-none"), "This router keeps no ledger.");
    return;
  }
  try {
    const found = await ask("/costs?group_by=day,model&since=7d");
    const days = [...new Set(found.costs.map((each) => each.day))].sort();
    const models = [...new Set(found.costs.map((each) => each.model))];
    const series = models.map((name, index) => ({ name: name || "(none answered)", colour: index % COLOURS, values: new Map() }));
    for (const each of found.costs) series[models.indexOf(each.model)].values.set(each.day, each.cost ?? 0);
    const figure = $("chart-costs");
    $("costs-none").hidden = days.length > 0;
    figure.hidden = !days.length;
    if (!days.length) return;
    const width = Math.max(300, Math.round(figure.clientWidth - 28));
    const total = `${dollars(found.total.cost)} for ${found.total.requests} requests${found.total.unpriced ? `, ${found.total.unpriced} of them without a known price` : ""}`;
    const chart = barChart({ days, series, label: `Cost per day and model: ${total}`, width });
    const legend = make("ul", { class: "legend" }, ...series.map((each) => make("li", {}, dot(each.colour), each.name)));
    figure.replaceChildren(make("figcaption", {}, total), chart, legend);
  } catch (error) {
    $("chart-costs").hidden = true;
    $("costs-none").hidden = false;
    fill($("costs-none"), `No costs: ${error.message}`);
  }
}

// Requests.

const explainButton = (id) => make("button", { type: "button", class: "link id", title: id, onclick: () => explain(id) }, id.length > 26 ? `${id.slice(0, 25)}…` : id);

function requests() {
  const body = $("requests").tBodies[0];
  const rows = world.overview.requests;
  const ids = new Set(rows.map((each) => each.id));
  const there = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  for (const [id, row] of there) if (!ids.has(id)) row.remove();
  for (const each of rows) {
    let row = there.get(each.id);
    if (!row) {
      row = make("tr", { "data-id": each.id }, make("td", {}, explainButton(each.id)));
      for (const kind of ["", "n", "", "", "", "n"]) row.append(make("td", kind ? { class: kind } : {}));
      row.append(make("td", {}, make("button", { type: "button", class: "danger", "aria-label": `Kill request ${each.id}`, onclick: () => kill(each.id) }, "Kill")));
      body.append(row);
      there.set(each.id, row);
    }
    const values = [each.killed ? "being killed" : words(each.state), seconds(each.age), each.model || each.requested, each.provider || "–", each.caller || "–", String(each.attempts)];
    values.forEach((value, index) => fill(row.cells[index + 1], value));
  }
  fill($("running-count"), String(world.overview.in_flight));
  $("requests").parentElement.hidden = !rows.length;
  $("requests-none").hidden = rows.length > 0;
}

async function kill(id) {
  try {
    await ask(`/requests/${encodeURIComponent(id)}`, "DELETE");
    complain("");
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) failed(error, `kill ${id}`); // it has ended meanwhile
  }
}

// Decisions.

const ENDINGS = { ok: "good", broken: "bad", left: "idle" };
const ending = (each) => ENDINGS[each.ending] ?? (each.fault === "caller" ? "warn" : "bad");
const outcome = (each) => (each.ending === "ok" ? "ok" : `${each.ending}${each.code ? `: ${words(each.code)}` : ""}`);

function decisionRow(each) {
  const when = new Date(each.at * 1000);
  const answered = each.provider ? `${each.provider} · ${each.model}` : each.cache === "hit" ? "from the cache" : "–";
  return make(
    "tr",
    { "data-id": each.id },
    make("td", {}, make("time", { datetime: when.toISOString() }, when.toLocaleTimeString([], { hour12: false }))),
    make("td", {}, explainButton(each.id)),
    make("td", {}, each.requested || "–"),
    make("td", {}, answered),
    make("td", {}, make("span", { class: "pill", "data-state": ending(each) }, outcome(each))),
    make("td", { class: "n" }, String(each.tried)),
    make("td", { class: "n" }, seconds(each.first_token)),
    make("td", { class: "n" }, seconds(each.latency)),
    make("td", { class: "n" }, dollars(each.cost)),
  );
}

function decisions(fresh, all) {
  const body = $("decisions").tBodies[0];
  if (all) body.replaceChildren();
  for (const each of fresh) body.prepend(decisionRow(each));
  while (body.rows.length > DECISIONS) body.lastChild.remove();
  $("decisions").parentElement.hidden = !body.rows.length;
  $("decisions-none").hidden = body.rows.length > 0;
}

function table(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map(([name, kind]) => make("th", { scope: "col", class: kind ?? null }, name)));
  const cells = (row) => row.map((value, index) => make("td", { class: heads[index][1] ?? null }, value));
  const body = rows.map(([won, ...row]) => make("tr", won ? { class: "won" } : {}, ...cells(row)));
  const made = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, made);
}

function explanation(found) {
  const shown = { "Asked for": found.requested || "–", "Answered by": found.provider ? `${found.provider} · ${found.model}` : "–", Outcome: found.state === "running" ? "running" : outcome(found), Status: String(found.status ?? "–"), Strategy: found.strategy || "–", Caller: found.caller || "–", Took: seconds(found.latency), "First token": seconds(found.first_token), Waited: seconds(found.waited), "Our own time": seconds(found.overhead), Cost: dollars(found.cost) };
  const summary = make("dl", { class: "summary" }, ...Object.entries(shown).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  const parts = [summary];
  if (found.message) parts.push(make("p", { class: "bad" }, found.message));
  const candidates = found.candidates.map((each) => {
    const reason = each.verdict === "asked" ? { ok: "answered", running: "is asked now" }[each.reason] ?? words(each.reason) : `${words(each.verdict)}: ${words(each.reason)}`;
    const known = each.known.samples ? seconds(each.known.latency) : "–";
    return [each.provider === found.provider && each.model === found.model, each.place === null ? "–" : String(each.place), each.provider, each.model, each.score === null ? "–" : String(Number(each.score.toPrecision(4))), known, String(each.known.load ?? "–"), each.detail ? `${reason} (${each.detail})` : reason];
  });
  if (candidates.length) parts.push(table("Candidates", [["Place", "n"], ["Provider"], ["Model"], ["Score", "n"], ["Average", "n"], ["Load", "n"], ["What became of it"]], candidates));
  for (const [strategy, meaning] of Object.entries(found.scores)) parts.push(make("p", { class: "none" }, `Score of ${strategy}: ${meaning}.`));
  if (found.attempts.length) parts.push(make("h3", {}, "Attempts"), waterfall(found.attempts, found.latency));
  return parts;
}

async function explain(id) {
  try {
    const found = await ask(`/explain/${encodeURIComponent(id)}`);
    $("explain-title").replaceChildren("Request ", make("code", {}, id));
    $("explain-body").replaceChildren(...explanation(found));
    if (!$("explain").open) $("explain").showModal();
  } catch (error) {
    failed(error, `explain ${id}`);
  }
}

// The token.

function askForToken(error) {
  fill($("token-error"), error);
  if (!$("token").open) $("token").showModal();
  $("token-field").focus();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.keep($("token-field").value.trim());
  $("token-field").value = "";
  $("token").close();
  live.wake();
});
$("token").addEventListener("cancel", (event) => event.preventDefault());
$("explain-close").addEventListener("click", () => $("explain").close());

// Events.

function show(overview) {
  world.overview = overview;
  learn(overview.history);
  facts();
  providers();
  requests();
  charts();
}

function announce(change) {
  const line = make("p", {}, `${change.provider}: ${change.of} ${words(change.to)} (${change.why})`);
  $("news").append(line);
  while ($("news").childElementCount > 20) $("news").firstChild.remove();
}

const TELL = {
  overview(data) {
    world.history.clear();
    show(data);
    decisions(data.decisions.reverse(), true);
    costs();
  },
  snapshot(data) {
    show(data);
    world.leftOut += data.requests_left_out;
    $("left-out").hidden = !world.leftOut;
    fill($("left-out"), `${world.leftOut} more requests ended than are shown here.`);
  },
  change: announce,
  request: (data) => decisions([data], false),
};

const live = {
  tries: 0,
  wake: () => {},
  async run() {
    for (;;) {
      try {
        linked("waiting", "connecting");
        await follow((name, data) => {
          this.tries = 0;
          linked("good", "live");
          TELL[name]?.(data);
        });
      } catch (error) {
        if (error instanceof Refused && error.status === 401) {
          const wrong = token.get();
          token.forget();
          linked("warn", "no access");
          askForToken(wrong ? "That token is not this router's." : "");
          await new Promise((resolve) => (this.wake = resolve));
          continue;
        }
        if (error instanceof Refused) complain(error.message);
      }
      linked("bad", "no connection");
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER[Math.min(this.tries++, AGAIN_AFTER.length - 1)]));
    }
  },
};

new ResizeObserver(() => world.overview && charts()).observe($("chart-latency").parentElement);
setInterval(() => !document.hidden && world.overview && costs(), COSTS_EVERY);
live.run();

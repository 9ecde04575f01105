// The providers' cards.

import { seconds, timeline } from "./charts.js";
import { $, complain, fill, make, span, words } from "./dom.js";
import { recent, world } from "./state.js";
import { ask } from "./wire.js";

const VERBS = ["enable", "disable", "drain", "probe"];
const MANY = 9; // from here on cards can be searched, and are short
const PASSING = ["starting", "cooling_down", "requests_per_minute", "tokens_per_minute", "max_concurrent", "slow_start", "half_open_probe_in_flight", "queue", "draining"];
const cards = new Map();

function tone(provider) {
  if (provider.routable) return "good";
  if (provider.reason === "disabled") return "idle";
  return PASSING.includes(provider.reason) ? "warn" : "bad";
}

function why(provider) {
  const parts = [];
  if (provider.blocked_for !== null) parts.push(`${words(provider.reason)} for another ${span(Math.ceil(provider.blocked_for))}`);
  if (provider.health.error && provider.health.state !== "healthy") parts.push(provider.health.error);
  const last = provider.transitions.at(-1);
  if (!parts.length && last) parts.push(`${words(last.to)} ${span(last.seconds_ago)} ago: ${last.why}`);
  return parts.join("; ");
}

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
  const head = make("div", { class: "card-head" }, make("h3", { title: name }, name, kind), state);
  parts.root = make("article", { class: "card", "aria-label": `Provider ${name}`, "data-provider": name }, head, parts.why, numbers, circuit, parts.meters, buttons);
  return parts;
}

function lastMinute(name) {
  const steps = recent(name).filter(([ago]) => ago < 12);
  return steps.reduce(([ok, failed], step) => [ok + step[1], failed + step[2]], [0, 0]);
}

// [label, level, limit, whether much of it is good]
function levels(provider) {
  const { requests, tokens, max_concurrent: most, told } = provider.buckets;
  const rows = [];
  if (requests) rows.push(["Requests left", requests.level, requests.limit, true]);
  if (tokens) rows.push(["Tokens left", tokens.level, tokens.limit, true]);
  if (most) rows.push(["At once", provider.in_flight, most, false]);
  for (const each of told) {
    for (const kind of ["requests", "tokens"]) {
      if (each[kind]?.limit) rows.push([`Its own ${kind} left`, each[kind].remaining, each[kind].limit, true]);
    }
  }
  return rows;
}

function meters(holder, provider) {
  const rows = levels(provider);
  while (holder.childElementCount > rows.length) holder.lastChild.remove();
  rows.forEach(([label, level, limit, plenty], index) => {
    let row = holder.children[index];
    if (!row) {
      row = make("div", {}, make("span"), make("meter", { min: "0" }), make("span", { class: "n" }));
      holder.append(row);
    }
    const shown = Math.max(0, Math.floor(level));
    const [name, meter, numbers] = row.children;
    fill(name, label);
    meter.max = limit;
    [meter.low, meter.high, meter.optimum] = plenty ? [limit * 0.1, limit * 0.2, limit] : [limit * 0.8, limit * 0.95, 0];
    meter.value = shown;
    meter.setAttribute("aria-label", `${label}: ${shown} of ${limit}`);
    fill(numbers, `${shown.toLocaleString("en")} / ${limit.toLocaleString("en")}`);
  });
}

function showButtons(buttons, { reason }) {
  const off = { enable: reason !== "disabled" && reason !== "draining", disable: reason === "disabled", drain: reason === "draining" || reason === "disabled" };
  for (const button of buttons.children) {
    const disabled = Boolean(off[button.dataset.verb]);
    if (button.disabled === disabled) continue;
    if (disabled && document.activeElement === button) buttons.lastChild.focus(); // a disabled button would lose the keyboard
    button.disabled = disabled;
  }
}

function showProvider(provider) {
  const { name, ewma, circuit } = provider;
  let parts = cards.get(name);
  if (!parts) {
    parts = card(name);
    cards.set(name, parts);
    $("providers").append(parts.root);
  }
  parts.root.dataset.state = parts.state.dataset.state = tone(provider);
  fill(parts.state, provider.routable ? "routable" : words(provider.reason));
  fill(parts.kind, provider.type);
  fill(parts.why, why(provider));
  const [ok, failed] = lastMinute(name);
  const average = (of) => (of.samples ? seconds(of.seconds) : "–");
  const values = [words(provider.health.state), words(circuit.state), String(provider.in_flight), average(ewma.response), average(ewma.first_token), ok + failed ? `${failed} of ${ok + failed}` : "–"];
  values.forEach((value, index) => fill(parts.numbers.children[index].lastChild, value));
  parts.strip.replaceChildren(timeline(provider.transitions, circuit.state, 600, world.overview.uptime_seconds));
  meters(parts.meters, provider);
  showButtons(parts.buttons, provider);
}

function sift() {
  const all = world.overview.providers;
  const many = all.length >= MANY;
  const wanted = many ? $("find-provider").value.trim().toLowerCase() : "";
  const blocked = many && $("only-blocked").checked;
  let left = 0;
  for (const { name, type, routable } of all) {
    const hidden = !`${name} ${type}`.toLowerCase().includes(wanted) || (blocked && routable);
    cards.get(name).root.hidden = hidden;
    left += !hidden;
  }
  $("provider-tools").hidden = !many;
  $("providers").classList.toggle("short", many && !$("whole-cards").checked);
  fill($("providers-count"), left === all.length ? String(all.length) : `${left} of ${all.length}`);
  $("providers-none").hidden = left > 0;
  fill($("providers-none"), all.length ? (wanted ? "No provider is called so." : "All providers are routable.") : "This router has no providers.");
}

export function showProviders() {
  const names = world.overview.providers.map((each) => each.name);
  for (const [name, parts] of cards) {
    if (!names.includes(name)) {
      parts.root.remove();
      cards.delete(name);
    }
  }
  world.overview.providers.forEach(showProvider);
  names.forEach((name, index) => {
    const { root } = cards.get(name); // a reload may have put them into another order
    if ($("providers").children[index] !== root) $("providers").insertBefore(root, $("providers").children[index]);
  });
  sift();
}

async function command(name, verb) {
  try {
    showProvider(await ask(`/providers/${encodeURIComponent(name)}/${verb}`, "POST"));
    complain("");
  } catch (error) {
    complain(`${verb} ${name}: ${error.message}`);
  }
}

for (const id of ["find-provider", "only-blocked", "whole-cards"]) $(id).addEventListener("input", () => world.overview && sift());

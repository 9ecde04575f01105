// The page: what the router tells, put into the document.

import { dot, lineChart, seconds } from "./charts.js";
import { cache } from "./cache.js";
import { $, announce, complain, fill, make, span, words } from "./dom.js";
import { keys } from "./keys.js";
import { budgets, costs, drawCosts } from "./money.js";
import { showProviders } from "./providers.js";
import { showDecisions, showRequests } from "./requests.js";
import { colour, learn, recent, world } from "./state.js";
import { Refused, follow, leave, signedIn } from "./wire.js";

const AGAIN_AFTER = [500, 1000, 2000, 5000];
const EVERY = [[costs, 60_000], [budgets, 5_000], [keys, 10_000], [cache, 5_000]]; // what events do not tell

// The head of the page.

function facts() {
  const { overview } = world;
  const routable = overview.providers.filter((each) => each.routable).length;
  const shown = {
    State: overview.draining ? "draining" : overview.ready ? "ready" : "not ready",
    Routable: `${routable} of ${overview.providers.length}`,
    "In flight": String(overview.in_flight),
    Strategy: words(overview.strategy),
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

// Charts.

// What a chart shows, for those who do not see it: the latest average of each provider.
function spoken(title, lines) {
  const latest = lines.filter((each) => each.points.length).map(({ name, points }) => `${name} ${seconds(points.at(-1)[1])}`);
  return `${title}, average of each provider in the last ten minutes. ${latest.length ? `Latest: ${latest.join(", ")}` : "No answers yet"}`;
}

function charts() {
  const { seconds: step, steps } = world.overview.history;
  const points = (name, index) => recent(name).filter((each) => each[index] !== null).map((each) => [each[0], each[index]]);
  const named = world.overview.providers.map(({ name }) => name).sort((one, other) => world.coloured.has(one) - world.coloured.has(other));
  for (const [id, index] of [["chart-latency", 3], ["chart-first", 4]]) {
    const figure = $(id);
    const lines = named.map((name) => ({ name, colour: colour(name), points: points(name, index) }));
    const width = Math.max(260, Math.round(figure.clientWidth - 28));
    figure.replaceChildren(figure.firstElementChild, lineChart({ lines, steps, step, label: spoken(figure.firstElementChild.textContent, lines), width }));
  }
  const shown = world.overview.providers.map(({ name }) => name).filter((name) => world.coloured.has(name));
  const others = named.length - shown.length;
  const key = [...shown.map((name) => `${colour(name)} ${name}`), others].join("\n");
  if ($("legend").dataset.shown === key) return;
  $("legend").dataset.shown = key;
  const entries = shown.map((name) => make("li", {}, dot(colour(name)), name));
  if (others) entries.push(make("li", {}, dot(-1), `${others} others, with fewer requests`));
  $("legend").replaceChildren(...entries);
}

// Events.

function show(overview) {
  learn(overview);
  facts();
  showProviders();
  showRequests();
  charts();
}

let leftOut = 0;
const TELL = {
  overview(data) {
    world.history.clear();
    show(data);
    showDecisions(data.decisions.reverse(), true);
    for (const [look] of EVERY) look();
  },
  snapshot(data) {
    show(data);
    leftOut += data.requests_left_out;
    $("left-out").hidden = !leftOut;
    fill($("left-out"), `${leftOut.toLocaleString("en")} more requests ended than are shown here.`);
  },
  change: (change) => announce(`${change.provider}: ${change.of} ${words(change.to)} (${change.why})`),
  request: (data) => showDecisions([data], false),
  budget(data) {
    announce(`The budget ${data.budget} is used up${data.hard ? ": it refuses requests" : ""}`);
    budgets();
  },
};

function lost(tries) {
  document.body.classList.toggle("stale", tries > 0 && world.overview !== null);
  if (tries === 1) complain("The router does not answer. What is shown here is how it was; it goes on by itself when the router is back.");
  if (tries === 0) complain("");
}

async function live() {
  let tries = 0;
  for (;;) {
    try {
      linked("waiting", tries ? "no connection" : "connecting");
      await follow((name, data) => {
        if (name === "overview") {
          lost((tries = 0));
          linked("good", "live");
        }
        TELL[name]?.(data);
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return; // the sign-in page is on its way
      if (error instanceof Refused) complain(error.message);
    }
    linked("bad", "no connection");
    lost(++tries);
    await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER[Math.min(tries - 1, AGAIN_AFTER.length - 1)]));
  }
}

new ResizeObserver(() => {
  if (!world.overview) return;
  charts();
  drawCosts();
}).observe($("chart-latency").parentElement);
for (const [look, every] of EVERY) setInterval(() => !document.hidden && world.overview && look(), every);
$("leave").hidden = !signedIn();
$("leave").addEventListener("click", () => leave().catch((error) => complain(`sign out: ${error.message}`)));
live();

// What it cost, per day and model, and what budgets have left.

import { COLOURS, barChart, dollars, dot } from "./charts.js";
import { $, cell, fill, make, pill, span, sync, table } from "./dom.js";
import { world } from "./state.js";
import { ask } from "./wire.js";

const DAYS = 7;
const MOST_BUDGETS = 50;
let found = null;

const lastDays = () => [...Array(DAYS).keys()].map((ago) => new Date(world.overview.at * 1000 - (DAYS - 1 - ago) * 86_400_000).toISOString().slice(0, 10));

// One series per model, the dearest first; beyond the colours there are, all others in one.
function series() {
  const models = new Map();
  for (const { model, day, cost, requests, unpriced } of found.costs) {
    const name = model || "(not answered)";
    const each = models.get(name) ?? { name, total: 0, requests: 0, unknown: true, values: new Map() };
    each.total += cost ?? 0;
    each.requests += requests;
    each.unknown &&= unpriced === requests && requests > 0;
    each.values.set(day, (each.values.get(day) ?? 0) + (cost ?? 0));
    models.set(name, each);
  }
  const all = [...models.values()].sort((one, other) => other.total - one.total || one.name.localeCompare(other.name));
  const drawn = all.filter((each) => each.total > 0);
  if (drawn.length > COLOURS) {
    const rest = drawn.splice(COLOURS - 1);
    const values = new Map();
    for (const each of rest) for (const [day, cost] of each.values) values.set(day, (values.get(day) ?? 0) + cost);
    drawn.push({ name: `${rest.length} other models`, values });
  }
  return { all, drawn: drawn.map((each, index) => ({ ...each, colour: index })) };
}

function total({ cost, requests, unpriced }) {
  const counted = requests === 1 ? "1 request" : `${requests.toLocaleString("en")} requests`;
  return `${dollars(cost)} for ${counted}${unpriced ? `; ${unpriced.toLocaleString("en")} of them in part or wholly without a known price` : ""}`;
}

export function drawCosts() {
  if (!found) return;
  const figure = $("chart-costs");
  $("costs-none").hidden = found.costs.length > 0;
  $("costs-table").hidden = figure.hidden = !found.costs.length;
  if (!found.costs.length) {
    fill($("costs-none"), "Nothing was asked in the last seven days.");
    return;
  }
  const days = lastDays();
  const { all, drawn } = series();
  const said = total(found.total);
  const width = Math.max(260, Math.round(figure.clientWidth - 28));
  const chart = barChart({ days, series: drawn, label: `Cost per day and model: ${said}`, width });
  const legend = make("ul", { class: "legend" }, ...drawn.map((each) => make("li", {}, dot(each.colour), each.name)));
  figure.replaceChildren(make("figcaption", {}, said), chart, legend);
  const heads = [["Model"], ...days.map((day) => [day.slice(5), "n"]), ["Total", "n"], ["Requests", "n"]];
  const known = (each, value) => (each.unknown ? "unknown" : dollars(value));
  const rows = all.map((each) => [false, each.name, ...days.map((day) => (each.values.has(day) ? known(each, each.values.get(day)) : "–")), known(each, each.total), each.requests.toLocaleString("en")]);
  $("costs-table").lastElementChild.replaceWith(table("Cost in US dollars per model and day", heads, rows));
}

export async function costs() {
  if (!world.overview.ledger) {
    fill($("costs-none"), "This router keeps no ledger.");
    return;
  }
  try {
    found = await ask(`/costs?group_by=day,model&since=${lastDays()[0]}`);
    drawCosts();
  } catch (error) {
    $("costs-table").hidden = $("chart-costs").hidden = true;
    $("costs-none").hidden = false;
    fill($("costs-none"), `No costs: ${error.message}`);
  }
}

// Budgets.

const WHO = { caller: "caller", key: "key", tag: "tag", group: "group" };

function budgetRow() {
  const meter = make("div", { class: "spent" }, make("meter", { min: "0" }), make("span"));
  const cells = [["Period"], ["Limit", "n"], ["Reserved", "n"], ["Left", "n"]].map(([label, kind]) => cell(label, kind));
  return make("tr", { role: "row" }, cell("Budget", "wide"), cell("State", ""), cells[0], cell("Spent", "", meter), ...cells.slice(1));
}

function showBudget(row, each) {
  const [name, state, period, , limit, reserved, left] = row.cells;
  const share = each.spent_usd / each.limit_usd;
  fill(name, each.scope in WHO ? `${WHO[each.scope]} ${each.name || "(unnamed)"}` : "everything");
  const [tone, word] = each.exceeded ? (each.hard ? ["bad", "used up: refuses"] : ["warn", "used up: goes on"]) : share >= 0.8 ? ["warn", "nearly used up"] : ["good", "has room"];
  if (state.textContent !== word) state.replaceChildren(pill(tone, word));
  const ends = (Date.parse(each.until) / 1000 - world.overview.at);
  fill(period, `${each.period}, ${each.hard ? "hard" : "soft"}, ends in ${span(Math.max(0, ends))}`);
  const [meter, spent] = row.cells[3].firstChild.children;
  [meter.max, meter.low, meter.high, meter.optimum, meter.value] = [each.limit_usd, each.limit_usd * 0.8, each.limit_usd * 0.999, 0, each.spent_usd];
  meter.setAttribute("aria-label", `Spent ${dollars(each.spent_usd)} of ${dollars(each.limit_usd)}`);
  fill(spent, `${dollars(each.spent_usd)} (${share < 10 ? `${Math.floor(share * 100)} %` : "far over"})`);
  fill(limit, dollars(each.limit_usd));
  fill(reserved, dollars(each.reserved_usd));
  fill(left, dollars(each.left_usd));
}

export async function budgets() {
  const say = $("budgets-none");
  try {
    const { budgets: rows } = await ask("/budgets");
    rows.sort((one, other) => other.spent_usd / other.limit_usd - one.spent_usd / one.limit_usd);
    const keyed = rows.slice(0, MOST_BUDGETS).map((each) => [`${each.budget} ${each.hard} ${each.limit_usd}`, each]);
    sync($("budgets").tBodies[0], keyed, budgetRow, showBudget);
    $("budgets").parentElement.hidden = !rows.length;
    say.hidden = rows.length > 0 && rows.length <= MOST_BUDGETS;
    fill(say, rows.length ? `${rows.length - MOST_BUDGETS} more have used a smaller share of theirs.` : "No budgets are declared.");
  } catch (error) {
    say.hidden = false;
    fill(say, `No budgets: ${error.message}`);
  }
}

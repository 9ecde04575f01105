// What the router has told so far.

import { COLOURS } from "./charts.js";

const OTHERS = COLOURS - 1; // the last colour is grey: for all those that have none of their own

export const world = { overview: null, history: new Map(), coloured: new Map() };

export function learn(overview) {
  world.overview = overview;
  const { history } = overview;
  for (const name of world.history.keys()) if (!(name in history.providers)) world.history.delete(name);
  for (const [name, steps] of Object.entries(history.providers)) {
    const known = world.history.get(name) ?? new Map();
    for (const [number, ...values] of steps) known.set(number, values);
    for (const number of known.keys()) if (number <= history.now - history.steps) known.delete(number);
    world.history.set(name, known);
  }
  choose(overview.providers.map((each) => each.name));
}

// Of more providers than there are colours, those with most attempts have one; who has one keeps it while it can.
function choose(names) {
  const many = names.length > COLOURS;
  const wanted = many ? [...names].sort((one, other) => busy(other) - busy(one)).slice(0, OTHERS) : names;
  for (const name of world.coloured.keys()) if (!wanted.includes(name)) world.coloured.delete(name);
  const free = [...Array(many ? OTHERS : COLOURS).keys()].filter((each) => ![...world.coloured.values()].includes(each));
  for (const name of wanted) if (!world.coloured.has(name)) world.coloured.set(name, free.shift());
}

const busy = (name) => [...(world.history.get(name)?.values() ?? [])].reduce((sum, [ok, failed]) => sum + ok + failed, 0);

export const colour = (provider) => world.coloured.get(provider) ?? OTHERS;

// [steps ago, went well, failed, seconds of an answer, seconds to its first token], the oldest first.
export function recent(name) {
  const known = [...(world.history.get(name) ?? [])].sort(([one], [other]) => one - other);
  return known.map(([number, values]) => [world.overview.history.now - number, ...values]);
}

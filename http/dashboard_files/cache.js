// The cache of answers, where there is one.

import { $, complain, fill, make } from "./dom.js";
import { ask } from "./wire.js";

const MIB = 1024 * 1024;

export async function cache() {
  try {
    const found = await ask("/cache");
    $("cache").hidden = !found.enabled;
    if (found.enabled) show(found);
  } catch (error) {
    complain(`cache: ${error.message}`);
  }
}

function show({ entries, bytes, max_bytes: most, hits, misses, hit_rate: rate, ttl_seconds: ttl, shared }) {
  const shown = {
    Hits: hits.toLocaleString("en"),
    Misses: misses.toLocaleString("en"),
    "Hit rate": rate === null ? "–" : `${(rate * 100).toFixed(1)} %`,
    Answers: entries.toLocaleString("en"),
    Memory: `${(bytes / MIB).toFixed(1)} of ${(most / MIB).toFixed(0)} MiB`,
    "Kept for": `${ttl} s`,
    "Across keys": shared ? "shared" : "never",
  };
  const list = $("cache-facts");
  if (!list.childElementCount) list.append(...Object.keys(shown).map((name) => make("div", {}, make("dt", {}, name), make("dd"))));
  Object.values(shown).forEach((value, index) => fill(list.children[index].lastChild, value));
}

$("cache-empty").addEventListener("click", async () => {
  try {
    await ask("/cache", "DELETE");
    await cache();
  } catch (error) {
    complain(`empty the cache: ${error.message}`);
  }
});

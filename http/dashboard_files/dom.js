// Making and filling elements, and what every part of the page says alike. Text is only ever set as text.

export const $ = (id) => document.getElementById(id);

export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Only what differs is touched: a selection stays, and nothing is read out twice.
export function fill(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const words = (text) => (text ?? "").replaceAll("_", " ");

// Seconds in words that stay on one line.
export function span(value) {
  const whole = Math.floor(value);
  const parts = whole < 60 ? [whole, "s"] : whole < 3600 ? [Math.floor(whole / 60), "min"] : [Math.floor(whole / 86_400), "d"];
  if (whole >= 3600 && whole < 172_800) parts.splice(0, 2, Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return parts.join("\u00a0");
}

export const pill = (state, text) => make("span", { class: "pill", "data-state": state }, text);

// What went wrong with something that was asked for; "" when it is over.
export function complain(text) {
  $("alert").hidden = !text;
  fill($("alert"), text);
}

// For those who hear the page; said once, when nothing else is.
export function announce(text) {
  $("news").append(make("p", {}, text));
  while ($("news").childElementCount > 20) $("news").firstChild.remove();
}

// A cell with the name of its column, which narrow screens show in the place of the head.
export const cell = (label, kind, ...children) => make("td", { role: "cell", class: kind || null, "data-label": label }, ...children);

const head = ([name, kind]) => make("th", { role: "columnheader", scope: "col", class: kind ?? null }, name);

// `heads`: [[name, class]], `rows`: [[whether it is marked, ...cells]]. Its roles are told, since narrow screens show rows as blocks.
export function table(caption, heads, rows) {
  const cells = (row) => row.map((value, index) => cell(heads[index][0], heads[index][1], value));
  const body = rows.map(([marked, ...row]) => make("tr", { role: "row", class: marked ? "won" : null }, ...cells(row)));
  const top = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads.map(head)));
  const made = make("table", { role: "table" }, make("caption", {}, caption), top, make("tbody", { role: "rowgroup" }, ...body));
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, made);
}

// The rows of `body` become `rows`: [key, data]. Those that stay are kept, with what has the focus in them.
export function sync(body, rows, begin, show) {
  const there = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const wanted = new Set(rows.map(([key]) => key));
  for (const [key, row] of there) if (!wanted.has(key)) row.remove();
  rows.forEach(([key, data], index) => {
    const row = there.get(key) ?? begin(data);
    row.dataset.id = key;
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
    show(row, data);
  });
}

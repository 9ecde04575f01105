// Small pictures in SVG. Everything is made by createElementNS and attributes, which the page's policy allows.

const NAMESPACE = "http://www.w3.org/2000/svg";
export const COLOURS = 8; // the last one is grey

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A dot of the legend.
export const dot = (of) => svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("circle", { cx: 6, cy: 6, r: 5, class: `bar s${(of + COLOURS) % COLOURS}` }));

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 100 ? `${value.toPrecision(3)} s` : `${Math.round(value)} s`;
}

export function dollars(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "$0";
  if (value < 0.01) return `$${value.toPrecision(2)}`;
  return `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

// The next round number above, so that an axis has sensible steps.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((each) => each * power).find((each) => each >= value);
}

function frame(width, height, label) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label });
}

function axis(picture, { left, top, right, bottom }, most, words) {
  for (const part of [0, 0.5, 1]) {
    const y = bottom - (bottom - top) * part;
    picture.append(svg("line", { x1: left, x2: right, y1: y, y2: y, class: "grid" }));
    picture.append(svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, words(most * part)));
  }
}

// `lines`: [{name, colour, points: [[steps ago, value]]}]. A gap of more than two steps is not bridged.
export function lineChart({ lines, steps, step, label, width = 560 }) {
  const height = 190;
  const area = { left: 58, top: 12, right: width - 12, bottom: height - 24 };
  const picture = frame(width, height, label);
  const values = lines.flatMap((line) => line.points.map((point) => point[1]));
  const most = ceiling(Math.max(0.001, ...values));
  axis(picture, area, most, seconds);
  const minutes = (steps * step) / 60;
  const x = (ago) => area.right - ((area.right - area.left) * ago) / (steps - 1);
  const y = (value) => area.bottom - ((area.bottom - area.top) * value) / most;
  for (const ago of [0, 0.5, 1]) {
    const words = ago ? `${minutes * ago} min ago` : "now";
    const anchor = ago === 0 ? "end" : ago === 1 ? "start" : "middle";
    picture.append(svg("text", { x: x((steps - 1) * ago), y: height - 7, "text-anchor": anchor }, words));
  }
  for (const { colour, points } of lines) {
    let path = "";
    let last = null;
    for (const [ago, value] of points) {
      const joined = last !== null && last - ago <= 2;
      path += `${joined ? "L" : "M"}${x(ago).toFixed(1)} ${y(value).toFixed(1)}`;
      if (!joined) picture.append(svg("circle", { cx: x(ago), cy: y(value), r: 1.6, class: `bar s${colour}` }));
      last = ago;
    }
    if (path) picture.append(svg("path", { d: path, class: `series s${colour}` }));
  }
  if (!values.length) picture.append(svg("text", { x: (area.left + area.right) / 2, y: height / 2 - 14, "text-anchor": "middle" }, "no answers yet"));
  return picture;
}

// `days`: [day], `series`: [{name, colour, values: Map(day -> dollars)}], stacked.
export function barChart({ days, series, label, width = 900 }) {
  const height = 220;
  const area = { left: 58, top: 12, right: width - 12, bottom: height - 24 };
  const picture = frame(width, height, label);
  const totals = days.map((day) => series.reduce((sum, each) => sum + (each.values.get(day) ?? 0), 0));
  const most = ceiling(Math.max(1e-6, ...totals));
  axis(picture, area, most, dollars);
  const slot = (area.right - area.left) / days.length;
  const thick = Math.min(64, slot * 0.6);
  const named = slot < 46 ? 2 : 1; // every second day where there is no room for all
  days.forEach((day, index) => {
    const middle = area.left + slot * (index + 0.5);
    let base = area.bottom;
    for (const { name, colour, values } of series) {
      const value = values.get(day) ?? 0;
      const tall = ((area.bottom - area.top) * value) / most;
      if (!tall) continue;
      base -= tall;
      const bar = { x: middle - thick / 2, y: base, width: thick, height: tall, class: `bar s${colour}` };
      picture.append(svg("rect", bar, svg("title", {}, `${day} ${name}: ${dollars(value)}`)));
    }
    if ((days.length - 1 - index) % named) return;
    picture.append(svg("text", { x: middle, y: height - 7, "text-anchor": "middle" }, day.slice(5)));
  });
  return picture;
}

// The circuit's states in the last `span` seconds, from its transitions and the state it has now.
// Before the router's start, `uptime` seconds ago, nothing is known.
export function timeline(transitions, now, span, uptime) {
  const moves = transitions.filter((each) => each.of === "circuit");
  const picture = svg("svg", { class: "strip", viewBox: "0 0 1000 14", preserveAspectRatio: "none", role: "img" });
  const before = moves.filter((each) => each.seconds_ago > span);
  const within = moves.filter((each) => each.seconds_ago <= span);
  let state = before.length ? before.at(-1).to : within.length ? within[0].from : now;
  let from = Math.min(span, uptime);
  const pieces = from < span ? [["unknown", span, from]] : [];
  for (const move of within) {
    pieces.push([state, from, move.seconds_ago]);
    [state, from] = [move.to, move.seconds_ago];
  }
  pieces.push([state, from, 0]);
  for (const [of, since, until] of pieces) {
    const bar = { x: ((span - since) / span) * 1000, width: Math.max(((since - until) / span) * 1000, 2), y: 0, height: 14, class: `t-${of}` };
    picture.append(svg("rect", bar));
  }
  const times = within.length === 1 ? "1 change" : `${within.length} changes`;
  picture.setAttribute("aria-label", `Circuit ${now.replace("_", " ")}, ${times} in ten minutes`);
  return picture;
}

// Attempts of one request as bars on one line of time.
export function waterfall(attempts, total) {
  const row = 26;
  const width = 860;
  const picture = svg("svg", { class: "waterfall", viewBox: `0 0 ${width} ${attempts.length * row + 4}`, role: "img", "aria-label": "Attempts in time" });
  const span = Math.max(total, ...attempts.map((each) => each.ended), 1e-6);
  attempts.forEach((each, index) => {
    const x = 170 + (each.started / span) * (width - 260);
    const long = Math.max(((each.ended - each.started) / span) * (width - 260), 2);
    const tone = { ok: "t-closed", running: "t-half_open", cancelled: "t-unknown" }[each.outcome] ?? "t-open";
    picture.append(svg("text", { x: 0, y: index * row + 17 }, `${each.provider.slice(0, 20)} ${each.outcome === "ok" ? "" : each.outcome.replaceAll("_", " ")}`));
    picture.append(svg("rect", { x, y: index * row + 5, width: long, height: 16, rx: 3, class: tone }));
    if (each.first_token !== null) {
      const at = 170 + (each.first_token / span) * (width - 260);
      picture.append(svg("line", { x1: at, x2: at, y1: index * row + 2, y2: index * row + 24, class: "series s0" }));
    }
    picture.append(svg("text", { x: x + long + 6, y: index * row + 17 }, seconds(each.ended - each.started)));
  });
  return picture;
}

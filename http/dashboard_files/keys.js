// Keys of callers: the list, and handing out, rotating and revoking them.

import { $, announce, cell, fill, make, pill, sync } from "./dom.js";
import { world } from "./state.js";
import { ask } from "./wire.js";

const MOST = 200;
const TONES = { active: "good", expired: "warn", revoked: "idle" };
const NOTES = {
  keys: "",
  open: "This router asks nobody for a key: auth.mode is open. Keys count once it is keys.",
  static_key: "This router asks for one key of its own: auth.mode is static_key. These count once it is keys.",
  passthrough: "This router asks nobody for a key of its own: auth.mode is passthrough. Keys count once it is keys.",
};
let found = [];
let done = null; // what the dialog is about to do

const many = (value) => (value === null ? null : value.toLocaleString("en"));

function limits(key) {
  const parts = [
    key.requests_per_minute && `${many(key.requests_per_minute)} requests/min`,
    key.tokens_per_minute && `${many(key.tokens_per_minute)} tokens/min`,
    key.max_concurrent && `${many(key.max_concurrent)} at once`,
    key.budget && `$${key.budget}`,
    key.priority !== "default" && `priority ${key.priority}`,
  ];
  return parts.filter(Boolean).join(", ") || "none";
}

function use(key) {
  if (!key.use || key.state !== "active") return "–";
  const { in_flight: running, requests_left: requests, tokens_left: tokens } = key.use;
  const left = [requests !== null && `${many(Math.floor(requests))} requests left`, tokens !== null && `${many(Math.floor(tokens))} tokens left`];
  return [`${running} in flight`, ...left.filter(Boolean)].join(", ");
}

function keyRow(key) {
  const command = (title, kind, act) => make("button", { type: "button", class: kind, "aria-label": `${title} the key ${key.name}`, onclick: act }, title);
  const buttons = make("div", { class: "buttons" }, command("Rotate", null, () => rotate(key)), command("Revoke", "danger", () => revoke(key)));
  const name = cell("Key", "wide", make("strong", {}, key.name), " ", make("span", { class: "id soft" }, key.id));
  const cells = ["State", "Models", "Limits", "Now", "Ends"].map((label) => cell(label, label === "State" ? "" : "wrap"));
  return make("tr", { role: "row" }, name, ...cells, cell("", "act", buttons));
}

function showKey(row, key) {
  const [, state, models, limited, now, ends, act] = row.cells;
  if (state.textContent !== key.state) state.replaceChildren(pill(TONES[key.state], key.state));
  const groups = key.groups.length ? `groups ${key.groups.join(", ")}` : "";
  fill(models, [key.models.join(", "), groups].filter(Boolean).join("; ") || "all");
  fill(limited, limits(key));
  fill(now, use(key));
  const until = { active: key.expires_at, expired: key.expires_at, revoked: key.revoked_at }[key.state];
  const old = key.old_secret_until ? `; old secret until ${key.old_secret_until.slice(0, 16).replace("T", " ")}` : "";
  fill(ends, (until ? until.slice(0, 10) : "never") + old);
  act.firstChild.hidden = key.state === "revoked";
}

function show() {
  const wanted = $("find-key").value.trim().toLowerCase();
  const everything = $("revoked-too").checked;
  const rows = found.filter((key) => (everything || key.state !== "revoked") && `${key.name} ${key.id}`.toLowerCase().includes(wanted));
  sync($("keys").tBodies[0], rows.slice(0, MOST).map((key) => [key.id, key]), keyRow, showKey);
  $("keys").parentElement.hidden = !rows.length;
  fill($("keys-count"), String(found.filter((key) => key.state === "active").length));
  const none = rows.length > MOST ? `${rows.length - MOST} more; look for them by name.` : rows.length ? "" : wanted ? "No key is called so." : "No key has been handed out.";
  $("keys-none").hidden = !none;
  fill($("keys-none"), none);
}

export async function keys() {
  $("keys-tools").hidden = !world.overview.ledger;
  const note = NOTES[world.overview.auth] ?? "";
  $("keys-note").hidden = !note || !world.overview.ledger;
  fill($("keys-note"), note);
  if (!world.overview.ledger) {
    fill($("keys-none"), "This router has no database to keep keys in: ledger.url is null.");
    return;
  }
  try {
    found = (await ask("/keys")).keys.reverse();
    show();
  } catch (error) {
    $("keys-none").hidden = false;
    fill($("keys-none"), `No keys: ${error.message}`);
  }
}

// The dialog: a question, and where there is one, the key that it has made.

function open(title, submit, part, act) {
  fill($("key-title"), title);
  fill($("key-submit"), submit);
  fill($("key-error"), "");
  for (const id of ["key-create", "key-rotate", "key-revoke", "key-made"]) $(id).hidden = id !== part;
  $("key-submit").hidden = false;
  $("key-submit").className = part === "key-revoke" ? "danger" : "primary";
  fill($("key-close"), "Cancel");
  done = act;
  $("key-dialog").showModal();
  ($(part).querySelector("input, select") ?? $("key-close")).focus();
}

function made({ key, name }) {
  for (const id of ["key-create", "key-rotate", "key-revoke"]) $(id).hidden = true;
  $("key-made").hidden = false;
  $("key-submit").hidden = true;
  fill($("key-title"), `The key ${name}`);
  fill($("key-close"), "Done");
  fill($("key-copied"), "");
  $("key-text").value = key;
  $("key-text").select();
  done = null;
}

const list = (id) => ($(id).value.trim() ? $(id).value.split(",").map((each) => each.trim()).filter(Boolean) : undefined);
const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));

// The fields that were filled in; the router says what is wrong with them.
function declared() {
  const budget = $("key-budget").value.trim();
  return {
    name: $("key-name").value.trim(),
    models: list("key-models"),
    groups: list("key-groups"),
    requests_per_minute: number("key-rpm"),
    tokens_per_minute: number("key-tpm"),
    max_concurrent: number("key-most"),
    budget: budget ? `${budget}/${$("key-period").value}` : undefined,
    expires: $("key-expires").value.trim() || undefined,
    priority: $("key-priority").value,
    names_callers: $("key-callers").checked,
  };
}

$("key-new").addEventListener("click", () => {
  $("key-form").reset();
  open("New key", "Create", "key-create", async () => made(await ask("/keys", "POST", declared())));
});

function rotate({ id, name }) {
  const act = async () => {
    const keep = $("key-keep").value;
    made({ ...(await ask(`/keys/${id}/rotate`, "POST", keep ? { keep_old: keep } : {})), name });
  };
  open(`Rotate the key ${name}`, "Rotate", "key-rotate", act);
}

function revoke({ id, name }) {
  const act = async () => {
    await ask(`/keys/${id}`, "DELETE");
    $("key-dialog").close();
    announce(`The key ${name} was revoked.`);
  };
  open(`Revoke the key ${name}`, "Revoke", "key-revoke", act);
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const act = done;
  if (!act) return;
  done = null; // once, however often it is pressed
  try {
    await act();
    await keys();
  } catch (error) {
    done = act;
    fill($("key-error"), error.message);
  }
});
$("key-close").addEventListener("click", () => $("key-dialog").close());
$("key-dialog").addEventListener("close", () => {
  $("key-text").value = ""; // shown once
  $("key-new").focus();
});
$("key-copy").addEventListener("click", async () => {
  $("key-text").select();
  try {
    await navigator.clipboard.writeText($("key-text").value);
    fill($("key-copied"), "Copied.");
  } catch {
    fill($("key-copied"), "It is selected: copy it with Ctrl+C."); // the clipboard is closed to pages without TLS
  }
});
for (const id of ["find-key", "revoked-too"]) $(id).addEventListener("input", show);

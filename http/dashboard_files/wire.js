// The API: requests with the management token, the stream of events, and leaving the page.

const PREFIX = "/_infermux";
const KEPT_AS = "infermux-management-token"; // the sign-in page keeps it
const SILENT_AFTER = 6000; // milliseconds; a snapshot comes every second

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const signedIn = () => sessionStorage.getItem(KEPT_AS) !== null;

function send(path, { method = "GET", body, signal, credentials = "omit" } = {}) {
  const kept = sessionStorage.getItem(KEPT_AS);
  const headers = kept ? { Authorization: `Bearer ${kept}` } : {};
  return fetch(PREFIX + path, { method, headers, signal, credentials, cache: "no-store", body: body && JSON.stringify(body) });
}

async function checked(response) {
  if (response.ok) return response;
  if (response.status === 401) await leave();
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // whatever answered has no error of ours to tell
  }
  throw new Refused(response.status, message);
}

// Forget token and cookie, and go where one signs in.
export async function leave() {
  await send("/session", { method: "DELETE", credentials: "same-origin" });
  sessionStorage.removeItem(KEPT_AS);
  location.replace(`${PREFIX}/`);
}

// The JSON of an answer. Throws Refused, and TypeError where nobody answers.
export async function ask(path, method = "GET", body = undefined) {
  return (await checked(await send(path, { method, body }))).json();
}

// Calls `tell(name, data)` for each event until the stream ends, or is silent. EventSource cannot send the token; fetch can.
export async function follow(tell) {
  const silence = new AbortController();
  const listen = () => setTimeout(() => silence.abort(), SILENT_AFTER);
  let patience = listen();
  try {
    const response = await checked(await send("/events", { signal: silence.signal }));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(patience);
      patience = listen();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
        tell(fields.event, JSON.parse(fields.data));
      }
    }
  } finally {
    clearTimeout(patience);
  }
}

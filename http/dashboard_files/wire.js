// The API: requests with the management token, and the stream of events.

const PREFIX = "/_infermux";
const KEPT_AS = "infermux-management-token";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT_AS),
  keep: (text) => sessionStorage.setItem(KEPT_AS, text),
  forget: () => sessionStorage.removeItem(KEPT_AS),
};

function send(path, method, signal) {
  const kept = token.get();
  const headers = kept ? { Authorization: `Bearer ${kept}` } : {};
  return fetch(PREFIX + path, { method, headers, signal, credentials: "omit", cache: "no-store" });
}

async function checked(response) {
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // whatever answered has no error of ours to tell
  }
  throw new Refused(response.status, message);
}

// The JSON of an answer. Throws Refused, and TypeError where nobody answers.
export async function ask(path, method = "GET") {
  return (await checked(await send(path, method))).json();
}

// Calls `tell(name, data)` for each event until the stream ends. EventSource cannot send the token; fetch can.
export async function follow(tell, signal) {
  const response = await checked(await send("/events", "GET", signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      tell(fields.event, JSON.parse(fields.data));
    }
  }
}

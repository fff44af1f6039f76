// Asking the gateway that serves this page, and nobody else: JSON, and server-sent events with a key.

let key = sessionStorage.getItem("ndn-infer-key") || "";

export const hasKey = () => key !== "";

export function setKey(value) {
  key = value.trim();
  if (key) sessionStorage.setItem("ndn-infer-key", key);
  else sessionStorage.removeItem("ndn-infer-key");
}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const newId = () => `page-${[...crypto.getRandomValues(new Uint8Array(12))].map((one) => one.toString(16).padStart(2, "0")).join("")}`;

export async function ask(path, { body, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (key) all.Authorization = `Bearer ${key}`;
  if (body) all["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body ? "POST" : "GET", body: body && JSON.stringify(body), headers: all, signal, cache: "no-store",
    credentials: "omit",
  });
  if (!answer.ok) throw new ApiError(answer.status, await words(answer));
  return answer;
}

export const json = async (path, options) => (await ask(path, options)).json();

async function words(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `the gateway answered ${answer.status}`;
  }
}

// The events of one response: {id, name, data}, in order.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      let end;
      while ((end = held.indexOf("\n\n")) >= 0) {
        const event = parse(held.slice(0, end));
        held = held.slice(end + 2);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(text) {
  const event = { id: "", name: "", data: "" };
  for (const line of text.split("\n")) {
    if (line.startsWith("data:")) event.data += line.slice(5).trimStart();
    else if (line.startsWith("id:")) event.id = line.slice(3).trim();
    else if (line.startsWith("event:")) event.name = line.slice(6).trim();
  }
  return event.data || event.name ? event : null;
}

// Reads `path` until it ends or `signal` says so, and goes on after every break where it was.
export async function follow(path, { signal, take, state = () => {} }) {
  let last = "";
  let pause = 500;
  while (!signal.aborted) {
    try {
      const answer = await ask(path, { signal, headers: last ? { "Last-Event-ID": last } : {} });
      state("open");
      pause = 500;
      for await (const event of events(answer)) {
        if (event.name === "end") return;
        if (event.id) last = event.id;
        take(JSON.parse(event.data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [400, 401, 403, 404].includes(error.status)) {
        state("refused", error);
        return;
      }
    }
    if (signal.aborted) return;
    state("lost");
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 1.6, 5000);
  }
}

// The page: what stands where, which view is shown, and how its parts hear of each other.

import { $, el, span } from "./dom.js";
import { ApiError, follow, hasKey, json, setKey } from "./api.js";
import { Chat } from "./chat.js";
import { NetworkMap } from "./map.js";
import { PacketView } from "./packet.js";
import { packetOf, Waterfall } from "./waterfall.js";

const say = (words) => { $("live").textContent = words; };
const wide = matchMedia("(min-width: 60rem)");

// ---------------------------------------------------------------- views

function goTo(view, { focus = false } = {}) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll("[data-goto]")) {
    if (button.dataset.goto === view) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  map.looking(view === "network" && !document.hidden);
  if (focus) $(`${view}-title`)?.focus({ preventScroll: true });
}

let watching = null;
let listed = Promise.resolve();  // models, as far as they are known
const packets = new PacketView();
const map = new NetworkMap();
const names = new Waterfall({
  openPacket: (answer, row, packet) => openPacket(answer, row, packet),
  onChange: (answer) => chat.told(answer),
});
const chat = new Chat({
  model: async () => { await listed; return $("model").value; },
  onAsk: (id) => { names.show(id); if (wide.matches) goTo("names"); say("Asking"); },
  onShow: (id) => { names.show(id); goTo("names"); },
  onToken: (id, place, text) => openToken(id, place, text),
  onEnd: (message) => {
    if (message.state === "done") say(`Answer complete: ${message.content}`);
    if (message.state === "stopped") say("Stopped");
    if (message.state === "failed") names.failed(message.id);
  },
  say,
  refused: () => wantKey("This key is none of the gateway's."),
});

for (const button of document.querySelectorAll("[data-goto]")) button.addEventListener("click", () => goTo(button.dataset.goto));
// A tab that nobody sees holds no connection: a browser has six to one gateway.
document.addEventListener("visibilitychange", () => {
  map.looking(document.body.dataset.view === "network" && !document.hidden);
  if (document.hidden) watching?.abort();
  else if (watching) watch();
});
wide.addEventListener("change", () => { if (wide.matches && document.body.dataset.view === "chat") goTo("names"); });

async function openToken(id, place, text) {
  const answer = names.show(id);
  let token = answer.tokenAt(place);
  if (!token) {
    try { answer.take(await json(`/network/answers/${encodeURIComponent(id)}`)); } catch { /* said below */ }
    token = answer.tokenAt(place);
  }
  if (!token || token.row < 0) {
    goTo("packet", { focus: true });
    packets.waiting("What carried this word is not kept any more: the gateway keeps its last answers only.");
    return;
  }
  await openPacket(id, token.row, token.packet, token);
}

async function openPacket(answer, row, packet, token = null) {
  goTo("packet", { focus: true });
  try {
    packets.show(await packetOf(answer, row, packet), token);
  } catch (error) {
    packets.waiting(error instanceof ApiError ? error.message : "The gateway does not answer.");
  }
}

// ---------------------------------------------------------------- answers of this gateway, whoever asked

function listAnswers(told) {
  const chosen = names.shown;
  const known = told.answers.map((one) => ({ ...one, key: one.request_id.startsWith("page-") ? one.request_id : one.id }));
  $("answers").replaceChildren(...known.map((one) => el("option", { value: one.key },
    `${new Date(one.created * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })}  ${one.path.replace("/v1/", "").replace("/completions", "")}  ${one.state === "open" ? "…" : span(one.duration_ms)}`)));
  if (!known.length) $("answers").replaceChildren(el("option", { value: "" }, "none yet"));
  if (known.some((one) => one.key === chosen)) $("answers").value = chosen;
  else if (known.length && !chosen) names.show(known[0].key);
}
$("answers").addEventListener("change", () => { if ($("answers").value) names.show($("answers").value); });

function state(kind, words) {
  $("state").dataset.state = kind;
  $("state-words").textContent = words;
}

function watch() {
  watching?.abort();
  watching = new AbortController();
  let lost = false;
  follow("/network/answers/events", {
    signal: watching.signal,
    take: listAnswers,
    state: (kind, error) => {
      if (kind === "open") {
        state("good", "connected");
        if (lost) { say("Connected again"); listed = models(); }
        lost = false;
      } else if (kind === "lost") {
        if (!lost) say("The gateway does not answer. Trying again.");
        lost = true;
        state("bad", "connecting again");
      } else {
        state("bad", "not admitted");
        if (error.status === 401) wantKey(hasKey() ? "This key is none of the gateway's." : "");
      }
    },
  });
}

// ---------------------------------------------------------------- models, key, theme

async function models() {
  const select = $("model");
  try {
    const found = (await json("/v1/models")).data.filter((one) => one.kind === "causal-lm");
    const before = select.value;
    select.replaceChildren(...found.map((one) => el("option", { value: one.id }, one.id)));
    if (found.some((one) => one.id === before)) select.value = before;
    if (!found.length) {
      select.replaceChildren(el("option", { value: "" }, "none offered"));
      $("hint").textContent = "No producer offers a model that generates text: 'ndn-infer produce' starts one.";
    }
  } catch (error) {
    select.replaceChildren(el("option", { value: "" }, "unknown"));
    if (error instanceof ApiError && error.status === 401) wantKey("");
  }
}

function wantKey(words) {
  $("key-error").textContent = words;
  $("key-error").hidden = !words;
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

$("key-button").addEventListener("click", () => wantKey(""));
$("key-form").addEventListener("submit", () => {
  setKey($("key").value);
  $("key").value = "";
  start();
});

const THEMES = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };

function theme(name) {
  if (name === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = THEMES[name][0];
  $("theme").setAttribute("aria-label", `Theme: ${THEMES[name][1]}`);
  $("theme").title = `Theme: ${THEMES[name][1]}`;
  localStorage.setItem("ndn-infer-theme", name);
}

$("theme").addEventListener("click", () => {
  const all = Object.keys(THEMES);
  theme(all[(all.indexOf(localStorage.getItem("ndn-infer-theme") || "system") + 1) % all.length]);
});

function start() {
  watch();
  listed = models();
}

async function open() {
  theme(THEMES[localStorage.getItem("ndn-infer-theme")] ? localStorage.getItem("ndn-infer-theme") : "system");
  goTo(wide.matches ? "names" : "chat");
  try {
    const about = await json("/network/about");
    $("key-button").hidden = !about.key_wanted;
    if (about.key_wanted && !hasKey()) { state("wait", "a key is wanted"); wantKey(""); return; }
  } catch {
    state("bad", "connecting again");
  }
  start();
}

open();

// The chat: conversations kept in memory, answers as streams, each word a way to the packet that carried it.

import { $, el, many, roving, span } from "./dom.js";
import { ApiError, ask, events, newId } from "./api.js";
import { visible } from "./packet.js";

const SAMPLES = ["What is the capital of France?", "Why is the sky blue?", "Write three lines about a lighthouse."];

export class Chat {
  // `onAsk(id)` when a question is sent, `onToken(id, place)` when a word is chosen, `onShow(id)` for the names.
  constructor({ model, onAsk, onToken, onShow, onEnd, say, refused }) {
    Object.assign(this, { model, onAsk, onToken, onShow, onEnd, say, refused });
    this.root = $("messages");
    this.prompt = $("prompt");
    this.chats = [];
    this.control = null;
    roving(this.root, ".token", { sideways: true });
    this.root.addEventListener("click", (event) => this.chosen(event));
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        if (this.chosen(event)) event.preventDefault();
      }
    });
    $("composer").addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.send(); }
    });
    this.prompt.addEventListener("input", () => this.fit());
    $("stop").addEventListener("click", () => this.control?.abort());
    $("new-chat").addEventListener("click", () => { this.begin(); this.prompt.focus(); });
    $("chats").addEventListener("change", () => { this.chat = this.chats[Number($("chats").value)]; this.draw(); });
    this.begin();
  }

  begin() {
    this.chat = this.chats.find((one) => !one.messages.length);
    if (!this.chat) {
      this.chat = { title: "", messages: [] };
      this.chats.push(this.chat);
    }
    this.draw();
  }

  fit() {
    this.prompt.style.height = "auto";
    this.prompt.style.height = `${Math.min(this.prompt.scrollHeight, 200)}px`;
  }

  list() {
    $("chats").replaceChildren(...this.chats.map((chat, place) => el("option", { value: place }, chat.title || "new")));
    $("chats").value = String(this.chats.indexOf(this.chat));
  }

  draw() {
    this.list();
    if (this.chat.messages.length) this.root.replaceChildren(...this.chat.messages.map((message) => this.message(message)));
    else this.root.replaceChildren(this.hello());
    this.root.scrollTop = this.root.scrollHeight;
  }

  hello() {
    return el("div", { class: "hello" },
      el("p", { class: "lead" }, "Ask, and watch the answer come together."),
      el("p", {}, "No server is asked here. Each step of an answer has a name, and whoever has what it names may give it: a cache, a peer, or the machine that computes it. Every packet is verified before it is used."),
      el("div", { class: "samples" }, SAMPLES.map((text) => el("button", { type: "button", class: "quiet", on: { click: () => this.send(text) } }, text))));
  }

  message(message) {
    if (message.role === "user") return el("div", { class: "message user" }, el("p", {}, message.content));
    message.node = el("div", { class: "message assistant" });
    message.text = el("p", { class: "answer", role: "group", "aria-label": "Answer; its words lead to their packets" });
    message.foot = el("div", { class: "foot" });
    message.node.append(message.text, message.foot);
    message.pieces.forEach((piece) => this.piece(message, piece));
    this.foot(message);
    return message.node;
  }

  piece(message, { text, at }) {
    const token = el("span", {
      class: "token", role: "button", tabindex: message.text.childElementCount ? "-1" : "0", "data-at": at,
      "aria-label": text.trim() ? null : "white space",
    }, text);
    message.text.append(token);
  }

  foot(message) {
    const parts = [];
    message.text.classList.toggle("waiting", message.state === "waiting");
    if (message.state === "waiting") parts.push(el("span", { class: "pulse" }, message.pieces.length ? "answering" : "waiting for the first token"));
    if (message.state === "stopped") parts.push(el("span", {}, "stopped"));
    if (message.state === "failed") parts.push(el("span", { class: "wrong" }, message.error));
    if (message.state === "done") parts.push(el("span", {}, `${many(message.tokens || message.pieces.length, "token")} in ${span(message.took)}`));
    if (message.finish === "length") parts.push(el("span", {}, "cut at its longest"));
    if (message.cached) parts.push(el("span", { class: "good" }, message.cached));
    if (message.refusals) parts.push(el("span", { class: "wrong" }, `${many(message.refusals, "packet")} refused`));
    if (message.id) parts.push(el("button", { type: "button", class: "link", on: { click: () => this.onShow(message.id) } }, "Names"));
    if (message.state !== "waiting") parts.push(el("button", { type: "button", class: "link", on: { click: () => this.again(message) } }, message.state === "done" ? "Ask again" : "Try again"));
    message.foot.replaceChildren(...parts);
  }

  // What the ledger says of an answer, when it is complete.
  told(answer) {
    for (const chat of this.chats) for (const message of chat.messages) {
      if (message.id !== answer.id || !message.foot) continue;
      message.refusals = answer.refused;
      const stream = [...answer.rows.values()].find((row) => row.kind === "token stream");
      const from = stream ? new Set(stream.packets.map((one) => one.origin)) : new Set();
      message.cached = answer.summary.state === "done" && from.size === 1 && from.has("store") ? "from the Content Store of this machine" : "";
      this.foot(message);
    }
  }

  chosen(event) {
    const token = event.target.closest(".token");
    if (!token) return false;
    for (const one of this.root.querySelectorAll(".token.chosen")) one.classList.remove("chosen");
    token.classList.add("chosen");
    const message = this.chat.messages.find((one) => one.text === token.parentElement);
    this.onToken(message.id, Number(token.dataset.at), visible(token.textContent));
    return true;
  }

  again(message) {
    if (this.control) return;
    this.chat.messages.splice(this.chat.messages.indexOf(message));
    this.draw();
    this.answer();
  }

  async send(given) {
    const text = (given ?? this.prompt.value).trim();
    if (!text || this.control) return;
    if (given === undefined) { this.prompt.value = ""; this.fit(); }
    if (!this.chat.title) this.chat.title = text.length > 40 ? `${text.slice(0, 38)}…` : text;
    this.chat.messages.push({ role: "user", content: text });
    this.draw();
    await this.answer();
  }

  async answer() {
    const message = { role: "assistant", content: "", pieces: [], state: "waiting", id: newId(), began: performance.now() };
    const asked = this.chat.messages.map(({ role, content }) => ({ role, content }));
    this.chat.messages.push(message);
    const node = this.message(message);
    this.root.append(node);
    this.root.scrollTop = this.root.scrollHeight;
    this.control = new AbortController();
    this.busy(true);
    this.onAsk(message.id);
    try {
      await this.read(message, asked);
      message.state = "done";
    } catch (error) {
      this.failed(message, error);
    }
    message.took = performance.now() - message.began;
    this.control = null;
    this.busy(false);
    this.foot(message);
    this.onEnd(message);
  }

  failed(message, error) {
    message.state = this.control.signal.aborted ? "stopped" : "failed";
    message.error = error instanceof ApiError ? error.message : "The gateway went away in the middle of the answer.";
    if (error instanceof ApiError && error.status === 401) this.refused();
    if (message.state === "failed") this.say(message.error);
  }

  async read(message, asked) {
    const body = { model: await this.model(), messages: asked, stream: true, stream_options: { include_usage: true } };
    const answer = await ask("/v1/chat/completions", { body, signal: this.control.signal, headers: { "X-Request-Id": message.id } });
    let ended = false;
    for await (const event of events(answer)) {
      if (event.data === "[DONE]") { ended = true; break; }
      const told = JSON.parse(event.data);
      if (told.error) throw new ApiError(told.error.code === "timeout" ? 504 : 500, told.error.message);
      if (told.usage) message.tokens = told.usage.completion_tokens;
      const choice = told.choices[0];
      if (choice?.finish_reason) message.finish = choice.finish_reason;
      if (choice?.delta?.content) this.grow(message, choice.delta.content);
    }
    if (!ended) throw new Error("cut");
  }

  grow(message, text) {
    const low = this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight < 80;
    const piece = { text, at: message.content.length };
    message.pieces.push(piece);
    message.content += text;
    this.piece(message, piece);
    if (message.pieces.length === 1) this.foot(message);
    if (low) this.root.scrollTop = this.root.scrollHeight;
  }

  busy(yes) {
    $("send").hidden = yes;
    $("stop").hidden = !yes;
    if (yes && document.activeElement === $("send")) $("stop").focus();
    if (!yes && document.activeElement === $("stop")) this.prompt.focus();
  }
}

// The names that one answer rests on, as they come: a row a name, a bar for when, a colour for where from.

import { $, bytes, el, many, nameParts, roving, shortKey, span } from "./dom.js";
import { follow, json } from "./api.js";

const ORDER = ["store", "upstream", "producer", "computed", "memory", "recomputed", "refused"];
const SHORT = {
  store: "Content Store here", upstream: "stored in the network", producer: "its producer", computed: "computed for you",
  memory: "decode node's memory", recomputed: "recomputed", refused: "refused",
};

export class Answer {
  // What is known of one answer; `take` adds what is new.
  constructor(id) {
    this.id = id;
    this.summary = { state: "open", duration_ms: 0, model: "" };
    this.rows = new Map();
    this.tokens = [];
  }

  take(told) {
    if (told.since === 0) {
      this.rows.clear();
      this.tokens = [];
    }
    this.summary = told;
    for (const row of told.rows) {
      const packets = told.since === 0 ? [] : this.rows.get(row.row)?.packets || [];
      this.rows.set(row.row, { ...row, packets: [...packets, ...row.new_packets] });
    }
    this.tokens.push(...told.new_tokens);
  }

  // The token that covers a place in the text of a choice.
  tokenAt(place, choice = 0) {
    let at = 0;
    for (const token of this.tokens) {
      if (token.choice !== choice) continue;
      at += token.text.length;
      if (place < at) return token;
    }
    return null;
  }

  get refused() {
    return [...this.rows.values()].filter((row) => row.refused).length;
  }
}

export class Waterfall {
  constructor({ openPacket, onChange }) {
    this.root = $("names");
    this.openPacket = openPacket;
    this.onChange = onChange;
    this.answers = new Map();
    this.shown = null;
    this.opened = new Set();
    this.following = null;
    this.due = false;
    roving(this.root, ".row");
    this.pressed = false;  // what is pressed is not drawn anew under the pointer
    this.root.addEventListener("pointerdown", () => { this.pressed = true; });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => { this.pressed = false; }));
    this.nothing();
  }

  nothing() {
    this.root.replaceChildren(el("div", { class: "empty" },
      el("p", { class: "lead" }, "Nothing was asked yet."),
      el("p", {}, "Everything an answer needs has a name: the catalogue record of its model, the call that makes tokens of your words, KV blocks of the prompt, the stream of new tokens. They appear here as they arrive, each with who signed it.")));
  }

  // Show an answer, and follow it while it is made.
  show(id) {
    if (this.shown !== id) this.opened.clear();
    this.shown = id;
    let answer = this.answers.get(id);
    if (!answer) {
      answer = new Answer(id);
      this.answers.set(id, answer);
      while (this.answers.size > 64) this.answers.delete(this.answers.keys().next().value);
    }
    if (answer.summary.state === "open") this.follow(answer);
    this.draw();
    return answer;
  }

  follow(answer) {
    if (answer.following) return;
    answer.following = new AbortController();
    follow(`/network/answers/${encodeURIComponent(answer.id)}/events`, {
      signal: answer.following.signal,
      take: (told) => {
        answer.take(told);
        this.onChange(answer);
        if (this.shown === answer.id) this.drawSoon();
      },
      state: (state, error) => {
        if (state === "refused") {
          answer.lost = error.message;
          if (this.shown === answer.id) this.drawSoon();
        }
      },
    }).finally(() => { answer.following = null; });
  }

  // A question that failed before anything was asked for has no record.
  failed(id) {
    const answer = this.answers.get(id);
    if (!answer || answer.rows.size) return;
    answer.following?.abort();
    answer.lost = "No name was pulled for this answer.";
    if (this.shown === id) this.draw();
  }

  drawSoon() {
    if (this.due) return;
    this.due = true;
    setTimeout(() => {
      this.due = false;
      if (this.pressed) this.drawSoon();
      else this.draw();
    }, 120);
  }

  draw() {
    const answer = this.answers.get(this.shown);
    if (!answer) return this.nothing();
    const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const rows = [...answer.rows.values()].sort((a, b) => a.start_ms - b.start_ms || a.row - b.row);
    const whole = Math.max(1, ...rows.map((row) => row.end_ms));
    const first = answer.tokens[0]?.at_ms;
    const length = this.near && first ? Math.min(whole, first * 1.08) : whole;
    if (!rows.length) {
      this.root.replaceChildren(el("div", { class: "empty" }, el("p", { class: "lead" },
        answer.lost ? answer.lost : answer.summary.state === "open" ? "Asking…" : "No name was pulled for this answer.")));
      return;
    }
    this.root.replaceChildren(this.sums(answer, rows), this.legend(rows), this.axis(answer, length),
      el("ol", { class: "rows", "aria-label": "Names, in the order in which they were asked for" },
        rows.map((row, place) => this.row(row, length, place))));
    if (focused) this.root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  sums(answer, rows) {
    const packets = rows.reduce((sum, row) => sum + row.packets.length, 0);
    const size = rows.reduce((sum, row) => sum + row.bytes, 0);
    const keys = new Set(rows.map((row) => row.signer).filter(Boolean)).size;
    const facts = [
      [many(rows.filter((row) => !row.refused).length, "name"), ""], [many(packets, "packet"), ""], [bytes(size), ""],
      [many(keys, "key"), "verified"], [span(answer.summary.duration_ms), answer.summary.state === "open" ? "so far" : ""],
    ];
    if (answer.refused) facts.push([many(answer.refused, "packet"), "refused"]);
    return el("p", { class: "sums" }, facts.map(([strong, rest]) => el("span", { class: rest === "refused" ? "wrong" : null }, el("b", {}, strong), rest && ` ${rest}`)));
  }

  legend(rows) {
    const counts = new Map(ORDER.map((origin) => [origin, 0]));
    for (const row of rows) counts.set(row.origin, (counts.get(row.origin) || 0) + Math.max(1, row.uses));
    const all = [...counts].filter(([, count]) => count);
    const bar = el("div", { class: "shares", "aria-hidden": "true" }, all.map(([origin, count]) => {
      const part = el("span", { class: `o-${origin}` });
      part.style.flexGrow = count;
      return part;
    }));
    return el("div", {}, bar, el("ul", { class: "legend", "aria-label": "Where it came from" }, all.map(([origin, count]) =>
      el("li", { class: `o-${origin}` }, el("span", { class: "swatch", "aria-hidden": "true" }), `${SHORT[origin]} `, el("b", {}, String(count))))));
  }

  axis(answer, length) {
    const first = answer.tokens[0];
    const axis = el("div", { class: "axis" });
    const lane = el("div", { class: "lane", "aria-hidden": "true" });
    for (const share of [0, 0.5, 1]) {
      const tick = el("span", { class: share === 1 ? "tick last" : share ? "tick mid" : "tick" }, span(length * share));
      tick.style.left = `${share * 100}%`;
      lane.append(tick);
    }
    const near = first && el("button", {
      type: "button", class: "link", "aria-pressed": String(Boolean(this.near)), "data-focus": "near", title: "Show the time until the first token only",
      on: { click: () => { this.near = !this.near; this.draw(); } },
    }, `first token ${span(first.at_ms)}`);
    axis.append(el("span", {}, near || ""), lane);
    return axis;
  }

  row(row, length, place) {
    const open = this.opened.has(row.row);
    const lane = el("div", { class: "lane cut", "aria-hidden": "true" });
    if (!row.told) {
      const bar = el("span", { class: `bar-time o-${row.origin}` });
      bar.style.left = `${(row.start_ms / length) * 100}%`;
      bar.style.width = `${Math.max(0.4, ((row.end_ms - row.start_ms) / length) * 100)}%`;
      lane.append(bar);
      if (row.kind === "token stream") {
        bar.classList.add("thin");
        for (const packet of row.packets.slice(-400)) {
          const tick = el("span", { class: `beat o-${packet.origin}` });
          tick.style.left = `${(packet.at_ms / length) * 100}%`;
          lane.append(tick);
        }
      }
    }
    const title = row.told ? `${row.uses} × ${row.kind}` : row.kind;
    const facts = row.told ? [row.source, "by the signed word of the decode node"]
      : [row.refused ? "refused" : SHORT[row.origin], bytes(row.bytes), row.packets.length > 1 ? many(row.packets.length, "packet") : "", span(row.end_ms - row.start_ms), row.signer ? `signed by ${shortKey(row.signer)}` : ""];
    return el("li", { class: `item o-${row.origin}` },
      el("button", {
        type: "button", class: "row", tabindex: place ? "-1" : "0", "aria-expanded": String(open), "data-focus": `row-${row.row}`,
        on: { click: () => { open ? this.opened.delete(row.row) : this.opened.add(row.row); this.draw(); } },
      },
      el("span", { class: "what" }, el("span", { class: "swatch", "aria-hidden": "true" }), el("b", {}, title), functionOf(row)),
      lane,
      el("span", { class: "under" }, row.name.length ? nameParts(row.name) : null,
        el("span", { class: "facts" }, facts.filter(Boolean).map((fact) => el("span", {}, fact))))),
      open ? this.detail(row) : null);
  }

  detail(row) {
    const explained = row.name.at(-1)?.explained;
    const parts = row.name.length ? el("dl", { class: "grammar" }, joined(row.name).map((part) =>
      el("div", { class: part.role }, el("dt", {}, `/${part.text}`), el("dd", {}, part.means)))) : null;
    const packets = row.packets.length ? el("div", { class: "packets", role: "group", "aria-label": "Packets" }, row.packets.slice(0, 512).map((packet) =>
      el("button", {
        type: "button", class: `cell o-${packet.origin}`, "data-focus": `packet-${row.row}-${packet.packet}`,
        "aria-label": `Packet ${packet.packet}, ${bytes(packet.bytes)}`, title: `${bytes(packet.bytes)}, ${span(packet.at_ms)}`,
        on: { click: () => this.openPacket(this.shown, row.row, packet.packet) },
      }, row.kind === "token stream" ? String(packet.packet) : "Look at the packet"))) : null;
    const facts = [];
    if (row.signer) facts.push(["Key", row.signer]);
    if (row.rule) facts.push(["Allowed by the rule", row.rule]);
    if (row.told) facts.push(["Source", `${row.source}, by the signed word of the decode node: its packets did not come to this machine`]);
    return el("div", { class: "detail" },
      row.refused ? el("p", { class: "wrong box" }, el("b", {}, "Refused. "), row.refused) : null,
      explained ? el("p", { class: "explained" }, `${row.name.at(-1).kind}: ${explained}`) : null, parts,
      facts.length ? el("dl", { class: "facts-list" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))) : null,
      packets);
  }
}

// The function of a call or of its result.
function functionOf(row) {
  const at = row.name.findIndex((part) => part.means === "the function that is called");
  return at < 0 ? null : el("span", { class: "function" }, ` ${row.name[at].text}`);
}

// The name of the network is one thing, however many components it has.
function joined(name) {
  const above = name.filter((part) => part.role === "network");
  const rest = name.filter((part) => part.role !== "network");
  return above.length ? [{ ...above[0], text: above.map((part) => part.text).join("/") }, ...rest] : rest;
}

export async function packetOf(answer, row, packet) {
  return json(`/network/answers/${encodeURIComponent(answer)}/packets/${row}/${packet}`);
}

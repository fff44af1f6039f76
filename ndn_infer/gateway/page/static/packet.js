// One packet: what it carried, its name, who signed it up to the trust anchor, its elements and its bytes.

import { $, bytes, el, nameParts, roving, span } from "./dom.js";

export class PacketView {
  constructor() {
    this.root = $("packet");
    roving(this.root, ".element");
    this.root.addEventListener("pointerover", (event) => this.point(event.target.closest("[data-from]")));
    this.root.addEventListener("focusin", (event) => this.point(event.target.closest(".element")));
    this.nothing();
  }

  nothing() {
    this.root.replaceChildren(el("div", { class: "empty" },
      el("p", { class: "lead" }, "No packet is chosen."),
      el("p", {}, "Choose a word of an answer, or a packet in the list of names: here you see the Data packet that carried it, byte by byte, and the certificates that lead from its signature to the trust anchor.")));
  }

  waiting(words) {
    this.root.replaceChildren(el("p", { class: "empty" }, words));
  }

  show(packet, token) {
    this.packet = packet;
    this.root.replaceChildren(...[
      token ? el("p", { class: "carried" }, "Carried ", el("q", {}, visible(token.text)), ids(token)) : null,
      packet.refused ? el("p", { class: "wrong box" }, el("b", {}, "Refused. "), packet.refused) : null,
      el("p", { class: "bigname" }, nameParts(packet.name, { whole: true })),
      this.facts(packet), this.signature(packet), this.content(packet)].filter(Boolean));
  }

  facts(packet) {
    const facts = [
      ["From", el("span", { class: `o-${packet.origin}` }, el("span", { class: "swatch", "aria-hidden": "true" }), packet.origin_means)],
      ["Size", bytes(packet.bytes)], ["Asked for", `${span(Math.max(0, packet.start_ms))} after the question`],
      ["Came", `${span(packet.at_ms - packet.start_ms)} later`], ["SHA-256", el("code", {}, packet.sha256)],
    ];
    return el("dl", { class: "facts-list" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  signature(packet) {
    if (!packet.signer) return el("p", { class: "wrong box" }, "Nobody's signature on it was believed.");
    const steps = packet.chain.map((one) => el("li", { class: one.anchor ? "anchor" : null },
      el("b", {}, one.identity), el("span", {}, one.anchor ? "trust anchor of this network" : `valid ${one.not_before} to ${one.not_after}`),
      el("code", {}, one.name)));
    return el("div", { class: "signed" }, el("h3", {}, "Signed by"),
      el("ol", { class: "chain" },
        el("li", { class: "data" }, el("b", {}, "this packet"), el("span", {}, `allowed by the rule ${packet.signer.rule} of the trust schema`), el("code", {}, packet.signer.key)),
        steps.length ? steps : el("li", {}, el("b", {}, packet.signer.identity), el("span", {}, "its chain was verified when the packet came"), el("code", {}, packet.signer.certificate))));
  }

  content(packet) {
    if (!packet.hex) return el("p", { class: "empty" }, "The bytes of this packet are not kept.");
    const list = el("ol", { class: "elements", "aria-label": "Elements of the packet" }, packet.elements.map((one, place) => {
      const button = el("button", {
        type: "button", class: "element", tabindex: place ? "-1" : "0", "data-from": one.offset, "data-to": one.end,
      }, el("b", {}, one.name), el("span", { class: "reads" }, one.reads || ""), el("span", { class: "size" }, bytes(one.end - one.offset)));
      button.style.setProperty("--depth", one.depth);
      return el("li", {}, button);
    }));
    return el("div", {}, el("h3", {}, "Elements and bytes"), el("div", { class: "dissect" }, list, hex(packet)));
  }

  point(target) {
    if (!target || !this.root.contains(target)) return;
    const [from, to] = [Number(target.dataset.from), Number(target.dataset.to)];
    for (const run of this.root.querySelectorAll(".run")) {
      run.classList.toggle("lit", Number(run.dataset.from) >= from && Number(run.dataset.to) <= to);
    }
    const [hex, lit] = [this.root.querySelector(".hex"), this.root.querySelector(".run.lit")];
    if (hex && lit && target.classList.contains("element")) {
      const [box, run] = [hex.getBoundingClientRect(), lit.getBoundingClientRect()];
      if (run.top < box.top + 8 || run.bottom > box.bottom - 8) hex.scrollTop += run.top - box.top - 40;
    }
    for (const one of this.root.querySelectorAll(".element")) {
      one.classList.toggle("lit", Number(one.dataset.from) === from && Number(one.dataset.to) === to);
    }
  }
}

export const visible = (text) => text.replaceAll("\n", "⏎");

const ids = (token) => el("span", { class: "ids" }, ` token ${token.ids.length === 1 ? "id" : "ids"} ${token.ids.join(", ")}`);

// Rows of 16 bytes, cut where elements begin and end.
function hex(packet) {
  const cuts = new Set(packet.elements.flatMap((one) => [one.offset, one.value, one.end]));
  const size = packet.hex.length / 2;
  const lines = [];
  for (let row = 0; row < size; row += 16) {
    const end = Math.min(row + 16, size);
    const runs = [];
    let text = "";
    for (let from = row, at = row + 1; at <= end; at += 1) {
      if (at < end && !cuts.has(at)) continue;
      const pairs = [];
      for (let place = from; place < at; place += 1) pairs.push(packet.hex.slice(2 * place, 2 * place + 2));
      runs.push(el("span", { class: "run", "data-from": from, "data-to": at }, `${pairs.join(" ")} `));
      from = at;
    }
    for (let place = row; place < end; place += 1) {
      const code = parseInt(packet.hex.slice(2 * place, 2 * place + 2), 16);
      text += code >= 32 && code < 127 ? String.fromCharCode(code) : "·";
    }
    lines.push(el("div", { class: "line" }, el("span", { class: "at" }, row.toString(16).padStart(4, "0")), el("span", { class: "pairs" }, runs), el("span", { class: "text" }, text)));
  }
  return el("div", { class: "hex", tabindex: "0", role: "region", "aria-label": "Bytes of the packet" }, lines);
}

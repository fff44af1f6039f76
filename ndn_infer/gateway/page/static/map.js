// The forwarder that the gateway stands on: faces, rates, its cache, and who produces behind each face.

import { $, bytes, el, many, svg } from "./dom.js";
import { follow } from "./api.js";

const MOST = 12;

export class NetworkMap {
  constructor() {
    this.root = $("network");
    this.control = null;
    this.last = null;
    this.root.replaceChildren(el("p", { class: "empty" }, "Looking…"));
    new ResizeObserver(() => this.last && this.draw(this.last)).observe(this.root);
  }

  // Nothing is read while nobody looks.
  looking(yes) {
    if (yes === Boolean(this.control)) return;
    if (!yes) {
      this.control.abort();
      this.control = null;
      return;
    }
    this.control = new AbortController();
    follow("/network/map/events", {
      signal: this.control.signal,
      take: (told) => { this.last = told; this.draw(told); },
      state: (state, error) => {
        if (state === "lost") this.note("The gateway does not answer. Trying again.");
        if (state === "refused") this.note(error.message);
      },
    });
  }

  note(words) {
    if (!this.last || this.last.error) this.root.replaceChildren(el("p", { class: "empty" }, words));
    else this.root.querySelector(".sums")?.replaceChildren(el("span", { class: "wrong" }, words));
  }

  draw(told) {
    if (told.error) {
      this.root.replaceChildren(el("p", { class: "wrong box" }, el("b", {}, "The forwarder does not answer. "), told.error));
      return;
    }
    const top = this.root.querySelector(".scroll")?.scrollLeft || 0;
    const faces = told.faces.filter((face) => face.kind !== "internal");
    const cards = faces.map((face) => ({ face, producers: told.producers.filter((one) => one.face_id === face.face_id) }))
      .sort((a, b) => b.producers.length - a.producers.length || a.face.face_id - b.face.face_id);
    this.root.replaceChildren(this.sums(told), drawing(told, cards, this.root.clientWidth || 640), producers(told), table(faces));
    const scroll = this.root.querySelector(".scroll");
    if (scroll) scroll.scrollLeft = top;
  }

  sums(told) {
    const { forwarder, store } = told;
    const hits = store.hits + store.misses ? Math.round((100 * store.hits) / (store.hits + store.misses)) : 0;
    const facts = [
      [forwarder.version, ""], [many(told.faces_in_all, "face"), ""], [many(told.routes, "route"), ""],
      [store.entries.toLocaleString("en"), `of ${store.capacity.toLocaleString("en")} packets stored`], [`${hits} %`, "of look-ups hit"],
    ];
    return el("p", { class: "sums" }, facts.map(([strong, rest]) => el("span", {}, el("b", {}, strong), rest && ` ${rest}`)));
  }
}

const rate = (value, unit) => (value === null || value === undefined ? "" : value >= 100 ? `${Math.round(value)} ${unit}` : value ? `${value.toFixed(1)} ${unit}` : `0 ${unit}`);
const busy = (face) => (face.rates.in_data || 0) + (face.rates.out_data || 0) + (face.rates.in_interests || 0) + (face.rates.out_interests || 0);

function titleOf({ face, producers: behind }) {
  if (behind.length) return [...new Set(behind.map((one) => one.identity.split("/").at(-1)))].join(", ");
  if (face.kind === "network") return face.uri;
  return face.prefixes.length ? face.prefixes[0].split("/").slice(-2).join("/") : "application";
}

function underOf({ face, producers: behind }) {
  if (behind.length) return [...new Set(behind.flatMap((one) => one.functions.map((offered) => offered.function)))].join(", ");
  if (face.kind === "network") return many(face.prefixes.length, "prefix", "prefixes");
  return face.prefixes.length ? "registered a prefix" : "only asks";
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function drawing(told, cards, width) {
  const shown = cards.slice(0, MOST);
  const narrow = width < 560;
  const step = 66;
  const rows = narrow ? shown.length : Math.ceil(shown.length / 2);
  const height = narrow ? 150 + rows * step : Math.max(230, rows * step + 30);
  const r = 54;
  const hub = narrow ? { x: width / 2, y: 62 } : { x: width / 2, y: height / 2 };
  const card = { w: narrow ? width - 44 : Math.min(220, width / 2 - 110), h: 50 };
  const lines = [];
  const boxes = [];
  shown.forEach((one, place) => {
    const left = narrow || place % 2 === 0;
    const row = narrow ? place : Math.floor(place / 2);
    const rowsHere = narrow ? rows : Math.ceil((shown.length - (left ? 0 : 1)) / 2);
    const y = narrow ? 150 + row * step : height / 2 + (row - (rowsHere - 1) / 2) * step - card.h / 2;
    const x = narrow ? 40 : left ? 2 : width - card.w - 2;
    const end = { x: narrow ? 40 : left ? x + card.w : x, y: y + card.h / 2 };
    const path = narrow ? `M${hub.x} ${hub.y + r} C ${hub.x} 140, 14 118, 14 150 L 14 ${end.y - 8} Q 14 ${end.y} 22 ${end.y} L 40 ${end.y}`
      : `M${hub.x + (left ? -62 : 62)} ${hub.y} C ${hub.x + (left ? -110 : 110)} ${hub.y}, ${end.x + (left ? 50 : -50)} ${end.y}, ${end.x} ${end.y}`;
    const flow = busy(one.face);
    const line = svg("path", { d: path, class: flow ? "edge live" : "edge" });
    line.style.strokeWidth = `${1.2 + Math.min(4, Math.log2(1 + flow) / 2)}px`;
    lines.push(line);
    boxes.push(svg("g", { class: `face ${one.producers.length ? "makes" : one.face.kind}` },
      svg("rect", { x, y, width: card.w, height: card.h, rx: 8 }),
      svg("text", { x: x + 12, y: y + 20, class: "t1" }, cut(titleOf(one), Math.floor(card.w / 8.2))),
      svg("text", { x: x + 12, y: y + 38, class: "t2" }, cut(underOf(one), Math.floor((card.w - 24 - (flow ? 70 : 0)) / 6.6))),
      svg("text", { x: x + card.w - 10, y: y + 38, class: "t3", "text-anchor": "end" }, flow ? rate((one.face.rates.in_data || 0) + (one.face.rates.out_data || 0), "Data/s") : "")));
  });
  const { store } = told;
  const share = store.capacity ? Math.min(1, store.entries / store.capacity) : 0;
  const around = 2 * Math.PI * r;
  const ring = svg("circle", { cx: hub.x, cy: hub.y, r, class: "ring" });
  const fill = svg("circle", { cx: hub.x, cy: hub.y, r, class: "fill", transform: `rotate(-90 ${hub.x} ${hub.y})` });
  fill.style.strokeDasharray = `${Math.max(share * around, share ? 2 : 0)} ${around}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `The forwarder with ${many(cards.length, "face")}; the table below says the same` },
    lines, boxes, svg("circle", { cx: hub.x, cy: hub.y, r: r - 4, class: "hub" }), ring, fill,
    svg("text", { x: hub.x, y: hub.y - 8, class: "t1", "text-anchor": "middle" }, "forwarder"),
    svg("text", { x: hub.x, y: hub.y + 8, class: "t2", "text-anchor": "middle" }, `${store.entries.toLocaleString("en")} stored`),
    svg("text", { x: hub.x, y: hub.y + 23, class: "t2", "text-anchor": "middle" }, rate(store.rates.hits, "hits/s")));
  const more = cards.length - shown.length;
  return el("figure", { class: "picture" }, picture, more > 0 ? el("figcaption", {}, `and ${many(more, "face")} more, in the table`) : null);
}

function producers(told) {
  if (!told.producers.length) return el("p", { class: "empty" }, "No producer offers anything now.");
  return el("div", {}, el("h3", {}, "Producers, by their signed offers"), el("ul", { class: "producers" }, told.producers.map((one) => {
    const offered = new Map();
    for (const item of one.functions) offered.set(item.model, [...(offered.get(item.model) || []), item.function]);
    const facts = [one.queue ? `${one.queue} waiting` : "", one.places ? `${one.free} of ${one.places} places free` : "", one.decode_tps ? `${one.decode_tps} tokens/s` : "",
      one.prefill_tps ? `${Math.round(one.prefill_tps)} prompt tokens/s` : "", one.round_trip_ms ? `${one.round_trip_ms} ms away` : ""];
    return el("li", { class: one.gone ? "gone" : null }, el("b", {}, one.identity), one.gone ? el("span", { class: "wrong" }, " does not answer") : null,
      el("span", {}, [...offered].map(([model, functions]) => `${functions.join(", ")} of ${model}`).join("; ")),
      el("span", { class: "facts" }, facts.filter(Boolean).map((fact) => el("span", {}, fact))));
  })));
}

function table(faces) {
  const head = ["Face", "Where", "Interests in", "Data out", "Data in", "Bytes in", "Bytes out"];
  const row = (face) => [
    el("td", {}, String(face.face_id)), el("td", { class: "uri" }, face.uri, face.prefixes.slice(0, 3).map((prefix) => el("span", {}, cut(prefix, 60))), face.prefixes.length > 3 ? el("span", {}, `and ${face.prefixes.length - 3} more`) : null),
    ...[[face.in_interests, face.rates.in_interests], [face.out_data, face.rates.out_data], [face.in_data, face.rates.in_data]].map(([all, now]) =>
      el("td", {}, (all || 0).toLocaleString("en"), el("span", {}, rate(now, "/s")))),
    ...[[face.in_bytes, face.rates.in_bytes], [face.out_bytes, face.rates.out_bytes]].map(([all, now]) =>
      el("td", {}, bytes(all || 0), el("span", {}, now === null ? "" : `${bytes(Math.round(now))}/s`))),
  ];
  return el("div", {}, el("h3", {}, "Faces"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of faces" }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, faces.map((face) => el("tr", {}, row(face)))))));
}

// Elements, numbers as text, and lists in which the arrow keys move. Every text goes through textContent.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function bytes(count) {
  if (count === null || count === undefined) return "";
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

export function span(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(2)} s`;
}

export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

// Arrow keys, Home and End move among `selector` below `root`; Tab enters at the one used last.
export function roving(root, selector, { sideways = false } = {}) {
  const [back, on] = sideways ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
  const all = () => [...root.querySelectorAll(selector)];
  const hold = (one) => {
    for (const other of root.querySelectorAll(`${selector}[tabindex="0"]`)) other.tabIndex = -1;
    one.tabIndex = 0;
  };
  root.addEventListener("focusin", (event) => {
    const one = event.target.closest(selector);
    if (one && root.contains(one)) hold(one);
  });
  root.addEventListener("keydown", (event) => {
    const one = event.target.closest(selector);
    if (!one || event.altKey || event.ctrlKey || event.metaKey) return;
    const items = all();
    const place = items.indexOf(one);
    const to = { [back]: place - 1, [on]: place + 1, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined || to < 0 || to >= items.length) return;
    event.preventDefault();
    hold(items[to]);
    items[to].focus();
  });
}

// A name by its parts, long digests cut; each part says what it is.
export function nameParts(parts, { whole = false } = {}) {
  return el("span", { class: "name" }, parts.map((part) => {
    const text = whole ? part.text : short(part.text);
    return el("span", { class: `part ${part.role}`, title: part.means }, el("i", { class: "slash" }, "/"), text);
  }));
}

export function short(text) {
  if (/^[0-9a-f]{24,}$/.test(text)) return `${text.slice(0, 6)}…`;
  const digest = text.match(/^(params-sha256|sha256digest)=([0-9a-f]{6})/);
  if (digest) return `${digest[1]}=${digest[2]}…`;
  return text.length > 40 ? `${text.slice(0, 38)}…` : text;
}

export function shortKey(uri) {
  const parts = uri.split("/");
  const at = parts.indexOf("KEY");
  return at < 0 ? uri : parts.slice(Math.max(1, at - 2), at).join("/");
}

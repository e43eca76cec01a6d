// The drawer that shows what travels on the wire, packet by packet: one line for each, and
// what it says, laid out, when the line is opened.

import { Keyword, List, read, write } from "/chsk/chansock.js";
import { make } from "/talk.js";

const KEPT = 200;
const PINGS = ["chat/ping", "chsk/ws-ping", "chsk/ws-pong"];
const WIDTH = 46; // characters of a line that need not be broken

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** What a packet says: `{id, gist, isPing, value}`, for `[[:chat/say {...}] "5f2c"]` and so on. */
function decode(packet, direction, pings) {
  let value;
  try {
    value = read(packet);
  } catch (error) {
    return { id: "unreadable", gist: error.message, isPing: false };
  }
  const [first, callback] = Array.isArray(value) ? value : [value];
  const isAsked = typeof callback === "string" || callback instanceof Keyword;
  if (first instanceof Keyword && !isAsked) {
    return { id: first.name, gist: "", isPing: first.name === "chsk/ws-ping", value };
  }
  if (isEvent(first) && (direction === "out" || !isAsked)) {
    const id = first[0].name;
    const isPing = PINGS.includes(id);
    if (isPing && typeof callback === "string") pings.add(callback); // over Ajax it is :ajax
    return { id, gist: (isAsked ? "asks for a reply " : "") + brief(first[1]), isPing, value };
  }
  if (Array.isArray(first) && first.length > 0 && first.every(isEvent)) {
    const id = [...new Set(first.map((event) => event[0].name))].join(", ");
    const gist = first.length > 1 ? `${first.length} events` : brief(first[0][1]);
    return { id, gist, isPing: false, value };
  }
  // Over Ajax a reply has no name: that of a ping is known by its being nil.
  const isPing = pings.delete(callback) || first === null;
  return { id: "reply", gist: brief(first) || "nil", isPing, value };
}

function isEvent(value) {
  return Array.isArray(value) && value[0] instanceof Keyword;
}

function brief(value) {
  return value === undefined || value === null ? "" : write(value).slice(0, 160);
}

/** Write a value as edn, broken into lines where it is long. */
export function layOut(value, indent = 0) {
  const flat = write(value);
  if (indent + flat.length <= WIDTH) return flat;
  const join = (open, close, parts) =>
    open + parts.join(`\n${" ".repeat(indent + open.length)}`) + close;
  const each = (open, close, items) =>
    join(
      open,
      close,
      Array.from(items, (item) => layOut(item, indent + open.length)),
    );
  if (value instanceof List) return each("(", ")", value);
  if (Array.isArray(value)) return each("[", "]", value);
  if (value instanceof Set) return each("#{", "}", value);
  const entries =
    value instanceof Map
      ? [...value].map(([key, item]) => [write(key), item])
      : isPlain(value)
        ? Object.entries(value).map(([key, item]) => [`:${key}`, item])
        : null;
  if (!entries) return flat;
  const pairs = entries.map(([key, item]) => {
    const beside = layOut(item, indent + key.length + 2);
    if (!beside.includes("\n")) return `${key} ${beside}`;
    return `${key}\n${" ".repeat(indent + 2)}${layOut(item, indent + 2)}`;
  });
  return join("{", "}", pairs);
}

function isPlain(value) {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** Give edn as nodes: keywords and the marks between the values are told apart by class. */
function coloured(edn) {
  const parts = edn.matchAll(
    /("(?:\\.|[^"\\])*")|(:[^\s()[\]{}",]+)|([()[\]{},#]+)|[^":()[\]{},#]+|./gs,
  );
  return Array.from(parts, ([text, string, keyword, mark]) => {
    const kind = string ? "s" : keyword ? "k" : mark ? "p" : "";
    return kind ? make("span", kind, text) : text;
  });
}

export class Wire {
  #list;
  #note;
  #packets = []; // the last of them, shown or not
  #pings = new Set(); // callback ids of pings whose replies are on the way
  #withPings = false;
  #until = Infinity; // ms; what came later is not shown, while it is paused
  #isOpen = false;
  #missed = 0;

  /** `list` is an `ol`, `note` a line below it. */
  constructor(list, note) {
    this.#list = list;
    this.#note = note;
    list.addEventListener("toggle", (event) => this.#lay(event.target), true);
  }

  /** Take a packet, as connect's `trace` gives it. */
  take = (direction, text, type) => {
    const known = decode(text, direction, this.#pings);
    const packet = { direction, text, type, at: Date.now(), ...known };
    this.#packets.push(packet);
    // Pings come each second: they may push out one another, and nothing else.
    const alike = this.#packets.filter((other) => other.isPing === packet.isPing);
    if (alike.length > KEPT) this.#packets.splice(this.#packets.indexOf(alike[0]), 1);
    if (packet.isPing && !this.#withPings) return;
    if (this.#until < Infinity) this.#missed++;
    else if (this.#isOpen) this.#append(packet);
    this.#say();
  };

  set isOpen(on) {
    this.#isOpen = on;
    this.#showAll();
  }

  set withPings(on) {
    this.#withPings = on;
    this.#showAll();
  }

  set isPaused(on) {
    this.#until = on ? Date.now() : Infinity;
    this.#missed = 0;
    this.#showAll();
  }

  clear() {
    this.#packets = [];
    this.#missed = 0;
    this.#list.replaceChildren();
    this.#say();
  }

  #showAll() {
    this.#list.replaceChildren();
    if (!this.#isOpen) return;
    for (const packet of this.#packets) {
      const isWanted = this.#withPings || !packet.isPing;
      if (isWanted && packet.at <= this.#until) this.#append(packet);
    }
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#say();
  }

  #append(packet) {
    const list = this.#list;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    const isOut = packet.direction === "out";
    const way = make("span", "way", isOut ? "↑" : "↓");
    way.setAttribute("aria-label", isOut ? "sent" : "received");
    way.setAttribute("role", "img");
    const summary = make(
      "summary",
      "",
      way,
      make("span", "gist", make("b", "", packet.id), make("span", "", " ", packet.gist)),
      make("span", "meta", packet.type),
    );
    const details = make("details", "", summary);
    details.packet = packet; // laid out when it is opened
    list.append(make("li", packet.direction, details));
    if (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  #lay(details) {
    if (!details.open || details.childElementCount > 1) return;
    const { direction, at, text, value } = details.packet;
    const way = direction === "out" ? "sent" : "received";
    const note = `${way} ${clock.format(at)}, ${text.length} characters`;
    const edn = value === undefined ? text : layOut(value);
    details.append(make("pre", "", ...coloured(edn), "\n", make("small", "", note)));
  }

  #say() {
    const shown = this.#list.childElementCount;
    this.#note.textContent =
      this.#until < Infinity
        ? `Paused. ${this.#missed} more since.`
        : shown
          ? `${shown} packets. Open one to see all of it.`
          : "Nothing has travelled yet.";
  }
}

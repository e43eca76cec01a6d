// The JavaScript half of tests/conformance/test_differential.py: one JSON request on each line of stdin, one
// answer on a line of stdout. A packet is base64.
//
//     {"packer": "edn", "again": [packet, ...]}      read each, and write its events again
//     {"packer": "edn", "make": 100, "seed": 7}      write values made by chance
//     {"packer": "edn", "check": [packet, ...]}      what the other side wrote of the last values

import { createInterface } from "node:readline";
import {
  Char, Decimal, Instant, Keyword, List, PacketError, Ratio, Symbol as Name, Tagged, UUID, internals,
  json, keyword, pack,
} from "./module.mjs";

const { intern, isName, makeEdn, named } = internals;

const PACKERS = { edn: makeEdn({}), msgpack: pack.msgpack, json };

const bytesOf = (packer, packet) => {
  const buffer = Buffer.from(packet, "base64");
  return packer.binary ? new Uint8Array(buffer) : buffer.toString();
};
const base64 = (packet) => Buffer.from(packet).toString("base64");

/** What `act` returns, or `{error}` of a PacketError. */
const attempt = (act) => {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof PacketError)) return { error: `${error.stack}`, isWrong: true };
    return { error: error.message };
  }
};

// -- what the other side wrote --

/** Write the events of a batch, or the value of a reply, as events of a client. */
const again = (packer, packet) => {
  const read = attempt(() => ({ found: packer.unpack(bytesOf(packer, packet)) }));
  if (read.error) return read;
  const [value, cbId = null] = read.found;
  const events = cbId === null ? value : [["a/b", value]];
  return events.map(([id, data]) =>
    attempt(() => base64(packer.packet(packer.fragment(packer.name(id) ?? id, data), cbId))));
};

// -- values made by chance --

let state = 1;
const random = () => {
  state = (state + 0x6d2b79f5) | 0; // mulberry32
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};
const below = (n) => Math.floor(random() * n);
const pick = (...choices) => choices[below(choices.length)];
const times = (n, make) => Array.from({ length: n }, make);

const CHARS = [..."ab/:#.'-+01é漢\u0663\u2028\u00a0\u0085\0\x7f,;@`~^\"\\()[]{} \n\t%&=!?*<>_|$"];
const WHOLE = ["a", "ab", "b/c", "__proto__", "1", "nil", "true", "a/b/c", "", "/", "a//", "é", "a b",
  "a/1", "a/\u{1d7d8}", "a/\u{1e4f0}", "\u{1e4f0}", ":a", "a:", "a::b", "a".repeat(70), "😀", "#a"];
const text = () => (below(2) ? pick(...WHOLE) : times(below(6), () => pick(...CHARS, "😀")).join(""));

const orNone = (make) => {
  try {
    return make();
  } catch {
    return undefined;
  }
};

const number = () => pick(
  () => below(300) - 150,
  () => pick(0, -0, 1, 0.5, 1.5, 0.1, 1e21, 1e22, 2 ** 53, 2 ** 53 - 1, 2 ** 63, 2 ** 64, 5e-324,
    1.7976931348623157e308, Infinity, -Infinity, NaN, 2 ** 32, -(2 ** 31)),
  () => pick(0n, 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, -(2n ** 63n), 2n ** 64n - 1n, 10n ** 22n,
    10n ** 4299n, 10n ** 4300n, -(10n ** 4299n)),
  () => random() * 10 ** (below(40) - 20),
  () => BigInt(below(1e9)) ** BigInt(below(4)),
)();

const scalar = () => pick(
  number, number, text, text,
  () => pick(null, undefined, true, false),
  () => orNone(() => keyword(text())),
  () => orNone(() => new Name(text())),
  () => intern(text()),
  () => named(Name, text()),
  () => orNone(() => new Char(pick(...CHARS, "a", "1"))),
  () => pick(new Ratio(1, 2), new Ratio(1, 5), new Ratio(2n ** 70n, 3), new Ratio(4, 2), new Ratio(0, 3)),
  () => new Decimal(pick("1", "1.0", "0.5", "+1", "1.", "-0", "007", "1e5", "1E+5000", "1E-6000", "0.1",
    "1E2147483647", "1E2147483648", "1.0E-2147483647", "0.1000000000000000055511151231257827")),
  () => new Date(pick(0, 1, -1, 1e12, -62135596800000, -62135596800001, 253402300799999, NaN,
    below(1e13))),
  () => new Instant(pick("2020-01-02T03:04:05.678901Z", "0001-01-01T00:00:00Z", "9999-12-31")),
  () => new UUID(pick("0b2c9a5e-0000-4000-8000-00000000000a", "0B2C9A5E-0000-4000-8000-00000000000A")),
  () => pick(Uint8Array.of(1), Uint8Array.of(1, 2), new Uint8Array(0), Int32Array.of(1, -2),
    Float32Array.of(1.5), Float64Array.of(0.1)),
  () => pick(new Number(1), new String("a"), new Boolean(true), { toJSON: () => [1] }, "\ud800"),
)();

const deeper = (size) => (size > 0 ? () => value(size - 1 - below(2)) : scalar);

function value(size) {
  if (size <= 0 || below(4) === 0) return scalar();
  const make = deeper(size);
  const n = below(5);
  return pick(
    () => times(n, make),
    () => List.from(times(n, make)),
    () => new Set(times(n, make)),
    () => new Map(times(n, () => [make(), make()])),
    () => Object.fromEntries(times(n, () => [text(), make()])),
    () => Object.fromEntries(times(n, () => [pick("a", "b/c", "d", "__proto__x"), make()])),
    () => new Tagged(pick("my/tag", "a"), make()),
  )();
}

const deep = (inner) => {
  const isMixed = below(2);
  let shell = below(6);
  for (let n = 488 + below(14); n; n--) {
    if (isMixed) shell = below(6);
    inner = [
      () => [inner], () => new Set([inner]), () => ({ a: inner }), () => new Map([[1, inner]]),
      () => new Map([[inner, 1]]), () => new Tagged("t", inner),
    ][shell]();
  }
  return inner;
};

/** A text of what a packer keeps of a value: equal for values that are one to it. */
const kept = (value, kind) => {
  const of = (inner) => kept(inner, kind);
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    value = value.valueOf();
  }
  if (value == null) return "nil";
  if (typeof value === "number" || typeof value === "bigint") {
    if (Object.is(value, -0)) return kind === "json" ? "0" : "-0";
    return Number.isInteger(value) ? `${BigInt(value)}` : `${value}`;
  }
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "boolean") return `${value}`;
  if (value instanceof Keyword) return (kind === "json" ? "" : ":") + JSON.stringify(value.name);
  if (value instanceof Name) return `'${JSON.stringify(value.name)}`;
  if (value instanceof Char) return `\\${JSON.stringify(value.char)}`;
  if (value instanceof Ratio) return `${value}`;
  if (value instanceof Decimal && kind !== "json") {
    const [, whole, part = "", power = 0] = /^([-+]?\d+)(?:\.(\d*))?(?:[eE](.*))?$/.exec(value.text);
    return `${BigInt(whole + part)}E${power - part.length}M`;
  }
  if (kind === "json" && typeof value.toJSON === "function") return of(value.toJSON());
  if (value instanceof Date) return `#inst ${+value} ${value.microseconds ?? 0}`;
  if (value instanceof UUID) return `#uuid ${value}`;
  if (value instanceof Tagged) return `#${value.tag} ${of(value.value)}`;
  if (value instanceof Set) return `#{${[...value].map(of).sort()}}`;
  if (value instanceof Map) return `{${[...value].map((pair) => pair.map(of).join(" ")).sort()}}`;
  if (ArrayBuffer.isView(value)) {
    return kind === "edn" ? `[${[...value].map(of)}]` : `#${value.constructor.name}[${[...value]}]`;
  }
  if (Array.isArray(value)) {
    const isList = kind === "edn" && value instanceof List;
    return `${isList ? "(" : "["}${Array.from(value, of)}]`;
  }
  if (typeof value.toJSON === "function") return of(value.toJSON());
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  const colon = kind === "json" || !entries.every(([key]) => isName(key)) ? "" : ":";
  return `{${entries.map(([key, item]) => `${colon}${JSON.stringify(key)} ${of(item)}`).sort()}}`;
};

let last = [];

const make = (packer, count, seed) => {
  state = seed;
  last = [];
  return times(count, () => {
    const made = below(400) ? value(below(5)) : deep(below(2) ? scalar() : pick([], {}, new Set()));
    last.push(made);
    return attempt(() => base64(packer.packet(packer.fragment("a/b", made), pick(null, "1a2b3c"))));
  });
};

/** Say how what came back differs from the value that was made. */
const check = (kind, packet, i) => {
  if (packet === null) return null;
  const packer = PACKERS[kind];
  const read = attempt(() => ({ found: packer.unpack(bytesOf(packer, packet)) }));
  if (read.error) return read.error;
  const [found, cbId = null] = read.found;
  const data = cbId === null ? found[0][1] : found;
  const [wanted, got] = [kept(last[i] ?? null, kind), kept(data ?? null, kind)];
  return wanted === got ? null : `expected ${wanted.slice(0, 300)}, got ${got.slice(0, 300)}`;
};

for await (const line of createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line);
  const packer = PACKERS[ask.packer];
  const answer = ask.again ? ask.again.map((packet) => again(packer, packet))
    : ask.check ? ask.check.map((packet, i) => check(ask.packer, packet, i))
    : make(packer, ask.make, ask.seed);
  process.stdout.write(JSON.stringify(answer) + "\n");
}

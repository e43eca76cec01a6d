// How long js/chansock.js takes to read and to write the messages of bench/data, beside the two
// edn packages of npm and beside JSON, which is native; and how big it and its packers are.
//
//     node bench/js/edn.mjs [--quick]       after `npm install` in bench/js, or ci/bench.sh js
//
// Each answer is checked before it is timed; "wrong" stands for one that is not. JSON has the
// same values, keywords as strings. The rounds of all take turns, and medians are compared.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { parseEDNString, toEDNString } from "edn-data";
import { transformSync } from "esbuild";
import jsedn from "jsedn";
import { Keyword, read, write } from "../../js/chansock.js";

const OURS = "chansock";
const QUICK = process.argv.includes("--quick");
const ROUNDS = QUICK ? 5 : 25;
const SECONDS = QUICK ? 0.01 : 0.04; // the least length of a round
const WARM_UP = 0.5; // seconds; by then V8 has compiled what it will, on a busy machine too
const MAX_BYTES = { chansock: 12 * 1024, json: 1024, msgpack: 4 * 1024 }; // minified, compressed
const DATA = new URL("../data/", import.meta.url);

/** Give a value with each keyword, and each key, as a string that `name` makes of its name. */
const plain = (value, name) => {
  const inner = (item) => plain(item, name);
  if (value instanceof Keyword) return name(value.name);
  if (Array.isArray(value)) return value.map(inner);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [name(key), inner(item)]));
};

/** Whose rope of a text is made one string, as sending it would. */
const flat = (text) => {
  text.charCodeAt(text.length >> 1);
  return text;
};

/** Give what is to be timed: `act()`, and the fact that its answer is right. */
const readers = (text) => {
  const value = read(text);
  const json = JSON.stringify(value);
  const options = { mapAs: "object", keywordAs: "string" };
  const is = (expected) => (found) => assert.deepEqual(found, expected);
  const bare = plain(value, (name) => name);
  const coloned = plain(value, (name) => `:${name}`);
  return {
    [OURS]: { act: () => read(text), check: (found) => is(bare)(plain(found, (name) => name)) },
    "edn-data": { act: () => parseEDNString(text, options), check: is(bare) },
    jsedn: { act: () => jsedn.toJS(jsedn.parse(text)), check: is(coloned) },
    "JSON.parse": { act: () => JSON.parse(json), check: is(bare) },
  };
};

/** The same for writing; each writes what its own reader makes of the message, without a loss. */
const writers = (text) => {
  const value = read(text);
  const bare = plain(value, (name) => name);
  const [data, tree] = [parseEDNString(text), jsedn.parse(text)];
  const isMessage = (found) => assert.deepEqual(read(found), value);
  return {
    [OURS]: { act: () => flat(write(value)), check: isMessage },
    "edn-data": { act: () => flat(toEDNString(data)), check: isMessage },
    jsedn: { act: () => flat(jsedn.encode(tree)), check: isMessage },
    "JSON.stringify": {
      act: () => flat(JSON.stringify(bare)),
      check: (found) => assert.deepEqual(JSON.parse(found), bare),
    },
  };
};

const seconds = (act, times) => {
  const start = process.hrtime.bigint();
  for (let n = 0; n < times; n++) act();
  return Number(process.hrtime.bigint() - start) / 1e9;
};

const isRight = ({ act, check }) => {
  try {
    check(act());
    return true;
  } catch {
    return false;
  }
};

/** Time them in turns; give [name, median of seconds, spread between the quartiles, is right]. */
const measure = (subjects) => {
  const found = Object.entries(subjects).map(([name, subject]) => {
    const right = isRight(subject);
    let times = 1;
    let spent = 0;
    while (right && spent < WARM_UP) spent += seconds(subject.act, 1);
    while (right && seconds(subject.act, times) < SECONDS) times *= 2;
    return { name, right, times, act: subject.act, all: [] };
  });
  for (let round = 0; round < ROUNDS; round++) {
    for (const { right, times, act, all } of found) {
      if (right) all.push(seconds(act, times) / times);
    }
  }
  return found.map(({ name, right, all }) => {
    all.sort((a, b) => a - b);
    const at = (share) => all[Math.floor(share * (all.length - 1))];
    return [name, at(0.5), (at(0.75) - at(0.25)) / at(0.5), right];
  });
};

const show = (title, bytes, rows) => {
  const base = rows.find(([name]) => name === OURS)[1];
  const line = (name, time, spread = "", times = "", speed = "") => console.log(
    name.padEnd(44) + time.padStart(10) + spread.padStart(8) + times.padStart(7) +
      speed.padStart(9),
  );
  console.log();
  line(title, "time", "spread", "x", "MB/s");
  for (const [name, time, spread, right] of rows.sort((a, b) => (a[1] ?? 9) - (b[1] ?? 9))) {
    if (right) {
      line(`  ${name}`, (time * 1e6).toFixed(2), `${Math.round(spread * 100)}%`,
        (time / base).toFixed(1), (bytes / time / 1e6).toFixed(0));
    } else {
      line(`  ${name}`, "wrong");
    }
  }
};

const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

const packages = ["edn-data", "jsedn", "esbuild"].map((name) => `${name} ${versionOf(name)}`);
const { arch, platform, versions } = process;
console.log(`Node ${versions.node}, ${platform} ${arch}; ${packages.join(", ")}`);
console.log(`us for each message; 'x' is against ${OURS}`);

const messages = readdirSync(fileURLToPath(DATA)).filter((name) => name.endsWith(".edn"))
  .map((name) => [name, readFileSync(new URL(name, DATA), "utf8").trim()])
  .sort(([, a], [, b]) => a.length - b.length);
for (const [title, subjectsOf] of [["read", readers], ["write", writers]]) {
  for (const [name, text] of messages) {
    const rows = measure(subjectsOf(text));
    show(`${title} ${name}, ${text.length.toLocaleString("en")} bytes`, text.length, rows);
  }
}

console.log();
for (const [name, most] of Object.entries(MAX_BYTES)) {
  const source = readFileSync(new URL(`../../js/${name}.js`, import.meta.url), "utf8");
  const { code } = transformSync(source, { minify: true, format: "esm" });
  const size = gzipSync(code, { level: 9 }).length;
  console.log(`js/${name}.js, minified and compressed: ${size.toLocaleString("en")} bytes of ` +
    `${most.toLocaleString("en")}`);
  if (size > most) process.exitCode = 1;
}

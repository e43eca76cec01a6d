// edn against what ClojureScript answered, against hostile texts, and there and back.
// Against Python's reader and writer: tests/conformance/test_js_edn.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";
import v8 from "node:v8";
import { runInNewContext } from "node:vm";
import {
  ChansockError, Char, Decimal, EdnError, Instant, Keyword, List, Ratio, Symbol as Name, Tagged,
  UUID, keyword, read, write,
} from "./module.mjs";
import { workOf } from "./work.mjs";

const DATA = new URL("../../tests/data/edn/", import.meta.url);
const linesOf = (name) =>
  readFileSync(new URL(name, DATA), "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));

const refusal = (act, is = EdnError) => {
  try {
    assert.fail(`expected an error, got ${JSON.stringify(act())}`);
  } catch (error) {
    if (!(error instanceof is)) throw error;
    return error;
  }
};

// -- the corpus --

const ids = (group, ...numbers) =>
  numbers.map((number) => `${group}/${String(number).padStart(3, 0)}`);

// Where we differ from ClojureScript, each on purpose. Types that it has not (characters, ratios,
// decimals, big integers) are not in this table: there the values are compared as its numbers and
// strings, and the types with those of Clojure.
const REASONS = [
  ["a number is whole: no end of it is thrown away, no letter ends it", ids("int", 27, 62)],
  ["a symbol begins with no digit of any script, as in Clojure",
    [...ids("int", 78, 79), ...ids("symbol", 92)]],
  ["a ratio over zero is no number", [...ids("ratio", 7, 8), ...ids("discard", 22)]],
  ["a character ends at whitespace or a bracket", ids("char", 90)],
  ["a name that not every reader takes could not be written again",
    [...ids("keyword", 104), ...ids("symbol", 47, 93), ...ids("nsmap", 15)]],
  ["a control character in a name could not be written again, and is never meant",
    [...ids("keyword", 102), ...ids("symbol", 83),
      ...ids("whitespace", 12, 13, 14, 15, 16, 17, 18, 19, 39, 40, 44, 45)]],
  ["what JavaScript keeps apart may stand together, as in Clojure",
    [...ids("map", 14, 39), ...ids("set", 8, 23)]],
  ["a Map or a Set holds one NaN", [...ids("map", 21), ...ids("set", 16)]],
  ["a comment may stand before the map of a namespace", ids("nsmap", 28)],
  ["a tag begins with a letter of Latin-1, and right after #, as in Clojure",
    [...ids("tagged", 19, 20, 21, 23, 29), ...ids("macros", 5, 6, 30)]],
  ["ClojureScript's own tags are any other tag", ids("tagged", 37, 38, 39)],
  ["what is discarded may be tagged, as in Clojure",
    [...ids("tagged", 17, 51), ...ids("discard", 38, 39, 40)]],
  ["a UUID has its form", ids("uuid", 4, 5, 6, 7, 12, 13, 14, 15)],
  ["an offset is less than a day, as in Clojure", ids("inst", 42)],
  ["the years 0 to 99 are not 1900 to 1999", ids("inst", 50, 51, 63)],
];
const ON_PURPOSE = new Map(REASONS.flatMap(([reason, found]) => found.map((id) => [id, reason])));

const bitsOf = (number) => {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, number);
  return view.getBigUint64(0).toString(16).padStart(16, 0);
};
const split = (name) => {
  const at = name.indexOf("/");
  return at > 0 ? [name.slice(0, at), name.slice(at + 1)] : [null, name];
};
const unordered = (trees) =>
  trees.map((tree) => [JSON.stringify(tree), tree]).sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, tree]) => tree);

/** Give a value as the tagged tree of the corpus; lossy: with ClojureScript's types. */
const treeOf = (value, lossy) => {
  const inner = (item) => treeOf(item, lossy);
  const pairs = (entries) => ["map", unordered(entries.map((pair) => pair.map(inner)))];
  if (value === null) return ["nil"];
  if (typeof value === "boolean") return ["bool", value];
  if (typeof value === "string") return ["str", value];
  if (typeof value === "number") return ["num", bitsOf(value)];
  if (typeof value === "bigint") {
    return lossy ? ["num", bitsOf(Number(value))] : ["int", `${value}`];
  }
  if (value instanceof Decimal) return [lossy ? "num" : "dec", bitsOf(+value)];
  if (value instanceof Ratio) {
    return lossy ? ["num", bitsOf(+value)]
      : ["ratio", `${value.numerator}`, `${value.denominator}`];
  }
  if (value instanceof Char) return lossy ? ["str", value.char] : ["char", value.char.charCodeAt()];
  if (value instanceof Keyword) return ["kw", ...split(value.name)];
  if (value instanceof Name) return ["sym", ...split(value.name)];
  if (value instanceof List) return ["list", Array.from(value, inner)];
  if (Array.isArray(value)) return ["vec", value.map(inner)];
  if (value instanceof Set) return ["set", unordered([...value].map(inner))];
  if (value instanceof Map) return pairs([...value]);
  if (value instanceof Instant) return ["inst", `${+value}`];
  if (value instanceof UUID) return ["uuid", `${value}`];
  if (value instanceof Tagged) return ["tag", value.tag, inner(value.value)];
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
  return pairs(Object.entries(value).map(([name, item]) => [keyword(name), item]));
};

/** Give a recorded tree, of either Clojure, in the form that `treeOf` gives. */
const recorded = ([kind, ...rest], lossy) => {
  const inner = (node) => recorded(node, lossy);
  const number = (double) => ["num", bitsOf(double)];
  switch (kind) {
    case "meta": return inner(rest[1]);
    case "num": return ["num", rest[0]];
    case "float": return ["num", rest[0]];
    case "int":
    case "bigint":
      return lossy || Number.isSafeInteger(+rest[0]) ? number(+rest[0]) : ["int", rest[0]];
    case "dec": return lossy ? number(+rest[0]) : ["dec", bitsOf(+rest[0])];
    case "ratio": return lossy ? number(rest[0] / rest[1]) : ["ratio", ...rest];
    case "char": return lossy ? ["str", String.fromCharCode(rest[0])] : ["char", rest[0]];
    case "list":
    case "vec": return [kind, rest[0].map(inner)];
    case "set": return [kind, unordered(rest[0].map(inner))];
    case "map": return [kind, unordered(rest[0].map((pair) => pair.map(inner)))];
    case "tag": return [kind, rest[0], inner(rest[1])];
    case "inst": return [kind, `${rest[0]}`];
    default: return [kind, ...rest];
  }
};

/** Give the text of a case; the longest stand as `"x" * 3 + "y"`. */
const textOf = ({ edn, edn_py: expression }) =>
  edn ?? expression.split(" + ").map((term) => {
    const [, quoted, times = 1] = /^(".*"|'.*')(?: \* (\d+))?$/.exec(term);
    return quoted.slice(1, -1).repeat(times);
  }).join("");

/** Say how our answer differs from ClojureScript's; undefined if it does not. */
const differenceOf = (known) => {
  let value;
  try {
    value = read(textOf(known));
  } catch (error) {
    if (!(error instanceof EdnError)) throw error;
    return known.cljs_ok ? `refused: ${error.message}` : undefined;
  }
  if (!known.cljs_ok) return `read: ${JSON.stringify(treeOf(value))}`;
  const wanted = known.cljs_eof ? ["nil"] : known.cljs_value;
  if (!wanted) return undefined; // nested too deeply to be recorded
  const ours = JSON.stringify(treeOf(value, true));
  const theirs = JSON.stringify(recorded(wanted, true));
  if (ours !== theirs) return `value: ${ours}, not ${theirs}`;
  const exact = known.valid && known.clj_value;
  if (exact && JSON.stringify(recorded(exact, true)) === theirs) {
    assert.deepEqual(treeOf(value), recorded(exact), known.id); // with Clojure's types
  }
  return undefined;
};

describe("the corpus", () => {
  const cases = linesOf("corpus.jsonl");

  it("is whole", () => {
    assert.equal(cases.length, 1286);
    const known = new Set(cases.map(({ id }) => id));
    assert.deepEqual([...ON_PURPOSE.keys()].filter((id) => !known.has(id)), []);
  });

  for (const group of new Set(cases.map((known) => known.group))) {
    it(`reads ${group} as ClojureScript does`, () => {
      for (const known of cases.filter((one) => one.group === group)) {
        const found = differenceOf(known);
        if (ON_PURPOSE.has(known.id)) assert.ok(found, `${known.id} agrees now: out of the table`);
        else assert.equal(found, undefined, known.id);
      }
    });
  }

  it("survives being written", () => {
    for (const known of cases) {
      let value;
      try {
        value = read(textOf(known));
      } catch {
        continue;
      }
      let text;
      try {
        text = write(value);
      } catch (error) {
        // Python could not read it.
        assert.match(error.message, /^expected (different keys|a date of the years 1)/, known.id);
        continue;
      }
      assert.deepEqual(read(text), value, known.id);
      assert.equal(write(read(text)), text, known.id);
    }
  });
});

// -- the spelling, as recorded with Python's writer: all of it is read by both Clojures --

describe("the recorded spelling", () => {
  const cases = linesOf("python_writes.jsonl").filter(({ edn }) => edn !== null);
  // JSON.stringify escapes these; both Clojures read \uXXXX.
  const ESCAPED = new Set(ids("str", 6, 7, 8, 9));
  const PAIRED = new Set(ids("str", 20)); // two halves in Python are one character here

  it("is ours too", () => {
    assert.equal(cases.length, 235);
    for (const { id, edn } of cases) {
      const value = read(edn);
      const text = write(value);
      if (ESCAPED.has(id)) {
        assert.notEqual(text, edn, id);
        assert.ok(/^"(\\u00[01][\da-f]|\x7f|\[0m)+"$/.test(text), text);
        assert.equal(read(text), value);
      } else if (PAIRED.has(id)) {
        assert.equal(text, '"\u{1f600}"');
      } else {
        // A double is spelled as JavaScript does; what it is stays.
        const ours = edn.replace(/(?<![\w":-])-?\d+\.\d+(E-?\d+)?(?![\w"])/g, (n) => write(+n));
        assert.equal(text, ours, id);
      }
    }
  });
});

// -- reading --

describe("read", () => {
  it("gives an object for keyword keys, and a Map for any other", () => {
    assert.deepEqual(read("{:a 1, :b/c {:d nil}}"), { a: 1, "b/c": { d: null } });
    assert.deepEqual(read("{}"), {});
    const found = read('{:a 1, "b" 2, c 3, [4] 5}');
    assert.deepEqual(found, new Map([
      [keyword("a"), 1], ["b", 2], [new Name("c"), 3], [[4], 5],
    ]));
    assert.equal(found.get(keyword("a")), 1);
    assert.deepEqual(read("#:a{:b 1, :_/c 2, :d/e 3, f 4}"), new Map([
      [keyword("a/b"), 1], [keyword("c"), 2], [keyword("d/e"), 3], [new Name("a/f"), 4],
    ]));
  });

  it("makes __proto__ a property like any other", () => {
    const value = read("{:a 1, :__proto__ {:polluted 1}, :constructor 2, :toString 3}");
    assert.equal(Object.getPrototypeOf(value), Object.prototype);
    assert.deepEqual(Object.keys(value), ["a", "__proto__", "constructor", "toString"]);
    assert.deepEqual(Object.getOwnPropertyDescriptor(value, "__proto__").value, { polluted: 1 });
    assert.equal(value.polluted, undefined);
    assert.equal({}.polluted, undefined);
    const twice = "[{:__proto__ 1 :b 2} {:__proto__ 1 :b 2}]";
    assert.equal(write(read(twice)), "[{:__proto__ 1, :b 2} {:__proto__ 1, :b 2}]");
    refusal(() => read("{:__proto__ 1 :__proto__ 2}"));
    assert.deepEqual(read("#constructor 1"), new Tagged("constructor", 1));
    refusal(() => read("##constructor"));
    refusal(() => read("\\constructor"));
  });

  it("gives one Keyword for each name", () => {
    const kept = read("[:kept/one]");
    assert.equal(kept[0], keyword("kept/one"));
    for (let n = 0; n < 5000; n++) read(`:name-${n}`);
    assert.equal(read(":kept/one"), kept[0]);
    const long = "x".repeat(100);
    assert.equal(read(`:${long}`), keyword(long));
    assert.equal(`${kept[0]}`, ":kept/one");
    assert.equal(JSON.stringify(kept), '["kept/one"]');
  });

  it("forgets a name that nobody holds", async () => {
    v8.setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc");
    const used = async (prefix) => {
      for (let n = 0; n < 100; n++) {
        const names = Array.from({ length: 1000 }, (_, m) => `:${prefix}-of-a-long-name-${n}-${m}`);
        read(`[${names.join(" ")}]`);
        await setImmediate(); // within one turn of the loop all that was made is kept
      }
      for (let n = 0; n < 5; n++) {
        collect();
        await setImmediate();
      }
      return process.memoryUsage().heapUsed;
    };
    const first = await used("first");
    assert.ok((await used("second")) - first < 3e6); // 100,000 Keywords are 15 MB or more
  });

  it("keeps the types that JavaScript has not", () => {
    const ratio = read("-6/4");
    assert.deepEqual([ratio.numerator, ratio.denominator, +ratio], [-3n, 2n, -1.5]);
    assert.equal(read("4/2"), 2);
    assert.equal(read("1.10M").toString(), "1.10");
    assert.equal(+read("1.10M"), 1.1);
    assert.equal(read("12345678901234567890"), 12345678901234567890n);
    assert.equal(read("-9007199254740993"), -9007199254740993n);
    assert.equal(read("9007199254740991N"), 9007199254740991);
    assert.equal(read("\\newline").char, "\n");
    const list = read("(3)");
    assert.ok(list instanceof List);
    assert.deepEqual([...list], [3]);
    assert.deepEqual(read("#my/tag [1]"), new Tagged("my/tag", [1]));
    const uuid = read('#uuid "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"');
    assert.equal(JSON.stringify([uuid]), '["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]');
  });

  it("keeps the microseconds of an instant", () => {
    const instant = read('#inst "2020-01-02T03:04:05.678901234-01:30"');
    assert.ok(instant instanceof Date);
    assert.equal(instant.toISOString(), "2020-01-02T04:34:05.678Z");
    assert.equal(instant.microseconds, 901);
    assert.equal(write(instant), '#inst "2020-01-02T04:34:05.678901-00:00"');
    assert.equal(write(read('#inst "2020"')), '#inst "2020-01-01T00:00:00.000-00:00"');
    for (const text of ["2018-02-29", "2018-04-31T00:00", "2018-01-01T24:00", "x", ""]) {
      refusal(() => new Instant(text));
    }
  });

  it("calls readers by tag, with the value", () => {
    const readers = {
      "my/point": ([x, y]) => ({ x, y }),
      inst: (text) => text.length,
      edn: (text) => read(text, { readers }),
    };
    const text = '{:a #my/point [1 2], :b #inst "x", :c #other 1, :d #edn "{:b #my/point [3 4]}"}';
    assert.deepEqual(read(text, { readers }), {
      a: { x: 1, y: 2 }, b: 1, c: new Tagged("other", 1), d: { b: { x: 3, y: 4 } },
    });
    const called = [];
    read("[#_ #t 1 #_ [#t 2] 3]", { readers: { t: (value) => called.push(value) } });
    assert.deepEqual(called, []);
    const cause = new TypeError("no such thing");
    const error = refusal(() => read("[1 #t 2]", { readers: { t: () => { throw cause; } } }));
    assert.deepEqual([error.cause, error.position], [cause, 3]);
    assert.equal(read("1"), 1); // the reader is none the worse
  });

  it("refuses keys and members that are equal by value", () => {
    for (const text of [
      "{:a 1 :b 2 :a 3}", '{"a" 1 "a" 2}', "{:a 1 b 2 :a 3}", "#{1 1N}", "#{[1] (1)}",
      "#{#{1 2} #{2 1}}", '#{{:a 1 "b" 2} {"b" 2 :a 1}}', "#{{:a 1 :b [2]} {:b (2) :a 1}}",
      "{1.0M 1 1.00M 2}", "#{#t [1] #t (1)}", "{nil 1 nil 2}", "#:a{:b 1 :a/b 2}",
      "[{:a 1 :b 2} {:a 1 :a 2}]", "[{:a 1 :b 2} {:b 1 :a 2 :b 3}]", "{:a {:a 1} :a 2}",
    ]) assert.match(refusal(() => read(text)).message, /^expected different keys.* again at \d+: /);
    const apart = '#{[1] "[1]" a "a" :a \\a 1 "1" nil "nil" 1/2 "1/2" #t 1 #u 1}';
    assert.equal(read(apart).size, 14);
    const many = Array.from({ length: 100 }, (_, n) => `:k${n} ${n}`).join(" ");
    assert.equal(Object.keys(read(`{${many}}`)).length, 100);
    refusal(() => read(`{${many} :k7 1}`));
    refusal(() => read(`[{${many}} {${many} :k70 1}]`));
  });

  it("says where it refuses, and what stands there", () => {
    for (const [text, position] of [
      ["{:a 1 :b}", 8], ["[1 2)", 4], ["[1 2", 4], ['[1 "abc', 3], ['"a\\x"', 2], ["[a/b/c]", 1],
      ["[1/0]", 1], ["[#foo]", 5], ['[#inst "x"]', 1], ["[:a :b: ]", 4], ["[\\ab]", 1],
      ["#{1 2 1}", 6], ["[08]", 1], ["[@]", 1], ["##Foo", 0], ["[^1 [2]]", 1],
    ]) {
      const error = refusal(() => read(text));
      assert.equal(error.position, position, text);
      assert.ok(error instanceof ChansockError);
      assert.equal(error.name, "EdnError");
      const near = JSON.stringify(text.slice(position));
      assert.ok(error.message.endsWith(` at ${position}: ${near}`), error.message);
    }
    assert.equal(refusal(() => read(5)).message, 'expected a text, got "5"');
  });

  it("reads and writes integers of at most 4300 digits", () => {
    const most = 10n ** 4300n - 1n;
    for (const value of [most, -most, new Ratio(1n, most), new Ratio(most, 2n)]) {
      assert.equal(write(read(write(value))), write(value));
    }
    assert.equal(read(`0x${"f".repeat(3571)}`), 16n ** 3571n - 1n);
    for (const text of [
      "9".repeat(4301), `1${"0".repeat(4300)}N`, `-1/${"3".repeat(4301)}`, `${"3".repeat(4301)}/2`,
      `0x${"f".repeat(3572)}`, `0x${"f".repeat(600_000)}`, `0${"7".repeat(600_000)}`,
    ]) {
      const error = refusal(() => read(`[${text}]`));
      assert.match(error.message, /^expected at most 4300 digits, got "/);
      assert.equal(error.position, 1);
    }
    for (const value of [most + 1n, -most - 1n, new Ratio(most + 1n, 7n), new Ratio(1n, most + 2n)]) {
      const error = refusal(() => write([value]));
      assert.match(error.message, /^expected at most 4300 digits, got more/);
    }
  });

  it("nests 500 deep and no deeper", () => {
    for (const [open, close] of [["[", "]"], ["(", ")"], ["#{", "}"], ["{:a ", "}"], ["#t ", ""]]) {
      const value = read(open.repeat(500) + "1" + close.repeat(500));
      assert.equal(write(value), open.repeat(500) + "1" + close.repeat(500));
      const error = refusal(() => read(open.repeat(501) + "1" + close.repeat(501)));
      assert.match(error.message, /^expected at most 500 levels, got more at /);
    }
    for (const flood of ["[", "{:a ", "#{", "#t ", "#_ ", "^a ", "{[", "#:a{:b "]) {
      refusal(() => read(flood.repeat(100_000)));
    }
  });

  it("refuses every prefix of a message, and what is cut from its front never hangs", () => {
    const [text] = linesOf("corpus.jsonl").find(({ id }) => id === "truncated/full").edn.split(";");
    const message = `[[:app/sync {:rows [${text} #:n{:a 1} ^:m [1] ##NaN \\u0041 2r101]}] "cb"]`;
    read(message);
    for (let end = 1; end < message.length; end++) {
      refusal(() => read(message.slice(0, end)));
      try {
        read(message.slice(end));
      } catch (error) {
        assert.ok(error instanceof EdnError, error.stack);
      }
    }
  });
});

// -- writing --

describe("keys and members", () => {
  const sorts = (call) => workOf(Array.prototype, "sort", () => 1, call);
  const depth = 400;

  it("are named once, however deep they are nested", () => {
    const map = `${"{".repeat(depth)}1 1${"} 1".repeat(depth - 1)}}`;
    const set = `${"#{".repeat(depth)}1${"}".repeat(depth)}`;
    for (const text of [map, set]) {
      let value;
      assert.ok(sorts(() => (value = read(text))) < 20 * depth);
      assert.ok(sorts(() => write(value)) < 20 * depth);
    }
  });

  it("are told apart where they are long, and alike", () => {
    const long = "x".repeat(100);
    const nested = `#{[${`"${long}" `.repeat(3)}] ["${long}"] "${long}" :${long} ${long} "[@0]" "@0"}`;
    assert.equal(read(nested).size, 7);
    for (const text of [
      `#{"${long}" "${long}"}`, `#{#{"${long}" 1} #{1 "${long}"}}`, `{["${long}"] 1 ("${long}") 2}`,
    ]) assert.match(refusal(() => read(text)).message, /^expected different keys/);
    assert.throws(() => write(new Set([[long], [long]])), /expected different keys/);
    assert.throws(() => write(new Set([keyword(long), long])), /expected different keys/);
  });

  it("are decimals of one value only once, whatever their exponents", () => {
    for (const text of [
      "#{1E-9000M 10E-9001M}", "#{0M -0.00M}", "#{+1.50M 15E-1M}", "#{-01M -1.0M}", "#{100M 1E2M}",
    ]) assert.match(refusal(() => read(text)).message, /^expected different keys/);
    assert.equal(read("#{1M -1M 10M 0.1M 101M 1001M 1E5000M}").size, 7);
  });

  it("that are decimals cost no arithmetic on their powers of ten", () => {
    const many = Array.from({ length: 100 }, (_, n) => `${n}E-4900M`).join(" ");
    assert.equal(workOf(globalThis, "BigInt", () => 1, () => read(`#{${many}}`)), 0);
  });

  it("have a namespace of at most 255 characters from their map", () => {
    const name = (n) => "n".repeat(n);
    assert.deepEqual(read(`#:${name(255)}{:a 1}`), { [`${name(255)}/a`]: 1 });
    refusal(() => read(`#:${name(256)}{:a 1}`));
  });
});

describe("write", () => {
  const same = (value, text) => assert.equal(write(value), text);

  it("spells what JavaScript has", () => {
    same([null, undefined, true, false], "[nil nil true false]");
    same({ a: undefined, "b/c": [undefined], d: null }, "{:b/c [nil], :d nil}");
    same([0, -0, 1, 1.5, -2.25, 1e21, 1e-7, 2 ** 53, -(2 ** 60)],
      "[0 -0.0 1 1.5 -2.25 1e+21 1e-7 9.007199254740992e+15 -1.152921504606847e+18]");
    same([Infinity, -Infinity, NaN], "[##Inf ##-Inf ##NaN]");
    same([5n, 2n ** 63n - 1n, 2n ** 63n, -(2n ** 63n), -(2n ** 63n) - 1n],
      "[5 9223372036854775807 9223372036854775808N -9223372036854775808 -9223372036854775809N]");
    same('"\\\n\t\r\f\b\u00e9\u{1f600}\ud800x', '"\\"\\\\\\n\\t\\r\\f\\b\u00e9\u{1f600}\\ud800x"');
    same(new Date(1577934245678), '#inst "2020-01-02T03:04:05.678-00:00"');
    same(new Set([1, "a", [2]]), '#{1 "a" [2]}');
    same(new Map([["bob smith", 1], [keyword("k"), 2], [3, { a: 4 }]]),
      '{"bob smith" 1, :k 2, 3 {:a 4}}');
    same([new String("s"), new Number(1), Object(true)], '["s" 1 true]');
  });

  it("spells what edn has", () => {
    same([keyword("a/b"), new Name("c"), new Char("d"), new Char(" "), new Char("(")],
      "[:a/b c \\d \\space \\(]");
    same([List.of(1, 2), List.from([3]), new List()], "[(1 2) (3) ()]");
    same([new Ratio(4, -6), new Ratio(4n, 2), new Decimal("1.10")], "[-2/3 2 1.10M]");
    same(new Tagged("my/tag", { a: 1 }), "#my/tag {:a 1}");
    same(new UUID("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"),
      '#uuid "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"');
  });

  it("writes instances by toJSON or their properties, and what can be iterated as a vector", () => {
    class Point {
      x = 1;
      #secret = 2;
      y = undefined;
    }
    class Money {
      toJSON() {
        return new Tagged("my/money", [12, keyword("eur")]);
      }
    }
    same([new Point(), new Money(), new URL("http://a/b")],
      '[{:x 1} #my/money [12 :eur] "http://a/b"]');
    same([new Uint8Array([1, 2]), [3].values(), new Map([[1, 2]]).keys()], "[[1 2] [3] [1]]");
    same(Object.assign(Object.create(null), { a: 1 }), "{:a 1}");
  });

  it("refuses what edn cannot say, with the path", () => {
    const circle = { a: [] };
    circle.a.push(circle);
    for (const [value, path] of [
      [() => 1, "$"],
      [{ a: [Symbol("x")] }, "$.a[0]"],
      [{ a: [1, { "b c": () => 1 }] }, '$.a[1]["b c"]'],
      [new Map([["k", { f() {} }]]), '$["k"].f'],
      [[1, new Tagged("t", [new Date(NaN)])], "$[1].value[0]"],
      [{ a: { b: 1, toJSON: 1 }, c: Promise.resolve() }, "$.c"],
      [[/x/], "$[0]"],
      [[new Date("-000001-01-01T00:00:00Z")], "$[0]"],
      [[new Date("+012020-01-01T00:00:00Z")], "$[0]"],
      [new Map([[[1], 1], [List.of(1), 2]]), "$[1]"],
      [new Set([{ a: 1 }, { a: 1 }]), "$[1]"],
      [[{ toJSON: () => 1 }], "$[0].toJSON"],
    ]) {
      const error = refusal(() => write(value));
      assert.equal(error.path, path);
      assert.ok(error.message.endsWith(` at ${path}`), error.message);
    }
    assert.match(refusal(() => write(circle)).path, /^\$\.a\[0\]\.a\[0\]\./);
    class Self {
      toJSON() {
        return this;
      }
    }
    refusal(() => write(new Self()));
    same({ a: 1 }, "{:a 1}"); // the writer is none the worse
  });

  it("may be called while it writes", () => {
    class Inner {
      toJSON() {
        return [write({ a: [1] }), read("#{[1] [2]}")];
      }
    }
    same({ x: [new Inner(), 2] }, '{:x [["{:a [1]}" #{[1] [2]}] 2]}');
  });
});

describe("values are checked when they are made", () => {
  const names = [
    "a", "a/b", "a.b/c-d", "a:b", "+", "/", "a//", "->x", "a'b", "\u00e9/\u6f22", "a?!*",
  ];
  const words = ["1", "#a", "nil", "true", "-1", "+1a"]; // of a keyword, of no symbol
  const others = [
    "", ":a", "a:", "a:/b", "a/b:", "a::b", "/a", "a/", "a/b/c", "a//b", "a/1", "a/\u0663", "a b",
    "a,b", "a\nb", "a\x00", "a;b", 'a"', "a(", "a]", "a{", "a\\", "a@b", "a`", "a~", "a^",
    "a\xa0b", "a\u2003b", "a\ufeff", "a\x85", "\ud800", "a 1 :admin true", null, 1, undefined,
  ];
  for (const name of [...names, ...words]) {
    it(`:${name} is a keyword`, () => {
      assert.equal(read(`:${name}`), keyword(name));
      assert.equal(write([keyword(name), { [name]: 1 }]), `[:${name} {:${name} 1}]`);
    });
  }
  it("other names are neither keyword nor key, symbol or tag", () => {
    for (const name of others) {
      refusal(() => keyword(name));
      refusal(() => new Name(name));
      refusal(() => new Tagged(name, 1));
    }
    for (const name of words) refusal(() => new Name(name));
    for (const tag of ["-a", "\u6f22", "_", "nil"]) refusal(() => new Tagged(tag, 1));
    for (const name of names) assert.deepEqual(read(write(new Name(name))), new Name(name));
  });
  it("an object with such a key is written with string keys", () => {
    for (const name of others) {
      if (typeof name !== "string" || name === "\ud800") continue;
      const map = new Map([["a", 1], [name, { b: 2 }]]);
      const object = { a: 1, [name]: { b: 2 }, "c d": undefined };
      assert.equal(write(object), write(map));
      assert.deepEqual(read(write(object)), map);
    }
    assert.equal(write({ a: 1, "c d": undefined }), "{:a 1}");
    assert.equal(refusal(() => write([{ "a b": () => 0 }])).path, '$[0]["a b"]');
  });
  it("nor is anything else what it is not", () => {
    for (const char of ["", "ab", "\u{1f600}", "\ud800", undefined]) refusal(() => new Char(char));
    for (const text of ["", "x", "1.2.3", "Infinity", "1M"]) refusal(() => new Decimal(text));
    refusal(() => new Ratio(1, 0));
    refusal(() => new UUID("f81d4fae"));
    refusal(() => new UUID(5));
  });
});

// -- there and back --

/** Numbers from 0 to 1, the same in each run (mulberry32). */
const chance = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let n = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  n = (n + Math.imul(n ^ (n >>> 7), 61 | n)) ^ n;
  return ((n ^ (n >>> 14)) >>> 0) / 2 ** 32;
};

describe("random", () => {
  const random = chance(1);
  const below = (n) => Math.floor(random() * n);
  const pick = (...all) => all[below(all.length)];
  const many = (make) => Array.from({ length: below(5) }, (_, n) => make(n));
  const digits = () => Array.from({ length: 1 + below(25) }, () => below(10)).join("");
  const letters = () => many(() => pick("a", "B", "\u00e9", "\u6f22", "-", "7", "*", "'")).join("");
  const name = () => pick("a", "b/", "c.d/", "+", "->/") + "x" + letters();
  const string = () => many(() =>
    pick("a", '"', "\\", "\n", "\x00", "\x85", "\u2028", "\ud800", "\u{1f600}", " ")).join("");
  const scalar = () => pick(
    () => null, () => random() < 0.5, string, () => below(1000) - 500, () => random() / 1e5,
    () => (random() - 0.5) * 10 ** below(300), () => -0, () => NaN, () => 1 / 0,
    () => BigInt(pick("", "-") + `9${digits()}`) * 10n ** 16n, () => keyword(name()),
    () => new Name(name()), () => new Char(String.fromCharCode(below(0xd800))),
    () => new Decimal(`${pick("", "-")}${digits()}.${digits()}E-${below(20)}`),
    () => new Ratio(BigInt(digits()) * 2n + 1n, 2n ** BigInt(1 + below(90))),
    () => new Instant(new Date(below(4e12)).toISOString().replace("Z", `${pick("", "042")}Z`)),
    () => new UUID(crypto.randomUUID()),
  )();
  const value = (depth) => depth === 0 ? scalar() : pick(
    scalar, () => many(() => value(depth - 1)), () => List.from(many(() => value(depth - 1))),
    () => Object.fromEntries(many(() => [name(), value(depth - 1)])),
    () => new Map(["k", ...many((n) => List.of(n, scalar()))].map((k) => [k, value(depth - 1)])),
    () => new Set(many((n) => [n, value(depth - 1)])),
    () => new Tagged("my/tag", value(depth - 1)),
  )();

  it("values come back as they went", () => {
    for (let n = 0; n < 5000; n++) {
      const sent = value(4);
      assert.deepEqual(read(write(sent)), sent);
    }
  });

  it("doubles are read as JavaScript itself does", () => {
    for (let n = 0; n < 100_000; n++) {
      const text = `${pick("", "-", "+")}${digits()}.${digits()}${pick("", "", "e-7", "E12")}`;
      assert.ok(Object.is(read(text), Number(text)), text);
    }
  });

  it("tokens are read or refused", () => {
    const tokens = [
      "{", "}", "[", "]", "(", ")", "#{", "#_", "^", "#^", ":a", ":b/c", '"s"', '"', "1", "-",
      "1/2", "2.5M", " ", ",", "\n", ";", "#!", "#x ", "#:n", "##NaN", "nil", "\\a", "\\", "#inst",
      '"2018"', "a", "/", ":", "#", "0x", "7r", "\\u00", "true", "\ufeff", "\x00", ":__proto__ ",
    ];
    for (let n = 0; n < 50_000; n++) {
      const text = Array.from({ length: 1 + below(14) }, () => pick(...tokens)).join("");
      let found;
      try {
        found = read(text);
      } catch (error) {
        assert.ok(error instanceof EdnError, `${text}: ${error.stack}`);
        continue;
      }
      let written;
      try {
        written = write(found);
      } catch (error) {
        assert.match(error.message, /^expected different keys/, text); // to Python
        continue;
      }
      assert.deepEqual(read(written), found, text);
    }
  });
});

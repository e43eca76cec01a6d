// MessagePack and JSON: against bytes of Sente's own client, against another library, against
// truncated and hostile bytes; and what the client says on the wire with each packer. With the real
// server: server.test.mjs. In a browser: tests/browser/test_packers_page.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import * as theirs from "@msgpack/msgpack";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { HANDSHAKE, Line, listen } from "./peer.mjs";
import { workOf } from "./work.mjs";

const {
  Char, Decimal, EdnError, Instant, List, PacketError, Ratio, ReplyError, ReplyTimeout,
  Symbol: Name, Tagged, UUID, json, keyword, pack,
} = chansock;
const { msgpack } = pack;

const DATA = new URL("../../tests/data/", import.meta.url);
const linesOf = (name) =>
  readFileSync(new URL(name, DATA), "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const bytesOf = (text) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

const refusal = (act) => {
  try {
    assert.fail(`expected an error, got ${JSON.stringify(act())}`);
  } catch (error) {
    if (!(error instanceof PacketError)) throw error;
    return error;
  }
};

// -- bytes --

describe("what Sente's client wrote", () => {
  const recorded = linesOf("packers/chromium-ws-values-msgpack.jsonl")
    .map(({ dir, b64 }) => [dir, Uint8Array.from(Buffer.from(b64, "base64"))]);
  const sent = recorded.filter(([dir]) => dir === "c>s").map(([, bytes]) => bytes);

  it("is written back byte for byte", () => {
    assert.equal(sent.length, 177);
    for (const bytes of sent) assert.equal(hex(pack.write(pack.read(bytes))), hex(bytes));
  });

  it("is made anew of its event and its callback id", () => {
    for (const bytes of sent) {
      const [[{ name }, data], cbId] = msgpack.unpack(bytes);
      assert.equal(hex(msgpack.packet(msgpack.fragment(name, data), cbId)), hex(bytes));
    }
  });

  it("has the values that it wrote as edn", () => {
    const events = (packets) => packets.map(([event]) => chansock.write(event));
    const edn = linesOf("transcripts/chromium-ws-values-edn.jsonl")
      .filter(({ kind, dir, opcode }) => kind === "ws-frame" && dir === "c>s" && opcode === 1)
      .map(({ text }) => chansock.read(text))
      .filter(([[, data]]) => !(data instanceof List)); // MessagePack has arrays alone
    assert.deepEqual(events(sent.map((bytes) => pack.read(bytes))), events(edn));
  });

  it("is understood as the server answered it", () => {
    for (const [, bytes] of recorded) {
      const [value] = msgpack.unpack(bytes);
      assert.deepEqual(pack.read(pack.write(value)), value);
    }
  });
});

const PAIRS = [
  ["c0", null],
  ["c2", false],
  ["c3", true],
  ["00", 0],
  ["7f", 127],
  ["cc80", 128],
  ["cd0100", 256],
  ["ceffffffff", 2 ** 32 - 1],
  ["d3 0000000100000000", 2 ** 32],
  ["d3 001fffffffffffff", Number.MAX_SAFE_INTEGER],
  ["d3 7fffffffffffffff", 2n ** 63n - 1n],
  ["cf ffffffffffffffff", 2n ** 64n - 1n],
  ["e0", -32],
  ["d0df", -33],
  ["d1ff7f", -129],
  ["d280000000", -(2 ** 31)],
  ["d3 ffffffff7fffffff", -(2 ** 31) - 1],
  ["d3 8000000000000000", -(2n ** 63n)],
  ["ca3fc00000", 1.5],
  ["cb3fb999999999999a", 0.1],
  ["ca80000000", -0],
  ["ca7f800000", Infinity],
  ["caff800000", -Infinity],
  ["cb7ff8000000000000", NaN],
  ["cb54b249ad2594c37d", 1e100],
  ["a0", ""],
  ["a3efbbbf", "\ufeff"],
  ["a7c3a9f09f988000", "é😀\0"],
  ["c403000102", Uint8Array.of(0, 1, 2)],
  ["9201a161", [1, "a"]],
  ["80", {}],
  ["82 d40061 01 d600622f6363 c0", { a: 1, "b/cc": null }],
  ["82 a161 01 02 d40062", new Map([["a", 1], [2, keyword("b")]])],
  ["81 c70900 5f5f70726f746f5f5f 01", JSON.parse('{"__proto__": 1}')],
  ["d40061", keyword("a")],
  ["c70e00 63 68736b2f68616e647368616b65", keyword("chsk/handshake")],
  ["d50161 62", new Name("ab")],
  ["d40278", new Char("x")],
  ["c70302e6bca2", new Char("漢")],
  ["d5030103", new Ratio(1, 3)],
  ["d503ff03", new Ratio(-1, 3)],
  ["d40490", new Set()],
  ["c70704 93 01 d40061 a162", new Set([1, keyword("a"), "b"])],
  ["d705 00000001 fffffffe", Int32Array.of(1, -2)],
  ["d606 3fc00000", Float32Array.of(1.5)],
  ["d707 3fb999999999999a", Float64Array.of(0.1)],
  ["c70005", new Int32Array(0)],
  ["c70cff 28697580 000000005e0d5da5", new Instant("2020-01-02T03:04:05.678Z")],
  ["c70cff 075bca00 ffffffffffffffff", new Instant("1969-12-31T23:59:59.123456Z")],
  [`c72409${hex(Buffer.from("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"))}`,
    new UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")],
];

describe("each form", () => {
  for (const [text, value] of PAIRS) {
    it(`is ${text}`, () => {
      const bytes = bytesOf(text);
      assert.deepEqual(pack.read(bytes), value);
      assert.equal(hex(pack.write(value)), hex(bytes));
    });
  }

  it("is read in every width that MessagePack has for it", () => {
    for (const [text, value] of [
      ["cc05", 5], ["cd0005", 5], ["ce00000005", 5], ["cf0000000000000005", 5],
      ["d0ff", -1], ["d1ffff", -1], ["d2ffffffff", -1], ["d3ffffffffffffffff", -1],
      ["cb3ff8000000000000", 1.5],
      ["d90161", "a"], ["da000161", "a"], ["db0000000161", "a"],
      ["c50001ff", Uint8Array.of(255)], ["c600000001ff", Uint8Array.of(255)],
      ["dc000101", [1]], ["dd0000000101", [1]],
      ["de0001 d40061 01", { a: 1 }], ["df00000001 d40061 01", { a: 1 }],
      ["c70100 61", keyword("a")], ["c8000100 61", keyword("a")], ["c90000000100 61", keyword("a")],
      ["c70304 dc0000", new Set()],
      ["d5030102", new Ratio(1, 2)], ["d5030402", 2],
    ]) {
      assert.deepEqual(pack.read(bytesOf(text)), value, text);
    }
  });

  it("has a long head when it is long", () => {
    for (const n of [31, 32, 255, 256, 65535, 65536]) {
      const text = "é".repeat(n);
      assert.equal(pack.read(pack.write(text)), text);
      assert.equal(theirs.decode(pack.write(text)), text);
      const items = Array.from({ length: n }, (_, i) => i);
      assert.deepEqual(theirs.decode(pack.write(items)), items);
      assert.deepEqual(pack.read(pack.write(items)), items);
      const map = new Map(items.map((i) => [i, -i]));
      assert.deepEqual(pack.read(pack.write(map)), map);
      const bytes = new Uint8Array(n).fill(7);
      assert.deepEqual(theirs.decode(pack.write(bytes)), bytes);
      assert.deepEqual(pack.read(pack.write(bytes)), bytes);
      const set = new Set(items);
      assert.deepEqual(pack.read(pack.write(set)), set);
    }
  });

  it("is written for what has no form of its own as edn has it", () => {
    for (const [value, same] of [
      [undefined, null],
      [{ a: undefined, b: 1 }, { b: 1 }],
      [List.from([1, 2]), [1, 2]],
      [new Date(1577934245678), new Instant("2020-01-02T03:04:05.678Z")],
      [Object("text"), "text"],
      [(function* () { yield 1; })(), [1]],
      [Uint16Array.of(1, 2), [1, 2]],
      [new URL("http://a/b"), "http://a/b"],
      [Uint8Array.of(1, 2).buffer, Uint8Array.of(1, 2)],
      [new (class { x = 1; })(), { x: 1 }],
      [Object.create(null), {}],
    ]) {
      assert.deepEqual(pack.read(pack.write(value)), same);
    }
  });

  it("may be followed by anything, and stand anywhere in a buffer", () => {
    const buffer = bytesOf("ffff 9201c0 000000");
    assert.deepEqual(pack.read(buffer.subarray(2)), [1, null]);
    assert.deepEqual(pack.read(buffer.slice(2).buffer), [1, null]);
  });

  it("keeps nothing of the bytes that it was read from", () => {
    const bytes = bytesOf("92c40101 d6063fc00000");
    const value = pack.read(bytes);
    bytes.fill(0);
    assert.deepEqual(value, [Uint8Array.of(1), Float32Array.of(1.5)]);
  });
});

describe("another library", () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 0x7fffffff) % n;
  const make = (depth) => {
    switch (random(depth ? 9 : 7)) {
      case 0: return null;
      case 1: return random(2) === 1;
      case 2: return random(2 ** 31 - 1) - 2 ** 30;
      case 3: return (random(2) ? 1 : -1) * random(2 ** 31 - 2) * 2 ** random(22);
      case 4: return random(1e6) / (1 + random(1e6));
      case 5: return ["", "a", "né", "😀".repeat(random(40)), "x".repeat(random(400))][random(5)];
      case 6: return new Uint8Array(random(300)).fill(random(256));
      case 7: return Array.from({ length: random(20) }, () => make(depth - 1));
      default: return new Map(
        Array.from({ length: 1 + random(20) }, (_, i) => [`${i}${random(99)}`, make(depth - 1)]));
    }
  };
  const plain = (value) => {
    if (value instanceof Map) {
      return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
    }
    return Array.isArray(value) ? value.map(plain) : value;
  };

  it("reads plain values as we write them, and we read its", () => {
    for (let n = 0; n < 3000; n++) {
      const value = make(3);
      const flat = make(0);
      assert.deepEqual(theirs.decode(pack.write(flat)), flat);
      const theirBytes = theirs.encode(plain(value));
      assert.deepEqual(plain(pack.read(theirBytes)), plain(value));
      assert.deepEqual(pack.read(pack.write(value)), value);
    }
  });
});

describe("the numbers of keys", () => {
  it("stand for keywords and strings that come again as keys", () => {
    const value = [{ a: 1 }, { a: { a: 2 } }, new Map([["a", 1]]), new Map([["a", 2]]), "a"];
    const text = "95 81d4006101 81d4080081d4080002 81a16101 81d4080102 a161";
    assert.equal(hex(pack.write(value)), text.replaceAll(" ", ""));
    assert.deepEqual(pack.read(bytesOf(text)), value);
  });

  it("count inside a set and beside it", () => {
    const value = [new Set([{ a: 1 }]), { a: 2 }];
    const text = "92 c70604 91 81d4006101 81d4080002";
    assert.equal(hex(pack.write(value)), text.replaceAll(" ", ""));
    assert.deepEqual(pack.read(bytesOf(text)), value);
  });

  it("end at 256; later keys are written out", () => {
    const names = Array.from({ length: 300 }, (_, i) => `k${i}`);
    const object = Object.fromEntries(names.map((name) => [name, 1]));
    const bytes = pack.write([object, object]);
    assert.deepEqual(pack.read(bytes), [object, object]);
    const again = hex(bytes).slice(hex(bytes).length / 2);
    assert.ok(again.includes("d408ff01"));
    assert.ok(again.includes(hex(pack.write(keyword("k256")))));
  });

  it("count every key that was written out, also one that came before", () => {
    // a writer that knows nothing of numbers, then one that does
    assert.deepEqual(pack.read(bytesOf("93 81d4006101 81d4006102 81d4080103")),
      [{ a: 1 }, { a: 2 }, { a: 3 }]);
  });

  it("have to be known, and stand for keys alone", () => {
    assert.equal(refusal(() => pack.read(bytesOf("81 d40800 01"))).message,
      "expected a known key, got 0 at byte 3");
    assert.match(refusal(() => pack.read(bytesOf("92 81d4006101 d40800"))).message, /extension/);
  });
});

describe("a key that comes again", () => {
  const size = 10_000;
  const times = 100;
  const withKey = (head) => {
    const first = `81 ${head} ${size.toString(16).padStart(4, 0)}`;
    const rest = `${"61".repeat(size)} c0 ${"81 d40800 c0".repeat(times)}`;
    return (type) => bytesOf(`dc ${(times + 1).toString(16).padStart(4, 0)} ${first}${type}${rest}`);
  };

  it("is looked at once if it is a keyword", () => {
    const bytes = withKey("c8")("00");
    const tested = workOf(RegExp.prototype, "test", (_, text) => text.length, () => pack.read(bytes));
    assert.ok(tested <= 4 * size);
  });

  it("is named once if it is a string", () => {
    const bytes = withKey("da")("");
    const named = workOf(JSON, "stringify", (_, text) => text.length, () => pack.read(bytes));
    assert.ok(named <= size);
  });
});

describe("bytes that are no value", () => {
  it("are refused at each place where they may be cut", () => {
    for (const [, value] of PAIRS) {
      const inner = ArrayBuffer.isView(value) ? [value] : new Set([value]); // of numbers: no member
      const bytes = pack.write([value, { key: inner }, "last"]);
      for (let n = 0; n < bytes.length; n++) {
        const error = refusal(() => pack.read(bytes.slice(0, n)));
        assert.ok(error.position <= n, error.message);
        assert.match(error.message, /^expected .* at byte \d+$/);
      }
    }
  });

  for (const [text, message, position = 0] of [
    ["", "expected 1 more bytes, got 0"],
    ["c1", "expected a type, got 0xc1"],
    ["9201c1", "expected a type, got 0xc1", 2],
    ["a2c328", /not valid/, 1],
    ["b9 ff00000000000000000000000000000000000000000000000000", /not valid/, 1],
    ["ddffffffff", "expected 1 more bytes, got 0", 5],
    ["dfffffffff", "expected 1 more bytes, got 0", 5],
    ["dbffffffff61", "expected 4294967295 more bytes, got 1", 5],
    ["d40a00", "expected a known extension, got 10"],
    ["d4ff00", "expected a time of 12 bytes, got 1"],
    ["c70cff 00000000 7fffffffffffffff", /expected a date and time/],
    ["d5026162", /expected one character/],
    ["d50961 62", /expected a UUID/],
    ["d5030100", /expected a denominator/],
    ["c70303 a16101", "expected two integers, got a,1"],
    ["c70303 01a132", "expected two integers, got 1,2"],
    ["d40301", "expected 1 more bytes, got 0", 3],
    ["d60301020300", "expected the end of an extension, got more", 4],
    ["d40401", "expected an array as what a set holds", 2],
    ["c70304 920101", "expected different keys or members, got 1 again", 3],
    ["d5059090", /expected a multiple of 4 bytes, got 2/, 2],
    ["82 d40061 01 d40061 02", "expected different keys, got :a again", 5],
    ["82 a161 01 a161 02", /expected different keys or members, got "a" again/, 4],
    ["82 9101 01 9101 02", /expected different keys or members, got \[1\] again/, 4],
    ["91".repeat(502) + "c0", "expected at most 500 levels, got more", 501],
  ]) {
    it(`are refused: ${text.slice(0, 30)}`, () => {
      const error = refusal(() => pack.read(bytesOf(text)));
      const [, said, at] = /^(.*) at byte (\d+)$/.exec(error.message);
      if (typeof message === "string") assert.equal(said, message);
      else assert.match(said, message);
      assert.deepEqual([+at, error.position], [position, position]);
    });
  }

  it("are refused though they are a text, or nothing", () => {
    for (const what of ["[1 nil]", undefined, null, [1]]) refusal(() => pack.read(what));
  });
});

describe("values without a form", () => {
  const cycle = {};
  cycle.self = cycle;
  for (const [value, path, said] of [
    [{ users: [1, () => {}] }, "$.users[1]", "a function"],
    [{ a: Promise.resolve() }, "$.a", "a value"],
    [[/x/], "$[0]", "a value"],
    [{ a: new Decimal("1.5") }, "$.a", "a value"],
    [[new Tagged("a/b", 1)], "$[0]", "a value"],
    [{ a: 2n ** 64n }, "$.a", "an integer of 64 bits"],
    [{ a: -(2n ** 63n) - 1n }, "$.a", "an integer of 64 bits"],
    [["\ud800"], "$[0]", "half a character"],
    [{ "not a name": () => {} }, '$["not a name"]', "a function"],
    [{ a: new Map([["x", globalThis.Symbol()]]) }, '$.a["x"]', "a symbol"],
    [new Map([[{}, { b: () => {} }]]), "$[0].b", "a function"],
    [[new Date(NaN)], "$[0]", "a date"],
    [new Set([[1], [1]]), "$", "different"],
    [new Map([[[1], 1], [[1], 2]]), "$", "different"],
  ]) {
    it(`are refused at ${path}: ${said}`, () => {
      const error = refusal(() => pack.write(value));
      assert.equal(error.path, path);
      assert.ok(error.message.includes(said), error.message);
      assert.ok(error.message.endsWith(` at ${path}`), error.message);
    });
  }

  it("are refused if they go round, or too deep", () => {
    assert.match(refusal(() => pack.write(cycle)).message, /at most 500 levels, got more, or a cyc/);
    let deep = null;
    for (let n = 0; n < 500; n++) deep = [deep];
    assert.deepEqual(pack.read(pack.write(deep)), deep);
    refusal(() => pack.write([deep]));
  });
});

describe("JSON", () => {
  it("is written without a copy of the way to each item", () => {
    let data = Array(1000).fill(1);
    for (let depth = 0; depth < 400; depth++) data = [data];
    const weigh = (steps) => steps.length;
    const call = () => json.fragment("a/b", data);
    assert.ok(workOf(Array.prototype, Symbol.iterator, weigh, call) <= 10_000);
  });

  it("is packets as JSON has them", () => {
    assert.equal(json.packet(json.fragment("chat/say", { text: "é\n" }), null),
      '[["chat/say",{"text":"é\\n"}],null]');
    assert.equal(json.packet(json.fragment("a/b"), "cb"), '[["a/b"],"cb"]');
    assert.equal(json.packet(json.fragment("a/b", null), keyword("ajax")), '[["a/b",null],"ajax"]');
    assert.deepEqual(json.unpack('[[["a/b",1]],null]'), [[["a/b", 1]], null]);
  });

  it("writes what JSON.stringify writes, where that says it all", () => {
    for (const value of [
      null, true, -0.5, "\u2028😀", [1, [undefined]], { a: undefined, b: { c: [] } },
      new Date(0), new URL("http://a/"), Object(1), Object("s"), new (class { x = 1; })(),
      [keyword("a/b")], new UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"), "same",
    ]) {
      assert.equal(json.fragment("a/b", value), `["a/b",${JSON.stringify(value)}]`);
    }
    const shared = { n: 1 };
    assert.equal(json.fragment("a/b", [shared, shared]), '["a/b",[{"n":1},{"n":1}]]');
  });

  for (const [value, path, got] of [
    [NaN, "$", "NaN"],
    [{ a: [-Infinity] }, "$.a[0]", "-Infinity"],
    [{ a: { b: new Map([[1, 2]]) } }, "$.a.b", "Map"],
    [[new Set()], "$[0]", "Set"],
    [{ f() {} }, "$.f", "function"],
    [[1n], "$[0]", "bigint"],
    [["a\ud800"], "$[0]", "half a character"],
    [{ "\udc00": 1 }, "$.\udc00", "half a character"],
    [[Uint8Array.of(1)], "$[0]", "Uint8Array"],
    [Promise.resolve(), "$", "Promise"],
  ]) {
    it(`refuses what it would change: ${got}`, () => {
      const error = refusal(() => json.fragment("a/b", value));
      assert.equal(error.path, path);
      assert.equal(error.message, `expected a value of JSON, got ${got} at ${path}`);
    });
  }

  it("refuses a cycle, and what is no JSON", () => {
    const cycle = {};
    cycle.self = [cycle];
    assert.match(refusal(() => json.fragment("a/b", cycle)).message, /circular/);
    for (const text of ["", "[1 nil]", "[1,"]) refusal(() => json.unpack(text));
  });
});

it("edn's errors are errors of packets too", () => {
  assert.ok(new EdnError("x") instanceof PacketError);
});

// -- the client --

const NIL = new Uint8Array();

/** How each packer says what a server says. */
const SAY = {
  json: {
    packer: json,
    packet: (value, cbId = null) => JSON.stringify([value, cbId]),
    name: (text) => text,
    read: (data) => JSON.parse(data.toString()),
    nothing: "",
  },
  msgpack: {
    packer: msgpack,
    packet: (value, cbId = null) => Buffer.from(pack.write([value, cbId])),
    name: keyword,
    read: (data) => pack.read(data),
    nothing: NIL,
  },
};

for (const [kind, { packer, packet, name, read, nothing }] of Object.entries(SAY)) {
  describe(`a client with ${kind}`, () => {
    let peer;
    let client;

    const handshake = (uid = "ada", data = { a: 1 }) =>
      packet([name("chsk/handshake"), [uid, null, data]]);

    const connect = (options) => (client = chansock.connect(peer.url, {
      WebSocket, packer, clientId: "tab", ...options,
    }));

    /** Accept a WebSocket and shake hands; gives it and a line of [packet, is binary]. */
    const accept = () => new Promise((done) => {
      peer.onUpgrade = async (...upgrade) => {
        const ws = await peer.accept(...upgrade);
        const messages = new Line();
        ws.on("message", (data, isBinary) => messages.put([read(data), isBinary]));
        ws.send(handshake());
        done([ws, messages]);
      };
    });

    beforeEach(async () => {
      peer = await listen();
    });

    afterEach(async () => {
      client.disconnect();
      await peer.close();
    });

    it("shakes hands, sends, asks and hears over a WebSocket", async () => {
      const accepted = accept();
      connect({ transport: "ws" });
      const [ws, messages] = await accepted;
      await client.ready;
      assert.deepEqual([client.state.uid, client.state.handshakeData], ["ada", { a: 1 }]);
      const { binary } = packer;
      await client.send("chat/say", { text: "hi" });
      assert.deepEqual(await messages.take(),
        [[[name("chat/say"), { text: "hi" }], null], binary]);
      await client.send("chat/bare");
      assert.deepEqual(await messages.take(), [[[name("chat/bare")], null], binary]);
      const reply = client.send("math/double", 21, { timeout: 5 });
      const [[event, cbId]] = await messages.take();
      assert.deepEqual(event, [name("math/double"), 21]);
      assert.match(cbId, /^[0-9a-f]{6}$/);
      ws.send(packet(42, cbId));
      assert.equal(await reply, 42);
      const failed = client.send("a/fail", null, { timeout: 5 });
      ws.send(packet(name("chsk/error"), (await messages.take())[0][1]));
      await assert.rejects(failed, ReplyError);
      const heard = [];
      client.on("a/b", (data) => heard.push(data));
      const last = new Promise((done) => client.on("a/c", done));
      ws.send(packet([[name("a/b"), [1]], [name("a/b")], [name("a/c"), "end"]]));
      assert.equal(await last, "end");
      assert.deepEqual(heard, [[1], null]);
    });

    it("answers a ping with a pong, and pings", async () => {
      const accepted = accept();
      connect({ transport: "ws", pingInterval: 0.5 });
      const [ws, messages] = await accepted;
      const pinged = new Promise((done) => client.on("chsk/ws-ping", done));
      ws.send(packet(name("chsk/ws-ping")));
      assert.deepEqual((await messages.take())[0], [[name("chsk/ws-pong")], null]);
      assert.equal(await pinged, null);
      assert.deepEqual((await messages.take())[0], [[name("chsk/ws-ping")], "ping"]);
    });

    it("names the anonymous user null", async () => {
      peer.onGet = (call) => {
        if (call.query.has("handshake?")) call.answer(200, handshake(name("sente/nil-uid"), null));
      };
      connect({ transport: "ajax" });
      await client.ready;
      assert.equal(client.state.uid, null);
    });

    for (const bad of ["not this )(", Buffer.from([0xc1])]) {
      it(`closes with 4007 if it cannot read ${JSON.stringify(bad)}`, async (t) => {
        t.mock.method(console, "warn", () => {});
        const accepted = accept();
        connect({ transport: "ws" });
        const [ws] = await accepted;
        await client.ready;
        const closed = new Promise((done) => ws.on("close", done));
        ws.send(bad);
        assert.equal(await closed, 4007);
      });
    }

    it("drops what is no event, and says so", async (t) => {
      const warnings = t.mock.method(console, "warn", () => {});
      const accepted = accept();
      connect({ transport: "ws" });
      const [ws] = await accepted;
      await client.ready;
      const good = new Promise((done) => client.on("a/good", done));
      ws.send(packet([[name("chsk/evil"), 1], [1, 2], "a/b", null, [name("bare"), 1]]));
      ws.send(packet([[name("a/good")]]));
      await good;
      assert.equal(warnings.mock.callCount(), 1); // the others are counted
      assert.ok(client.state.open);
    });

    it("polls and POSTs as Sente's client does", async () => {
      const polls = new Line();
      const posts = new Line();
      let udt;
      peer.onGet = (call) => {
        if (!call.query.has("handshake?")) return polls.put(call);
        udt = call.query.get("udt");
        call.answer(200, handshake());
      };
      peer.onPost = (call) => posts.put(call);
      connect({ transport: "ajax", csrfToken: "tok", params: { lang: "de" } });
      await client.ready;
      const heard = new Promise((done) => client.on("a/b", done));
      (await polls.take()).answer(200, packet([[name("a/b"), { x: 1 }]]));
      assert.deepEqual(await heard, { x: 1 });
      (await polls.take()).answer(200, packet(name("chsk/timeout")));
      await polls.take();

      const said = client.send("chat/say", { text: "a+b &é" });
      const first = await posts.take();
      const fields = packer.binary ? first.query : first.form;
      const expected = { "client-id": "tab", n: `${udt}-1`, why: "1" };
      let sent;
      if (packer.binary) {
        assert.equal(first.request.headers["content-type"], "application/octet-stream");
        expected["binary?"] = "true";
        sent = first.body;
      } else {
        assert.match(first.request.headers["content-type"], /^application\/x-www-form-urlencoded/);
        sent = fields.get("ppstr");
        expected.ppstr = sent;
      }
      const { udt: asked, ...rest } = Object.fromEntries(fields);
      assert.deepEqual(rest, expected);
      assert.ok(Number(asked) > Number(udt));
      assert.equal(first.request.headers["x-csrf-token"], "tok");
      assert.deepEqual(read(sent), [[name("chat/say"), { text: "a+b &é" }], null]);
      first.answer(200, packet(name("chsk/dummy-cb-200")));
      assert.equal(await said, undefined);

      for (const [answer, outcome] of [
        [packet(42), 42],
        [packet(name("chsk/timeout")), ReplyTimeout],
        [packet(name("chsk/error")), ReplyError],
        [packet([name("chsk/error"), "expected str"]), /could not take the data: expected str$/],
        [nothing, ReplyError],
        ["<!DOCTYPE html><p>Log in", /expected a packet, got "<!DOCTYPE|JSON|more bytes/],
      ]) {
        const reply = client.send("math/double", 21, { timeout: 5 });
        const post = await posts.take();
        const packed = packer.binary ? post.body : post.form.get("ppstr");
        assert.deepEqual(read(packed), [[name("math/double"), 21], name("ajax")]);
        post.answer(200, answer);
        if (outcome === 42) assert.equal(await reply, 42);
        else await assert.rejects(reply, outcome);
      }
      assert.ok(client.state.open);
    });

    it("learns in words why it is refused", async () => {
      peer.onGet = (call) => call.answer(403, "Bad CSRF token");
      connect({ transport: "ajax" });
      await assert.rejects(client.ready, { message: /refused 403 Bad CSRF token/ });
    });

    it("refuses at once what cannot be sent", async () => {
      const accepted = accept();
      connect({ transport: "ws" });
      await accepted;
      await client.ready;
      await assert.rejects(client.send("a/b", { f() {} }), PacketError);
    });

    it("shows the trace what travels, as it travels", async () => {
      const seen = [];
      const accepted = accept();
      connect({ transport: "ws", trace: (...what) => seen.push(what) });
      const [, messages] = await accepted;
      await client.ready;
      await client.send("a/b", 1);
      await messages.take();
      const type = packer.binary ? Uint8Array : String;
      assert.ok(seen.every(([, data]) => Object(data) instanceof type));
      assert.deepEqual(seen.map(([way, , link]) => [way, link]), [["in", "ws"], ["out", "ws"]]);
    });
  });
}

it("a client without such a packer takes no bytes for its handshake", async (t) => {
  t.mock.method(console, "warn", () => {});
  const peer = await listen();
  const codes = [];
  peer.onUpgrade = async (...upgrade) => {
    const ws = await peer.accept(...upgrade);
    ws.on("close", (code) => codes.push(code));
    const bytes = pack.write([[keyword("chsk/handshake"), ["ada", null, null]], null]);
    ws.send(codes.length ? HANDSHAKE : bytes);
  };
  const client = chansock.connect(peer.url, { WebSocket, transport: "ws" });
  let reason;
  client.onState((state) => (reason ??= state.reason));
  await client.ready;
  assert.deepEqual(codes, [4007]);
  assert.deepEqual([reason.kind, reason.code], ["not-opened", 4007]);
  client.disconnect();
  await peer.close();
});

it("a packer has to have what packers have", () => {
  for (const packer of [{}, { ...json, unpack: undefined }, "json"]) {
    assert.throws(() => chansock.connect("http://a/", { packer }), TypeError);
  }
});

describe("what one side writes", () => {
  const edn = chansock.internals.makeEdn({});
  const nested = (depth, shell, inner = 1) => {
    for (; depth; depth--) inner = shell(inner);
    return inner;
  };
  const packed = (packer, data) => packer.packet(packer.fragment("a/b", data), "1a2b3c");
  const list = (inner) => [inner];

  for (const [name, packer, shells] of [
    ["edn", edn, [list, (inner) => new Set([inner]), (inner) => ({ a: inner })]],
    ["msgpack", msgpack, [list, (inner) => new Set([inner]), (inner) => new Map([[inner, 1]])]],
    ["json", json, [list, (inner) => ({ a: inner })]],
  ]) {
    it(`is read however deep it stands: ${name}`, () => {
      for (const shell of shells) {
        packer.unpack(packed(packer, nested(498, shell)));
        const error = refusal(() => packed(packer, nested(499, shell)));
        assert.match(error.message, /^expected at most 500 levels, got more/);
        assert.ok(error.path.length > 498);
      }
    });
  }

  it("counts the text behind a tag of edn", () => {
    const id = new UUID("0b2c9a5e-0000-4000-8000-000000000001");
    for (const inner of [new Date(0), id]) {
      edn.unpack(packed(edn, nested(497, list, inner)));
      refusal(() => packed(edn, nested(498, list, inner)));
    }
    edn.unpack(packed(edn, nested(498, list, NaN)));
  });

  it("counts a set of MessagePack as one level, and a ratio as none", () => {
    let bytes = bytesOf("d5030102");
    for (let n = 0; n < 499; n++) {
      const size = Buffer.alloc(4);
      size.writeUInt32BE(bytes.length + 1);
      bytes = Buffer.concat([bytesOf("c9"), size, bytesOf("0491"), bytes]);
    }
    pack.read(Buffer.concat([bytesOf("92"), bytes, bytesOf("c0")]));
  });

  for (const name of ["", "a b", "a@b", "a/b/c", ":a", "nil", "1", "é\0"]) {
    it(`may have a name of MessagePack that edn cannot spell: ${JSON.stringify(name)}`, () => {
      const bytes = Buffer.from(name);
      for (const type of [0, 1]) {
        const head = Buffer.from([0xc7, bytes.length, type]);
        const word = pack.read(Buffer.concat([head, bytes]));
        assert.equal(word.name, name);
        assert.equal(pack.read(Buffer.from(pack.write(word))).name, name);
        const map = pack.read(Buffer.concat([bytesOf("81"), head, bytes, bytesOf("01")]));
        assert.deepEqual(pack.read(pack.write(map)), map);
        if (type === 1 || !["nil", "1"].includes(name)) {
          assert.match(refusal(() => chansock.write([word])).message, /^expected a name, got /);
        }
      }
    });
  }

  it("has no two keys or members that are one to Python", () => {
    const [a, ab] = [keyword("a"), new Ratio(1, 2)];
    for (const pair of [
      [1, true], [0, false], ["a", a], ["a", new Name("a")], ["a", new Char("a")], [a, new Char("a")],
      [ab, 0.5], [2 ** 53, 2n ** 53n], [null, undefined], [[1], [true]],
      [["a"], [a]], [{ a: 1 }, new Map([["a", true]])], [new Set([1]), new Set([true])],
      ["a", new String("a")], [NaN, NaN], [[0], [-0]],
    ]) {
      for (const write of [chansock.write, pack.write]) {
        for (const value of [new Set(pair), new Map(pair.map((key) => [key, 1]))]) {
          if (value.size === 1) continue;
          assert.match(refusal(() => write(value)).message, /^expected different keys or members/);
        }
      }
    }
    const one = new Decimal("1.50");
    for (const pair of [[1e22, 10n ** 22n], [one, 1.5], [one, new Decimal("1.5")], [new Decimal("0.2"), new Ratio(1, 5)]]) {
      refusal(() => chansock.write(new Set(pair)));
    }
    for (const pair of [[0.1, new Decimal("0.1")], [new Uint8Array(1), [0, 0]], [1n, "1"]]) {
      chansock.write(new Set(pair));
    }
    pack.write(new Set([Uint8Array.of(1), [1]]));
    refusal(() => pack.write(new Set([Int32Array.of(1)])));
  });

  it("numbers a key by what it is written as", () => {
    class Place {
      toJSON() {
        return "place";
      }
    }
    for (const key of [new String("text"), new Place(), new URL("http://a.b/")]) {
      const inner = { a: 1, b: [{ a: 2, b: 3 }] };
      const found = pack.read(pack.write(new Map([[key, inner], ["last", inner]])));
      assert.deepEqual([...found.values()], [inner, inner]);
      assert.deepEqual([...found.keys()], [`${key.toJSON?.() ?? key}`, "last"]);
    }
  });

  it("has no number that Python would not read", () => {
    chansock.write([10n ** 4299n, new Ratio(10n ** 4299n, 7)]);
    refusal(() => chansock.write(10n ** 4300n));
    refusal(() => chansock.write(new Ratio(1, 10n ** 4300n)));
    refusal(() => chansock.write(new Decimal("1E2147483648")));
    for (const write of [chansock.write, pack.write]) {
      write(new Date(-62135596800000));
      refusal(() => write(new Date(-62135596800001))); // the year 0
    }
    assert.match(refusal(() => packed(json, [2 ** 60])).message, /^expected a value of JSON, got 11529/);
    packed(json, [1e18, 1e21, 2 ** 53]);
    for (const value of [new Ratio(1, 3), new Char("a"), new Name("a"), new Tagged("a", 1)]) {
      refusal(() => packed(json, value));
    }
  });
});

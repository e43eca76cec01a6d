// What a program writes: handlers, options, signals, and a client where there is no page.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { HANDSHAKE, Line, listen } from "./peer.mjs";

const { ChannelClosed, Decimal, InvalidEvent } = chansock;

let peer;
let clients;

const connect = (options = {}) => {
  const client = chansock.connect(peer.url, { WebSocket, ...options });
  clients.push(client);
  return client;
};

const acceptAll = () => {
  const line = new Line();
  peer.onUpgrade = async (...upgrade) => {
    const ws = await peer.accept(...upgrade);
    ws.messages = new Line();
    ws.on("message", (data) => ws.messages.put(data.toString()));
    ws.send(HANDSHAKE);
    line.put(ws);
  };
  return line;
};

const open = async (options) => {
  const line = acceptAll();
  const client = connect(options);
  const ws = await line.take();
  await client.ready;
  return { client, ws };
};

beforeEach(async () => {
  peer = await listen();
  clients = [];
});

afterEach(async () => {
  for (const client of clients) client.disconnect();
  await peer.close();
});

describe("handlers", () => {
  it("of one id are called in their order, then those of every id", async () => {
    const { client, ws } = await open();
    const seen = [];
    const done = new Promise((go) => client.on("a/end", go));
    client.on("*", (data, { id }) => seen.push(["*", data, id]));
    client.on("a/b", (data, { id }) => seen.push([1, data, id]));
    client.on("a/b", (data) => seen.push([2, data]));
    ws.send("[[[:a/b 7] [:a/c 8] [:a/end]] nil]");
    await done;
    assert.deepEqual(seen.slice(0, 4), [[1, 7, "a/b"], [2, 7], ["*", 7, "a/b"], ["*", 8, "a/c"]]);
  });

  it("of once are called once, and may be undone before", async () => {
    const { client, ws } = await open();
    const seen = [];
    const done = new Promise((go) => client.on("a/end", go));
    client.once("a/b", (data) => seen.push(data));
    client.once("a/b", () => assert.fail("undone"))();
    ws.send("[[[:a/b 1] [:a/b 2] [:a/end]] nil]");
    await done;
    assert.deepEqual(seen, [1]);
  });

  it("hear of an event though one before them undid itself, or threw", async (t) => {
    const errors = t.mock.method(console, "error", () => {});
    const { client, ws } = await open();
    const stop = client.on("a/b", () => stop());
    client.on("a/b", async () => {
      throw new RangeError("mine");
    });
    const done = new Promise((go) => client.on("a/b", go));
    ws.send("[[[:a/b 1]] nil]");
    await done;
    await new Promise(setImmediate);
    assert.equal(errors.mock.calls[0].arguments[0].message, "mine");
  });

  it("of every id keep an event from the log, and from for await", async (t) => {
    const warnings = t.mock.method(console, "warn", () => {});
    const { client, ws } = await open();
    const done = new Promise((go) => client.on("*", go));
    ws.send("[[[:a/b 1]] nil]");
    await done;
    await new Promise(setImmediate);
    assert.equal(warnings.mock.callCount(), 0);
  });

  it("that cannot be called, and ids without a namespace, throw where they are set", () => {
    const client = connect();
    for (const handler of [undefined, null, {}, "f"]) {
      assert.throws(() => client.on("a/b", handler), { name: "TypeError", message: /\(data, event\) => \{\}/ });
      assert.throws(() => client.once("a/b", handler), TypeError);
      assert.throws(() => client.onState(handler), TypeError);
    }
    for (const id of ["said", "chsk/recv", "", undefined, "**"]) {
      assert.throws(() => client.on(id, () => {}), { name: "InvalidEvent", message: /"chat\/say", "\*", or chsk\/state, / });
      assert.throws(() => client.once(id, () => {}), InvalidEvent);
    }
  });

  it("may be set by methods taken off the client", async () => {
    const { client, ws } = await open();
    const { send, on, once, onState, disconnect } = client;
    const done = Promise.all([new Promise((go) => on("a/b", go)), new Promise((go) => once("a/b", go))]);
    ws.send("[[[:a/b 1]] nil]");
    await done;
    await send("a/b", 2);
    assert.equal(await ws.messages.take(), "[[:a/b 2] nil]");
    const closed = new Promise((go) => onState(({ open }) => open || go()));
    disconnect();
    await closed;
  });
});

describe("an option", () => {
  for (const [name, meant] of [
    ["max_backoff", "maxBackoff"],
    ["tranport", "transport"],
    ["csrftoken", "csrfToken"],
    ["pingintervall", "pingInterval"],
    ["maxQueueEvents", "maxQueuedEvents"],
  ]) {
    it(`${name} is refused, and ${meant} named`, () => {
      assert.throws(() => connect({ [name]: 1 }), { name: "TypeError", message: new RegExp(`${name}.*${meant}$`) });
    });
  }

  it("that cannot be is refused with what was expected", () => {
    for (const [options, message] of [
      [{ pingInterval: "10" }, /pingInterval: expected a number above 0, got 10/],
      [{ maxBacklogBytes: 0 }, /maxBacklogBytes: expected a number above 0/],
      [{ transport: "websocket" }, /transport: expected one of auto, ws, ajax, got websocket/],
      [{ trace: true }, /trace: expected a function/],
      [{ clientId: "x".repeat(257) }, /clientId: expected 1 to 256 characters/],
      [{ clientId: " " }, /clientId: expected 1 to 256 characters/],
      [{ reconnect: true }, /reconnect: expected one of transport, .*, maxBackoff, /],
      [{ toString: 1 }, /toString: expected /],
      [{ signal: {} }, /signal: expected an AbortSignal/],
    ]) {
      assert.throws(() => connect(options), { name: "TypeError", message });
    }
    for (const options of [5, null, "auto"]) {
      const message = /expected an object of options/;
      assert.throws(() => chansock.connect(peer.url, options), { name: "TypeError", message });
    }
  });

  it("of send that is not known is refused, too", async () => {
    const client = connect({ offline: "queue" });
    await assert.rejects(client.send("a/b", 1, { timout: 5 }), { name: "TypeError", message: /timout.*timeout/ });
    await assert.rejects(client.send("a/b", 1, { signal: 5 }), TypeError);
    for (const options of [5, null, "5"]) {
      await assert.rejects(client.send("a/b", 1, options), { name: "TypeError", message: /\{ timeout: 5 \}/ });
    }
  });

  for (const url of ["localhost:8000/chsk", "chsk", "", "ftp://host/chsk", "http://"]) {
    it(`url ${JSON.stringify(url)} is refused with the right form`, () => {
      assert.throws(() => chansock.connect(url), { name: "TypeError", message: /"https:\/\/host\/chsk"/ });
    });
  }
});

describe("where there is no page", () => {
  it("a client of a path stays closed, connects to nothing, and keeps nothing", async (t) => {
    const set = t.mock.method(globalThis, "setInterval");
    const client = chansock.connect("/chsk", { offline: "queue" });
    client.on("a/b", () => {});
    const { open, reason, retryAt } = client.state;
    assert.deepEqual([open, reason.kind, retryAt], [false, "not-opened", null]);
    assert.match(reason.text, /no page/);
    await assert.rejects(client.send("a/b", 1), ChannelClosed);
    await assert.rejects(client.ready, ChannelClosed);
    for await (const event of client) assert.fail(event.id);
    client.reconnect();
    client.disconnect();
    assert.equal(client.state, client.state);
    assert.equal(set.mock.callCount(), 0);
  });
});

describe("an AbortSignal", () => {
  it("ends the client", async () => {
    const stop = new AbortController();
    const { client } = await open({ signal: stop.signal });
    stop.abort();
    assert.equal(client.state.reason.kind, "requested-disconnect");
  });

  it("that was aborted before has the client connect to nothing", async () => {
    const client = connect({ signal: AbortSignal.abort() });
    assert.equal(client.state.reason.kind, "requested-disconnect");
    await assert.rejects(client.ready, ChannelClosed);
    assert.equal(peer.upgrades, 0);
  });

  for (const transport of ["ws", "ajax"]) {
    it(`ends the wait for a reply over ${transport}, and no more`, async () => {
      const asked = new Line();
      peer.onGet = (call) => call.query.has("handshake?") && call.answer(200, HANDSHAKE);
      peer.onPost = (call) => asked.put(call);
      const line = acceptAll();
      const client = connect({ transport });
      if (transport === "ws") line.take().then((ws) => asked.put(ws));
      await client.ready;
      const stop = new AbortController();
      const reply = client.send("a/b", 1, { timeout: 60, signal: stop.signal });
      await asked.take();
      stop.abort(new RangeError("mine"));
      await assert.rejects(reply, { message: "mine" });
      assert.ok(client.state.open);
    });
  }

  it("that was aborted before has nothing sent", async () => {
    const { client, ws } = await open();
    await assert.rejects(client.send("a/b", 1, { signal: AbortSignal.abort() }), { name: "AbortError" });
    await client.send("a/b", 2);
    assert.equal(await ws.messages.take(), "[[:a/b 2] nil]");
  });

  it("takes what waits for a connection out of the queue", async () => {
    peer.onGet = () => {};
    const client = connect({ offline: "queue", maxQueuedEvents: 1 });
    const stop = new AbortController();
    const first = client.send("a/b", 1, { signal: stop.signal });
    stop.abort();
    await assert.rejects(first, { name: "AbortError" });
    const kept = client.send("a/b", 2); // there is room for it again
    const line = acceptAll();
    client.reconnect();
    const ws = await line.take();
    assert.equal(await ws.messages.take(), "[[:a/b 2] nil]");
    await kept;
  });
});

it("moments are Dates, and JSON has a Decimal's digits", async () => {
  peer.onGet = (call) => call.cut();
  const client = connect();
  const retryAt = await new Promise((go) => client.onState(({ retryAt }) => retryAt && go(retryAt)));
  assert.ok(retryAt instanceof Date && retryAt > Date.now());
  assert.ok(client.state.lastWsError.time instanceof Date);
  assert.equal(JSON.stringify({ price: new Decimal("1.10") }), '{"price":"1.10"}');
  assert.deepEqual(chansock.json.fragment("a/b", new Decimal("1.10")), '["a/b","1.10"]');
});

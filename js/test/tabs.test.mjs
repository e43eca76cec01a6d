// Tabs of one origin without WebSockets: their parked polls share slots by Web Locks, so that they
// leave connections for POSTs. The locks are a stand-in for the browser's, which Node 20 lacks.

import assert from "node:assert/strict";
import { after, afterEach, beforeEach, describe, it } from "node:test";
import * as chansock from "./module.mjs";
import { HANDSHAKE, Line, listen } from "./peer.mjs";

/** Exclusive locks as Web Locks has them: first come, first served, and a signal for who waits. */
class Locks {
  held = new Set();
  #waiting = [];

  request(name, { signal }, callback) {
    return new Promise((resolve, reject) => {
      const entry = { name, callback, resolve, reject };
      signal.addEventListener("abort", () => {
        const at = this.#waiting.indexOf(entry);
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        reject(signal.reason);
      });
      this.#waiting.push(entry);
      setImmediate(() => this.#grant());
    });
  }

  #grant() {
    for (const entry of [...this.#waiting]) {
      if (this.held.has(entry.name) || !this.#waiting.includes(entry)) continue;
      this.#waiting.splice(this.#waiting.indexOf(entry), 1);
      this.held.add(entry.name);
      Promise.resolve(entry.callback({ name: entry.name })).then((value) => {
        this.held.delete(entry.name);
        entry.resolve(value);
        this.#grant();
      }, entry.reject);
    }
  }
}

const globals = ["navigator", "location"].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
const put = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true });

let peer;
let clients = [];
let locks;

beforeEach(async () => {
  peer = await listen();
  locks = new Locks();
  put("navigator", { locks });
  put("location", new URL("/page", peer.url));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.disconnect();
  await peer.close();
});

after(() => {
  for (const [name, descriptor] of globals) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete globalThis[name];
  }
});

const connect = () => {
  const client = chansock.connect("/chsk", { transport: "ajax" });
  clients.push(client);
  return client;
};

/** Answer as the server does: park a poll, but not one with wait=0. */
const park = () => {
  const parked = new Set();
  const quick = new Line();
  peer.onGet = (call) => {
    if (call.query.has("handshake?")) return call.answer(200, HANDSHAKE);
    if (call.query.get("wait") === "0") {
      call.answer(200, "[:chsk/timeout nil]");
      return quick.put(call.query.get("client-id"));
    }
    parked.add(call);
    call.response.on("close", () => parked.delete(call));
  };
  return { parked, quick };
};

describe("eight tabs", () => {
  it("park three polls at most; the others are answered at once, and all stay open", async () => {
    const { parked, quick } = park();
    const tabs = Array.from({ length: 8 }, connect);
    await Promise.all(tabs.map((tab) => tab.ready));
    const asked = new Set();
    while (asked.size < 5) {
      asked.add(await quick.take());
      assert.ok(parked.size <= 3, `${parked.size} parked`);
    }
    assert.equal(parked.size, 3);
    assert.ok(tabs.every(({ state }) => state.open));
  });

  it("take turns: a slot that is free goes to another tab", async () => {
    const { parked, quick } = park();
    const tabs = Array.from({ length: 8 }, connect);
    await Promise.all(tabs.map((tab) => tab.ready));
    const seen = new Set();
    while (seen.size < 8) {
      await quick.take();
      for (const call of parked) {
        seen.add(call.query.get("client-id"));
        call.answer(200, "[:chsk/timeout nil]");
      }
    }
  });

  it("free the slots of those that are left", async () => {
    const { parked, quick } = park();
    const tabs = Array.from({ length: 8 }, connect);
    await Promise.all(tabs.map((tab) => tab.ready));
    while (parked.size < 3) await quick.take();
    const first = new Set([...parked].map((call) => call.query.get("client-id")));
    for (const tab of tabs) if (first.has(tab.clientId)) tab.disconnect();
    while ([...parked].filter((call) => !first.has(call.query.get("client-id"))).length < 3) {
      await quick.take();
    }
  });
});

it("one tab alone parks its poll at once", async () => {
  const { parked, quick } = park();
  const tab = connect();
  await tab.ready;
  while (!parked.size) await new Promise(setImmediate);
  assert.equal(quick.length, 0);
});

it("a page that may not have locks parks its poll without", async () => {
  locks.request = () => Promise.reject(new DOMException("not here", "SecurityError"));
  const { parked, quick } = park();
  const tab = connect();
  await tab.ready;
  while (!parked.size) await new Promise(setImmediate);
  assert.equal(quick.length, 0);
});

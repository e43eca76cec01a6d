// `resume: "reload"`: what a page keeps in sessionStorage, against a scripted peer. Storage, locks
// and events of the page are stand-ins; in a real browser: tests/browser/test_reload.py.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { Line, listen } from "./peer.mjs";

const { ChannelClosed, pack } = chansock;

/** As sessionStorage: its keys are its own properties. */
class Storage {
  getItem(key) {
    return Object.hasOwn(this, key) ? this[key] : null;
  }
  setItem(key, value) {
    if (Storage.isFull && String(value).length > 100) throw new DOMException("full", "QuotaExceededError");
    this[key] = String(value);
  }
  removeItem(key) {
    delete this[key];
  }
  static isFull = false;
}

/** Exclusive locks: the first has it until its callback's promise settles. */
class Locks {
  tails = new Map();

  request(name, { signal }, callback) {
    const before = this.tails.get(name) ?? Promise.resolve();
    const aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    const mine = Promise.race([before, aborted]).then(() => callback({ name }));
    this.tails.set(name, before.then(() => mine).catch(() => {}));
    return mine;
  }
}

const shake = (pos, was, handled) =>
  `[[:chsk/handshake ["ada" {:pos "${pos}" :was ${was} :handled ${handled}} nil]] nil]`;
const kept = ["sessionStorage", "navigator", "addEventListener"].map((name) => [
  name, Object.getOwnPropertyDescriptor(globalThis, name),
]);
const put = (name, value) =>
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

let peer;
let line;
let clients;
let pageEvents;

/** Have the page behave as at a reload: its storage stays, its clients are gone. */
const leave = (persisted = false) => {
  for (const [type, handler] of pageEvents) if (type === "pagehide") handler({ persisted });
};

/** Put a copy of the storage in place, as it is now: the page is gone with this moment. */
const reload = async (client) => {
  const copy = Object.assign(new Storage(), sessionStorage);
  leave();
  pageEvents = [];
  client.disconnect();
  put("sessionStorage", copy);
  await turn();
  while (line.length) await line.take(); // its attempts
};

const connect = (options = {}) => {
  const client = chansock.connect(peer.url, {
    WebSocket, transport: "ws", backoff: () => 0.01, resume: "reload", ...options,
  });
  clients.push(client);
  return client;
};

const until = (client, isWanted) =>
  new Promise((resolve) => {
    const stop = client.onState((state) => {
      if (!isWanted(state)) return;
      queueMicrotask(() => stop());
      resolve(state);
    });
  });

const opened = async (handshake) => {
  const [request, ...rest] = await line.take();
  const ws = await peer.accept(request, ...rest);
  const messages = new Line();
  ws.on("message", (data, isBinary) => messages.put(isBinary ? data : String(data)));
  ws.send(handshake);
  return [ws, messages, Object.fromEntries(new URL(request.url, "http://peer").searchParams)];
};

const pick = ({ pos, acked, sent, waits }) => ({ pos, acked, sent, waits });
const turn = () => new Promise((done) => setTimeout(done, 20));

beforeEach(async () => {
  peer = await listen();
  line = new Line();
  peer.onUpgrade = (...upgrade) => line.put(upgrade);
  clients = [];
  pageEvents = [];
  put("sessionStorage", new Storage());
  put("navigator", { locks: new Locks() });
  put("addEventListener", (type, handler) => pageEvents.push([type, handler]));
});

afterEach(async () => {
  Storage.isFull = false;
  for (const client of clients) client.disconnect();
  await peer.close();
  for (const [name, descriptor] of kept) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete globalThis[name];
  }
});

describe("a reload", () => {
  it("does not take the reply to an event of the page before for one of its own", async () => {
    const before = connect();
    const [, messages] = await opened(shake("1-1", ":fresh", 0));
    await before.ready;
    before.send("a/q", 1, { timeout: 60 }).catch(() => {});
    const [, old] = /"(\w+)"\]$/.exec(await messages.take());
    await reload(before);
    const client = connect();
    const [ws, again] = await opened(shake("1-1", ":resumed", 1));
    await client.ready;
    const asked = client.send("a/q", 2, { timeout: 60 });
    const [, cbId] = /"(\w+)"\]$/.exec(await again.take());
    ws.send(`["of 1" "${old}"]`);
    ws.send(`["of 2" "${cbId}"]`);
    assert.equal(await asked, "of 2");
  });

  it("goes on with client-id, position, numbers, and what is not acknowledged", async () => {
    const client = connect();
    const [ws] = await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    for (const n of [1, 2, 3]) client.send("a/b", n);
    client.send("a/q", 4, { timeout: 60 }).catch(() => {});
    ws.send('[[[:a/x 1] [:chsk/ack 1] [:chsk/pos "1-2"]] nil]');
    client.on("a/x", () => {});
    await turn();
    await reload(client);
    const next = connect();
    assert.equal(next.clientId, client.clientId);
    next.send("a/b", 5);
    const [, messages, query] = await opened(shake("1-2", ":resumed", 2));
    assert.equal(query["client-id"], client.clientId);
    assert.deepEqual(pick(query), { pos: "1-2", acked: "1", sent: "4", waits: undefined });
    for (const packet of ["[[:a/b 3] nil]", "[[:a/q 4] nil]", "[[:a/b 5] nil]"]) {
      assert.equal(await messages.take(), packet); // nobody waits for the reply any more
    }
    assert.equal(next.state.resumed, "resumed");
  });

  it("loses nothing that was accepted, at whatever moment", async () => {
    const client = connect();
    for (const n of [1, 2]) client.send("a/b", n).catch(() => {}); // before the handshake
    await reload(client);
    const second = connect();
    const [ws, first] = await opened(shake("1-1", ":fresh", 0));
    for (const n of [1, 2]) assert.equal(await first.take(), `[[:a/b ${n}] nil]`);
    ws.terminate();
    await until(second, ({ open, everOpened }) => everOpened && !open);
    second.send("a/b", 3).catch(() => {});
    await reload(second);
    connect();
    const [, messages, query] = await opened(shake("1-1", ":resumed", 1));
    assert.deepEqual(pick(query), { pos: "1-1", acked: "0", sent: "2", waits: undefined });
    for (const n of [2, 3]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
  });

  it("has counted an event as sent before a byte of it was", async () => {
    let atWrite;
    const client = connect({
      trace: (way) => way === "out" && (atWrite = Object.values(sessionStorage).join()),
    });
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    assert.match(atWrite, /"sent":1/);
    assert.match(atWrite, /:a\/b 1/);
  });

  it("keeps nothing without the option, nor without storage", async () => {
    const client = connect({ resume: true });
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    assert.deepEqual(Object.keys(sessionStorage), []);
    Object.defineProperty(globalThis, "sessionStorage", {
      get() {
        throw new DOMException("no", "SecurityError");
      },
      configurable: true,
    });
    const other = connect();
    await opened(shake("1-1", ":fresh", 0));
    await other.ready;
  });

  it("keeps bytes of a packer that is binary", async () => {
    const packer = pack.msgpack;
    const say = (data) => Buffer.from(packer.packet(packer.fragment("a/b", data), null));
    const client = connect({ packer });
    client.send("a/b", "é漢😀").catch(() => {});
    await reload(client);
    connect({ packer });
    const told = { pos: "1-1", was: "fresh", handled: 0 };
    const handshake = pack.write([[chansock.keyword("chsk/handshake"), [null, told, null]], null]);
    const [, messages] = await opened(handshake);
    assert.deepEqual(await messages.take(), say("é漢😀"));
  });

  it("forgets what was acknowledged, and what was taken back", async () => {
    const client = connect();
    const abort = new AbortController();
    client.send("a/b", 1, { signal: abort.signal }).catch(() => {});
    client.send("a/b", 2).catch(() => {});
    abort.abort();
    await reload(client);
    const next = connect();
    const [ws, messages] = await opened(shake("1-1", ":fresh", 0));
    assert.equal(await messages.take(), "[[:a/b 2] nil]");
    ws.send("[[[:chsk/ack 1]] nil]");
    await turn();
    assert.deepEqual(Object.keys(sessionStorage).length, 1); // the head alone
    void next;
  });

  it("goes on behind a gap if the page before had met one", async (t) => {
    t.mock.method(console, "warn", () => {});
    const client = connect();
    const [ws] = await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    ws.send("[[[:a/b (");
    await until(client, ({ open }) => !open);
    await reload(client);
    const next = connect();
    const [, , query] = await opened(shake("1-9", ":fresh", 0));
    assert.equal(query.pos, "0");
    await next.ready;
    assert.equal(next.state.resumed, "gap");
  });

  it("says that storage is full, and works on without", async (t) => {
    const warnings = t.mock.method(console, "warn", () => {});
    const client = connect();
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    Storage.isFull = true;
    await client.send("a/b", "x".repeat(200));
    await client.send("a/b", "y".repeat(200));
    assert.match(warnings.mock.calls[0].arguments[0], /a reload will not resume/);
    assert.ok(!Object.keys(sessionStorage).some((key) => key.endsWith(" 1 1") || key.endsWith(" 1 2")));
  });

  it("takes what it finds in storage for nothing, if it is none of ours", async (t) => {
    t.mock.method(console, "error", () => {});
    sessionStorage.setItem(`chansock ${peer.url} 1`, "not json");
    const client = connect();
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
  });

  it("does not send again as one user what the page before sent as another", async () => {
    const client = connect();
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    await reload(client); // after a login
    const next = connect();
    next.send("a/b", 2);
    const [, messages] = await opened(shake("1-1", ":gap", 0).replace("ada", "bob"));
    assert.equal(await messages.take(), "[[:a/b 2] nil]");
  });

  it("starts anew if the application names another client-id", async () => {
    const client = connect();
    client.send("a/b", 1).catch(() => {});
    await reload(client);
    const next = connect({ clientId: "mine" });
    const [, messages, query] = await opened(shake("1-1", ":fresh", 0));
    assert.deepEqual([query["client-id"], query.sent], ["mine", "0"]);
    next.send("a/b", 2);
    assert.equal(await messages.take(), "[[:a/b 2] nil]");
  });

  it("keeps the clients of one page apart", async () => {
    const [one, two] = [connect(), connect()];
    assert.notEqual(one.clientId, two.clientId);
    for (const client of [one, two]) client.send("a/b", client.clientId).catch(() => {});
    const copy = Object.assign(new Storage(), sessionStorage);
    leave();
    for (const client of [one, two]) client.disconnect();
    await turn();
    put("sessionStorage", copy);
    for (const former of [one, two]) assert.equal(connect().clientId, former.clientId);
  });
});

describe("a tab that was duplicated", () => {
  it("is a new client, and sends nothing of the other's", async () => {
    const client = connect();
    const [ws] = await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    const { locks } = navigator;
    const copy = Object.assign(new Storage(), sessionStorage);
    put("sessionStorage", copy);
    const module = await import("../chansock.js?another page");
    const other = module.connect(peer.url, { WebSocket, transport: "ws", resume: "reload" });
    clients.push(other);
    other.send("a/b", 2);
    const [, messages, query] = await opened(shake("1-1", ":fresh", 0));
    assert.notEqual(query["client-id"], client.clientId);
    assert.deepEqual(pick(query), { pos: "0", acked: "0", sent: "0", waits: undefined });
    assert.equal(await messages.take(), "[[:a/b 2] nil]");
    assert.equal(other.state.resumed, "fresh");
    assert.ok(locks.tails.has(`chansock ${client.clientId}`));
    void ws;
  });

  it("is a new client where the browser takes the request for the lock back", async () => {
    const client = connect();
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    const refuse = (name) => put("navigator", { locks: { request: async () => { throw new DOMException("no", name); } } });
    refuse("InvalidStateError"); // of a page that is going away
    put("sessionStorage", Object.assign(new Storage(), sessionStorage));
    const module = await import("../chansock.js?a page that goes");
    const options = { WebSocket, transport: "ws", resume: "reload" };
    clients.push(module.connect(peer.url, options));
    const [, , going] = await opened(shake("1-1", ":fresh", 0));
    assert.notEqual(going["client-id"], client.clientId);
    refuse("SecurityError"); // of a page in a sandbox, which has no locks at all
    const { clientId } = clients.at(-1);
    put("sessionStorage", Object.assign(new Storage(), sessionStorage));
    const sandbox = await import("../chansock.js?a page in a sandbox");
    clients.push(sandbox.connect(peer.url, options));
    const [, , boxed] = await opened(shake("1-1", ":resumed", 0));
    assert.equal(boxed["client-id"], clientId);
  });

  it("without Web Locks learns it from the server", async () => {
    put("navigator", {});
    const client = connect();
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    put("sessionStorage", Object.assign(new Storage(), sessionStorage));
    await client.send("a/b", 1);
    const module = await import("../chansock.js?one more page");
    const other = module.connect(peer.url, { WebSocket, transport: "ws", backoff: () => 0.01, resume: "reload" });
    clients.push(other);
    const [, , first] = await opened(shake("1-1", ":resumed", 1)); // it has sent none
    assert.equal(first["client-id"], client.clientId);
    const [, , query] = await opened(shake("1-1", ":gap", 0));
    assert.notEqual(query["client-id"], client.clientId);
    assert.equal((await until(other, ({ open }) => open)).resumed, "gap");
  });
});

describe("the back-forward cache", () => {
  it("lets the lock go, and takes it again", async () => {
    const client = connect();
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    leave(true);
    for (const [type, handler] of pageEvents) if (type === "pageshow") handler({ persisted: true });
    const [, messages, query] = await opened(shake("1-1", ":resumed", 0));
    assert.equal(query["client-id"], client.clientId);
    assert.equal(await messages.take(), "[[:a/b 1] nil]");
  });

  it("makes a page a new client if another page has gone on meanwhile, and tells of a gap", async () => {
    const client = connect();
    const id = client.clientId;
    await opened(shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    asked.catch(() => {});
    leave(true);
    const module = await import("../chansock.js?the next page");
    const next = module.connect(peer.url, { WebSocket, transport: "ws", resume: "reload" });
    clients.push(next);
    const [, messages] = await opened(shake("1-1", ":resumed", 0));
    assert.equal(await messages.take(), "[[:a/b 1] nil]");
    await next.ready;
    assert.equal(next.clientId, id);
    next.send("a/b", 3);
    next.disconnect();
    for (const [type, handler] of pageEvents) if (type === "pageshow") handler({ persisted: true });
    const [, again, query] = await opened(shake("1-9", ":fresh", 0));
    assert.notEqual(query["client-id"], id);
    assert.deepEqual(pick(query), { pos: "0", acked: "0", sent: "0", waits: undefined });
    await assert.rejects(asked, ChannelClosed);
    await until(client, ({ open, resumed }) => open && resumed === "gap");
    client.send("a/b", 4);
    assert.equal(await again.take(), "[[:a/b 4] nil]");
  });
});

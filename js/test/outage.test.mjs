// Outages: how soon the client asks again, and by what. Firefox holds WebSockets back after one met
// a server that was down, so none is opened while HTTP does not answer.

import assert from "node:assert/strict";
import { once } from "node:events";
import { afterEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { HANDSHAKE, Line, listen } from "./peer.mjs";
import { freePort } from "./ports.mjs";

const { retryDelay } = chansock.internals;

let clients = [];
let peers = [];

const start = async (port) => {
  const peer = await listen(port);
  peers.push(peer);
  return peer;
};

const connect = (peer, options = {}) => {
  const client = chansock.connect(peer.url, { WebSocket, ...options });
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

const acceptAll = (peer) => {
  const line = new Line();
  peer.onUpgrade = async (...upgrade) => {
    const ws = await peer.accept(...upgrade);
    ws.send(HANDSHAKE);
    line.put(ws);
  };
  return line;
};

/** The seconds until each of the next attempts, as the states tell them. */
const waits = (client, n) =>
  new Promise((done) => {
    const found = [];
    client.onState(({ retryAt }) => {
      if (retryAt && found.push((retryAt - Date.now()) / 1000) === n) done(found);
    });
  });

afterEach(async () => {
  for (const client of clients.splice(0)) client.disconnect();
  for (const peer of peers.splice(0)) await peer.close();
});

describe("after a break", () => {
  it("HTTP is asked first, and a WebSocket is opened once it answers", async () => {
    const peer = await start();
    const line = acceptAll(peer);
    const asked = [];
    const note = peer.onGet;
    peer.onGet = (call) => {
      asked.push(call.query.get("handshake?"));
      note(call);
    };
    const client = connect(peer);
    (await line.take()).terminate();
    await line.take();
    const { type } = await until(client, ({ open }) => open);
    assert.equal(type, "ws");
    assert.deepEqual(asked, ["1"]); // the first WebSocket was opened without
  });

  it("no WebSocket is opened while the server is down, and one as soon as it is back", async () => {
    const port = await freePort();
    const first = await start(port);
    const line = acceptAll(first);
    let sockets = 0;
    class Counted extends WebSocket {
      constructor(...args) {
        super(...args);
        sockets++;
      }
    }
    const client = connect(first, { WebSocket: Counted, backoff: () => 0.05 });
    await line.take();
    await client.ready;
    const down = waits(client, 5);
    await first.close();
    await down;
    assert.equal(sockets, 1);
    assert.ok(!client.state.open);
    const again = acceptAll(await start(port));
    await again.take();
    const { type } = await until(client, ({ open }) => open);
    assert.deepEqual([type, sockets], ["ws", 2]);
  });

  for (const [status, is] of [[502, "down"], [503, "down"], [429, "down"], [404, "there"], [426, "there"]]) {
    it(`a server that answers ${status} is ${is}`, async () => {
      const peer = await start();
      const line = acceptAll(peer);
      const client = connect(peer, { transport: "ws", backoff: () => 0.05 });
      const ws = await line.take();
      await client.ready;
      peer.onGet = (call) => call.answer(status, "no");
      const down = is === "down" ? waits(client, 3) : line.take();
      ws.terminate();
      await down;
      assert.equal(peer.upgrades, is === "down" ? 1 : 2);
    });
  }

  it("a refusal of HTTP is one of the channel", async () => {
    const peer = await start();
    const line = acceptAll(peer);
    const client = connect(peer);
    const ws = await line.take();
    peer.onGet = (call) => call.answer(401, "log in");
    ws.terminate();
    const { reason } = await until(client, ({ reason }) => reason?.kind === "refused");
    assert.deepEqual([reason.code, reason.text, peer.upgrades], [401, "log in", 1]);
  });

  it("a WebSocket that fell silent is replaced at once, without HTTP, whose connections may be as dead", async () => {
    const peer = await start();
    const line = acceptAll(peer);
    const client = connect(peer, { pingInterval: 0.05, pingTimeout: 0.05 });
    await line.take(); // it answers no ping
    await until(client, ({ reason }) => reason?.kind === "ws-ping-timeout");
    await line.take();
    assert.equal(peer.gets, 0);
  });

  it("a call of reconnect opens a WebSocket at once, if all was well", async () => {
    const peer = await start();
    const line = acceptAll(peer);
    const client = connect(peer);
    await line.take();
    await client.ready;
    client.reconnect();
    await line.take();
    assert.equal(peer.gets, 0);
  });
});

describe("the next attempt", () => {
  const between = (least, most) => (seconds) => seconds >= least - 0.05 && seconds <= most;

  it("is made 0.3 to 1 s after a close with 1012, and again soon", async () => {
    const peer = await start();
    const line = acceptAll(peer);
    const client = connect(peer);
    const ws = await line.take();
    await client.ready;
    const found = waits(client, 2);
    await closeAs(peer, ws);
    const [first, second] = await found;
    assert.ok(between(0.3, 1)(first), `${first}`);
    assert.ok(between(0.5, 1.5)(second), `${second}`);
  });

  it("is made 0.3 to 1 s after a 503", async () => {
    const peer = await start();
    peer.onGet = (call) => call.answer(503, "stopping");
    const [first] = await waits(connect(peer, { transport: "ajax" }), 1);
    assert.ok(between(0.3, 1)(first), `${first}`);
  });

  it("is made at once after other ends, and 0.3 to 1 s after a refused connection", async () => {
    const nobody = `http://127.0.0.1:${await freePort()}/chsk`;
    const client = connect({ url: nobody }, { transport: "ajax" });
    const [first, second] = await waits(client, 2);
    assert.ok(between(0.3, 1)(first), `${first}`);
    assert.ok(between(0.5, 1.5)(second), `${second}`);
    assert.match(client.state.reason.text, /ECONNREFUSED/);
  });

  it("is spread: no 50 ms see more than a tenth of 10,000 clients", () => {
    for (const [n, least, most] of [[2, 0.3, 1], [3, 0.5, 1.5], [4, 1.25, 2.5], [40, 1.25, 2.5]]) {
      const bins = new Map();
      for (let i = 0; i < 10_000; i++) {
        const seconds = retryDelay(n, 2.5);
        assert.ok(seconds >= least && seconds <= most, `${seconds}`);
        const bin = Math.floor(seconds * 20);
        bins.set(bin, (bins.get(bin) ?? 0) + 1);
      }
      assert.ok(Math.max(...bins.values()) < 1000, `attempt ${n}`);
    }
    assert.equal(retryDelay(1, 2.5), 0);
    assert.ok(retryDelay(2, 0.1) <= 0.1 && retryDelay(6, 10, 0.999) > 9.9);
  });

  for (const [what, field, least, most] of [
    ["seconds", () => "30", 30, 31],
    ["a date", () => new Date(Date.now() + 60_000).toUTCString(), 57, 61],
    ["too long", () => "999999", 300, 301],
    ["nonsense", () => "soon", 0.3, 1],
    ["the past", () => new Date(0).toUTCString(), 0.3, 1],
  ]) {
    it(`waits besides for what Retry-After asks: ${what}`, async () => {
      const peer = await start();
      peer.onGet = ({ response }) => response.writeHead(503, { "retry-after": field() }).end();
      const [first] = await waits(connect(peer, { transport: "ajax" }), 1);
      assert.ok(between(least, most)(first), `${first}`);
    });
  }

  it("is made at once by reconnect, whatever Retry-After asked for", async () => {
    const peer = await start();
    peer.onGet = ({ response }) => response.writeHead(503, { "retry-after": "3600" }).end();
    const client = connect(peer, { transport: "ajax" });
    await until(client, ({ retryAt }) => retryAt);
    peer.onGet = (call) => call.query.has("handshake?") && call.answer(200, HANDSHAKE);
    client.reconnect();
    await until(client, ({ open }) => open);
  });
});

/** Close a WebSocket as a server does that stops: 1012, and nobody answers. */
const closeAs = async (peer, ws) => {
  ws.close(1012, "stopping");
  await once(ws, "close");
  await peer.close();
};

describe("a WebSocket that is answered otherwise", () => {
  it("with 426 makes the client go on with Ajax at once, with that reason", async () => {
    const peer = await start();
    peer.onGet = (call) => call.query.has("handshake?") && call.answer(200, HANDSHAKE);
    peer.onUpgrade = (request, socket) =>
      socket.end("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n");
    const client = connect(peer, { connectTimeout: 3600 });
    await client.ready;
    const { type, reason } = client.state;
    assert.deepEqual([type, reason.kind], ["ajax", "downgrading-ws-to-ajax"]);
    assert.match(reason.text, /426/);
  });

  it("with a wrong accept key is named so, where there is no Ajax", async () => {
    for (const transport of ["auto", "ws"]) {
      const peer = await start();
      peer.onGet = (call) => call.answer(404, "not found");
      peer.onUpgrade = (request, socket) =>
        socket.write(
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
            "Sec-WebSocket-Accept: bm8=\r\n\r\n",
        );
      const client = connect(peer, { transport });
      const { reason } = await until(client, ({ open, reason, retryAt }) => !open && reason && retryAt);
      assert.equal(reason.kind, "not-opened");
      assert.match(reason.text, /Sec-WebSocket-Accept/);
    }
  });
});

// A client that resumes, against a scripted peer: what it says of its position and of its numbers,
// what it sends again, and what its application hears. Against the real server, with connections
// that are cut: resume_server.test.mjs. Over a reload of the page: resume_reload.test.mjs.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { Line, listen } from "./peer.mjs";

const { BacklogFull, ChannelClosed, ReplyError, ReplyTimeout } = chansock;

let peer;
let clients = [];

const shake = (pos, was, handled) =>
  `[[:chsk/handshake ["ada" {:pos "${pos}" :was ${was} :handled ${handled}} nil]] nil]`;
const PLAIN = '[[:chsk/handshake ["ada" nil nil]] nil]';
const DUMMY = "[:chsk/dummy-cb-200 nil]";

const connect = (options = {}) => {
  const client = chansock.connect(peer.url, { WebSocket, transport: "ws", backoff: () => 0.01, ...options });
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

const queryOf = ({ url }) => Object.fromEntries(new URL(url, "http://peer").searchParams);

/** Have each attempt of a WebSocket wait for the test: it takes [query, open], and opens with a handshake. */
const attempts = () => {
  const line = new Line();
  peer.onUpgrade = (request, ...rest) =>
    line.put([
      queryOf(request),
      async (handshake) => {
        const ws = await peer.accept(request, ...rest);
        const messages = new Line();
        ws.on("message", (data) => messages.put(String(data)));
        ws.send(handshake);
        return [ws, messages];
      },
    ]);
  return line;
};

/** Open the next WebSocket with this handshake; gives it, its messages, and its query. */
const opened = async (line, handshake) => {
  const [query, open] = await line.take();
  return [...(await open(handshake)), query];
};

const pick = ({ pos, acked, sent, waits }) => ({ pos, acked, sent, waits });
const turn = () => new Promise((done) => setTimeout(done, 20));
const idOf = (message) => /"(\w+)"\]$/.exec(message)[1];

beforeEach(async () => {
  peer = await listen();
  peer.type = "application/edn";
  clients = [];
});

afterEach(async () => {
  for (const client of clients) client.disconnect();
  await peer.close();
});

describe("over a WebSocket", () => {
  it("says where it is, and hears how it was resumed", async () => {
    const line = attempts();
    const client = connect();
    const seen = [];
    client.on("chsk/state", ([, { open, resumed }, changed]) => changed && seen.push([open, resumed]));
    client.on("*", (data, { id }) => seen.push(id));
    const [ws, , query] = await opened(line, shake("7-40", ":fresh", 0));
    assert.deepEqual(pick(query), { pos: "0", acked: "0", sent: "0", waits: undefined });
    await client.ready;
    ws.send('[[[:a/b 1] [:a/b 2] [:chsk/pos "7-42"]] nil]');
    await turn();
    ws.terminate();
    const [second, , again] = await opened(line, shake("7-42", '"resumed"', 0)); // a string in JSON
    assert.equal(again.pos, "7-42");
    assert.ok(Number(again.try) > Number(query.try)); // the server refuses one that comes late
    await until(client, ({ open }) => open);
    second.terminate();
    await opened(line, shake("8-1", ":gap", 0));
    await until(client, ({ open }) => open);
    assert.deepEqual(seen, [
      [true, "fresh"], "a/b", "a/b", [false, null], [true, "resumed"], [false, null], [true, "gap"],
    ]);
  });

  it("tells of a gap before any event that follows", async () => {
    const line = attempts();
    const client = connect();
    const seen = [];
    client.onState(({ resumed }) => seen.push(resumed));
    client.on("a/b", (n) => seen.push(n));
    const [, open] = await line.take();
    const [ws] = await open(shake("7-40", ":gap", 0));
    ws.send('[[[:a/b 1] [:chsk/pos "7-41"]] nil]');
    while (!seen.includes(1)) await turn();
    assert.deepEqual(seen, [null, "gap", 1]);
  });

  it("sends again what the server did not take, in order, before what is new", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    await Promise.all([1, 2, 3].map((n) => client.send("a/b", n)));
    for (const n of [1, 2, 3]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
    ws.terminate();
    await until(client, ({ open }) => !open);
    const later = client.send("a/b", 4); // while it is not connected
    const [, again, query] = await opened(line, shake("1-1", ":resumed", 1));
    assert.deepEqual(pick(query), { pos: "1-1", acked: "0", sent: "3", waits: undefined });
    for (const n of [2, 3, 4]) assert.equal(await again.take(), `[[:a/b ${n}] nil]`);
    await later;
    client.send("a/b", 5);
    assert.equal(await again.take(), "[[:a/b 5] nil]");
  });

  it("queues what is sent before the first handshake", async () => {
    const line = attempts();
    const client = connect();
    const sent = [client.send("a/b", 1), client.send("a/b", 2)];
    const [, messages, query] = await opened(line, shake("1-1", ":fresh", 0));
    assert.equal(query.sent, "0");
    for (const n of [1, 2]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
    await Promise.all(sent);
  });

  it("drops what is acknowledged, by chsk/ack and by a pong", async () => {
    const line = attempts();
    const client = connect({ pingInterval: 0.05 });
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    for (const n of [1, 2, 3, 4]) client.send("a/b", n);
    ws.send("[[[:chsk/ack 1]] nil]");
    while (!(await messages.take()).includes("chsk/ws-ping"));
    ws.send('[["pong" 3] "ping"]');
    await turn();
    ws.terminate();
    const [, again, query] = await opened(line, shake("1-1", ":gap", 3)); // of a new process
    assert.deepEqual(pick(query), { pos: "1-1", acked: "3", sent: "4", waits: undefined });
    assert.equal(await again.take(), "[[:a/b 4] nil]");
  });

  it("keeps what is taken, but not acknowledged, for a process that knows nothing of it", async () => {
    const line = attempts();
    const client = connect();
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    for (const n of [1, 2, 3]) client.send("a/b", n);
    await turn();
    ws.terminate();
    const [second, messages] = await opened(line, shake("1-1", ":resumed", 2));
    assert.equal(await messages.take(), "[[:a/b 3] nil]"); // 1 and 2 are not sent again
    second.terminate();
    const [, again] = await opened(line, shake("2-1", ":gap", 0));
    for (const n of [1, 2, 3]) assert.equal(await again.take(), `[[:a/b ${n}] nil]`);
  });

  it("counts in its pings and pongs", async () => {
    const line = attempts();
    const client = connect({ pingInterval: 0.05 });
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    ws.send("[:chsk/ws-ping nil]");
    assert.equal(await messages.take(), "[[:chsk/ws-pong [0 1]] nil]");
    client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    client.send("a/b", 3);
    const [, question] = [await messages.take(), await messages.take(), await messages.take()];
    ws.send("[:chsk/ws-ping nil]");
    assert.equal(await messages.take(), "[[:chsk/ws-pong [3 2]] nil]");
    assert.equal(await messages.take(), '[[:chsk/ws-ping [3 2]] "ping"]');
    ws.send(`[5 "${idOf(question)}"]`);
    assert.equal(await asked, 5);
    ws.send("[:chsk/ws-ping nil]");
    while (!(await messages.take()).includes("chsk/ws-pong [3 4]"));
  });

  it("takes a reply that was lost, from whichever connection, and once", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    const asked = [1, 2, 3, 4].map((n) => client.send("a/q", n, { timeout: 60 }));
    for (const call of asked) call.catch(() => {});
    for (const _ of asked) await messages.take();
    ws.terminate();
    const [second, , query] = await opened(line, shake("1-1", ":resumed", 4));
    assert.equal(query.waits, "1");
    await until(client, ({ open }) => open);
    second.send('[[[:chsk/reply [2 "two"]] [:chsk/reply [2 "two"]] [:chsk/reply [9 "nobody"]]] nil]');
    second.send('[[[:chsk/reply [1 :chsk/error]] [:chsk/reply [3 [:chsk/error "why"]]]] nil]');
    second.send("[[[:chsk/reply [4 :chsk/timeout]]] nil]");
    assert.equal(await asked[1], "two");
    await assert.rejects(asked[0], ReplyError);
    await assert.rejects(asked[2], { name: "ReplyError", reason: "why" });
    await assert.rejects(asked[3], ReplyTimeout);
  });

  it("does not ask a new process again what the last one answered", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    client.send("a/b", 3);
    const [, question] = [await messages.take(), await messages.take(), await messages.take()];
    ws.send(`[2 "${idOf(question)}"]`);
    await asked;
    ws.terminate();
    const [second, again] = await opened(line, shake("2-1", ":gap", 0));
    for (const text of ["[:a/b 1]", "[:chsk/refused]", "[:a/b 3]"]) {
      assert.equal(await again.take(), `[${text} nil]`);
    }
    await until(client, ({ open }) => open);
    second.terminate();
    const [, , query] = await opened(line, shake("2-1", ":resumed", 3));
    assert.deepEqual(pick(query), { pos: "2-1", acked: "0", sent: "3", waits: undefined });
  });

  it("asks again what was not taken, and takes the ordinary reply", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    const asked = client.send("a/q", 1, { timeout: 60 });
    await messages.take();
    ws.terminate();
    const [second, again] = await opened(line, shake("1-1", ":resumed", 0));
    second.send(`[42 "${idOf(await again.take())}"]`);
    assert.equal(await asked, 42);
  });

  it("delivers an event whose question timed out meanwhile, and asks for no reply", async () => {
    const line = attempts();
    const client = connect();
    await assert.rejects(client.send("a/q", 1, { timeout: 0.05 }), ReplyTimeout);
    const [, messages] = await opened(line, shake("1-1", ":fresh", 0));
    assert.equal(await messages.take(), "[[:a/q 1] nil]");
  });

  it("does not send what was aborted before it was sent", async () => {
    const line = attempts();
    const client = connect();
    const abort = new AbortController();
    const sent = client.send("a/b", 1, { signal: abort.signal });
    client.send("a/b", 2);
    abort.abort();
    await assert.rejects(sent, { name: "AbortError" });
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    assert.equal(await messages.take(), "[[:a/b 2] nil]");
    const late = new AbortController();
    const asked = client.send("a/q", 3, { timeout: 60, signal: late.signal });
    await messages.take();
    ws.terminate();
    await until(client, ({ open }) => !open);
    late.abort();
    await assert.rejects(asked, { name: "AbortError" });
    const [, again] = await opened(line, shake("1-1", ":resumed", 1));
    assert.equal(await again.take(), "[[:a/q 3] nil]"); // it may have been taken, so it stays
  });

  it("counts 1,000 events at most that are not acknowledged, and asks for that", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    const sends = Array.from({ length: 1100 }, (_, n) => client.send("a/b", n));
    const got = [];
    let pings = 0;
    const read = async () => {
      const message = await messages.take();
      if (message.includes("chsk/ws-ping")) pings++;
      else got.push(message);
    };
    while (got.length < 1000) await read();
    await turn();
    assert.equal(got.length + messages.length - 0 >= 1000 && pings > 0, true);
    while (messages.length) await read();
    assert.equal(got.length, 1000);
    ws.send("[[[:chsk/ack 100]] nil]");
    while (got.length < 1100) await read();
    await Promise.all(sends);
    assert.deepEqual(got, Array.from({ length: 1100 }, (_, n) => `[[:a/b ${n}] nil]`));
  });

  it("asks again for an acknowledgement while it is held up", async () => {
    const line = attempts();
    const client = connect({ pingInterval: 60 });
    const [, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    for (let n = 0; n < 1001; n++) client.send("a/b", n).catch(() => {});
    for (let pings = 0; pings < 3; ) if ((await messages.take()).includes("ws-ping")) pings++;
  });

  it("has 1 MiB at most that is not acknowledged, or one larger event", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    const got = [];
    const read = async () => {
      const message = await messages.take();
      if (!message.includes("chsk/ws-ping")) got.push(message.length);
    };
    client.send("a/b", "x".repeat(1_500_000));
    client.send("a/b", "y".repeat(600_000));
    client.send("a/b", "z".repeat(600_000));
    while (got.length < 1) await read();
    await turn();
    while (messages.length) await read();
    assert.equal(got.length, 1);
    ws.send("[[[:chsk/ack 1]] nil]");
    while (got.length < 2) await read();
    await turn();
    while (messages.length) await read();
    assert.equal(got.length, 2);
    ws.send("[[[:chsk/ack 2]] nil]");
    while (got.length < 3) await read();
  });

  it("keeps 1,000 events or 1 MiB while it is not connected, and refuses more", async () => {
    const line = attempts();
    const client = connect();
    const kept = Array.from({ length: 1000 }, (_, n) => client.send("a/b", n));
    await assert.rejects(client.send("a/b", 1000), BacklogFull);
    const large = connect();
    const first = large.send("a/b", "x".repeat(1_500_000)); // alone
    first.catch(() => {});
    await assert.rejects(large.send("a/b", 1), BacklogFull);
    large.disconnect();
    for (;;) {
      const [query, open] = await line.take();
      if (query["client-id"] !== client.clientId) continue;
      await open(shake("1-1", ":fresh", 0));
      break;
    }
    await Promise.all(kept);
  });

  it("refuses what is sent while it is closed, if asked to, and keeps what was sent", async () => {
    const line = attempts();
    const client = connect({ offline: "refuse" });
    await assert.rejects(client.send("a/b", 0), ChannelClosed);
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    ws.terminate();
    await until(client, ({ open }) => !open);
    await assert.rejects(client.send("a/b", 2), ChannelClosed);
    const [, again] = await opened(line, shake("1-1", ":resumed", 0));
    assert.equal(await again.take(), "[[:a/b 1] nil]");
  });

  it("forgets nothing that was sent over disconnect and reconnect", async () => {
    const line = attempts();
    const client = connect();
    const [, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    await messages.take();
    client.disconnect();
    await assert.rejects(asked, ChannelClosed);
    await assert.rejects(client.send("a/b", 3), ChannelClosed);
    client.reconnect();
    const [, again, query] = await opened(line, shake("1-1", ":resumed", 0));
    assert.deepEqual(pick(query), { pos: "1-1", acked: "0", sent: "2", waits: undefined });
    assert.equal(await again.take(), "[[:a/b 1] nil]");
    assert.equal(await again.take(), "[[:a/q 2] nil]");
  });

  for (const [what, handled] of [["more than it sent", 3], ["less than was acknowledged", 0]]) {
    it(`takes another client-id if the server has ${what}, and keeps its events`, async () => {
      const line = attempts();
      const client = connect();
      const id = client.clientId;
      const [ws] = await opened(line, shake("1-1", ":fresh", 0));
      await client.ready;
      for (const n of [1, 2]) client.send("a/b", n);
      ws.send("[[[:chsk/ack 1]] nil]");
      await turn();
      ws.terminate();
      await until(client, ({ open }) => !open);
      const states = [];
      client.onState(({ open }) => states.push(open));
      await opened(line, shake("1-9", ":resumed", handled));
      const [, messages, query] = await opened(line, shake("1-9", ":gap", 1));
      assert.notEqual(query["client-id"], id);
      assert.equal(query["client-id"], client.clientId);
      assert.deepEqual(pick(query), { pos: "1-1", acked: "1", sent: "2", waits: undefined });
      assert.equal(await messages.take(), "[[:a/b 2] nil]");
      await until(client, ({ open, resumed }) => open && resumed === "gap");
      assert.deepEqual([...new Set(states.slice(0, -1))], [false]); // not open in between
    });
  }

  it("takes another client-id after a close with 4409, and keeps its events", async () => {
    const line = attempts();
    const client = connect();
    const id = client.clientId;
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    ws.close(4409, "another connection of this client");
    const [, messages, query] = await opened(line, shake("1-1", ":gap", 0));
    assert.notEqual(query["client-id"], id);
    assert.deepEqual(pick(query), { pos: "1-1", acked: "0", sent: "1", waits: undefined });
    assert.equal(await messages.take(), "[[:a/b 1] nil]");
  });

  it("has a server that does not resume send it nothing twice", async () => {
    const line = attempts();
    const client = connect();
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    for (let i = 0; i < 2; i++) await messages.take();
    ws.terminate();
    await until(client, ({ open }) => !open);
    const kept = client.send("a/b", 3);
    const [second, again] = await opened(line, PLAIN);
    await assert.rejects(asked, ChannelClosed);
    await kept;
    assert.equal(await again.take(), "[[:a/b 3] nil]"); // never sent before
    assert.equal(client.state.resumed, null);
    second.send("[:chsk/ws-ping nil]");
    assert.equal(await again.take(), "[[:chsk/ws-pong] nil]");
    second.terminate();
    await until(client, ({ open }) => !open);
    await assert.rejects(client.send("a/b", 4), ChannelClosed); // as ever with such a server
    const [, third, query] = await opened(line, shake("1-1", ":fresh", 0));
    assert.deepEqual(pick(query), { pos: "0", acked: "0", sent: "0", waits: undefined });
    await until(client, ({ resumed }) => resumed === "fresh");
    client.send("a/b", 5);
    assert.equal(await third.take(), "[[:a/b 5] nil]");
  });

  it("says nothing of it with resume: false, and hears nothing", async (t) => {
    t.mock.method(console, "warn", () => {});
    const line = attempts();
    const client = connect({ resume: false });
    await assert.rejects(client.send("a/b"), ChannelClosed);
    const [ws, , query] = await opened(line, shake("1-1", ":fresh", 0));
    assert.deepEqual(Object.keys(query).sort(), ["client-id", "why"]);
    await client.ready;
    assert.equal(client.state.resumed, null);
    await client.send("a/b", 1);
    ws.terminate();
    const [, again, second] = await opened(line, PLAIN);
    assert.equal(second.pos, undefined);
    await until(client, ({ open }) => open);
    await client.send("a/b", 2);
    assert.equal(await again.take(), "[[:a/b 2] nil]");
  });

  for (const how of ["breakConnection", "reconnect"]) {
    it(`passes a batch on to its end if ${how}() is called in the middle`, async () => {
      const line = attempts();
      const client = connect();
      const [ws] = await opened(line, shake("1-1", ":fresh", 0));
      await client.ready;
      const seen = [];
      client.on("a/b", (n) => {
        seen.push(n);
        const start = performance.now();
        while (performance.now() < start + 12); // longer than one slice
        if (n === 2) client[how]();
      });
      ws.send('[[[:a/b 1] [:a/b 2] [:a/b 3] [:a/b 4] [:chsk/pos "1-5"]] nil]');
      ws.send('[[[:a/b 5] [:chsk/pos "1-6"]] nil]');
      const [next, open] = await line.take();
      assert.deepEqual([next.pos, seen], ["1-5", [1, 2, 3, 4]]);
      const [second] = await open(shake("1-5", ":resumed", 0));
      second.send('[[[:a/b 5] [:chsk/pos "1-6"]] nil]');
      while (seen.length < 5) await turn();
      assert.deepEqual(seen, [1, 2, 3, 4, 5]);
    });
  }

  it("passes the rest of a batch on after reconnect(), if disconnect() was called in the middle", async () => {
    const line = attempts();
    const client = connect();
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    const seen = [];
    client.on("a/b", (n) => seen.push(n) === 2 && client.disconnect());
    ws.send('[[[:a/b 1] [:a/b 2] [:a/b 3] [:chsk/pos "1-4"]] nil]');
    while (seen.length < 2) await turn();
    await turn();
    assert.deepEqual(seen, [1, 2]);
    client.reconnect();
    const [next] = await line.take();
    assert.deepEqual([next.pos, seen], ["1-4", [1, 2, 3]]);
  });

  it("names a packet that cannot be read a gap, and does not ask for it again", async (t) => {
    t.mock.method(console, "warn", () => {});
    const line = attempts();
    const client = connect();
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    ws.send("[[[:a/b 1] [:a/b (");
    const [, , query] = await opened(line, shake("1-9", ":fresh", 0));
    assert.equal(query.pos, "0");
    assert.equal((await until(client, ({ open }) => open)).resumed, "gap");
  });

  it("names what an iterator had no room for a gap", async () => {
    const line = attempts();
    const client = connect({ maxInboxEvents: 2 });
    client[Symbol.asyncIterator]().next();
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    ws.send('[[[:a/b 1] [:a/b 2] [:a/b 3] [:a/b 4] [:a/b 5] [:chsk/pos "1-4"]] nil]');
    const [, , query] = await opened(line, shake("1-9", ":fresh", 0));
    assert.equal(query.pos, "0");
    assert.equal((await until(client, ({ open }) => open)).resumed, "gap");
  });

  it("gives up an event that is too large for the server, and sends the others", async () => {
    const line = attempts();
    const client = connect();
    const [ws] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    client.send("a/b", 1);
    const large = client.send("a/large", 2, { timeout: 60 });
    client.send("a/b", 3);
    large.catch(() => {});
    await turn();
    ws.close(1009, "too large");
    const [, again] = await opened(line, shake("1-1", ":resumed", 1));
    assert.equal(await again.take(), "[[:chsk/refused] nil]");
    assert.equal(await again.take(), "[[:a/b 3] nil]");
    await assert.rejects(large, ReplyError);
  });

  it("does not send again as one user what it sent as another", async () => {
    const line = attempts();
    const client = connect();
    const [, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    await client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    for (let i = 0; i < 2; i++) await messages.take();
    client.reconnect(); // after a login
    const kept = client.send("a/b", 3);
    const [second, again] = await opened(line, shake("1-2", ":gap", 0).replace("ada", "bob"));
    await assert.rejects(asked, ChannelClosed);
    await kept;
    assert.equal(await again.take(), "[[:a/b 3] nil]");
    second.terminate();
    const [, third] = await opened(line, shake("1-2", ":resumed", 0).replace("ada", "bob"));
    assert.equal(await third.take(), "[[:a/b 3] nil]");
  });

  it("keeps the order of what a trace sends", async () => {
    const line = attempts();
    let isFirst = true;
    const client = connect({
      trace(way) {
        if (way !== "out" || !isFirst) return;
        isFirst = false;
        client.send("a/b", 2);
      },
    });
    const [, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    client.send("a/b", 1);
    for (const n of [1, 2]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
  });

  it("takes a handshake with a map of string keys", async () => {
    const line = attempts();
    const client = connect();
    await opened(line, '[[:chsk/handshake ["ada" {"pos" "1-1" "was" "fresh" "handled" 0} nil]] nil]');
    await client.ready;
    assert.equal(client.state.resumed, "fresh");
  });
});

describe("over Ajax", () => {
  /** Have each handshake, poll and POST wait for the test. */
  const requests = () => {
    const [handshakes, polls, posts] = [new Line(), new Line(), new Line()];
    peer.onGet = (call) => (call.query.has("handshake?") ? handshakes : polls).put(call);
    peer.onPost = (call) => posts.put(call);
    return { handshakes, polls, posts };
  };
  const get = ({ query }) => pick(Object.fromEntries(query));
  const numberOf = (call) => call.query.get("n").split("-")[1];

  const start = async (options) => {
    const lines = requests();
    const client = connect({ transport: "ajax", ...options });
    const first = await lines.handshakes.take();
    assert.deepEqual(get(first), { pos: "0", acked: "0", sent: "0", waits: undefined });
    first.answer(200, shake("1-1", ":fresh", 0));
    await client.ready;
    return { client, ...lines };
  };

  it("polls with its position, which is behind the events of the last answer", async () => {
    const { client, polls } = await start();
    const seen = [];
    client.on("a/b", (n) => {
      const until = performance.now() + 12;
      while (performance.now() < until);
      seen.push(n);
    });
    const poll = await polls.take();
    assert.deepEqual(get(poll), { pos: "1-1", acked: undefined, sent: undefined, waits: undefined });
    poll.answer(200, '[[[:a/b 1] [:a/b 2] [:a/b 3] [:chsk/pos "1-4"]] nil]');
    const next = await polls.take();
    assert.deepEqual([next.query.get("pos"), seen], ["1-4", [1, 2, 3]]);
  });

  it("polls again with the same position if an answer was lost", async () => {
    const { polls, handshakes } = await start();
    (await polls.take()).cut();
    const next = await handshakes.take();
    assert.equal(next.query.get("pos"), "1-1");
    next.answer(200, shake("1-1", ":resumed", 0));
    assert.equal((await polls.take()).query.get("pos"), "1-1");
  });

  it("numbers its POSTs for life", async () => {
    const { client, handshakes, polls, posts } = await start();
    const sends = [1, 2].map((n) => client.send("a/b", n));
    for (const n of ["1", "2"]) {
      const post = await posts.take();
      assert.equal(numberOf(post), n);
      post.answer(200, DUMMY);
    }
    await Promise.all(sends);
    (await polls.take()).answer(503);
    const again = await handshakes.take();
    assert.deepEqual(get(again), { pos: "1-1", acked: "0", sent: "2", waits: undefined });
    again.answer(200, shake("1-1", ":resumed", 2));
    await until(client, ({ open }) => open);
    client.send("a/b", 3).catch(() => {});
    const post = await posts.take();
    assert.equal(post.query.get("n"), `${again.query.get("udt")}-3`);
  });

  it("says in POSTs and polls which reply it waits for", async () => {
    const { client, polls, posts } = await start();
    const poll = await polls.take();
    client.send("a/b", 1).catch(() => {});
    client.send("a/q", 2, { timeout: 60 }).catch(() => {});
    client.send("a/q", 3, { timeout: 60 }).catch(() => {});
    const calls = [await posts.take(), await posts.take(), await posts.take()];
    assert.deepEqual(calls.map(({ query }) => query.get("waits")), [null, "2", "2"]);
    poll.answer(200, "[:chsk/timeout nil]");
    assert.equal((await polls.take()).query.get("waits"), "2");
  });

  it("does not send again what was taken; its reply comes by the next poll", async () => {
    const { client, handshakes, polls, posts } = await start();
    const said = client.send("a/b", 1);
    const asked = client.send("a/q", 2, { timeout: 60 });
    await posts.take();
    (await posts.take()).cut();
    const again = await handshakes.take();
    assert.deepEqual(get(again), { pos: "1-1", acked: "0", sent: "2", waits: "2" });
    await polls.take();
    again.answer(200, shake("1-1", ":resumed", 2));
    await said; // it is known now that it was taken
    (await polls.take()).answer(200, '[[[:chsk/reply [2 "late"]] [:chsk/pos "1-2"]] nil]');
    assert.equal(await asked, "late");
    assert.equal(posts.length, 0);
  });

  it("sends again what was not taken, with its number", async () => {
    const { client, handshakes, posts } = await start();
    const asked = client.send("a/q", 1, { timeout: 60 });
    (await posts.take()).cut();
    const again = await handshakes.take();
    again.answer(200, shake("1-1", ":resumed", 0));
    const post = await posts.take();
    assert.equal(numberOf(post), "1");
    post.answer(200, "[42 nil]");
    assert.equal(await asked, 42);
  });

  it("takes no dummy for a reply", async () => {
    const { client, polls, posts } = await start();
    const asked = client.send("a/q", 1, { timeout: 60 });
    (await posts.take()).answer(200, DUMMY); // as to one that was sent again
    await turn();
    (await polls.take()).answer(200, '[[[:chsk/reply [1 "late"]]] nil]');
    assert.equal(await asked, "late");
  });

  it("counts an event whose reply came as handled, if none before it is open", async () => {
    const { client, handshakes, polls, posts } = await start();
    const asked = [1, 2, 3].map((n) => client.send("a/q", n, { timeout: 60 }));
    const calls = [await posts.take(), await posts.take(), await posts.take()];
    calls[1].answer(200, "[2 nil]");
    await asked[1];
    (await polls.take()).answer(503);
    asked[2].catch(() => {});
    const again = await handshakes.take();
    assert.equal(again.query.get("acked"), "0");
    again.answer(200, shake("1-1", ":resumed", 2));
    const poll = await polls.take();
    poll.answer(200, "[[[:chsk/reply [1 1]]] nil]");
    await asked[0];
    (await polls.take()).answer(503);
    assert.equal((await handshakes.take()).query.get("acked"), "2");
  });

  it("goes on with other POSTs after a question timed out, whose POST is still answered", async () => {
    const { client, posts } = await start();
    const hung = [1, 2, 3].map((n) => client.send("a/hung", n));
    await assert.rejects(client.send("a/q", 4, { timeout: 0.05 }), ReplyTimeout);
    const last = client.send("a/b", 5);
    const calls = [];
    for (let i = 0; i < 5; i++) calls.push(await posts.take());
    assert.equal(numberOf(calls[4]), "5");
    for (const call of calls) call.answer(200, DUMMY);
    await Promise.all([...hung, last]);
    assert.ok(client.state.open);
  });

  it("shakes hands anew after two such", async () => {
    const { client, handshakes } = await start();
    const asked = [1, 2].map((n) => client.send("a/q", n, { timeout: 0.05 }));
    for (const call of asked) await assert.rejects(call, ReplyTimeout);
    assert.equal((await handshakes.take()).query.get("sent"), "2");
  });

  it("sends them again then, and stays connected", async () => {
    const { client, handshakes, posts } = await start();
    const asked = [1, 2, 3].map((n) => client.send("a/q", n, { timeout: 0.05 }));
    for (const call of asked) await assert.rejects(call, ReplyTimeout);
    for (let i = 0; i < 3; i++) await posts.take();
    (await handshakes.take()).answer(200, shake("1-1", ":resumed", 0));
    for (let i = 1; i <= 3; i++) assert.equal(numberOf(await posts.take()), `${i}`);
    await new Promise((done) => setTimeout(done, 20));
    assert.ok(client.state.open);
  });

  it("gives up an event that is refused, and sends the others", async () => {
    const { client, handshakes, posts } = await start();
    const large = client.send("a/large", 1);
    const next = client.send("a/b", 2);
    (await posts.take()).answer(413, "too large");
    await assert.rejects(large, { name: "ReplyError", message: /413 too large/ });
    (await handshakes.take()).answer(200, shake("1-1", ":resumed", 0));
    await posts.take(); // 2, by the session before
    const both = [await posts.take(), await posts.take()]; // beside each other
    const bodies = Object.fromEntries(both.map((post) => [numberOf(post), String(post.body)]));
    assert.deepEqual(bodies, { 1: "[[:chsk/refused] nil]", 2: "[[:a/b 2] nil]" });
    for (const post of both) post.answer(200, DUMMY);
    await next;
  });

  it("takes a page in place of an answer for a break", async () => {
    const { client, handshakes, posts } = await start();
    const sent = client.send("a/b", 1);
    (await posts.take()).answer(200, "<!DOCTYPE html><p>Log in");
    (await handshakes.take()).answer(200, shake("1-1", ":resumed", 0));
    (await posts.take()).answer(200, DUMMY);
    await sent;
  });

  it("goes on with its numbers where a WebSocket ended", async () => {
    const line = attempts();
    const lines = requests();
    const client = connect({ transport: "auto", connectTimeout: 0.3 });
    const [ws, messages] = await opened(line, shake("1-1", ":fresh", 0));
    await client.ready;
    const sends = [1, 2].map((n) => client.send("a/b", n));
    for (const _ of sends) await messages.take();
    peer.onUpgrade = (request, socket) => socket.destroy();
    ws.terminate();
    (await lines.handshakes.take()).answer(200, shake("1-1", ":resumed", 1)); // before a WebSocket
    const first = await lines.handshakes.take();
    assert.deepEqual(get(first), { pos: "1-1", acked: "0", sent: "2", waits: undefined });
    first.answer(200, shake("1-1", ":resumed", 1));
    const post = await lines.posts.take();
    assert.equal(numberOf(post), "2");
  });
});

it("probes for a WebSocket without a position of its own", async () => {
  const line = attempts();
  const polls = new Line();
  peer.onGet = (call) =>
    call.query.has("handshake?") ? call.answer(200, shake("1-1", ":fresh", 0)) : polls.put(call);
  const upgrade = peer.onUpgrade;
  peer.onUpgrade = (request, socket) => socket.destroy();
  const client = connect({ transport: "auto", upgradeInterval: 0.01 });
  await client.ready;
  await until(client, ({ type }) => type === "ajax");
  peer.onUpgrade = upgrade;
  const [probe, open] = await line.take();
  assert.equal(probe.pos, undefined);
  const [ws, messages] = await open(PLAIN);
  assert.equal(await messages.take(), '[[:chsk/ws-ping] "ping"]');
  ws.send('["pong" "ping"]');
  await turn();
  await client.send("a/b", 1);
  (await polls.take()).answer(200, '[[[:a/x 1] [:chsk/pos "1-2"]] nil]');
  const [query, openReal] = await line.take();
  assert.deepEqual(pick(query), { pos: "1-2", acked: "0", sent: "1", waits: undefined });
  const [, after] = await openReal(shake("1-2", ":resumed", 1));
  await until(client, ({ type }) => type === "ws");
  client.send("a/b", 2);
  assert.equal(await after.take(), "[[:a/b 2] nil]");
});

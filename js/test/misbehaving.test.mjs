// Servers that misbehave: answers at once, floods, bodies without end, redirects. What they cost the
// client is bounded: requests, memory, log lines, and time without a pause of the event loop.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { afterEach, beforeEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { HANDSHAKE, Line, listen } from "./peer.mjs";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455 section 1.3

const { BacklogFull, ChannelClosed, ReplyTimeout } = chansock;
const LIMIT = 25_000; // ms; npm's `ws` would by itself wait 30 s for a goodbye

let peer;
let clients;

const connect = (options = {}, url = peer.url) => {
  const client = chansock.connect(url, { WebSocket, ...options });
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

const acceptAll = (...packets) => {
  const line = new Line();
  peer.onUpgrade = async (...upgrade) => {
    const ws = await peer.accept(...upgrade);
    ws.on("error", () => {});
    for (const packet of packets.length ? packets : [HANDSHAKE]) ws.send(packet);
    line.put(ws);
  };
  return line;
};

const makeGc = async () => {
  setFlagsFromString("--expose-gc");
  return (await import("node:vm")).runInNewContext("gc");
};

/** An unmasked frame with its first byte, of some thousand bytes at most. */
const frame = (first, payload) => {
  const head = Buffer.from([first, 126, payload.length >> 8, payload.length & 255]);
  return Buffer.concat([payload.length > 125 ? head : Buffer.from([first, payload.length]), Buffer.from(payload)]);
};

const quiet = (t) => t.mock.method(console, "warn", () => {}).mock;

beforeEach(async () => {
  peer = await listen();
  clients = [];
});

afterEach(async () => {
  for (const client of clients) client.disconnect();
  await peer.close();
});

describe("polls that bring no event", () => {
  const events = "[[[:a/b 1]] nil]";
  for (const [what, answer] of Object.entries({
    "no event": "[:chsk/timeout nil]",
    nothing: "[nil nil]",
    "an empty body": "",
    "an empty batch": "[[] nil]",
    "a batch without a valid event": "[[1 [:a] [:chsk/evil 1] {}] nil]",
    "a large batch without one": `[[${"[:a] ".repeat(30_000)}] nil]`,
    "a handshake": HANDSHAKE,
  })) {
    it(`are made ever more slowly where each is answered at once with ${what}`, async (t) => {
      quiet(t);
      const times = [];
      const enough = new Promise((done) => {
        peer.onGet = (call) => {
          if (call.query.has("handshake?")) return call.answer(200, HANDSHAKE);
          call.answer(200, answer);
          if (times.push(performance.now()) === 5) done();
        };
      });
      const client = connect({ transport: "ajax" });
      await enough;
      const gaps = times.slice(1).map((time, i) => time - times[i]);
      [250, 500, 1000, 1000].forEach((least, i) => assert.ok(gaps[i] > least - 20, `${gaps}`));
      assert.ok(client.state.open);
    });
  }

  it("are made at once again after one that brought an event", async () => {
    const polls = new Line();
    peer.onGet = (call) => {
      if (call.query.has("handshake?")) return call.answer(200, HANDSHAKE);
      polls.put(call);
    };
    const client = connect({ transport: "ajax" });
    client.on("a/b", () => {});
    for (let i = 0; i < 3; i++) (await polls.take()).answer(200, "[nil nil]");
    for (let i = 0; i < 50; i++) (await polls.take()).answer(200, events); // 1 s each before
    await polls.take();
  });

  it("are not slowed down by events, however many come", async () => {
    let n = 0;
    const enough = new Promise((done) => {
      peer.onGet = (call) => {
        if (call.query.has("handshake?")) return call.answer(200, HANDSHAKE);
        call.answer(200, events);
        if (++n === 100) done();
      };
    });
    connect({ transport: "ajax" }).on("a/b", () => {});
    await enough;
  });
});

describe("a server that does not read", () => {
  /** A WebSocket whose buffer is as full as a test says. */
  class Slow extends WebSocket {
    static buffered = 0;
    get bufferedAmount() {
      return Slow.buffered;
    }
  }

  const open = async (options) => {
    Slow.buffered = 0;
    const line = acceptAll();
    const client = connect({ WebSocket: Slow, ...options });
    const ws = await line.take();
    await client.ready;
    const messages = new Line();
    ws.on("message", (data) => messages.put(data.toString()));
    Slow.buffered = 2 ** 20;
    return { client, messages };
  };

  it("gets what is sent once it reads again, in order", async () => {
    const { client, messages } = await open();
    const sends = [1, 2, 3].map((n) => client.send("a/b", n));
    let isSent = false;
    sends[0].then(() => (isSent = true));
    await new Promise(setImmediate);
    assert.equal(isSent, false);
    Slow.buffered = 0;
    sends.push(client.send("a/b", 4));
    await Promise.all(sends);
    for (const n of [1, 2, 3, 4]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
  });

  it("is sent no more than maxBacklogBytes: send rejects", async () => {
    const { client } = await open({ maxBacklogBytes: 2 * 2 ** 20 });
    const big = "x".repeat(2 ** 19);
    const kept = [client.send("a/b", big)];
    kept[0].catch(() => {});
    await assert.rejects(client.send("a/b", big + big), BacklogFull);
    assert.ok(client.state.open);
  });

  it("is never sent what timed out or was aborted meanwhile, which leaves the queue", async () => {
    const { client, messages } = await open({ maxBacklogBytes: 2 ** 20 + 2000 });
    const stop = new AbortController();
    for (let i = 0; i < 3; i++) {
      await assert.rejects(client.send("a/late", "x".repeat(1500), { timeout: 0.02 }), ReplyTimeout);
    }
    for (let i = 0; i < 3; i++) {
      const aborted = client.send("a/aborted", "x".repeat(1500), { signal: stop.signal, timeout: 60 });
      setImmediate(() => stop.abort(new RangeError("mine")));
      await assert.rejects(aborted, stop.signal.aborted ? RangeError : { message: "mine" });
    }
    const kept = client.send("a/kept", 1);
    Slow.buffered = 0;
    await kept;
    assert.equal(await messages.take(), "[[:a/kept 1] nil]");
  });

  it("has what waits rejected once the channel is closed", async () => {
    const { client } = await open();
    const waiting = client.send("a/b", 1);
    client.disconnect();
    await assert.rejects(waiting, ChannelClosed);
  });
});

describe("what is too large", () => {
  it("is no body of an answer: it is read up to the limit", async () => {
    let sent = 0;
    const stopped = new Promise((done) => {
      peer.onGet = ({ response }) => {
        response.writeHead(200);
        const more = () => {
          while (!response.destroyed && response.write("x".repeat(2 ** 16))) sent += 2 ** 16;
        };
        response.on("drain", more).on("close", done);
        more();
      };
    });
    const client = connect({ transport: "ajax", maxMessageBytes: 2 ** 20, backoff: () => 3600 });
    const { reason } = await until(client, ({ reason }) => reason);
    assert.match(reason.text, /expected packets of 1048576 bytes at most/);
    client.disconnect();
    await stopped;
    assert.ok(sent < 2 ** 26, `${sent}`); // what the kernel's buffers took, too
  });

  it("is no error's body: its first words are read", async () => {
    peer.onGet = ({ response }) => {
      response.writeHead(500);
      response.write(`out of order\n${"x".repeat(10_000)}`); // and no end
    };
    const client = connect({ transport: "ajax", backoff: () => 3600 });
    const { reason } = await until(client, ({ reason }) => reason);
    assert.deepEqual([reason.code, reason.text], [500, "out of order"]);
  });

  it("is no message: the WebSocket closes with 4009", async () => {
    class Plain extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols); // as a browser's, which knows no limit
      }
    }
    const line = acceptAll(HANDSHAKE, `[[[:a/b "${"x".repeat(3000)}"]] nil]`);
    const client = connect({ WebSocket: Plain, maxMessageBytes: 2000, backoff: () => 3600 });
    client.on("a/b", () => assert.fail("expected no event"));
    const ws = await line.take();
    const [code] = await once(ws, "close");
    assert.equal(code, 4009);
    assert.match(client.state.lastClose.reason.text, /2000 bytes at most, got 30/);
  });
});

describe("a body", () => {
  it("is held as text alone: what it came in is free at once", async () => {
    const gc = await makeGc();
    const before = process.memoryUsage().arrayBuffers;
    const response = await new Promise((done) => {
      let left = 160;
      const pull = (to) => (left-- ? to.enqueue(new Uint8Array(2 ** 16).fill(120)) : done(endless));
      const endless = new Response(new ReadableStream({ pull }, { highWaterMark: 0 }));
      connect({ transport: "ajax", fetch: async () => endless });
    });
    const held = () => process.memoryUsage().arrayBuffers - before;
    for (let i = 0; i < 200 && held() > 2 ** 21; i++) {
      await delay(10);
      gc();
    }
    assert.ok(response.body.locked && held() < 2 ** 21, `${held()} bytes are held`);
  });

  it("in many pieces leaves the loop to others meanwhile", async () => {
    let most = 0;
    let turn = 0;
    await new Promise((done) => {
      let left = 100_000;
      const piece = new Uint8Array([120]);
      const pull = (to) => {
        turn++;
        if (left--) to.enqueue(piece);
        else done();
      };
      const endless = new Response(new ReadableStream({ pull }, { highWaterMark: 0 }));
      connect({ transport: "ajax", fetch: async () => endless });
      const look = () => {
        most = Math.max(most, turn);
        turn = 0;
        if (left > 0) setImmediate(look);
      };
      look();
    });
    most = Math.max(most, turn);
    assert.ok(most < 50_000, `${most} pieces in one turn of the loop`);
  });

  it("may come in the middle of a character", async () => {
    peer.onGet = ({ query, response }) => {
      if (!query.has("handshake?")) return;
      const bytes = Buffer.from('[[:chsk/handshake ["ä😀" nil nil]] nil]');
      const at = bytes.indexOf(0xf0) + 2;
      response.writeHead(200);
      response.write(bytes.subarray(0, at), () => setImmediate(() => response.end(bytes.subarray(at))));
    };
    const client = connect({ transport: "ajax" });
    await client.ready;
    assert.equal(client.state.uid, "ä😀");
  });
});

describe("a WebSocket by bytes", () => {
  const UPGRADED = ["HTTP/1.1 101 X", "Upgrade: websocket", "Connection: Upgrade"];

  /** Gives the first socket, upgraded and with the handshake, to write frames to. */
  const upgrade = async (options) => {
    const line = new Line();
    peer.onUpgrade = ({ headers }, socket) => {
      const hash = createHash("sha1").update(`${headers["sec-websocket-key"]}${GUID}`);
      const accept = `Sec-WebSocket-Accept: ${hash.digest("base64")}`;
      socket.write([...UPGRADED, accept, "", ""].join("\r\n"));
      socket.write(frame(0x81, HANDSHAKE));
      line.put(socket);
    };
    const client = connect({ backoff: () => 3600, ...options });
    const socket = await line.take();
    await client.ready;
    return { client, socket };
  };

  /** Write on until the other side closes; gives the bytes. */
  const flood = async (socket, data) => {
    let sent = 0;
    const more = () => {
      while (!socket.destroyed && socket.write(data)) sent += data.length;
      sent += data.length;
    };
    socket.on("drain", more);
    more();
    if (!socket.destroyed) await new Promise((done) => socket.on("close", done));
    return sent;
  };

  it("gets no more of a message than the limit, and what waits for a reply hears of it", async () => {
    const { client, socket } = await upgrade({ maxMessageBytes: 2 ** 20 });
    const reply = client.send("a/b", 1, { timeout: 60 });
    reply.catch(() => {});
    socket.write(frame(0x01, "["));
    const sent = await flood(socket, frame(0x00, "x".repeat(2 ** 15)));
    assert.ok(sent < 2 ** 25, `${sent}`); // what the kernel's buffers took, too
    await assert.rejects(reply, ChannelClosed);
    assert.match(client.state.lastClose.reason.text, /payload/i);
  });

  it("ends at once where the server breaks the protocol, goodbye or not", { timeout: LIMIT }, async () => {
    const { client, socket } = await upgrade();
    socket.resume();
    socket.write(frame(0xf1, "x"));
    await until(client, ({ open }) => !open);
  });

  it("reads no flood while it waits for the goodbye", { timeout: LIMIT }, async () => {
    const { client, socket } = await upgrade();
    client.disconnect();
    await flood(socket, frame(0x81, "[[[:a/b 1]] nil]"));
  });

  it("waits 5 s for the goodbye", { timeout: LIMIT }, async (t) => {
    const { client, socket } = await upgrade();
    const closed = once(socket.resume(), "end");
    t.mock.timers.enable({ apis: ["setTimeout"] });
    client.disconnect();
    t.mock.timers.tick(5000);
    await closed;
  });
});

describe("a large batch", () => {
  const rest = "[:a/b #{1 2}], #_[:a/c] ; none\n ".repeat(10_000);

  for (const [transport, code] of [["ws", 4007], ["ajax", null]]) {
    const serve = (packet) => {
      acceptAll(HANDSHAKE, packet);
      let n = 0;
      peer.onGet = (call) => {
        if (call.query.has("handshake?")) call.answer(200, HANDSHAKE);
        else if (!n++) call.answer(200, packet);
      };
    };

    it(`is read event by event over ${transport}: those before a fault are handled`, async (t) => {
      const warnings = quiet(t);
      for (const [wrong, text] of [["]] nil]", "one batch"], [":] nil]", "keyword"], ["[:a/b] nil]", "one batch"]]) {
        const client = connect({ transport, backoff: () => 3600 });
        let seen = 0;
        client.on("a/b", () => seen++);
        serve(`[[${rest}${wrong}`);
        const { reason } = await until(client, ({ lastClose }) => lastClose);
        assert.equal(seen, wrong.startsWith("[") ? 10_001 : 10_000);
        assert.deepEqual([reason.code, reason.kind], [code, "unexpected"]);
        assert.match(reason.text, new RegExp(`cannot read a packet: .*${text}`));
        client.disconnect();
      }
      assert.ok(warnings.callCount() < 10);
    });

    it(`is the same over ${transport} as a small one`, async () => {
      serve(` [ [${rest}[:a/x ["\\n\\"" {:b #inst "2020"} [[]]]] [:a/end]],nil ] `);
      const client = connect({ transport });
      let data;
      client.on("a/x", (value) => (data = value));
      await new Promise((done) => client.on("a/end", done));
      assert.deepEqual(data, ['\n"', { b: new chansock.Instant("2020") }, [[]]]);
      assert.ok(client.state.open);
    });
  }

  it("is none where it is a reply", async () => {
    const items = Array.from({ length: 60_000 }, () => [1]);
    peer.onPost = (call) => call.answer(200, `[[${"[1] ".repeat(60_000)}] nil]`);
    const client = connect({ transport: "ajax" });
    peer.onGet = (call) => call.query.has("handshake?") && call.answer(200, HANDSHAKE);
    await client.ready;
    assert.deepEqual(await client.send("a/b", 1, { timeout: 60 }), items);
  });
});

describe("a flood", () => {
  const batch = (event, n) => `[[${`${event} `.repeat(n)}[:a/end]] nil]`;

  for (const [what, event] of [["bad", "1"], ["good", "[:a/b]"]]) {
    it(`of ${what} events in one batch is handled in slices, with one log line`, async (t) => {
      const warnings = quiet(t);
      const line = acceptAll();
      const client = connect();
      const ws = await line.take();
      await client.ready;
      let turns = 0;
      let isOver = false;
      client.on("a/b", () => {});
      const end = new Promise((done) => client.on("a/end", done)).then(() => (isOver = true));
      const packet = batch(event, 200_000);
      ws.send(packet);
      while (!isOver) {
        await new Promise(setImmediate);
        turns++;
      }
      await end;
      assert.ok(turns > 3, `${turns} turns of the loop`);
      assert.equal(warnings.callCount(), what === "bad" ? 1 : 0);
      assert.ok(client.state.open);
    });
  }

  it("of messages leaves the loop to others meanwhile", async () => {
    const line = acceptAll();
    const client = connect();
    const ws = await line.take();
    await client.ready;
    let seen = 0;
    let isOver = false;
    client.on("a/b", () => {
      const start = performance.now();
      while (performance.now() - start < 0.2); // a handler with some work
      seen++;
    });
    client.on("a/end", () => (isOver = true));
    for (let i = 0; i < 3000; i++) ws.send("[[[:a/b]] nil]");
    ws.send("[[[:a/end]] nil]");
    let most = 0;
    while (!isOver) {
      const before = seen;
      await new Promise(setImmediate);
      most = Math.max(most, seen - before);
    }
    assert.equal(seen, 3000);
    assert.ok(most < 1000, `${most} events in one turn of the loop`);
  });

  it("of handshakes ends the WebSocket", async () => {
    const line = acceptAll(...Array.from({ length: 1000 }, () => HANDSHAKE));
    const client = connect({ backoff: () => 3600 });
    let changes = 0;
    client.onState(() => changes++);
    await once(await line.take(), "close");
    const { lastClose } = await until(client, ({ open }) => !open);
    assert.ok(changes < 30, `${changes}`);
    assert.match(lastClose.reason.text, /expected one handshake/);
  });

  it("of unreadable polls is one log line", async (t) => {
    const warnings = quiet(t);
    let n = 0;
    const enough = new Promise((done) => {
      peer.onGet = (call) => {
        if (call.query.has("handshake?")) return call.answer(200, HANDSHAKE);
        call.answer(200, `[[${"7 ".repeat(1000)}] nil]`);
        if (++n === 3) done();
      };
    });
    connect({ transport: "ajax" });
    await enough;
    assert.equal(warnings.callCount(), 1);
  });
});

describe("a redirect", () => {
  for (const [where, isOwn] of [["another origin", false], ["the same origin", true]]) {
    it(`to ${where} is refused: no token, header or body goes there`, async () => {
      const got = [];
      const other = createServer((request, response) => {
        got.push(request.method);
        response.end(HANDSHAKE);
      }).listen(0, "127.0.0.1");
      await once(other, "listening");
      const target = isOwn ? new URL("/elsewhere", peer.url) : `http://127.0.0.1:${other.address().port}/`;
      const redirect = (status) => (call) => {
        if (call.request.url.startsWith("/elsewhere")) got.push(call.request.method);
        call.response.writeHead(status, { location: String(target) }).end();
      };
      try {
        const options = { transport: "ajax", csrfToken: "secret", headers: { "x-mine": "1" }, backoff: () => 3600 };
        for (const status of [301, 302, 307, 308]) {
          peer.onGet = redirect(status);
          const { reason } = await until(connect(options), ({ reason }) => reason);
          assert.deepEqual([reason.kind, reason.code], ["not-opened", status]);
          assert.match(reason.text, /redirect/);
        }
        peer.onGet = (call) => call.query.has("handshake?") && call.answer(200, HANDSHAKE);
        peer.onPost = redirect(307);
        const client = connect(options);
        await client.ready;
        await assert.rejects(client.send("a/secret", "body"), (error) => error.reason.code === 307);
        assert.deepEqual(got, []);
      } finally {
        other.close();
      }
    });
  }
});

describe("a closed WebSocket", () => {
  it("is not kept in memory by the client", async () => {
    const gc = await makeGc();
    const sockets = [];
    class Noted extends WebSocket {
      constructor(...args) {
        super(...args);
        sockets.push(new WeakRef(this));
      }
    }
    acceptAll();
    const client = connect({ WebSocket: Noted });
    await client.ready;
    for (let i = 0; i < 3; i++) {
      const opened = new Promise((done) => {
        const stop = client.on("chsk/handshake", () => (stop(), done()));
      });
      client.reconnect();
      await opened;
    }
    assert.equal(sockets.length, 4);
    // Both sides have said goodbye: nothing but the client could hold the first ones.
    for (let i = 0; i < 200 && sockets.slice(0, 3).some((each) => each.deref()); i++) {
      await delay(10);
      gc();
    }
    assert.deepEqual(sockets.map((each) => !!each.deref()), [false, false, false, true]);
  });
});

describe("before the handshake", () => {
  it("events wait for it, in their order", async () => {
    acceptAll("[[[:a/b 1]] nil]", "[[[:a/b 2]] nil]", HANDSHAKE, "[[[:a/b 3]] nil]");
    const client = connect();
    const seen = [];
    await new Promise((done) => {
      client.on("chsk/handshake", () => seen.push("handshake"));
      client.on("a/b", (n) => {
        seen.push([n, client.state.open]);
        if (n === 3) done();
      });
    });
    assert.deepEqual(seen, ["handshake", [1, true], [2, true], [3, true]]);
  });

  it("no more waits than the limit", async () => {
    const line = acceptAll(...Array.from({ length: 100 }, () => `[[[:a/b "${"x".repeat(500)}"]] nil]`));
    const client = connect({ transport: "ws", maxMessageBytes: 5000, backoff: () => 3600 });
    await once(await line.take(), "close");
    const { reason } = await until(client, ({ reason }) => reason);
    assert.match(reason.text, /expected a handshake first|too much waits/);
  });
});

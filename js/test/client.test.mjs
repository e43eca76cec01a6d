// The client against a scripted peer: what it says on the wire, and what it makes of refusals,
// cuts and silence. Against the real server: server.test.mjs. In real browsers: tests/browser.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { HANDSHAKE, Line, listen } from "./peer.mjs";

const { BacklogFull, ChannelClosed, EdnError, InvalidEvent, ReplyError, ReplyTimeout, keyword } = chansock;

let peer;
let clients;

const connect = (options = {}) => {
  const client = chansock.connect(peer.url, { WebSocket, ...options });
  clients.push(client);
  return client;
};

/** Wait for a state that is as wanted. */
const until = (client, isWanted) =>
  new Promise((resolve) => {
    let stop;
    stop = client.onState((state) => {
      if (!isWanted(state)) return;
      queueMicrotask(() => stop());
      resolve(state);
    });
  });

/** Note each state's open, type and reason. */
const watch = (client) => {
  const states = [];
  client.onState(({ open, type, reason }) => states.push([open, type, reason?.kind]));
  return states;
};

/** Accept each WebSocket with a handshake; gives a line of [socket, messages]. */
const acceptAll = (handshake = HANDSHAKE) => {
  const line = new Line();
  peer.onUpgrade = async (request, socket, head) => {
    const ws = await peer.accept(request, socket, head);
    const messages = new Line();
    ws.on("message", (data) => messages.put(data.toString()));
    ws.request = request;
    if (handshake) ws.send(handshake);
    line.put([ws, messages]);
  };
  return line;
};

/** Park each poll; gives a line of the calls. */
const parkAll = () => {
  const line = new Line();
  peer.onGet = (call) => {
    if (call.query.has("handshake?")) call.answer(200, HANDSHAKE);
    else line.put(call);
  };
  return line;
};

/** Let a WebSocket that is looked for get through; the next poll that ends begins a move. */
const prove = () =>
  new Promise((done) => {
    peer.onUpgrade = async (...upgrade) => {
      const ws = await peer.accept(...upgrade);
      ws.on("message", () => ws.send('["pong" "ping"]'));
      ws.on("close", done);
      ws.send(HANDSHAKE);
    };
  });

beforeEach(async () => {
  peer = await listen();
  clients = [];
});

afterEach(async () => {
  for (const client of clients) client.disconnect();
  await peer.close();
});

describe("options", () => {
  it("refuses a url or an option that cannot be", () => {
    for (const [url, options] of [
      ["ftp://host/chsk", {}],
      ["no base", {}],
      [peer.url, { transport: "carrier pigeon" }],
      [peer.url, { offline: "maybe" }],
      [peer.url, { pingInterval: 0 }],
      [peer.url, { connectTimeout: "5" }],
      [peer.url, { tranport: "ws" }],
      [peer.url, { backoff: 2 }],
      [peer.url, { csrfTokenIn: "cookie" }],
    ]) {
      assert.throws(() => chansock.connect(url, options), TypeError, `${url} ${options}`);
    }
  });

  it("takes ws, wss, http and https for the same place", async () => {
    const line = acceptAll();
    clients.push(chansock.connect(peer.url.replace("http", "ws"), { WebSocket }));
    await line.take();
  });
});

describe("a WebSocket", () => {
  it("opens with client-id, token and params in its query, and with the handshake", async () => {
    const line = acceptAll('[[:chsk/handshake ["ada" nil {:a 1}]] nil]');
    const client = connect({
      clientId: "tab 1/é",
      csrfToken: () => "tok",
      params: async () => ({ lang: "de", "client-id": "not this" }),
    });
    const [ws] = await line.take();
    const query = new URL(ws.request.url, peer.url).searchParams;
    const { try: attempt, ...fields } = Object.fromEntries(query);
    assert.ok(Math.abs(attempt - Date.now()) < 60_000);
    assert.deepEqual(fields, {
      lang: "de",
      "client-id": "tab 1/é",
      "csrf-token": "tok",
      why: "1",
      pos: "0",
      acked: "0",
      sent: "0",
    });
    await client.ready;
    assert.deepEqual(client.state, {
      open: true,
      type: "ws",
      uid: "ada",
      handshakeData: { a: 1 },
      everOpened: true,
      resumed: null,
      reason: null,
      retryAt: null,
      csrfToken: "tok",
      lastClose: null,
      lastWsClose: null,
      lastWsError: null,
    });
    assert.ok(Object.isFrozen(client.state));
  });

  for (const token of ["tok", "a b/é+=😀", "", "~~~???"]) {
    it(`keeps the token ${JSON.stringify(token)} out of the URL, if asked to`, async () => {
      const line = acceptAll();
      const client = connect({ csrfToken: token, csrfTokenIn: "subprotocol" });
      const [ws] = await line.take();
      assert.ok(!new URL(ws.request.url, peer.url).searchParams.has("csrf-token"));
      const offer = ws.request.headers["sec-websocket-protocol"];
      const [, text] = /^chansock,csrf64\.([\w-]*)$/.exec(offer);
      assert.equal(Buffer.from(text, "base64url").toString(), token);
      await client.ready;
      assert.equal(client.state.csrfToken, token);
    });
  }

  it("offers no subprotocol without a token, nor unless asked to", async () => {
    const line = acceptAll();
    for (const options of [{ csrfTokenIn: "subprotocol" }, { csrfToken: "tok" }]) {
      connect(options);
      const [ws] = await line.take();
      assert.equal(ws.request.headers["sec-websocket-protocol"], undefined);
    }
  });

  it("gives a new client an id of its own, too long to guess", () => {
    acceptAll();
    const ids = [connect().clientId, connect().clientId];
    for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/);
    assert.notEqual(ids[0], ids[1]);
  });

  it("names the anonymous user null", async () => {
    acceptAll("[[:chsk/handshake [:sente/nil-uid nil nil]] nil]");
    const client = connect();
    await client.ready;
    assert.equal(client.state.uid, null);
    assert.equal(client.state.handshakeData, null);
  });

  it("sends packets as Sente's client does", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws, messages] = await line.take();
    await client.ready;
    assert.equal(await client.send("chat/say", { text: "hi", n: 1 }), undefined);
    assert.equal(await messages.take(), '[[:chat/say {:text "hi", :n 1}] nil]');
    await client.send("chat/bare");
    assert.equal(await messages.take(), "[[:chat/bare] nil]");
    const reply = client.send("math/double", 21, { timeout: 5 });
    const [, cbId] = /^\[\[:math\/double 21\] "([0-9a-f]{6})"\]$/.exec(await messages.take());
    ws.send(`[42 "${cbId}"]`);
    assert.equal(await reply, 42);
  });

  it("answers the server's ping with a pong", async () => {
    const line = acceptAll();
    connect();
    const [ws, messages] = await line.take();
    ws.send("[:chsk/ws-ping nil]");
    assert.equal(await messages.take(), "[[:chsk/ws-pong] nil]");
  });

  it("answers no ping of a server that does not read", async () => {
    let bufferedAmount = 0;
    class Full extends WebSocket {
      get bufferedAmount() {
        return bufferedAmount;
      }
    }
    const line = acceptAll();
    const client = connect({ WebSocket: Full });
    const [ws, messages] = await line.take();
    await client.ready;
    bufferedAmount = 1;
    const told = new Promise((done) => client.on("chat/told", done));
    ws.send("[:chsk/ws-ping nil]");
    ws.send("[[[:chat/told 1]] nil]");
    await told;
    await client.send("chat/bare");
    assert.equal(await messages.take(), "[[:chat/bare] nil]");
  });

  it("rejects with ReplyError, ReplyTimeout; a late reply is nobody's", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws, messages] = await line.take();
    await client.ready;
    const failed = client.send("a/fail", null, { timeout: 5 });
    ws.send(`[:chsk/error ${/"\w+"/.exec(await messages.take())[0]}]`);
    await assert.rejects(failed, ReplyError);
    const unfit = client.send("a/fail", null, { timeout: 5 });
    ws.send(`[[:chsk/error "expected str, got 5"] ${/"\w+"/.exec(await messages.take())[0]}]`);
    await assert.rejects(unfit, { reason: "expected str, got 5", message: /: expected str, got 5$/ });
    const late = client.send("a/silent", null, { timeout: 0.05 });
    await assert.rejects(late, ReplyTimeout);
    ws.send(`[1 ${/"\w+"/.exec(await messages.take())[0]}]`);
    ws.send('[[[:a/b "still here"]] nil]');
    await new Promise((done) => client.on("a/b", done));
  });

  it("takes the reply of a call from the next socket", async () => {
    const line = acceptAll();
    const client = connect();
    const [first, messages] = await line.take();
    await client.ready;
    const reply = client.send("a/slow", null, { timeout: 5 });
    const [cbId] = /"\w+"/.exec(await messages.take());
    first.terminate();
    const [second] = await line.take();
    second.send(`["late" ${cbId}]`);
    assert.equal(await reply, "late");
  });

  it("takes Infinity, or a month, for a time", async () => {
    const line = acceptAll();
    const client = connect({ transport: "ws", connectTimeout: Infinity });
    const [ws, messages] = await line.take();
    await client.ready;
    const replies = [Infinity, 30 * 86_400].map((n) => client.send("a/b", n, { timeout: n }));
    for (const reply of replies) reply.catch(() => {});
    const ids = [await messages.take(), await messages.take()].map((text) => /"\w+"/.exec(text)[0]);
    const late = client.send("a/b", 1, { timeout: 0.05 }); // a timer that comes after 1 ms is first
    await assert.rejects(late, ReplyTimeout);
    for (const id of ids) ws.send(`[1 ${id}]`);
    assert.deepEqual(await Promise.all(replies), [1, 1]);
  });

  it("refuses at once what cannot be sent", async () => {
    acceptAll();
    const client = connect();
    await client.ready;
    for (const id of ["say", "/say", "chat/", "chsk/say", "chat/say it", ":a/b", "", 7, null]) {
      await assert.rejects(client.send(id, 1), InvalidEvent, String(id));
    }
    await assert.rejects(client.send("a/b", { f() {} }), EdnError);
    await assert.rejects(client.send("a/b", 1, { timeout: 0 }), TypeError);
    assert.throws(() => client.on("said", () => {}), InvalidEvent);
  });

  it("gives events to handlers, the rest to for await, in their order", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws] = await line.take();
    const seen = [];
    const stop = client.on("a/handled", (data, event) => seen.push([data, event.id]));
    const rest = [];
    const reading = (async () => {
      for await (const { id, data } of client) {
        rest.push([id, data]);
        if (id === "a/end") break;
      }
    })();
    ws.send("[[[:a/handled 1] [:b/rest {:x 2}] [:a/handled] [:b/bare]] nil]");
    ws.send("[[[:a/handled 3] [:a/end]] nil]");
    await reading;
    assert.deepEqual(seen, [
      [1, "a/handled"],
      [null, "a/handled"],
      [3, "a/handled"],
    ]);
    assert.deepEqual(rest, [
      ["b/rest", { x: 2 }],
      ["b/bare", null],
      ["a/end", null],
    ]);
    stop();
    client.on("a/handled", () => {});
  });

  it("undoes a handler once, not the same one that came after it", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws] = await line.take();
    const called = new Promise((done) => {
      const stop = client.on("a/b", done);
      stop();
      client.on("a/b", done);
      stop();
    });
    ws.send("[[[:a/b 1]] nil]");
    assert.equal(await called, 1);
  });

  it("tells a state to each handler, and to none that was undone", () => {
    const client = connect();
    const told = [];
    const note = ({ reason }) => told.push(reason?.kind);
    const stop = client.onState(note);
    client.onState(note);
    stop();
    client.onState(({ reason }) => reason?.kind === "requested-disconnect" && stopLast());
    const stopLast = client.onState(() => told.push("last"));
    client.reconnect();
    client.disconnect();
    const [once, twice] = ["requested-reconnect", "requested-disconnect"];
    assert.deepEqual(told, [undefined, undefined, "last", once, "last", twice]);
  });

  it("goes on after a handler that throws, and says so", async (t) => {
    const errors = t.mock.method(console, "error", () => {});
    const line = acceptAll();
    const client = connect();
    const [ws] = await line.take();
    client.on("a/bad", () => {
      throw new RangeError("mine");
    });
    ws.send("[[[:a/bad] [:a/good]] nil]");
    await new Promise((done) => client.on("a/good", done));
    assert.equal(errors.mock.calls[0].arguments[0].message, "mine");
  });

  it("opens with a handshake that says nothing of use", async () => {
    for (const handshake of ["[[:chsk/handshake] nil]", "[[:chsk/handshake 5] nil]"]) {
      acceptAll(handshake);
      const client = connect();
      await client.ready;
      assert.equal(client.state.uid, null);
      assert.equal(client.state.handshakeData, null);
    }
  });

  for (const packet of ["not edn )(", "42", '[[[:a/b 1] [:a/deep ' + "[".repeat(498), Buffer.from([1])]) {
    it(`closes with 4007 and comes back after ${String(packet).slice(0, 20)}`, async (t) => {
      const warnings = t.mock.method(console, "warn", () => {});
      const line = acceptAll();
      const client = connect();
      const [ws, messages] = await line.take();
      await client.ready;
      const closed = new Promise((done) => ws.on("close", (...ending) => done(ending)));
      const asked = client.send("a/ask", 1, { timeout: 60 });
      await messages.take();
      ws.send(packet);
      ws.send("[[[:a/lost]] nil]");
      client.on("a/lost", () => assert.fail("expected nothing behind the hole"));
      await assert.rejects(asked, (error) =>
        error instanceof ChannelClosed && error.reason.code === 4007);
      const [code, text] = await closed;
      assert.deepEqual([code, `${text}`], [4007, "a packet that cannot be read"]);
      const [next] = await line.take();
      const { lastClose } = await until(client, ({ open }) => open);
      assert.deepEqual([lastClose.reason.kind, lastClose.reason.code], ["unexpected", 4007]);
      assert.match(lastClose.reason.text, /^cannot read a packet: expected /);
      assert.equal(warnings.mock.calls.length, 1);
      const good = new Promise((done) => client.on("a/good", done));
      next.send("[[[:a/good]] nil]");
      await good;
    });
  }

  it("calls a server whose packets cannot be read with growing pauses", async (t) => {
    t.mock.method(console, "warn", () => {});
    const line = acceptAll();
    const asked = [];
    const client = connect({ backoff: (n) => asked.push(n) && 0 });
    for (let n = 0; n < 4; n++) {
      const [ws] = await line.take();
      await until(client, ({ open }) => open);
      ws.send("not edn )(");
      await until(client, ({ open }) => !open);
    }
    await line.take();
    assert.deepEqual(asked, [2, 3, 4]);
  });

  it("drops what is no event, and says so", async (t) => {
    const warnings = t.mock.method(console, "warn", () => {});
    const line = acceptAll();
    const client = connect();
    const [ws] = await line.take();
    const good = new Promise((done) => client.on("a/good", done));
    const bad = ["", "[42 nil]", "[[[:chsk/evil 1]] nil]", "[[1 [:a]] nil]"];
    for (const packet of bad) ws.send(packet);
    ws.send("[[[:a/unknown] [:a/unknown] [:a/good]] nil]");
    await good;
    assert.equal(
      warnings.mock.calls.filter(({ arguments: [text] }) => /a\/unknown/.test(text)).length,
      1,
    );
    assert.ok(client.state.open);
  });

  it("pings when nothing moved, and gives a dead socket up", async () => {
    const line = acceptAll();
    const client = connect({ pingInterval: 0.5, pingTimeout: 0.3 });
    const states = watch(client);
    const [ws, messages] = await line.take();
    assert.match(await messages.take(), /^\[\[:chsk\/ws-ping\] "\w+"\]$/);
    ws.send('["pong" "ping"]');
    await messages.take(); // answered: it goes on, and pings again
    const [, again] = await line.take(); // not answered: another socket
    assert.ok(again);
    await until(client, ({ open }) => open);
    assert.ok(states.some(([open, , kind]) => !open && kind === "ws-ping-timeout"));
  });

  it("gives a dead socket up though the next ping is due before its time is over", async () => {
    const line = acceptAll();
    connect({ pingInterval: 0.5, pingTimeout: 1.5 });
    await line.take();
    await line.take();
  });

  it("gives a dead socket up though the application goes on sending", async () => {
    const line = acceptAll();
    const client = connect({ pingInterval: 0.5, pingTimeout: 0.3 });
    await line.take();
    await client.ready;
    const sending = setInterval(() => client.send("a/b").catch(() => {}), 50);
    await line.take();
    clearInterval(sending);
  });

  it("takes no clock that is set back for a silence", async (t) => {
    const line = acceptAll();
    const client = connect({ pingInterval: 0.5, pingTimeout: 0.3 });
    const [ws, messages] = await line.take();
    await client.ready;
    const states = watch(client);
    let now = Date.now();
    t.mock.method(Date, "now", () => now);
    for (let hour = 1; hour < 3; hour++) {
      await messages.take();
      now -= 3_600_000;
      ws.send('["pong" "ping"]');
    }
    await messages.take();
    assert.equal(states.length, 1);
  });

  for (const [code, kind] of [
    [1000, "clean"],
    [1012, "unexpected"],
    [1013, "unexpected"],
  ]) {
    it(`comes back at once after a close with ${code}, and names it ${kind}`, async () => {
      const line = acceptAll();
      const client = connect();
      const [ws] = await line.take();
      await client.ready;
      const closed = until(client, ({ open }) => !open);
      ws.close(code, "so long");
      assert.deepEqual((await closed).reason, { kind, code, text: "so long" });
      await line.take();
      assert.equal((await until(client, ({ open }) => open)).reason.code, code);
    });
  }

  for (const code of [1008, 4401]) {
    it(`stays away after ${code}, until reconnect`, async () => {
      const line = acceptAll();
      const client = connect();
      const [ws] = await line.take();
      await client.ready;
      const closed = until(client, ({ open }) => !open);
      const reply = client.send("a/b", 1, { timeout: 60 });
      ws.close(code, "no more");
      assert.deepEqual((await closed).reason, { kind: "refused", code, text: "no more" });
      await assert.rejects(reply, ChannelClosed);
      await assert.rejects(client.send("a/b"), (error) => {
        assert.ok(error instanceof ChannelClosed);
        assert.equal(error.reason.code, code);
        assert.match(error.message, /refused 4401 no more|refused 1008 no more/);
        return true;
      });
      assert.equal(client.state.retryAt, null);
      client.reconnect();
      await line.take();
      await until(client, ({ open }) => open);
    });
  }

  it("calls the functions of its options anew for each attempt", async () => {
    const line = acceptAll();
    let token = 0;
    connect({ csrfToken: () => `t${++token}` });
    const [first] = await line.take();
    first.terminate();
    const [second] = await line.take();
    assert.match(first.request.url, /csrf-token=t1/);
    assert.match(second.request.url, /csrf-token=t2/);
  });

  it("does not wait for such a function when told to reconnect or disconnect", async (t) => {
    const set = t.mock.method(globalThis, "setInterval");
    const clear = t.mock.method(globalThis, "clearInterval");
    const line = acceptAll();
    let calls = 0;
    const never = new Promise(() => {});
    const client = connect({ csrfToken: () => (++calls === 2 ? "tok" : never) });
    await new Promise(setImmediate);
    client.reconnect();
    const [ws] = await line.take();
    await client.ready;
    const closed = until(client, ({ open }) => !open);
    ws.terminate();
    await closed;
    await new Promise(setImmediate);
    assert.equal(calls, 3);
    client.disconnect();
    await new Promise(setImmediate);
    const cleared = clear.mock.calls.map((call) => call.arguments[0]);
    assert.ok(set.mock.calls.every(({ result }) => cleared.includes(result)));
  });

  it("goes on trying when such a function throws", async () => {
    const line = acceptAll();
    let calls = 0;
    const client = connect({
      params: () => {
        if (++calls === 1) throw new Error("no session yet");
      },
    });
    const closed = await until(client, ({ reason }) => reason);
    assert.deepEqual(closed.reason, { kind: "not-opened", code: null, text: "no session yet" });
    await line.take();
  });
});

describe("Ajax", () => {
  it("shakes hands and polls as Sente's client does", async () => {
    const polls = new Line();
    peer.onGet = (call) => polls.put(call);
    const client = connect({
      transport: "ajax",
      clientId: "tab",
      csrfToken: "tok",
      params: { lang: "de" },
      headers: () => ({ "x-mine": "1" }),
    });
    const first = await polls.take();
    assert.deepEqual([...first.query.keys()].sort(),
      ["acked", "client-id", "handshake?", "lang", "pos", "sent", "try", "udt"]);
    assert.equal(first.query.get("handshake?"), "1");
    assert.equal(first.query.get("client-id"), "tab");
    assert.ok(Math.abs(first.query.get("udt") - Date.now()) < 60_000);
    assert.equal(first.request.headers["x-csrf-token"], "tok");
    assert.equal(first.request.headers["x-requested-with"], "XMLHTTPRequest");
    assert.equal(first.request.headers["x-mine"], "1");
    assert.equal(client.state.open, false);
    first.answer(200, HANDSHAKE);
    const second = await polls.take();
    assert.deepEqual([...second.query.keys()].sort(), ["client-id", "lang", "n", "udt"]);
    await client.ready;
    assert.equal(client.state.type, "ajax");
    const got = new Promise((done) => client.on("a/b", done));
    second.answer(200, "[[[:a/b 1]] nil]");
    const third = await polls.take();
    assert.equal(await got, 1);
    third.answer(200, "[:chsk/timeout nil]");
    await polls.take();
    assert.ok(client.state.open);
  });

  it("POSTs numbered forms; a reply is the answer to its own", async () => {
    parkAll();
    const posts = new Line();
    let udt;
    const parked = peer.onGet;
    peer.onGet = (call) => {
      if (call.query.has("handshake?")) udt = call.query.get("udt");
      parked(call);
    };
    peer.onPost = (call) => posts.put(call);
    const client = connect({ transport: "ajax", clientId: "tab", csrfToken: "tok" });
    await client.ready;
    const said = client.send("chat/say", { text: "a+b &é" });
    const first = await posts.take();
    assert.equal(first.request.url, "/chsk");
    assert.match(first.request.headers["content-type"], /^application\/x-www-form-urlencoded/);
    assert.equal(first.request.headers["x-csrf-token"], "tok");
    const fields = ["client-id", "n", "ppstr", "udt", "why"];
    assert.deepEqual([...first.form.keys()].sort(), fields);
    assert.equal(first.form.get("ppstr"), '[[:chat/say {:text "a+b &é"}] nil]');
    assert.equal(first.form.get("n"), `${udt}-1`);
    first.answer(200, "[:chsk/dummy-cb-200 nil]");
    assert.equal(await said, undefined);
    const asked = client.send("math/double", 21, { timeout: 5 });
    const second = await posts.take();
    assert.equal(second.form.get("ppstr"), "[[:math/double 21] :ajax]");
    assert.equal(second.form.get("n"), `${udt}-2`);
    second.answer(200, "[42 nil]");
    assert.equal(await asked, 42);
  });

  for (const [packer, type, packet, reply] of [
    [undefined, "application/edn", '[[:chat/say "漢字 &+"] :ajax]', "[42 nil]"],
    [chansock.json, "application/json", '[["chat/say","漢字 &+"],"ajax"]', "[42,null]"],
  ]) {
    it(`POSTs ${type} as it is, where the server is chansock's`, async () => {
      peer.type = "application/edn"; // whatever the packer
      let udt;
      const handshake = packer ? '[["chsk/handshake",["ada",null,null]],null]' : HANDSHAKE;
      peer.onGet = (call) => {
        if (!call.query.has("handshake?")) return;
        udt = call.query.get("udt");
        call.answer(200, handshake);
      };
      const posts = new Line();
      peer.onPost = (call) => posts.put(call);
      const client = connect({ transport: "ajax", packer });
      await client.ready;
      const asked = client.send("chat/say", "漢字 &+", { timeout: 60 });
      const call = await posts.take();
      assert.equal(call.body.toString(), packet);
      assert.equal(call.request.headers["content-type"], type);
      assert.deepEqual([...call.query.keys()].sort(), ["client-id", "n", "raw", "udt", "why"]);
      assert.deepEqual([call.query.get("n"), call.query.get("raw")], [`${udt}-1`, "true"]);
      call.answer(200, reply);
      assert.equal(await asked, 42);
    });
  }

  it("POSTs forms for a packer of one's own without a content type", async () => {
    peer.type = "application/edn";
    peer.onGet = (call) =>
      call.query.has("handshake?") && call.answer(200, '[["chsk/handshake",["ada",null,null]],null]');
    const posts = new Line();
    peer.onPost = (call) => posts.put(call);
    const client = connect({ transport: "ajax", packer: { ...chansock.json, contentType: undefined } });
    await client.ready;
    client.send("chat/say", 1).catch(() => {});
    assert.equal((await posts.take()).form.get("ppstr"), '[["chat/say",1],null]');
  });

  it("has at most four POSTs under way, and a poll finds room", async () => {
    parkAll();
    const posts = new Line();
    peer.onPost = (call) => posts.put(call);
    const client = connect({ transport: "ajax" });
    await client.ready;
    const sends = Array.from({ length: 9 }, (_, i) => client.send("a/b", i));
    const calls = [await posts.take(), await posts.take(), await posts.take(), await posts.take()];
    assert.equal(posts.length, 0);
    const order = [];
    for (let i = 0; i < 9; i++) {
      const call = calls.shift() ?? (await posts.take());
      order.push(Number(call.form.get("n").split("-")[1]));
      call.answer(200, "[:chsk/dummy-cb-200 nil]");
    }
    await Promise.all(sends);
    assert.deepEqual(order.sort((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("lets a question time out that waits for its turn, and asks the next", async () => {
    parkAll();
    const posts = new Line();
    peer.onPost = (call) => posts.put(call);
    const client = connect({ transport: "ajax" });
    await client.ready;
    const hung = [1, 2, 3, 4].map((n) => client.send("a/hung", n));
    await assert.rejects(client.send("a/late", 5, { timeout: 0.05 }), ReplyTimeout);
    const next = client.send("a/next", 6);
    const calls = [];
    for (const _ of hung) calls.push(await posts.take());
    for (const call of calls) call.answer(200, "[:chsk/dummy-cb-200 nil]");
    await Promise.all(hung);
    const call = await posts.take();
    assert.equal(call.form.get("ppstr"), "[[:a/next 6] nil]");
    assert.match(call.form.get("n"), /-5$/);
    call.answer(200, "[:chsk/dummy-cb-200 nil]");
    await next;
  });

  it("rejects what is under way with the reason that ended it", async () => {
    parkAll();
    peer.onPost = () => {};
    const client = connect({ transport: "ajax" });
    await client.ready;
    const under = client.send("a/b", 1);
    client.disconnect();
    await assert.rejects(under, (error) => error.reason.kind === "requested-disconnect");
  });

  it("sends a POST that got 503 again, with its number, before those behind it", async () => {
    parkAll();
    const taken = [];
    let refusals = 2;
    peer.onPost = (call) => {
      const number = call.form.get("n").split("-")[1];
      if (number === "1" && refusals-- > 0) return call.answer(503);
      taken.push(number);
      call.answer(200, "[:chsk/dummy-cb-200 nil]");
    };
    const client = connect({ transport: "ajax" });
    await client.ready;
    const first = client.send("a/b", 1);
    while (refusals > 0) await new Promise(setImmediate);
    await Promise.all([first, client.send("a/b", 2), client.send("a/b", 3)]);
    assert.deepEqual(taken, ["1", "2", "3"]);
  });

  it("lets a question time out that waits for room, or for one that does", async () => {
    parkAll();
    peer.onPost = (call) => call.answer(503);
    const client = connect({ transport: "ajax" });
    await client.ready;
    const first = client.send("a/b", 1, { timeout: 60 });
    await assert.rejects(client.send("a/b", 2, { timeout: 0.2 }), ReplyTimeout);
    await assert.rejects(client.send("a/b", 3, { timeout: 0.2 }), ReplyTimeout);
    client.disconnect();
    await assert.rejects(first, ChannelClosed);
  });

  it("maps answers to errors", async () => {
    parkAll();
    const answers = ["[:chsk/error nil]", "[:chsk/timeout nil]", "", '[[:chsk/error "why"] nil]'];
    peer.onPost = (call) => call.answer(200, answers.shift());
    const client = connect({ transport: "ajax" });
    await client.ready;
    await assert.rejects(client.send("a/b", 1, { timeout: 5 }), ReplyError);
    await assert.rejects(client.send("a/b", 1, { timeout: 5 }), ReplyTimeout);
    await assert.rejects(client.send("a/b", 1, { timeout: 5 }), ReplyError);
    await assert.rejects(client.send("a/b", 1, { timeout: 5 }), { name: "ReplyError", reason: "why" });
    peer.onPost = (call) => call.answer(413, "too large\nmore");
    await assert.rejects(client.send("a/b", 1), { name: "ReplyError", message: /413 too large$/ });
    assert.ok(client.state.open);
    peer.onPost = () => {};
    await assert.rejects(client.send("a/b", 1, { timeout: 0.05 }), ReplyTimeout);
    assert.ok(client.state.open);
  });

  it("does not take a page for the answer to a POST", async () => {
    parkAll();
    peer.onPost = (call) => call.answer(200, "<!DOCTYPE html><p>Log in");
    const client = connect({ transport: "ajax" });
    await client.ready;
    const page = { name: "ReplyError", message: /expected a packet, got "<!DOCTYPE html>/ };
    await assert.rejects(client.send("a/b", 1, { timeout: 5 }), page);
    await assert.rejects(client.send("a/b", 1), page);
  });

  it("never repeats a POST that a break left unanswered, and says so", async () => {
    parkAll();
    let posts = 0;
    peer.onPost = (call) => {
      posts += 1;
      call.cut();
    };
    const client = connect({ transport: "ajax" });
    await client.ready;
    const states = watch(client);
    await assert.rejects(client.send("a/b", 1), ChannelClosed);
    await until(client, ({ open }) => open);
    assert.equal(posts, 1);
    assert.ok(states.some(([open, , kind]) => !open && kind === "unexpected"));
  });

  it("names a session that the server began anew as a gap", async () => {
    const polls = parkAll();
    const client = connect({ transport: "ajax" });
    const poll = await polls.take();
    await client.ready;
    const closed = until(client, ({ open }) => !open);
    poll.answer(200, HANDSHAKE);
    const { reason } = await closed;
    assert.equal(reason.kind, "unexpected");
    assert.match(reason.text, /anew/);
    assert.ok(client.state.open);
    await polls.take();
  });

  for (const answer of ["[[] nil]", "[nil nil]", "[:chsk/timeout nil]", HANDSHAKE]) {
    it(`polls at ease where each poll is answered at once with ${answer}`, async (t) => {
      t.mock.method(console, "warn", () => {});
      const times = [];
      const enough = new Promise((done) => {
        peer.onGet = (call) => {
          if (call.query.has("handshake?")) return call.answer(200, HANDSHAKE);
          call.answer(200, answer);
          if (times.push(performance.now()) === 4) done();
        };
      });
      const client = connect({ transport: "ajax" });
      await enough;
      assert.ok(times[3] - times[2] > 900, `${times[3] - times[2]} ms`);
      assert.ok(client.state.open);
    });
  }

  it("shakes hands anew after a poll that cannot be read, and says why", async () => {
    const line = parkAll();
    const client = connect({ transport: "ajax" });
    await client.ready;
    const poll = await line.take();
    poll.answer(200, "[[[:a/b 1] [:a/deep");
    await until(client, ({ open }) => !open);
    const { lastClose } = await until(client, ({ open }) => open);
    assert.deepEqual([lastClose.reason.kind, lastClose.reason.code], ["unexpected", null]);
    assert.match(lastClose.reason.text, /^cannot read a packet: expected /);
    await line.take();
  });

  it("learns 401 and 403 with the server's words, and stops", async () => {
    for (const [status, words] of [
      [401, "Unauthorized request"],
      [403, "Bad CSRF token"],
    ]) {
      for (const transport of ["auto", "ws", "ajax"]) {
        peer.onUpgrade = (request, socket) => socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
        peer.onGet = (call) => call.answer(status, `${words}\nmore`);
        const client = connect({ transport });
        const { reason, retryAt } = await until(client, ({ reason }) => reason?.kind === "refused");
        assert.deepEqual(reason, { kind: "refused", code: status, text: words });
        assert.equal(retryAt, null);
        await assert.rejects(client.ready, ChannelClosed);
        await assert.rejects(client.send("a/b"), ChannelClosed);
        peer.onGet = (call) => call.answer(200, HANDSHAKE);
        if (transport === "ws") continue;
        client.reconnect();
        await until(client, ({ open }) => open);
      }
    }
  });
});

describe("a WebSocket that is blocked", () => {
  for (const [how, block] of Object.entries({
    "cut before an answer": (request, socket) => socket.destroy(),
    "refused with 403": (request, socket) => socket.end("HTTP/1.1 403 Forbidden\r\n\r\n"),
    "opened, then cut": async (...upgrade) => (await peer.accept(...upgrade)).terminate(),
    "opened, and silent": (...upgrade) => peer.accept(...upgrade),
    "never answered": () => {},
  })) {
    it(`makes it go on with Ajax: ${how}`, async () => {
      parkAll();
      peer.onUpgrade = block;
      const client = connect({ connectTimeout: 0.5 });
      const states = watch(client);
      await client.ready;
      assert.equal(client.state.type, "ajax");
      assert.ok(states.some(([, , kind]) => kind === "downgrading-ws-to-ajax"));
      assert.equal(peer.upgrades, 1);
    });
  }

  it("counts as blocked after it was opened and useless three times", async () => {
    parkAll();
    peer.onUpgrade = async (...upgrade) => {
      const ws = await peer.accept(...upgrade);
      ws.send(HANDSHAKE, () => ws.terminate());
    };
    const client = connect({ maxBackoff: 0.2 });
    await until(client, ({ open, type }) => open && type === "ajax");
    assert.equal(peer.upgrades, 3);
  });

  it("uses Ajax alone where there is no WebSocket at all", async () => {
    parkAll();
    const client = chansock.connect(peer.url);
    clients.push(client);
    if (globalThis.WebSocket) return; // newer Nodes have one
    await client.ready;
    assert.equal(client.state.type, "ajax");
    assert.equal(peer.upgrades, 0);
  });

  it("is looked for again later, and found: no gap, no state but the new type", async () => {
    const polls = parkAll();
    const client = connect({ upgradeInterval: 0.1 });
    await client.ready;
    const states = watch(client);
    const line = acceptAll();
    const got = [];
    client.on("a/n", (n) => got.push(n));
    let n = 0;
    const pollUntilUpgrade = async () => {
      while (line.length === 0) {
        // Each poll is answered with one event; the client moves between two of them.
        const poll = await Promise.race([polls.take(), upgraded(line)]);
        if (!poll) break;
        poll.answer(200, `[[[:a/n ${n++}]] nil]`);
        await new Promise((done) => setTimeout(done, 20));
      }
      return line.take();
    };
    // A probe under another client-id: no push can get lost in it.
    const [probe, asked] = await pollUntilUpgrade();
    assert.equal(await asked.take(), '[[:chsk/ws-ping] "ping"]');
    probe.send('["pong" "ping"]');
    const [ws, messages] = await pollUntilUpgrade();
    await until(client, ({ type }) => type === "ws");
    await client.send("a/after");
    assert.equal(await messages.take(), "[[:a/after] nil]");
    ws.send(`[[[:a/n ${n++}]] nil]`);
    while (got.length < n) await new Promise(setImmediate);
    assert.deepEqual(got, Array.from({ length: n }, (_, i) => i));
    assert.ok(states.every(([open]) => open));
    assert.equal(client.state.reason.kind, "upgrading-ajax-to-ws");
  });

  it("does not hide a gap where the server began anew as one was due", async () => {
    const polls = parkAll();
    const client = connect({ upgradeInterval: 0.001 });
    const poll = await polls.take();
    await client.ready;
    await prove();
    const states = watch(client);
    poll.answer(200, HANDSHAKE);
    await polls.take();
    assert.deepEqual(states.slice(1), [
      [false, "ajax", "unexpected"],
      [true, "ajax", "unexpected"],
    ]);
  });

  it("is not looked for after a POST broke the session meanwhile", async () => {
    const polls = parkAll();
    const posts = new Line();
    peer.onPost = (call) => posts.put(call);
    const client = connect({ upgradeInterval: 0.001 });
    const poll = await polls.take();
    await client.ready;
    await prove();
    const states = watch(client);
    const sent = client.send("a/b");
    const post = await posts.take();
    const line = acceptAll();
    client.on("a/x", () => post.answer(502, "bad gateway"));
    poll.answer(200, "[[[:a/x]] nil]");
    await assert.rejects(sent, { message: /502 bad gateway/ });
    await line.take();
    await until(client, ({ open, type }) => open && type === "ws");
    assert.deepEqual(states[1], [false, "ajax", "unexpected"]);
  });

  it("leaves a queue alone that waits for the next connection", async (t) => {
    t.mock.method(Math, "random", () => 0.99); // what got 503 waits longer than the move
    const polls = parkAll();
    peer.onPost = (call) => call.answer(503);
    const client = connect({ upgradeInterval: 0.001, offline: "queue" });
    const poll = await polls.take();
    await client.ready;
    await prove();
    const refused = client.send("a/b", 1); // it is waiting while the move waits for it
    const got = new Promise((done) => client.on("a/x", done));
    const upgrade = new Promise((tried) => (peer.onUpgrade = (...args) => tried(args)));
    poll.answer(200, "[[[:a/x]] nil]");
    await got;
    const kept = client.send("a/b", 2);
    client.reconnect();
    await assert.rejects(refused, ChannelClosed);
    const ws = await peer.accept(...(await upgrade));
    await new Promise((done) => setTimeout(done, 1100)); // the move would have been given up
    ws.send(HANDSHAKE);
    await kept;
  });

  it("is not waited for by each poll while a question keeps the session busy", async (t) => {
    const set = t.mock.method(globalThis, "setTimeout");
    const looks = () => set.mock.calls.filter((call) => call.arguments[1] === 50).length;
    const polls = parkAll();
    const posts = new Line();
    peer.onPost = (call) => posts.put(call);
    const client = connect({ upgradeInterval: 60 });
    await client.ready;
    client.on("a/x", () => {});
    const now = performance.now();
    t.mock.method(performance, "now", () => now + 61_000);
    await prove();
    const reply = client.send("a/slow", 1, { timeout: 600 });
    const post = await posts.take();
    (await polls.take()).answer(200, "[[[:a/x]] nil]");
    const next = await polls.take(); // after the search was given up
    const before = looks();
    assert.ok(before > 0);
    next.answer(200, "[[[:a/x]] nil]");
    await polls.take();
    assert.equal(looks(), before);
    post.answer(200, "[1 nil]");
    assert.equal(await reply, 1);
  });

  it("takes more than the queue holds while it is looked for", async () => {
    const polls = parkAll();
    const client = connect({ upgradeInterval: 0.001, maxQueuedEvents: 1 });
    const poll = await polls.take();
    await client.ready;
    await prove();
    const upgrade = new Promise((tried) => (peer.onUpgrade = (...args) => tried(args)));
    poll.answer(200, "[:chsk/timeout nil]");
    const [request, socket, head] = await upgrade;
    const sends = [1, 2, 3].map((n) => client.send("a/b", n));
    const ws = await peer.accept(request, socket, head);
    ws.send(HANDSHAKE);
    await Promise.all(sends);
  });

  it("is looked for as soon as ever, however long the server was down before", async (t) => {
    const polls = new Line();
    let failures = 4;
    peer.onGet = (call) => {
      if (failures-- > 0) call.cut();
      else if (call.query.has("handshake?")) call.answer(200, HANDSHAKE);
      else polls.put(call);
    };
    connect({ maxBackoff: 0.01, upgradeInterval: 60 });
    await polls.take();
    const now = performance.now();
    t.mock.method(performance, "now", () => now + 61_000);
    await acceptAll().take();
  });

  it("is no longer looked for once the client has disconnected", async () => {
    parkAll();
    const client = connect({ upgradeInterval: 0.001 });
    await client.ready;
    const [, socket] = await new Promise((tried) => (peer.onUpgrade = (...args) => tried(args)));
    const closed = new Promise((done) => socket.resume().on("end", done));
    client.disconnect();
    await closed;
  });

  it("is tried at once by reconnect, though one is being looked for", async () => {
    parkAll();
    const client = connect({ upgradeInterval: 0.001 });
    await client.ready;
    await new Promise((tried) => (peer.onUpgrade = tried));
    const line = acceptAll();
    const states = watch(client);
    client.reconnect();
    await line.take();
    await until(client, ({ open }) => open);
    assert.deepEqual(states.slice(-1), [[true, "ws", "requested-reconnect"]]);
  });

  it("is looked for in vain: what was sent meanwhile goes by POST", async () => {
    const polls = parkAll();
    const posts = new Line();
    peer.onPost = (call) => {
      posts.put(call.form.get("ppstr"));
      call.answer(200, "[:chsk/dummy-cb-200 nil]");
    };
    const client = connect({ upgradeInterval: 0.05 });
    await client.ready;
    const states = watch(client);
    const silent = new Promise((tried) => (peer.onUpgrade = (...upgrade) => tried(upgrade)));
    const answering = (async () => {
      for (;;) (await polls.take()).answer(200, "[:chsk/timeout nil]");
    })();
    const [, socket] = await silent;
    const sends = [client.send("a/b", 1), client.send("a/b", 2)];
    await new Promise(setImmediate);
    assert.equal(posts.length, 0);
    socket.destroy();
    await Promise.all(sends);
    assert.equal(await posts.take(), "[[:a/b 1] nil]");
    assert.equal(await posts.take(), "[[:a/b 2] nil]");
    assert.ok(states.every(([open, type]) => open && type === "ajax"));
    void answering;
  });
});

/** Give undefined once something stands in the line, without taking it. */
const upgraded = async (line) => {
  while (line.length === 0) await new Promise((done) => setTimeout(done, 5));
};

describe("while closed", () => {
  it("refuses to send if asked to, and says why", async () => {
    peer.onGet = (call) => call.answer(500, "out of order");
    const client = connect({ offline: "refuse" });
    await assert.rejects(client.send("a/b"), ChannelClosed);
    const { reason } = await until(client, ({ retryAt }) => retryAt);
    assert.deepEqual(reason, { kind: "not-opened", code: 500, text: "out of order" });
    await assert.rejects(client.send("a/b"), { message: /not-opened 500 out of order/ });
    assert.ok(client.state.retryAt > Date.now());
  });

  it("keeps what is sent in a bounded queue, in order, if asked to", async () => {
    const client = connect({ offline: "queue", maxQueuedEvents: 3 });
    const sends = [1, 2, 3].map((n) => client.send("a/b", n));
    await assert.rejects(client.send("a/b", 4), BacklogFull);
    await assert.rejects(client.send("a/b", () => {}), EdnError);
    const line = acceptAll();
    const [, messages] = await line.take();
    for (const n of [1, 2, 3]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
    await Promise.all(sends);
  });

  it("sends what waits before what a handler sends that is told it is open", async () => {
    const client = connect({ offline: "queue" });
    const sends = [client.send("a/b", 1), client.send("a/b", 2)];
    client.onState(({ open }) => open && sends.push(client.send("a/b", 3)));
    const line = acceptAll();
    const [, messages] = await line.take();
    for (const n of [1, 2, 3]) assert.equal(await messages.take(), `[[:a/b ${n}] nil]`);
    await Promise.all(sends);
  });

  it("has sent what waits before a handler that is told it is open may reconnect", async () => {
    acceptAll();
    const client = connect({ offline: "queue" });
    const sent = client.send("a/b", 1);
    const stop = client.onState(({ open }) => {
      if (!open) return;
      stop();
      client.reconnect();
    });
    await sent;
  });

  it("keeps what is sent between the end of a connection and its being told", async () => {
    const line = acceptAll();
    const client = connect({ offline: "queue" });
    const [ws] = await line.take();
    await client.ready;
    let kept;
    client.on("a/say", () => {
      client.breakConnection();
      kept = client.send("a/said");
    });
    ws.send("[[[:a/say]] nil]");
    const [, messages] = await line.take();
    await kept;
    assert.equal(await messages.take(), "[[:a/said] nil]");
  });

  it("keeps what is sent as soon as a POST has failed", async () => {
    parkAll();
    let posts = 0;
    peer.onPost = (call) => {
      if (posts++ === 0) call.cut();
      else call.answer(200, "[:chsk/dummy-cb-200 nil]");
    };
    const client = connect({ transport: "ajax", offline: "queue" });
    await client.ready;
    await client.send("a/b", 1).catch(() => client.send("a/b", 2));
    assert.equal(posts, 2);
  });

  it("lets a queued question time out, and does not ask it later", async () => {
    peer.onGet = () => {};
    const client = connect({ offline: "queue", resume: false });
    await assert.rejects(client.send("a/q", 1, { timeout: 0.05 }), ReplyTimeout);
    const kept = client.send("a/b", 2);
    const line = acceptAll();
    client.reconnect();
    const [, messages] = await line.take();
    assert.equal(await messages.take(), "[[:a/b 2] nil]");
    await kept;
  });

  it("counts the time in the queue as part of a question's", async (t) => {
    const times = t.mock.method(globalThis, "setTimeout");
    peer.onGet = () => {};
    const client = connect({ offline: "queue" });
    const asked = client.send("a/q", 1, { timeout: 77 });
    asked.catch(() => {});
    await until(client, ({ type }) => type === "ajax"); // the WebSocket was refused meanwhile
    const line = acceptAll();
    client.reconnect();
    await line.take();
    await until(client, ({ open }) => open);
    const waits = times.mock.calls.map((call) => call.arguments[1]).filter((ms) => ms > 70_000);
    assert.deepEqual(waits, [77_000]); // from the call to the reply
  });

  it("leaves no timer behind of what waited", async (t) => {
    const set = t.mock.method(globalThis, "setTimeout");
    const clear = t.mock.method(globalThis, "clearTimeout");
    peer.onGet = () => {};
    const client = connect({ offline: "queue" });
    const asked = client.send("a/q", 1, { timeout: 77 });
    client.disconnect();
    await assert.rejects(asked, ChannelClosed);
    const call = set.mock.calls.find((call) => call.arguments[1] === 77_000);
    assert.ok(clear.mock.calls.some(({ arguments: [timer] }) => timer === call.result));
  });

  it("rejects the queue when it is refused, and when it is left", async () => {
    peer.onGet = (call) => call.answer(403, "no");
    const refused = connect({ offline: "queue" });
    await assert.rejects(refused.send("a/b"), ChannelClosed);
    await assert.rejects(refused.send("a/b"), ChannelClosed);
    peer.onGet = () => {};
    const left = connect({ offline: "queue" });
    const kept = left.send("a/b");
    left.disconnect();
    await assert.rejects(kept, ChannelClosed);
  });

  it("does not say that an attempt is due which has begun", async () => {
    peer.onGet = (call) => call.cut();
    const seen = [];
    const done = new Promise((resolve) => {
      connect({
        maxBackoff: 0.05,
        csrfToken() {
          if (seen.push(clients[0]?.state.retryAt) === 4) resolve();
        },
      });
    });
    await done;
    assert.deepEqual(seen, [undefined, null, null, null]);
  });

  it("names no transport that it was told not to use", async () => {
    peer.onGet = (call) => call.cut();
    const types = new Set();
    await until(connect({ transport: "ws" }), ({ type, retryAt }) => types.add(type) && retryAt);
    await until(connect({ transport: "ajax" }), ({ type }) => types.add(type + " alone"));
    assert.deepEqual([...types], ["ws", "ajax alone"]);
  });

  it("waits longer after each failure, up to the cap", async () => {
    peer.onGet = (call) => call.cut();
    const client = connect({ maxBackoff: 0.4 });
    const waits = [];
    await new Promise((enough) => {
      client.onState(({ retryAt }) => {
        if (retryAt && waits.push(retryAt - Date.now()) === 5) enough();
      });
    });
    assert.equal(peer.gets, 6); // the first attempt, one at once, and four after a wait
    for (const ms of waits) assert.ok(ms > 100 && ms <= 400, `${ms} ms`);
  });
});

describe("what the client tells of itself", () => {
  const told = (client) => {
    const states = [];
    client.on("chsk/state", ([old, now, openChanged], { id }) => {
      states.push([old, now, openChanged, id]);
    });
    return states;
  };

  it("is each change of state, with the state before it", async () => {
    const line = acceptAll();
    const client = connect();
    const states = told(client);
    const start = client.state;
    const [ws] = await line.take();
    await client.ready;
    assert.equal(states.length, 1);
    const [[old, now, openChanged, id]] = states;
    assert.equal(old, start);
    assert.equal(now, client.state);
    assert.deepEqual([old.open, now.open, openChanged, id], [false, true, true, "chsk/state"]);
    ws.terminate();
    await line.take();
    await until(client, ({ open }) => open);
    assert.deepEqual(states.map(([old, now, openChanged]) => [old.open, now.open, openChanged]),
      [[false, true, true], [true, false, true], [false, true, true]]);
    states.reduce((before, [old, now]) => (assert.equal(old, before), now), start);
  });

  it("is that a later attempt is due, where open does not change", async () => {
    peer.onGet = (call) => call.cut();
    const client = connect();
    const states = told(client);
    await until(client, ({ retryAt }) => retryAt);
    const [old, now, openChanged] = states.at(-1);
    assert.deepEqual([old.retryAt, now.retryAt > 0, openChanged], [null, true, false]);
  });

  it("is each handshake, and which was the first", async () => {
    const line = acceptAll('[[:chsk/handshake ["ada" nil {:a 1}]] nil]');
    const client = connect();
    const handshakes = [];
    client.on("chsk/handshake", (data) => handshakes.push([...data, client.state.open]));
    const [ws] = await line.take();
    await client.ready;
    ws.send("[[:chsk/handshake [:sente/nil-uid nil nil]] nil]");
    await until(client, ({ uid }) => uid === null);
    ws.terminate();
    await line.take();
    await until(client, ({ uid }) => uid === "ada");
    assert.deepEqual(handshakes, [
      ["ada", null, { a: 1 }, true, true],
      [null, null, null, false, true],
      ["ada", null, { a: 1 }, false, true],
    ]);
  });

  it("is each handshake over Ajax", async () => {
    const polls = parkAll();
    const client = connect({ transport: "ajax" });
    const handshakes = [];
    client.on("chsk/handshake", ([uid, , , first]) => handshakes.push([uid, first]));
    const poll = await polls.take();
    poll.answer(500);
    await polls.take();
    assert.deepEqual(handshakes, [["ada", true], ["ada", false]]);
  });

  it("is each ping of the server, which it has answered", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws, messages] = await line.take();
    const pinged = new Promise((done) => client.on("chsk/ws-ping", (...args) => done(args)));
    ws.send("[:chsk/ws-ping nil]");
    assert.deepEqual(await pinged, [null, { id: "chsk/ws-ping", data: null }]);
    assert.equal(await messages.take(), "[[:chsk/ws-pong] nil]");
  });

  it("is no other event of that name", () => {
    const client = connect();
    assert.throws(() => client.on("chsk/recv", () => {}), InvalidEvent);
  });

  it("keeps how the last WebSocket ended, and the channel", async () => {
    const line = acceptAll();
    const client = connect();
    const start = Date.now();
    const [ws] = await line.take();
    await client.ready;
    ws.close(4000, "so long");
    await line.take();
    const { lastClose, lastWsClose, lastWsError } = await until(client, ({ open }) => open);
    assert.deepEqual(lastClose.reason, { kind: "unexpected", code: 4000, text: "so long" });
    assert.deepEqual({ ...lastWsClose, time: 0 },
      { time: 0, code: 4000, reason: "so long", clean: true });
    for (const { time } of [lastClose, lastWsClose]) {
      assert.ok(time >= start && time <= Date.now());
    }
    assert.equal(lastWsError, null);
  });

  it("keeps the error of a WebSocket that did not open; the channel never closed", async () => {
    parkAll();
    const client = connect();
    await client.ready;
    const { lastClose, lastWsClose, lastWsError, reason } = client.state;
    assert.equal(lastClose, null);
    assert.deepEqual([lastWsClose.code, lastWsClose.clean], [1006, false]);
    assert.match(lastWsError.text, /socket hang up/);
    assert.equal(reason.kind, "downgrading-ws-to-ajax");
  });

  it("keeps the token of the last attempt", async () => {
    const line = acceptAll();
    let token = 0;
    const client = connect({ csrfToken: () => [null, "t1", "t2"][token++] });
    const tokens = [];
    client.onState(({ csrfToken }) => tokens.push(csrfToken));
    for (let i = 0; i < 2; i++) (await line.take())[0].terminate();
    await line.take();
    await until(client, ({ open, csrfToken }) => open && csrfToken === "t2");
    assert.deepEqual([...new Set(tokens)], [null, "t1", "t2"]);
  });
});

describe("a WebSocket that will not send", () => {
  class Broken extends WebSocket {
    send(...args) {
      if (Broken.isBroken) throw new RangeError("out of buffers");
      super.send(...args);
    }
  }

  beforeEach(() => {
    Broken.isBroken = false;
  });

  for (const [what, options] of [["an event", {}], ["a question", { timeout: 60 }]]) {
    it(`is given up, and ${what} rejected`, async () => {
      const line = acceptAll();
      const client = connect({ WebSocket: Broken });
      await line.take();
      await client.ready;
      const closed = until(client, ({ open }) => !open);
      Broken.isBroken = true;
      await assert.rejects(client.send("a/b", 1, options), (error) => {
        assert.ok(error instanceof ChannelClosed);
        assert.deepEqual(error.reason, { kind: "ws-error", code: null, text: "out of buffers" });
        return true;
      });
      Broken.isBroken = false;
      assert.equal((await closed).reason.kind, "ws-error");
      await line.take();
      await until(client, ({ open }) => open);
    });
  }

  it("is given up when it is to answer a ping", async () => {
    const line = acceptAll();
    const client = connect({ WebSocket: Broken });
    const [ws] = await line.take();
    await client.ready;
    const closed = until(client, ({ open }) => !open);
    Broken.isBroken = true;
    ws.send("[:chsk/ws-ping nil]");
    assert.equal((await closed).reason.kind, "ws-error");
  });
});

describe("a backoff of the application's", () => {
  it("says how long to wait before the second attempt, the third ...", async () => {
    peer.onGet = (call) => call.cut();
    const asked = [];
    const due = [];
    const client = connect({ backoff: (n) => asked.push(n) && 0.01 * n });
    await new Promise((enough) => {
      client.onState(({ retryAt }) => {
        if (retryAt && due.push(retryAt - Date.now()) === 3) enough();
      });
    });
    assert.deepEqual(asked, [2, 3, 4]);
    due.forEach((ms, i) => assert.ok(Math.abs(ms - 10 * (i + 2)) < 8, `${due}`));
  });

  it("may say that there is none to wait", async () => {
    let cuts = 5;
    peer.onGet = (call) => (cuts-- > 0 ? call.cut() : call.answer(200, HANDSHAKE));
    const client = connect({ transport: "ajax", backoff: () => 0 });
    await client.ready;
    assert.equal(client.state.retryAt, null);
  });

  for (const [what, backoff] of [
    ["throws", () => { throw new RangeError("mine"); }],
    ["gives no time", () => "soon"],
    ["gives a time before now", () => -1],
  ]) {
    it(`is passed over if it ${what}, and that is said`, async (t) => {
      const errors = t.mock.method(console, "error", () => {});
      peer.onGet = (call) => call.cut();
      const client = connect({ backoff });
      const { retryAt } = await until(client, ({ retryAt }) => retryAt);
      assert.ok(retryAt - Date.now() > 200);
      assert.match(errors.mock.calls.at(-1).arguments[0], /backoff: expected seconds/);
    });
  }
});

describe("breakConnection", () => {
  it("ends a WebSocket as if it broke, and the client comes back", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws] = await line.take();
    await client.ready;
    const closed = new Promise((done) => {
      ws.on("close", (code, reason) => done([code, String(reason)]));
    });
    const states = watch(client);
    client.breakConnection();
    assert.deepEqual(await closed, [3000, "CLOSE_ABNORMAL"]);
    await line.take();
    await until(client, ({ open }) => open);
    assert.deepEqual(states.slice(1), [[false, "ws", "unexpected"], [true, "ws", "unexpected"]]);
  });

  it("ends an Ajax session as if it broke, and the client comes back", async () => {
    const polls = parkAll();
    const client = connect({ transport: "ajax" });
    await polls.take();
    await client.ready;
    client.breakConnection();
    await polls.take();
    const { open, lastClose } = await until(client, ({ open }) => open);
    assert.ok(open);
    assert.equal(lastClose.reason.kind, "unexpected");
  });

  it("does nothing where there is no connection", async () => {
    const client = connect();
    client.disconnect();
    client.breakConnection();
    await new Promise(setImmediate);
    assert.equal(client.state.reason.kind, "requested-disconnect");
  });
});

describe("disconnect and reconnect", () => {
  it("may be called while a state is told", async () => {
    acceptAll();
    const client = connect();
    client.disconnect();
    const stop = client.onState(({ reason, open }) => {
      if (!open && reason?.kind === "requested-reconnect") client.disconnect();
    });
    client.reconnect();
    assert.equal(client.state.reason.kind, "requested-disconnect");
    stop();
    client.reconnect();
    await until(client, ({ open }) => open);
  });

  it("leaves nothing that runs, if called while a close is told", async (t) => {
    const set = t.mock.method(globalThis, "setInterval");
    const clear = t.mock.method(globalThis, "clearInterval");
    const line = acceptAll();
    const client = connect();
    const [ws] = await line.take();
    await client.ready;
    const closed = until(client, ({ open }) => !open);
    client.onState(({ open }) => open || client.disconnect());
    ws.close(1000);
    await closed;
    await new Promise(setImmediate);
    const cleared = clear.mock.calls.map((call) => call.arguments[0]);
    assert.ok(set.mock.calls.every(({ result }) => cleared.includes(result)));
  });

  it("starts at once, if called while a later attempt is told", async () => {
    peer.onGet = (call) => call.cut();
    const client = connect({ backoff: () => 3600 });
    await until(client, ({ retryAt }) => {
      if (!retryAt) return false;
      peer.onGet = (call) => call.answer(200, HANDSHAKE);
      client.reconnect();
      return true;
    });
    await acceptAll().take();
  });

  it("ends for await, rejects what waits for a reply, and comes back when told to", async () => {
    const line = acceptAll();
    const client = connect();
    const [ws, messages] = await line.take();
    await client.ready;
    const closed = new Promise((done) => {
      ws.on("close", (code, reason) => done([code, String(reason)]));
    });
    const reply = client.send("a/b", 1, { timeout: 5 });
    await messages.take();
    const reading = (async () => {
      for await (const event of client) assert.fail(event.id);
    })();
    client.disconnect();
    await assert.rejects(reply, ChannelClosed);
    await reading;
    assert.deepEqual(await closed, [1000, "CLOSE_NORMAL"]);
    assert.equal(client.state.reason.kind, "requested-disconnect");
    await assert.rejects(client.send("a/b"), ChannelClosed);
    client.reconnect();
    await line.take();
    await until(client, ({ open }) => open);
  });

  it("holds in any mixture", async () => {
    const line = acceptAll();
    const client = connect();
    for (let i = 0; i < 5; i++) {
      client.disconnect();
      client.reconnect();
      client.reconnect();
      await new Promise(setImmediate);
    }
    await until(client, ({ open }) => open);
    client.disconnect();
    client.disconnect();
    assert.equal(client.state.open, false);
    while (line.length) {
      const [ws] = await line.take();
      if (ws.readyState !== WebSocket.CLOSED) await new Promise((done) => ws.on("close", done));
    }
  });

  it("makes ready reject if it is left before it opened", async () => {
    const client = connect();
    client.disconnect();
    await assert.rejects(client.ready, ChannelClosed);
  });
});

it("goes on after a trace that throws, and says so", async (t) => {
  const errors = t.mock.method(console, "error", () => {});
  const line = acceptAll();
  const client = connect({
    trace() {
      throw new RangeError("mine");
    },
  });
  const [, messages] = await line.take();
  await client.ready;
  await client.send("a/b");
  await messages.take();
  assert.equal(errors.mock.calls.length, 2);
});

it("stays closed if the trace disconnects at the handshake", async () => {
  for (const transport of ["ws", "ajax"]) {
    acceptAll();
    const client = connect({ transport, trace: () => client.disconnect() });
    await until(client, ({ reason }) => reason?.kind === "requested-disconnect");
    await new Promise(setImmediate);
    assert.equal(client.state.open, false);
  }
});

it("tells the trace what travels", async () => {
  const line = acceptAll();
  const seen = [];
  const client = connect({ trace: (...packet) => seen.push(packet) });
  const [, messages] = await line.take();
  await client.ready;
  await client.send("a/b", keyword("c"));
  await messages.take();
  assert.deepEqual(seen, [
    ["in", HANDSHAKE, "ws"],
    ["out", "[[:a/b :c] nil]", "ws"],
  ]);
});

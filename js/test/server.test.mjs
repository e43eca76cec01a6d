// The client and the real server, on each transport: order, replies, refusals, restarts.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { freePort } from "./ports.mjs";
import { start } from "./server.mjs";

const {
  ChannelClosed, Instant, List, ReplyError, ReplyTimeout, UUID, json, keyword, pack,
} = chansock;

let server;
let clients = [];

before(async () => {
  server = await start();
});

after(() => server.stop("SIGKILL"));

afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
});

const connect = (options = {}, url = server.url) => {
  const client = chansock.connect(url, { WebSocket, maxBackoff: 0.5, ...options });
  clients.push(client);
  return client;
};

const open = async (...args) => {
  const client = connect(...args);
  await client.ready;
  return client;
};

const until = (client, isWanted) =>
  new Promise((resolve) => {
    const stop = client.onState((state) => {
      if (isWanted(state)) resolve(state);
    });
    void stop;
  });

const numbers = (n) => Array.from({ length: n }, (_, i) => i);

for (const transport of ["ws", "ajax"]) {
  describe(`over ${transport}`, () => {
    it("opens, and the server knows who and how", async () => {
      const client = await open({ transport, params: { uid: "ada" }, headers: { "x-uid": "ada" } });
      assert.equal(client.state.type, transport);
      assert.equal(client.state.uid, "ada");
      assert.equal(typeof client.state.handshakeData.pid, "number");
      assert.deepEqual(await client.send("test/who", null, { timeout: 60 }), {
        uid: "ada",
        "client-id": client.clientId,
        type: transport,
      });
    });

    it("gives replies, or the error that stands for one", async () => {
      const client = await open({ transport });
      assert.equal(await client.send("test/note", 1), undefined);
      assert.equal(await client.send("test/note", 2, { timeout: 60 }), null);
      await assert.rejects(client.send("test/fail", null, { timeout: 60 }), ReplyError);
      await assert.rejects(client.send("test/unclaimed", null, { timeout: 60 }), ReplyError);
      await assert.rejects(client.send("test/silent", null, { timeout: 0.1 }), ReplyTimeout);
      assert.deepEqual(await client.send("test/notes", null, { timeout: 60 }), [1, 2]);
    });

    it("carries text of nearly the largest message", async () => {
      const client = await open({ transport });
      const text = "漢".repeat(340_000); // 1.02 MB in UTF-8, of 1 MiB; 3 MB in a form
      assert.equal(await client.send("test/echo", text, { timeout: 60 }), text);
    });

    it("carries every kind of value there and back", async () => {
      const client = await open({ transport });
      for (const value of [
        null,
        true,
        "é 漢字 😀 \u0001 \"\\\n &=+%",
        -1,
        1.5,
        2n ** 70n,
        [1, [2, []]],
        { a: { "b/c": keyword("d/e") } },
        new Map([["x", 1], [2, "y"]]),
        new Set([keyword("a")]),
        List.from([1, 2]),
        new UUID("6f3a8b1e-5a2f-4e7c-9a57-0d6c6d2b9f11"),
        new Instant("2024-02-29T12:34:56.123456Z"),
        new chansock.Ratio(1, 3),
        new chansock.Decimal("1.10"),
        new chansock.Char("x"),
        new chansock.Symbol("a/b"),
      ]) {
        const back = await client.send("test/echo", value, { timeout: 60 });
        assert.equal(chansock.write(back), chansock.write(value));
        assert.deepEqual(back, value);
      }
    });

    it("brings pushes in the order in which they were sent", async () => {
      const client = await open({ transport });
      const seen = [];
      client.on("test/pushed", ({ i }) => seen.push(i));
      const counts = await Promise.all(
        numbers(5).map(() => client.send("test/push", { n: 200 }, { timeout: 60 })),
      );
      assert.deepEqual(counts, [200, 200, 200, 200, 200]);
      while (seen.length < 1000) await new Promise(setImmediate);
      assert.deepEqual(seen, numbers(5).flatMap(() => numbers(200)));
    });

    it("takes what is sent in the order of the calls", async () => {
      const client = await open({ transport });
      await Promise.all(numbers(300).map((n) => client.send("test/note", n)));
      assert.deepEqual(await client.send("test/notes", null, { timeout: 60 }), numbers(300));
    });

    it("comes back after the server closed it, by whatever code", async () => {
      const client = await open({ transport });
      for (const code of [1000, 1012]) {
        const closed = until(client, ({ open }) => !open);
        await client.send("test/close", { code, reason: "as asked" }).catch(() => {});
        const { reason } = await closed;
        if (transport === "ws") assert.deepEqual([reason.code, reason.text], [code, "as asked"]);
        await until(client, ({ open }) => open);
        assert.equal(await client.send("test/echo", code, { timeout: 60 }), code);
      }
    });

    it("comes back after the server was killed, and sends nothing twice", async () => {
      const own = await start({ port: await freePort() });
      const client = await open({ transport, offline: "refuse" }, own.url);
      const first = client.state.handshakeData.pid;
      const closed = until(client, ({ open }) => !open);
      await own.stop("SIGKILL");
      await closed;
      await assert.rejects(client.send("test/note", "lost"), ChannelClosed);
      const again = await start({ port: own.port });
      try {
        await until(client, ({ open }) => open);
        assert.notEqual(client.state.handshakeData.pid, first);
        await client.send("test/note", 1);
        assert.deepEqual(await client.send("test/notes", null, { timeout: 60 }), [1]);
      } finally {
        client.disconnect();
        await again.stop("SIGKILL");
      }
    });

    it("is told that the server stops, and queues until the next one", async () => {
      const own = await start({ port: await freePort() });
      const who = { params: { uid: "ada" }, headers: { "x-uid": "ada" } };
      const client = await open({ transport, offline: "queue", ...who }, own.url);
      // present: over Ajax that is, its poll is parked
      while (!(await client.send("test/present", null, { timeout: 60 })).any.has("ada"));
      const closed = until(client, ({ open }) => !open);
      await own.stop();
      const { reason } = await closed;
      assert.ok([1012, 503].includes(reason.code), String(reason.code));
      const sends = numbers(10).map((n) => client.send("test/note", n));
      const again = await start({ port: own.port });
      try {
        await Promise.all(sends);
        assert.deepEqual(await client.send("test/notes", null, { timeout: 60 }), numbers(10));
      } finally {
        client.disconnect();
        await again.stop("SIGKILL");
      }
    });

    it("learns why it is refused, and stops trying until told otherwise", async () => {
      let status = "401";
      const client = connect({
        transport,
        params: () => (status ? { status } : {}),
      });
      const { reason } = await until(client, ({ reason }) => reason?.kind === "refused");
      assert.deepEqual([reason.code, reason.text], [401, "refused as asked"]);
      status = "";
      client.reconnect();
      await until(client, ({ open }) => open);
    });

    it("shows its token, and is refused without", async () => {
      const own = await start({ args: ["--csrf-token", "tok"] });
      try {
        const good = await open({ transport, csrfToken: async () => "tok" }, own.url);
        assert.equal(await good.send("test/echo", 1, { timeout: 60 }), 1);
        const csrfTokenIn = "subprotocol";
        const quiet = await open({ transport, csrfToken: "tok", csrfTokenIn }, own.url);
        assert.equal(await quiet.send("test/echo", 2, { timeout: 60 }), 2);
        const request = await quiet.send("test/request", null, { timeout: 60 });
        assert.ok(!new Map(request.params).has("csrf-token"));
        const bad = connect({ transport, csrfToken: "wrong" }, own.url);
        const { reason } = await until(bad, ({ reason }) => reason?.kind === "refused");
        assert.deepEqual([reason.code, reason.text], [403, "Bad CSRF token"]);
      } finally {
        await own.stop("SIGKILL");
      }
    });

    it("ends its presence when it is left", async () => {
      const watcher = await open({ transport: "ws" });
      const client = await open({
        transport,
        params: { uid: `guest-${transport}` },
        headers: { "x-uid": `guest-${transport}` },
      });
      const present = async () => (await watcher.send("test/present", null, { timeout: 60 })).any;
      // Over Ajax presence comes with the second GET, and goes 5 s after the last.
      while (!(await present()).has(`guest-${transport}`));
      client.disconnect();
      while ((await present()).has(`guest-${transport}`)) {
        await new Promise((done) => setTimeout(done, 100));
      }
    });
  });
}

const PLAIN = [
  null, true, "é 漢字 😀 \u0001 \"\\\n &=+%", -1, 0, 1.5, 2 ** 53 - 1, [1, [2, []]], { a: { "b/c": [] } },
];
const VALUES = {
  JSON: PLAIN,
  MessagePack: [
    ...PLAIN,
    -0,
    1e100,
    2n ** 63n - 1n,
    -(2n ** 63n),
    keyword("d/e"),
    new Map([["x", 1], [2, "y"], ["z", { a: 1 }]]),
    new Set([keyword("a"), "b", 1]),
    [{ id: 1, name: "a" }, { id: 2, name: "b" }, new Map([["id", 3]]), new Map([["id", 4]])],
    new UUID("6f3a8b1e-5a2f-4e7c-9a57-0d6c6d2b9f11"),
    new Instant("2024-02-29T12:34:56.123456Z"),
    new chansock.Ratio(1, 3),
    new chansock.Char("x"),
    new chansock.Symbol("a/b"),
    Uint8Array.of(0, 255),
    Object.fromEntries(numbers(300).map((n) => [`k${n}`, { [`k${n}`]: n }])),
  ],
};

for (const [name, packer] of [["JSON", json], ["MessagePack", pack.msgpack]]) {
  describe(`with ${name}`, () => {
    let own;

    before(async () => {
      own = await start({ args: ["--packer", name, "--set", "poll_timeout=0.5"] });
    });

    after(() => own.stop("SIGKILL"));

    for (const transport of ["ws", "ajax"]) {
      const openOwn = (options) => open({ transport, packer, ...options }, own.url);

      it(`opens over ${transport}, and the server knows who and how`, async () => {
        const who = { params: { uid: "ada" }, headers: { "x-uid": "ada" } };
        const client = await openOwn(who);
        assert.deepEqual([client.state.type, client.state.uid], [transport, "ada"]);
        assert.equal(typeof client.state.handshakeData.pid, "number");
        assert.equal((await openOwn()).state.uid, null);
        assert.deepEqual(await client.send("test/who", null, { timeout: 60 }), {
          uid: "ada",
          "client-id": client.clientId,
          type: transport,
        });
      });

      it(`carries values there and back over ${transport}`, async () => {
        const client = await openOwn();
        for (const value of VALUES[name]) {
          assert.deepEqual(await client.send("test/echo", value, { timeout: 60 }), value);
        }
      });

      it(`brings pushes over ${transport}, in order`, async () => {
        const client = await openOwn();
        const seen = [];
        client.on("test/pushed", ({ i, data }) => seen.push([i, data]));
        await client.send("test/push", { n: 300, data: { a: [1] } }, { timeout: 60 });
        while (seen.length < 300) await new Promise(setImmediate);
        assert.deepEqual(seen, numbers(300).map((n) => [n, { a: [1] }]));
      });

      it(`takes what is sent over ${transport}, in order, and maps errors`, async () => {
        const client = await openOwn();
        await Promise.all(numbers(100).map((n) => client.send("test/note", n)));
        assert.deepEqual(await client.send("test/notes", null, { timeout: 60 }), numbers(100));
        await assert.rejects(client.send("test/fail", null, { timeout: 60 }), ReplyError);
        await assert.rejects(client.send("test/silent", null, { timeout: 0.1 }), ReplyTimeout);
      });

      it(`outlives a poll's end and a break over ${transport}`, async () => {
        const client = await openOwn();
        if (transport === "ajax") {
          const polled = new Promise((done) => setTimeout(done, 1200)); // two polls end with nothing
          await polled;
          assert.equal(client.state.lastClose, null);
        }
        client.breakConnection();
        await until(client, ({ open, lastClose }) => open && lastClose);
        assert.equal(await client.send("test/echo", 1, { timeout: 60 }), 1);
      });
    }
  });
}

describe("auto", () => {
  it("takes a WebSocket where there is one", async () => {
    assert.equal((await open()).state.type, "ws");
  });

  it("takes Ajax where WebSockets are refused, and a WebSocket once they are not", async () => {
    let blocked = { "ws-status": "403" };
    const client = await open({ params: () => blocked });
    assert.equal(client.state.type, "ajax");
    assert.equal(client.state.reason.kind, "downgrading-ws-to-ajax");
    blocked = {};
    client.reconnect();
    assert.equal((await until(client, ({ open }) => open)).type, "ws");
  });

  it("moves from Ajax to a WebSocket without losing or turning an event", async () => {
    let blocked = true;
    const Blocked = class extends WebSocket {
      constructor(url) {
        super(blocked ? "ws://127.0.0.1:1/" : url);
      }
    };
    const client = await open({ WebSocket: Blocked, upgradeInterval: 0.3 });
    assert.equal(client.state.type, "ajax");
    const states = [];
    client.onState(({ open, type }) => states.push([open, type]));
    const pusher = await open({ transport: "ws" });
    const seen = [];
    const sent = [];
    client.on("test/broadcasted", (n) => seen.push(n));
    pusher.on("test/broadcasted", () => {});
    blocked = false;
    let n = 0;
    let over = 0;
    while (over < 50) {
      if (client.state.type === "ws") over += 1;
      await Promise.all([
        pusher.send("test/broadcast", n, { timeout: 60 }),
        client.send("test/note", n),
      ]);
      sent.push(n++);
    }
    while (seen.length < n) await new Promise(setImmediate);
    assert.deepEqual(seen, sent);
    assert.deepEqual(await client.send("test/notes", null, { timeout: 60 }), sent);
    assert.ok(states.every(([open]) => open));
  });
});

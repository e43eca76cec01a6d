// A client that resumes, and the real server, through a proxy that cuts: at each byte, and at
// random. Events of both ways have to arrive once and in order, and each question gets its reply.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { listen } from "./cutting_proxy.mjs";
import { freePort } from "./ports.mjs";
import { start } from "./server.mjs";

let server;
let proxy;
let clients = [];
let names = 0;

before(async () => {
  server = await start({ args: ["--restarts", "--set", "keep_events=5000"] });
  proxy = await listen(server.port);
});

after(async () => {
  await proxy.close();
  await server.stop("SIGKILL");
});

afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
});

const connect = (options = {}, url = proxy.url) => {
  const client = chansock.connect(url, { WebSocket, backoff: () => 0.02, ...options });
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
      if (!isWanted(state)) return;
      queueMicrotask(() => stop());
      resolve(state);
    });
  });

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const numbers = (n) => Array.from({ length: n }, (_, i) => i);
const ask = (client, id, data) => client.send(id, data, { timeout: 60 });

/** Note how each connection was resumed. */
const resumptions = (client) => {
  const seen = [];
  client.on("chsk/handshake", () => seen.push(client.state.resumed));
  return seen;
};

for (const transport of ["ws", "ajax"]) {
  describe(`over ${transport}`, () => {
    for (const way of ["up", "down"]) {
      it(`loses and doubles nothing, wherever a connection is cut on its way ${way}`, async () => {
        const step = transport === "ws" ? 1 : 41;
        let isCut = true;
        for (let n = 1; isCut; n += step) {
          const client = await open({ transport });
          const name = `cut ${++names}`;
          const seen = [];
          const resumed = resumptions(client);
          client.on("test/pushed", ({ i }) => seen.push(i));
          const { cuts } = proxy;
          proxy.cutAfter(way, n);
          const calls = [
            client.send("test/log", [name, 1]),
            ask(client, "test/log", [name, 2]),
            client.send("test/push", { n: 2 }),
            ask(client, "test/log", [name, 3]),
          ];
          assert.deepEqual(await Promise.all(calls), [undefined, 2, undefined, 3]);
          assert.deepEqual(await ask(client, "test/logged", name), [1, 2, 3]);
          while (seen.length < 2) await pause(1);
          assert.deepEqual(seen, [0, 1], `cut after ${n} bytes`);
          assert.ok(resumed.every((how) => how === "resumed"), `${resumed}`);
          isCut = proxy.cuts > cuts;
          proxy.cutAfter(way, Infinity);
          client.disconnect();
        }
      });
    }

    it("loses and doubles nothing over many cuts", async () => {
      const client = await open({ transport });
      const pusher = await open({ transport: "ws" }, server.url);
      const name = `cuts ${++names}`;
      const seen = [];
      const resumed = resumptions(client);
      client.on("test/broadcasted", (n) => seen.push(n));
      pusher.on("test/broadcasted", () => {});
      const replies = [];
      const sends = [];
      for (const n of numbers(300)) {
        sends.push(client.send("test/log", [name, n]));
        if (n % 3 === 0) replies.push(ask(client, "test/echo", n));
        pusher.send("test/broadcast", n);
        if (n % 10 === 0) proxy.cutAfter(Math.random() < 0.5 ? "up" : "down", 1 + Math.floor(2000 * Math.random()));
        await pause(5);
      }
      proxy.cutAfter("up", Infinity);
      proxy.cutAfter("down", Infinity);
      await Promise.all(sends);
      assert.deepEqual(await Promise.all(replies), numbers(300).filter((n) => n % 3 === 0));
      assert.deepEqual(await ask(client, "test/logged", name), numbers(300));
      while (seen.length < 300) await pause(10);
      assert.deepEqual(seen, numbers(300));
      assert.ok(resumed.length > 3 && resumed.every((how) => how === "resumed"), `${resumed}`);
    });

    it("brings what was pushed while it was away", async () => {
      const client = await open({ transport });
      const pusher = await open({ transport: "ws" }, server.url);
      const seen = [];
      client.on("test/broadcasted", (n) => seen.push(n));
      pusher.on("test/broadcasted", () => {});
      const closed = until(client, ({ open }) => !open);
      proxy.isDown = true;
      proxy.cut();
      await closed;
      for (const n of numbers(20)) await ask(pusher, "test/broadcast", n);
      const kept = client.send("test/echo", "kept", { timeout: 60 });
      proxy.isDown = false;
      const { resumed } = await until(client, ({ open }) => open);
      assert.equal(resumed, "resumed");
      assert.equal(await kept, "kept");
      while (seen.length < 20) await pause(5);
      assert.deepEqual(seen, numbers(20));
    });

    it("goes on after a restart of the channel", async () => {
      const client = await open({ transport });
      const name = `restart ${++names}`;
      const resumed = resumptions(client);
      const sends = [];
      for (const n of numbers(60)) {
        sends.push(client.send("test/log", [name, n]));
        if (n % 30 === 10) server.signal("SIGHUP");
        await pause(10);
      }
      await Promise.all(sends);
      assert.deepEqual(await ask(client, "test/logged", name), numbers(60));
      assert.ok(resumed.length && resumed.every((how) => how === "resumed"), `${resumed}`);
    });

    it("tells of a gap where another process took over, and sends what that one lacks", async () => {
      const own = await start({ port: await freePort() });
      const client = await open({ transport }, own.url);
      const name = `process ${++names}`;
      const resumed = resumptions(client);
      await ask(client, "test/log", [name, 0]);
      const closed = until(client, ({ open }) => !open);
      await own.stop("SIGKILL");
      await closed;
      const sends = [1, 2, 3].map((n) => client.send("test/log", [name, n]));
      const asked = ask(client, "test/log", [name, 4]);
      const again = await start({ port: own.port });
      try {
        await Promise.all(sends);
        assert.equal(await asked, 4);
        const logged = await ask(client, "test/logged", name);
        assert.deepEqual(logged.slice(-4), [1, 2, 3, 4]); // 0 too, unless it was acknowledged
        assert.deepEqual(resumed, ["gap"]);
        client.breakConnection();
        await until(client, ({ open, resumed }) => open && resumed === "resumed");
        assert.deepEqual(await ask(client, "test/logged", name), logged);
      } finally {
        client.disconnect();
        await again.stop("SIGKILL");
      }
    });

    it("is told when it comes back too late", async () => {
      const args = ["--set", "keep_events=3"];
      const own = await start({ args });
      const cutting = await listen(own.port);
      try {
        const client = await open({ transport }, cutting.url);
        const pusher = await open({ transport: "ws" }, own.url);
        const seen = [];
        client.onState(({ open, resumed }) => open && seen.push(resumed));
        client.on("test/broadcasted", (n) => seen.push(n));
        pusher.on("test/broadcasted", () => {});
        const closed = until(client, ({ open }) => !open);
        cutting.isDown = true;
        cutting.cut();
        await closed;
        await pause(5500); // the server has no longer a session for it
        for (const n of numbers(10)) await ask(pusher, "test/broadcast", n);
        cutting.isDown = false;
        await until(client, ({ open }) => open);
        await ask(pusher, "test/broadcast", 10);
        while (seen.at(-1) !== 10) await pause(5);
        assert.deepEqual(seen, ["fresh", "gap", 10]);
      } finally {
        await cutting.close();
        await own.stop("SIGKILL");
      }
    });

    it("has two clients of one id part, and loses nothing", async () => {
      const first = await open({ transport, clientId: `twin-${transport}` });
      const name = `twins ${++names}`;
      for (const n of [1, 2]) await ask(first, "test/log", [name, n]);
      const second = await open({ transport, clientId: `twin-${transport}` });
      await ask(second, "test/log", [name, 3]);
      await ask(first, "test/log", [name, 4]);
      while (first.clientId === second.clientId) await pause(5); // told by 4409, or 409 to a poll
      assert.deepEqual(await ask(second, "test/logged", name), [1, 2, 3, 4]);
    });

    it("is served as ever with resume: false on either side", async () => {
      const own = await start({ args: ["--set", "resume=false"] });
      try {
        for (const [url, options] of [[own.url, {}], [server.url, { resume: false }]]) {
          const client = await open({ transport, ...options }, url);
          assert.equal(client.state.resumed, null);
          assert.equal(await ask(client, "test/echo", 1), 1);
          client.breakConnection();
          await until(client, ({ open, lastClose }) => open && lastClose);
          assert.equal(await ask(client, "test/echo", 2), 2);
          client.disconnect();
        }
      } finally {
        await own.stop("SIGKILL");
      }
    });
  });
}

it("changes its transport, there and back, without a loss", async () => {
  let isBlocked = false;
  const Blocked = class extends WebSocket {
    constructor(url, ...rest) {
      super(isBlocked ? "ws://127.0.0.1:1/" : url, ...rest);
    }
  };
  const client = await open({ WebSocket: Blocked, upgradeInterval: 0.2 });
  const pusher = await open({ transport: "ws" }, server.url);
  const name = `transports ${++names}`;
  const seen = [];
  const types = [];
  client.onState(({ open, type }) => open && types.at(-1) !== type && types.push(type));
  client.on("test/broadcasted", (n) => seen.push(n));
  pusher.on("test/broadcasted", () => {});
  const sends = [];
  let n = 0;
  const work = async () => {
    sends.push(client.send("test/log", [name, n]));
    await ask(pusher, "test/broadcast", n++);
    await pause(5);
  };
  for (let i = 0; i < 2; i++) {
    isBlocked = true;
    proxy.cut();
    while (client.state.type !== "ajax" || !client.state.open) await work();
    isBlocked = false;
    while (client.state.type !== "ws" || !client.state.open) await work();
  }
  await Promise.all(sends);
  assert.deepEqual(types, ["ws", "ajax", "ws", "ajax", "ws"]);
  assert.deepEqual(await ask(client, "test/logged", name), numbers(n));
  while (seen.length < n) await pause(5);
  assert.deepEqual(seen, numbers(n));
});

for (const transport of ["ws", "ajax"]) {
  it(`sends much more over ${transport} than may be unacknowledged`, async () => {
    const client = await open({ transport });
    const name = `much ${++names}`;
    const text = "x".repeat(20_000);
    const large = numbers(120).map((n) => client.send("test/log", [name, `${n} ${text}`]));
    const small = numbers(1200).map((n) => client.send("test/log", [name, `${n}`]));
    await Promise.all([...large, ...small]);
    const logged = await ask(client, "test/logged", name);
    assert.deepEqual(logged.map((each) => parseInt(each)), [...numbers(120), ...numbers(1200)]);
  });
}

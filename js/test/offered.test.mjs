// The module as the server offers it, seen by a client that is none of ours.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import WebSocket from "ws";

import { freePort } from "./ports.mjs";
import { start, url } from "./server.mjs";

for (const name of ["chansock", "json", "msgpack"]) {
  const source = await readFile(new URL(`../${name}.js`, import.meta.url), "utf8");
  const types = await readFile(new URL(`../${name}.d.ts`, import.meta.url), "utf8");

  test(`the server offers ${name}.js as it is in this repository, compressed`, async () => {
    const answer = await fetch(`${url}/${name}.js`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "text/javascript; charset=utf-8");
    assert.equal(answer.headers.get("content-encoding"), "gzip");
    assert.equal(await answer.text(), source);
  });

  test(`the field for the types of ${name}.js leads to them`, async () => {
    const answer = await fetch(`${url}/${name}.js`, { method: "HEAD" });
    const address = new URL(answer.headers.get("x-typescript-types"), answer.url);
    assert.equal(await (await fetch(address)).text(), types);
  });

  test(`${name}.js exports what its types say`, async () => {
    const found = Object.keys(await import(`../${name}.js`)).sort();
    const said = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map((m) => m[1]);
    assert.deepEqual(found, said.sort());
  });
}

test("a server of one's own can be stopped, and comes back on its port", async (t) => {
  const first = await start({ port: await freePort(), args: ["--set", "ws_ping_interval=30"] });
  t.after(() => first.stop("SIGKILL"));
  const socket = new WebSocket(`${first.url}?client-id=a`);
  const [handshake] = await once(socket, "message");
  assert.match(String(handshake), /^\[\[:chsk\/handshake \[:sente\/nil-uid nil \{:pid \d+\}/);
  const closed = once(socket, "close");
  assert.equal(await first.stop(), 0);
  assert.equal((await closed)[0], 1012);
  const second = await start({ port: first.port });
  t.after(() => second.stop("SIGKILL"));
  assert.equal(second.url, first.url);
  assert.equal(await second.stop("SIGKILL"), "SIGKILL");
});

test("a server that cannot start says so", async () => {
  await assert.rejects(start({ args: ["--set", "poll_timeout=-1"] }), /it ended with 1/);
});

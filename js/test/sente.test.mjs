// Recorded Sente servers, played to our client: it asks what Sente's own client asked, and takes the
// answers as they were recorded. The recordings are those of tests/data/transcripts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { WebSocket } from "ws";
import * as chansock from "./module.mjs";
import { Line, listen } from "./peer.mjs";

const { keyword, read, write } = chansock;

const linesOf = (name) =>
  readFileSync(new URL(`../../tests/data/transcripts/${name}.jsonl`, import.meta.url), "utf8")
    .trimEnd().split("\n").map((line) => JSON.parse(line));

const RECORDINGS = [
  ...["chromium", "node"].flatMap((client) => [
    ...["edn", "values-edn", "csrf", "params", "headers", "handshake-data"].flatMap((scenario) =>
      ["ws", "ajax"].map((transport) => `${client}-${transport}-${scenario}`)),
    ...["edn", "fallback-403", "fallback-close"].map((scenario) => `${client}-auto-${scenario}`),
  ]),
];

// Differs each time, or is ours alone.
const ALL_OURS = ["udt", "n", "why", "pos", "acked", "sent", "try"];

const packetOf = (form) => write(read(form.get("ppstr")));
const queryOf = (target) => new URL(target, "http://sente").searchParams;
const plain = (fields) =>
  Object.fromEntries([...fields].filter(([name]) => !ALL_OURS.includes(name)).sort());

/** The fields of a request that the channel looks at; a token that is none is left out. */
const fieldsOf = (headers) => {
  const found = Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value]));
  const kept = Object.entries(found).filter(([name, value]) =>
    /^(x-|content-type$)/.test(name) && value !== "null");
  return Object.fromEntries(kept.map(([name, value]) => [name, value.split(";")[0]]).sort());
};

/** What our client is told to be, of what Sente's said in its first requests. */
const optionsOf = (records) => {
  const [{ client_type: transport }] = records;
  const [{ target, headers }] = records.filter(({ kind }) => kind === "http-request");
  const { "client-id": clientId, "csrf-token": inQuery, ...params } = plain(queryOf(target));
  delete params["handshake?"];
  const { "x-csrf-token": inFields, "x-requested-with": _, ...rest } = fieldsOf(headers);
  const asAjax = records.find(({ kind, headers }) => {
    return kind === "http-request" && headers.some(([name]) => name === "x-csrf-token");
  });
  const token = inQuery ?? inFields ?? (asAjax && fieldsOf(asAjax.headers)["x-csrf-token"]);
  return { transport, clientId, csrfToken: token, params, headers: rest };
};

/** A client, the server that a recording makes of a peer, and how far both have come. */
class Play {
  upgrades = new Line();
  gets = new Line();
  posts = new Map(); // a packet -> the recorded POSTs that carry it, each with its answer
  open = new Map(); // a connection of the recording -> the request that waits for its answer
  sockets = new Map(); // such a connection -> [WebSocket, its messages]
  ids = new Map(); // callback ids of the recording -> ours
  outcomes = new Map(); // callback ids of the recording -> what send gives
  replies = []; // [outcome, what it has to be]
  expected = []; // events that the client has to hear
  heard = [];

  constructor(peer, records) {
    this.peer = peer;
    peer.onUpgrade = (...upgrade) => this.upgrades.put(upgrade);
    peer.onGet = (call) => this.gets.put(call);
    peer.onPost = (call) => this.posted(call);
    this.client = chansock.connect(peer.url, { WebSocket, ...optionsOf(records) });
    this.reading = (async () => {
      for await (const { id, data } of this.client) this.heard.push([id, data]);
    })();
  }

  async step(record) {
    const { kind, dir, conn } = record;
    if (kind === "http-request") await this.request(record);
    else if (kind === "http-response") await this.response(record);
    else if (kind === "ws-frame" && record.opcode === 1) {
      if (dir === "c>s") await this.frame(record);
      else this.push(record);
    } else if (kind === "close" && dir === "s>c" && Array.isArray(this.open.get(conn))) {
      this.open.get(conn)[1].destroy(); // an upgrade that got no answer
      this.open.delete(conn);
    }
  }

  async request({ conn, method, target, headers, body }) {
    const isUpgrade = headers.some(([name]) => name.toLowerCase() === "upgrade");
    if (isUpgrade) {
      const upgrade = await this.upgrades.take();
      assert.deepEqual(plain(queryOf(upgrade[0].url)), plain(queryOf(target)));
      this.open.set(conn, upgrade);
      return;
    }
    if (method === "POST") return this.post({ conn, target, headers }, new URLSearchParams(body));
    const call = await this.gets.take();
    this.compare(call, { target, headers });
    this.open.set(conn, call);
  }

  compare({ query, request: { rawHeaders: raw } }, { target, headers }) {
    assert.deepEqual(plain(query), plain(queryOf(target)));
    const ours = raw.flatMap((name, i) => (i % 2 ? [] : [[name, raw[i + 1]]]));
    assert.deepEqual(fieldsOf(ours), fieldsOf(headers));
  }

  /** Have the client send what this POST says. */
  async post(recorded, form) {
    const packet = packetOf(form);
    recorded.form = form;
    recorded.answer = new Promise((answer) => this.open.set(recorded.conn, answer));
    this.posts.set(packet, [...(this.posts.get(packet) ?? []), recorded]);
    const [[{ name }, data], cbId] = read(packet);
    await this.client.ready;
    const outcome = this.client.send(name, data, cbId ? { timeout: 30 } : {});
    this.replies.push([outcome, recorded.answer.then(([, body]) => cbId && read(body)[0])]);
  }

  /** Answer a POST of the client as the recorded one of the same event. */
  async posted(call) {
    const packet = packetOf(call.form);
    const recorded = this.posts.get(packet).shift();
    this.compare(call, recorded);
    for (const form of [call.form, recorded.form]) form.delete("ppstr");
    assert.deepEqual(plain(call.form), plain(recorded.form));
    call.answer(...(await recorded.answer));
  }

  async response({ conn, status, body }) {
    const request = this.open.get(conn);
    this.open.delete(conn);
    if (status === 101) {
      const ws = await this.peer.accept(...request);
      const messages = new Line();
      ws.on("message", (data) => messages.put(String(data)));
      this.sockets.set(conn, [ws, messages]);
      return;
    }
    if (Array.isArray(request)) {
      request[1].end(`HTTP/1.1 ${status} Refused\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    if (typeof request === "function") {
      request([status, body]); // of a POST, which the client may not have made yet
      return;
    }
    request.answer(status, body);
    this.expect(read(body)[0]);
  }

  /** Have the client send what this frame says; compare what it sends. */
  async frame({ conn, text }) {
    const [event, cbId] = read(text);
    const [{ name }, data] = event;
    const [, messages] = this.sockets.get(conn);
    if (!name.startsWith("chsk/")) {
      await this.client.ready;
      const outcome = this.client.send(name, data, cbId ? { timeout: 30 } : {});
      if (cbId) this.outcomes.set(cbId, outcome);
      else await outcome;
    }
    const [ours, id] = read(await messages.take());
    assert.equal(write(ours), write(event));
    assert.equal(typeof id, typeof cbId);
    this.ids.set(cbId, id);
  }

  push({ conn, text }) {
    const [value, cbId] = read(text);
    const [ws] = this.sockets.get(conn);
    if (!cbId) {
      ws.send(text);
      this.expect(value);
    } else {
      ws.send(write([value, this.ids.get(cbId)]));
      this.replies.push([this.outcomes.get(cbId), value]);
    }
  }

  expect(value) {
    const isHandshake = value?.[0] === keyword("chsk/handshake");
    if (isHandshake) this.handshake = value[1];
    else if (Array.isArray(value)) {
      this.expected.push(...value.map(([{ name }, data]) => [name, data ?? null]));
    }
  }

  async end() {
    for (const [outcome, value] of this.replies) {
      assert.equal(write(await outcome), write(await value));
    }
    assert.ok([...this.posts.values()].every((recorded) => !recorded.length));
    while (this.heard.length < this.expected.length) await new Promise(setImmediate);
    assert.equal(write(this.heard), write(this.expected));
    const [uid, , data] = this.handshake;
    const { state } = this.client;
    assert.ok(state.open);
    assert.equal(write(state.uid), write(uid === keyword("sente/nil-uid") ? null : uid));
    assert.equal(write(state.handshakeData), write(data));
    assert.equal(state.lastClose, null);
  }
}

describe("a recorded Sente server", () => {
  for (const name of RECORDINGS) {
    it(`takes our client for its own: ${name}`, async () => {
      const records = linesOf(name);
      const peer = await listen();
      const play = new Play(peer, records);
      try {
        for (const record of records.slice(1)) await play.step(record);
        await play.end();
      } finally {
        play.client.disconnect();
        await play.reading;
        await peer.close();
      }
    });
  }
});

// What chansock.d.ts lets a program write, and what not: tsc has to agree with each line, and
// with each @ts-expect-error. Compiled by tests/integration/test_js.py, never run.

import {
  BacklogFull,
  Char,
  ChannelClosed,
  ChansockError,
  Decimal,
  EdnError,
  Instant,
  InvalidEvent,
  Keyword,
  List,
  PacketError,
  Ratio,
  ReplyError,
  ReplyTimeout,
  Symbol as EdnSymbol,
  Tagged,
  UUID,
  connect,
  keyword,
  read,
  write,
} from "../chansock.js";
import type {
  Client, Event, Options, Packer, Readers, Reason, ReasonKind, Source, State,
} from "../chansock.js";
import { json } from "../json.js";
import { msgpack, read as unpack, write as pack } from "../msgpack.js";

/** Only compiles if both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function is<_ extends true>(): void {}

type FromServer = {
  "chat/said": { from: string; text: string };
  "chat/left": string;
};
interface ToServer {
  "chat/say": { text: string };
  "math/double": (data: number) => number;
  "math/half": number;
  "chat/leave": undefined;
  "chat/people": () => string[];
}

const client = connect<FromServer, ToServer>("/chsk");
is<Same<typeof client, Client<FromServer, ToServer>>>();

// events from the server

const off = client.on("chat/said", ({ from, text }, event) => {
  is<Same<typeof from, string>>();
  is<Same<typeof text, string>>();
  is<Same<typeof event, Event<"chat/said", { from: string; text: string }>>>();
  // @ts-expect-error: an event is not changed
  event.data = { from, text };
});
is<Same<typeof off, () => void>>();
client.on("chat/left", async (name) => {
  is<Same<typeof name, string>>();
  await null;
});
// @ts-expect-error: no such event
client.on("chat/sad", () => {});
// @ts-expect-error: an event of the other direction
client.on("chat/say", () => {});
// @ts-expect-error: the data is no number
client.on("chat/left", (name: number) => name);
// @ts-expect-error: has no `at`
client.on("chat/said", ({ at }) => at);
client.once("chat/left", (name) => is<Same<typeof name, string>>());
client.on("*", (data, event) => {
  is<Same<typeof data, string | { from: string; text: string }>>();
  if (event.id === "chat/left") is<Same<typeof event.data, string>>();
});
// @ts-expect-error: no such event
client.once("chat/sad", () => {});
// @ts-expect-error: no handler
client.on("chat/left");
const { send, on, onState, reconnect } = client;
on("chat/left", () => {});
onState(() => {});
reconnect();

async function listen(): Promise<string> {
  for await (const event of client) {
    if (event.id === "chat/said") {
      is<Same<typeof event.data, { from: string; text: string }>>();
      return event.data.text;
    }
    is<Same<typeof event.data, string>>();
    // @ts-expect-error: nothing else is left
    if (event.id === "chat/say") return "";
  }
  return "";
}

// events to the server, and replies

async function talk(): Promise<void> {
  await client.ready;
  const sent = await client.send("chat/say", { text: "hello" });
  is<Same<typeof sent, undefined>>();
  await client.send("chat/leave");
  await client.send("chat/say", { text: "hello" }, {});
  const doubled = await client.send("math/double", 21, { timeout: 5 });
  is<Same<typeof doubled, number>>();
  const people = await send("chat/people", undefined, { timeout: 5, signal: AbortSignal.timeout(9) });
  is<Same<typeof people, string[]>>();
  const anything = await client.send("math/half", 21, { timeout: 5 });
  is<Same<typeof anything, any>>();
  const named = await client.send<"math/half", number>("math/half", 21, { timeout: 5 });
  is<Same<typeof named, number>>();
  await client.send("math/double", 21);
  await client.send("chat/people");
  await client.send("chat/say", { text: "hello" }, { signal: new AbortController().signal });
  // @ts-expect-error: the data is missing
  await client.send("chat/say");
  // @ts-expect-error: the data is missing
  await client.send("math/double");
  // @ts-expect-error: the data is missing
  await client.send("math/double", undefined, { timeout: 5 });
  // @ts-expect-error: the reply is no text
  const words: string = await client.send("math/double", 21, { timeout: 5 });
  await client.send("chat/leave", undefined, { timeout: 0.5 });
  // @ts-expect-error: no such event
  await client.send("chat/shout", { text: "hello" });
  // @ts-expect-error: an event of the other direction
  await client.send("chat/said", { from: "ada", text: "hello" });
  // @ts-expect-error: the text is no number
  await client.send("chat/say", { text: 1 });
  // @ts-expect-error: has no `to`
  await client.send("chat/say", { text: "hello", to: "ada" });
  // @ts-expect-error: without a timeout there is no reply
  const reply: number = await client.send("math/double", 21);
  // @ts-expect-error: seconds
  await client.send("math/double", 21, { timeout: "5s" });
  // @ts-expect-error: not an option
  await client.send("math/double", 21, { timeout: 5, retry: true });
}

async function fail(): Promise<string> {
  try {
    await client.send("math/double", 21, { timeout: 5 });
  } catch (error) {
    if (error instanceof ReplyTimeout || error instanceof ReplyError) return error.message;
    if (error instanceof BacklogFull) return error.message;
    if (error instanceof InvalidEvent || error instanceof EdnError) return error.name;
    if (error instanceof PacketError) return error.path ?? String(error.position);
    if (error instanceof ChannelClosed) {
      is<Same<typeof error.reason, Reason | null>>();
      return error.reason?.text ?? "";
    }
    if (error instanceof ChansockError) return String(error.cause);
  }
  return "";
}

// without types of its own a channel carries anything

async function untyped(): Promise<void> {
  const open = connect(new URL("https://chat.example/chsk"));
  is<Same<typeof open, Client>>();
  open.on("any/event", (data, event) => {
    is<Same<typeof data, any>>();
    is<Same<typeof event.id, "any/event">>();
  });
  const value: { a: number } = await open.send("any/event", { a: 1 }, { timeout: 1 });
  void value;
  for await (const event of open) void [event.id.length, event.data.whatever];
}

// states

const stop = client.onState((state) => {
  is<Same<typeof state, State>>();
  is<Same<typeof state.type, "ws" | "ajax">>();
  if (state.reason?.kind === "refused") location.href = "/login";
  const wait: number = state.retryAt === null ? 0 : +state.retryAt - Date.now();
  void wait;
  // @ts-expect-error: no such reason
  if (state.reason?.kind === "gone") return;
  // @ts-expect-error: may be null
  state.reason.code;
  // @ts-expect-error: a state is not changed
  state.open = true;
});
stop();
client.on("chsk/state", ([old, now, openChanged]) => {
  is<Same<typeof old, State>>();
  is<Same<typeof openChanged, boolean>>();
  const since: Date | undefined = now.lastClose?.time;
  const clean: boolean | undefined = now.lastWsClose?.clean;
  const words: [string?, string?] = [now.lastWsError?.text, now.csrfToken ?? undefined];
  return void [since, clean, words];
});
client.on("chsk/handshake", ([uid, , handshakeData, first], event) => {
  is<Same<typeof first, boolean>>();
  return void [uid, handshakeData, event.id];
});
client.on("chsk/ws-ping", (data) => is<Same<typeof data, null>>());
// @ts-expect-error: a state has no such key
client.on("chsk/state", ([, { isOpen }]) => isOpen);
// @ts-expect-error: no event of the client's own
client.on("chsk/recv", () => {});
client.breakConnection();
const kind: ReasonKind = "upgrading-ajax-to-ws";
const worse: ReasonKind = "ws-error";
client.reconnect();
client.disconnect();
// @ts-expect-error: given at the start
client.clientId = "another";

// options

const readers: Readers = { "my/point": ([x, y]) => ({ x, y }) };
const token: Source<string> = async () => (await fetch("/token")).text();
const options: Options = {
  transport: "auto",
  packer: msgpack,
  clientId: crypto.randomUUID(),
  csrfToken: token,
  csrfTokenIn: "subprotocol",
  params: () => ({ room: "1" }),
  headers: { "X-Room": "1" },
  offline: "queue",
  maxQueuedEvents: 10,
  maxInboxEvents: 10,
  maxMessageBytes: 2 ** 20,
  maxBacklogBytes: 2 ** 20,
  signal: AbortSignal.timeout(1000),
  connectTimeout: 5,
  ajaxTimeout: 60,
  pingInterval: 10,
  pingTimeout: 5,
  backoff: (n) => 2 ** n * Math.random(),
  maxBackoff: 10,
  upgradeInterval: 30,
  readers,
  trace: (direction, packet, type) => console.debug(direction === "in", packet.length, type),
  WebSocket,
  fetch,
};
connect<FromServer, ToServer>("/chsk", options).disconnect();
connect("/chsk", { csrfToken: null }).disconnect();
connect("/chsk", { csrfToken: document.querySelector("meta")?.content }).disconnect();
connect("/chsk", { packer: json }).disconnect();
const mine: Packer<string> = { ...json, fragment: (id, data) => JSON.stringify([id, data ?? null]) };
connect("/chsk", { packer: mine }).disconnect();
const bytes: Uint8Array = pack({ a: 1 });
const unpacked: any = unpack(bytes.buffer as ArrayBuffer);
// @ts-expect-error: a packer says whether it is binary
connect("/chsk", { packer: { ...json, binary: undefined } });
// @ts-expect-error: text
const bad: Uint8Array = json.fragment("a/b", 1);
// @ts-expect-error: no such transport
connect("/chsk", { transport: "websocket" });
// @ts-expect-error: no such option
connect("/chsk", { pingIntervall: 10 });
// @ts-expect-error: a header's value is text
connect("/chsk", { headers: { "X-Room": 1 } });
// @ts-expect-error: where to is needed
connect();

// edn

const parsed = read('{:id #uuid "5f2c9000-0000-0000-0000-000000000000"}', { readers });
is<Same<typeof parsed, any>>();
const name: Keyword = keyword("chat/say");
const text: string = write({ name, set: new Set([1n]), map: new Map([[name, null]]) });
const list: List<number> = List.from([1, 2]) as List<number>;
const first: number | undefined = list[0];
const later: boolean = new Instant("2024-01-01T00:00:00.000123Z") > new Date(0);
const half: bigint = new Ratio(1, 2n).denominator;
const rest: string[] = [
  name.name,
  new EdnSymbol("a/b").name,
  new Char("a").char,
  new UUID("5f2c9000-0000-0000-0000-000000000000").toJSON(),
  new Decimal("1.10").toString(),
  new Tagged("my/tag", [1]).tag,
];
const tagged: number[] = new Tagged("my/tag", [1]).value;
const where: number | undefined = new EdnError("expected a form").position;
// @ts-expect-error: `keyword` makes them, one for each name
new Keyword("a");
// @ts-expect-error: write takes one value
write(1, 2);

export { bad, fail, first, half, kind, later, listen, rest, tagged, talk, text, unpacked, untyped, where, worse };

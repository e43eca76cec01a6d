// One JavaScript client in Node: as client.py, with the same lines.
//
//     node --expose-gc client.mjs URL CLIENT_ID TRANSPORT
//
// Node loads its `fetch` at the first use, and takes 30 MiB for that, most of it a second later. It
// is used before the client begins, so that what the client takes is measured alone. V8 lets 64 MiB
// of what sockets have read lie around before it looks for garbage, as much as a client may take:
// it is asked to look at MOST_BYTES. `block` is of the thread that runs the loop: V8 compiles and
// collects on others besides. `fetch` makes an error of each line of a head past its limit, 4,000 in
// one turn: with their stack traces it has the loop for 0.05 to 0.1 s, so here they have none.

import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "../../../js/chansock.js";

const EACH = 100; // milliseconds between two lines
const FREE = 5; // milliseconds until the loop is looked at again
const MOST_BYTES = 32 * 2 ** 20; // of array buffers, garbage among them
const LOADED = 2000; // milliseconds until Node has what belongs to `fetch`

const [url, clientId, transport] = process.argv.slice(2);
globalThis.WebSocket ??= (await import("../../../js/test/node_modules/ws/wrapper.mjs")).WebSocket;

Error.stackTraceLimit = 0;
await (await fetch(`${url}?handshake?=1`)).text();
await delay(LOADED);

let events = 0;
let answers = 0;
let block = 0;
const count = () => (events += 1);

const client = connect(url, { clientId, transport, maxBackoff: 3, ajaxTimeout: 4 });
client.on("t/tick", count);
client.on("t/flood", count);

const ask = async () => {
  for (let number = 1; ; number += 1) {
    try {
      if ((await client.send("t/echo", number, { timeout: 2 })) === number) answers += 1;
    } catch {
      // what is refused or lost is the soak's daily bread
    }
    await delay(500);
  }
};

/** Give the seconds of CPU time that the first thread has had. */
const cpu = () => parseInt(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "latin1")) / 1e9;

let before = cpu();
setInterval(() => {
  const now = cpu();
  block = Math.max(block, now - before);
  before = now;
}, FREE);
setInterval(() => {
  if (process.memoryUsage().arrayBuffers > MOST_BYTES) globalThis.gc();
  const line = { is_open: client.state.open, events, answers, block };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  block = 0;
}, EACH);
ask();

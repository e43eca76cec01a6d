// One JavaScript client in Node: as client.py, with the same lines.
//
//     node client.mjs URL CLIENT_ID TRANSPORT

import { connect } from "../../js/chansock.js";

const EACH = 100; // milliseconds between two lines
const FREE = 5; // milliseconds until the loop is looked at again

const [url, clientId, transport] = process.argv.slice(2);
globalThis.WebSocket ??= (await import("../../js/test/node_modules/ws/wrapper.mjs")).WebSocket;

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
    await new Promise((done) => setTimeout(done, 500));
  }
};

const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

let before = cpu();
setInterval(() => {
  const now = cpu();
  block = Math.max(block, now - before);
  before = now;
}, FREE);
setInterval(() => {
  const line = { is_open: client.state.open, events, answers, block };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  block = 0;
}, EACH);
ask();

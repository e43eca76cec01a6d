// The JavaScript client in Node, on each transport.
//
//     node clients.mjs URL NAMES...
//
// What goes in and out is in children.py.

import { createInterface } from "node:readline";
import { connect } from "../../../js/chansock.js";
import { drive } from "./driver.mjs";

const EACH = 50; // milliseconds between two lines
const TRANSPORTS = ["ws", "ajax", "auto"];

const [url, ...names] = process.argv.slice(2);
globalThis.WebSocket ??= (await import("../../../js/test/node_modules/ws/wrapper.mjs")).WebSocket;

const drivers = names.map((name, number) => {
  let items = [];
  let k = 0;
  const driver = drive({
    connect,
    url,
    options: { clientId: name, transport: TRANSPORTS[number % 3] },
    report: (item) => items.push(item),
    next: () => (k += 1),
  });
  const flush = () => {
    const line = JSON.stringify([name, [...items, ["q", driver.isQuiet()]]]);
    items = [];
    return line;
  };
  return { ...driver, flush };
});

setInterval(() => process.stdout.write(drivers.map(({ flush }) => `${flush()}\n`).join("")), EACH);
const lines = createInterface({ input: process.stdin });
lines.on("line", () => drivers.forEach(({ hold }) => hold()));
lines.on("close", () => process.exit(0));

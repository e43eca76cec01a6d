// A server of bench/bench_cluster.py: Node's socket.io with its adapter for Redis streams.
//
//     REDIS=unix:///path/to.sock node bench/js/cluster.mjs       after `npm install` in bench/js
//
// It prints its port, and carries out the orders of stdin as bench/cluster_rivals.py does.

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { setImmediate, setTimeout } from "node:timers/promises";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const USERS = 16;
const PACE = 5; // ms
const NEVER = 3600e3; // ms
const NEWS = "news of the day ".padEnd(80, ".");

const redis = createClient({ socket: { path: new URL(process.env.REDIS).pathname } });
await redis.connect();
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(redis),
  transports: ["websocket"],
  pingInterval: NEVER,
});
io.on("connection", (socket) => socket.join(socket.handshake.query.user));

const send = (to) => to.emit("news/item", `${process.hrtime.bigint()} ${NEWS}`);
const orders = {
  async send(number) {
    send(io.to(`u${number % USERS}`));
    if (number % USERS === USERS - 1) await setImmediate();
  },
  async all() {
    send(io);
    await setImmediate();
  },
  async pace() {
    send(io.to("u0"));
    await setTimeout(PACE);
  },
};

http.listen(0, "127.0.0.1", async () => {
  console.log(http.address().port);
  for await (const line of createInterface({ input: process.stdin })) {
    const [what, count] = line.split(" ");
    for (let number = 0; number < Number(count); number++) await orders[what](number);
    console.log("done");
  }
});

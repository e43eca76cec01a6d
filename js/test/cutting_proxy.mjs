// A loopback proxy that cuts: all of its connections, once so many bytes have passed one way.

import { connect, createServer } from "node:net";
import { once } from "node:events";

/**
 * Listen for connections to the server at `port`. `proxy.cutAfter(way, n)` passes n more bytes
 * "up" (to the server) or "down", then ends all connections; `cut()` ends them at once. While
 * `isDown`, connections end as they come.
 */
export const listen = async (port) => {
  const pairs = new Set();
  const left = { up: Infinity, down: Infinity };
  const proxy = {
    cuts: 0,
    isDown: false,
    cutAfter(way, n) {
      left[way] = n;
    },
    cut() {
      proxy.cuts++;
      left.up = left.down = Infinity;
      for (const pair of pairs) for (const socket of pair) socket.destroy();
    },
    close() {
      proxy.isDown = true;
      proxy.cut();
      return new Promise((done) => server.close(done));
    },
  };
  const pass = (from, to, way) => {
    from.on("data", (bytes) => {
      const n = left[way];
      left[way] -= bytes.length;
      if (left[way] > 0) return to.write(bytes);
      // Its end goes out behind these bytes; destroy() alone could overtake them.
      return to.write(bytes.subarray(0, n), () => proxy.cut());
    });
    from.on("end", () => to.end());
    from.on("error", () => {});
  };
  const server = createServer((client) => {
    if (proxy.isDown) return client.destroy();
    const upstream = connect(port, "127.0.0.1");
    const pair = [client, upstream];
    pairs.add(pair);
    pass(client, upstream, "up");
    pass(upstream, client, "down");
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on("close", () => {
        pairs.delete(pair);
        for (const each of pair) each.destroy();
      });
    }
    return undefined;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy.url = `http://127.0.0.1:${server.address().port}/chsk`;
  return proxy;
};

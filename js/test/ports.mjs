// A port for a server that stops and comes back: none that the system picks by itself for others
// meanwhile, and none of tests/support/readme_pair.py.

import { createServer } from "node:net";
import { once } from "node:events";

let next = 16_000 + Math.floor(3000 * Math.random());

/** Give a port that nothing listens on, another one at each call. */
export const freePort = async () => {
  for (;;) {
    const probe = createServer();
    probe.listen(++next, "127.0.0.1");
    try {
      await once(probe, "listening");
    } catch (error) {
      if (error.code === "EADDRINUSE") continue;
      throw error;
    }
    await new Promise((done) => probe.close(done));
    return next;
  }
};

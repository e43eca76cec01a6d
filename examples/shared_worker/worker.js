// One client for all tabs of a browser: this worker owns it, and relays between it and the
// tabs. It lives as long as one of them does. Each message on a port is one edn text, so
// that keywords, sets and the like arrive as what they are:
//
//   tab > worker   ["hello" lock]                   the tab holds this Web Lock while it lives
//                  ["send" call id data timeout]    timeout nil: no reply is asked for
//   worker > tab   ["state" {:open true ...}]       at once, and at each change
//                  ["event" id data]
//                  ["done" call value]              what became of a send
//                  ["failed" call name message]
//                  ["tabs" count]

import { connect, read, write } from "/chsk/chansock.js";

const ports = new Set();
const client = connect("/chsk", { offline: "queue" });

function tell(port, ...words) {
  port.postMessage(write(words));
}

/** Tell every tab; the text is made once. */
function tellAll(...words) {
  const text = write(words);
  for (const port of ports) port.postMessage(text);
}

const hear = {
  hello(port, lock) {
    ports.add(port);
    tell(port, "state", client.state);
    tellAll("tabs", ports.size);
    navigator.locks.request(lock, () => {
      ports.delete(port);
      port.close();
      tellAll("tabs", ports.size);
    });
  },

  async send(port, call, id, data, timeout) {
    try {
      const value = await client.send(id, data, { timeout: timeout ?? undefined });
      tell(port, "done", call, value ?? null);
    } catch (error) {
      tell(port, "failed", call, error.name, error.message);
    }
  },
};

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data: text }) => {
    const [what, ...rest] = read(text);
    hear[what](port, ...rest);
  };
});

client.onState((state) => tellAll("state", state));

async function relay() {
  for await (const { id, data } of client) tellAll("event", id, data);
}

relay();

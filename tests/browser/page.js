// The page of the browser tests: one client, made with the options in the query, and a
// log of all that it tells. Each line goes to `tell` too, which the test puts there, so
// that it hears of it at once, however the page fares.
//
//   /?user=ada&options={"transport": "ajax"}
//
// The option `packer` is the name of a module beside chansock.js, and of what it exports.

import { connect } from "/chsk/chansock.js";

const query = new URLSearchParams(location.search);
const options = JSON.parse(query.get("options") ?? "{}");
const name = options.packer;
if (name) options.packer = (await import(`/chsk/${name}.js`))[name];
if (query.has("user")) document.cookie = `user=${query.get("user")}`;

const log = [];

function note(kind, what) {
  const line = { at: Date.now(), kind, what };
  log.push(line);
  globalThis.tell?.(JSON.stringify(line));
}

for (const name of ["visibilitychange", "freeze", "resume"]) {
  document.addEventListener(name, () => {
    note("browser", name === "visibilitychange" ? document.visibilityState : name);
  });
}
for (const name of ["online", "offline", "pagehide"]) {
  addEventListener(name, () => note("browser", name));
}
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) note("browser", "pageshow");
});

const client = connect("/chsk", {
  ...options,
  trace(direction, bytes, type) {
    const packet = typeof bytes === "string" ? bytes : [...bytes];
    note("packet", { direction, packet, type });
  },
});
client.ready.then(() => note("ready", true), (error) => note("ready", error.name));
client.onState((state) => {
  note("state", { ...state, retryAt: state.retryAt?.getTime() ?? null });
});
client.on("test/number", (number) => {
  // What a page tells while it is left may get lost; what it stores does not.
  if (options.resume === "reload") sessionStorage.numbers = `${sessionStorage.numbers ?? ""}${number} `;
  note("number", number);
});
client.on("test/said", (text) => note("said", text));

// Numbers, sent one by one; the page notes what became of each.
const marks = {
  next: 0,
  whileClosed: [], // the numbers that were sent while the channel was not open

  async send(timeout) {
    const { open, type } = client.state;
    const sent = { number: marks.next++, sentAt: Date.now(), open, type };
    if (!open) marks.whileClosed.push(sent.number);
    try {
      const value = await client.send("test/mark", sent.number, { timeout });
      note("mark", { ...sent, outcome: "ok", value });
    } catch (error) {
      note("mark", { ...sent, outcome: error.name });
    }
  },

  // Many in one turn; settles when the last is done with.
  burst(count) {
    return Promise.all(Array.from({ length: count }, () => marks.send()));
  },

  // One every so many seconds, while the channel is said to be open, or `always`.
  keep(every, { always = false, timeout } = {}) {
    const isDue = () => always || client.state.open;
    marks.timer = setInterval(() => isDue() && marks.send(timeout), every * 1000);
  },

  stop() {
    clearInterval(marks.timer);
  },
};

Object.assign(globalThis, { client, log, marks, options });

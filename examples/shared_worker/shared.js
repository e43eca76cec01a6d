// A tab's end of the channel that all tabs share: as a client of chansock.js it has `send`,
// `on` and `onState`. The protocol of the port stands in worker.js. An error that comes from
// there is known by its `name`.

import { read, write } from "/chsk/chansock.js";

/** Share the channel of the worker at `url`; `onTabs` is told how many tabs do. */
export function share(url, onTabs) {
  const { port } = new SharedWorker(url, { type: "module" });
  const handlers = new Map(); // by event id
  const watchers = new Set(); // of the state
  const calls = new Map(); // what waits for an answer, by number
  let state = null;

  const hear = {
    state(next) {
      state = next;
      for (const watcher of watchers) watcher(state);
    },
    event(id, data) {
      handlers.get(id)?.(data, { id, data });
    },
    done(call, value) {
      calls.get(call)?.resolve(value);
      calls.delete(call);
    },
    failed(call, name, message) {
      calls.get(call)?.reject(Object.assign(new Error(message), { name }));
      calls.delete(call);
    },
    tabs: onTabs,
  };
  port.onmessage = ({ data: text }) => {
    const [what, ...rest] = read(text);
    hear[what](...rest);
  };

  // The lock is ours until this tab is gone, however it goes: that is how the worker learns
  // of it, since a port does not tell.
  const lock = crypto.randomUUID();
  navigator.locks.request(lock, () => {
    port.postMessage(write(["hello", lock]));
    return new Promise(() => {});
  });

  let number = 0;
  return {
    send(id, data = null, { timeout = null } = {}) {
      const text = write(["send", ++number, id, data, timeout]);
      port.postMessage(text);
      return new Promise((resolve, reject) => calls.set(number, { resolve, reject }));
    },
    on(id, handler) {
      handlers.set(id, handler);
      return () => handlers.delete(id);
    },
    onState(watcher) {
      watchers.add(watcher);
      if (state) watcher(state);
      return () => watchers.delete(watcher);
    },
  };
}

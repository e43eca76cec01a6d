// The state of a channel in words that anybody understands. Text only: no page, no client.

const CLOSE_CODES = {
  1001: "the server went away",
  1006: "the connection broke off",
  1009: "a message was too large",
  1011: "the server no longer heard this page",
  1012: "the server is restarting",
  1013: "this page was too slow to take what was sent",
};

/** Say why a channel is closed: `the server is restarting`. */
export function because({ kind, code, text }) {
  switch (kind) {
    case "clean":
      return "the server closed the connection";
    case "refused":
      return text ? `the server said: ${text}` : `the server answered ${code}`;
    case "ws-ping-timeout":
      return "the server no longer answered";
    case "downgrading-ws-to-ajax":
      return "no WebSocket could be opened here";
    case "upgrading-ajax-to-ws":
      return "a WebSocket can be opened again";
    case "requested-disconnect":
      return "you disconnected";
  }
  if (code in CLOSE_CODES) return CLOSE_CODES[code];
  if (code === 503) return "the server is restarting, or full";
  if (code >= 400 && code < 600) return `the server answered ${code}`;
  return kind === "not-opened" ? "the server cannot be reached" : "the connection broke off";
}

/** Give `{what, why}` for a State; `wanted` is the transport that was asked for. */
export function inWords(state, wanted) {
  const { open, type, reason } = state;
  if (open && type === "ws") return { what: "Open by WebSocket", why: "one socket, both ways" };
  if (open && wanted === "ajax") {
    return { what: "Open by Ajax", why: "as you chose: long polls and POSTs" };
  }
  if (open) {
    return { what: "Open by Ajax", why: `because ${because(reason ?? DOWNGRADED)}` };
  }
  if (reason?.kind === "refused") return { what: "Refused", why: because(reason) };
  if (reason && !MOVES.includes(reason.kind)) {
    return { what: "Closed", why: `because ${because(reason)}` };
  }
  return { what: type === "ws" ? "Connecting by WebSocket" : "Connecting by Ajax", why: "" };
}

/** Say how a channel that is open goes on from where it was: "" where that is not known. */
export function howResumed({ resumed }) {
  if (resumed === "fresh") return "Fresh: the first connection of this tab.";
  if (resumed === "resumed") return "Resumed: nothing was missed.";
  return resumed === "gap" ? "Gap: something may have been missed; all was loaded anew." : "";
}

const DOWNGRADED = { kind: "downgrading-ws-to-ajax", code: null, text: "" };
const MOVES = ["downgrading-ws-to-ajax", "upgrading-ajax-to-ws", "requested-reconnect"];

/** `ada is typing`; "" for nobody. */
export function whoTypes(names) {
  if (names.length === 0) return "";
  if (names.length === 1) return `${names[0]} is typing`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing`;
  return `${names.length} people are typing`;
}

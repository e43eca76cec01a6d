// The page: a client of the channel, and what becomes of its state and its events. What stands
// beside it: talk.js (the messages), wire.js (the drawer), rtt.js (the plot), words.js.

import { ChannelClosed, connect } from "/chsk/chansock.js";
import { plotRoundTrips } from "/rtt.js";
import { Talk, face, make } from "/talk.js";
import { Wire } from "/wire.js";
import { howResumed, inWords, whoTypes } from "/words.js";

const HINT_EVERY = 2000; // ms between two hints that one is typing
const HINT_LASTS = 4500; // ms; a little more than two of them, so that one may be late
const WAITS = "Waits for a connection";

const the = (id) => document.getElementById(id);
const talk = new Talk(the("log"), the("messages"));
const wire = new Wire(the("wire"), the("wire-note"));
const transport = the("transport").querySelector("select");

let client;
let state; // the newest of the client's
let me; // the name in the last handshake; null: anonymous
let limits = { name: 24, text: 500 };

// Storage may be closed to a page; then nothing is remembered.
function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // as above
  }
}

// -- the connection

/** Connect by the transport that is chosen, and go on where the last client of this tab was. */
function open() {
  client?.disconnect();
  const made = connect("/chsk", { transport: transport.value, resume: "reload", trace: wire.take });
  client = made;
  made.on("chat/said", (said) => {
    talk.said(said);
    hint({ from: said.from, on: false });
    showEmpty();
  });
  made.on("chat/people", showPeople);
  made.on("chat/typing", hint);
  made.onState((next) => made === client && showState(next));
}

function showState(next) {
  const isFresh = next.open && next.handshakeData !== state?.handshakeData;
  const isHeld = ["refused", "requested-disconnect"].includes(next.reason?.kind);
  const isTrying = !next.open && next.retryAt === null && !isHeld;
  const wasTold = state && !state.open && state.reason;
  state = next;
  const strip = the("state");
  strip.dataset.open = String(next.open);
  strip.dataset.type = next.type;
  strip.dataset.reason = next.reason?.kind ?? "";
  if (!isTrying || !wasTold) {
    // While it tries again the words stay: nobody wants to be told at each attempt.
    const { what, why } = inWords(next, transport.value);
    the("state-what").textContent = what;
    the("state-why").textContent = why;
  }
  move(the("disconnect"), the("try-now"), !next.open);
  the("try-now").textContent = isHeld ? "Connect" : "Try now";
  count();
  talk.waiting = next.open ? "" : WAITS;
  the("drawer").dataset.resumed = next.resumed ?? "";
  the("resumed").textContent = howResumed(next);
  if (isFresh) welcome(next);
}

/** Show one of two buttons in the same place; whoever was on the other is on it now. */
function move(first, second, isSecond) {
  const [gone, here] = isSecond ? [first, second] : [second, first];
  const hadFocus = document.activeElement === gone;
  gone.hidden = true;
  here.hidden = false;
  if (hadFocus) here.focus();
}

function count() {
  const left = Math.ceil((state.retryAt - Date.now()) / 1000);
  const isDue = state.retryAt !== null && left > 0;
  the("countdown").textContent = state.open || !isDue ? "" : `next try in ${left} s`;
}

/** Take what stands in a handshake: all that there is, unless what was missed follows by itself. */
function welcome({ uid, resumed, handshakeData }) {
  const { people, messages, limits: told, worker } = handshakeData;
  const isFirst = me === undefined;
  const isNews = uid !== me;
  limits = told;
  the("drawer").dataset.worker = worker ?? ""; // the process that serves this tab, if one of several
  the("worker").hidden = worker === undefined;
  the("worker").textContent = `Served by process ${worker}.`;
  talk.me = me = uid;
  if (resumed === "gap") talk.clear();
  if (resumed !== "resumed" || isFirst) {
    for (const said of messages) talk.said(said);
    showPeople(people);
  }
  showEmpty();
  the("log").setAttribute("aria-live", "polite"); // from now on it is news
  if (isNews) showForm(me === null);
  for (const message of kept.splice(0)) say(message);
}

// -- who is here

function showPeople(people) {
  const items = people.map(({ name, ws, ajax }) => {
    const how = ws && ajax ? "both" : ws ? "WebSocket" : "Ajax";
    const shown = make("span", "name", name);
    shown.dir = "auto";
    const way = make("span", "how", how);
    way.dataset.short = ws && ajax ? "both" : ws ? "ws" : "ajax"; // where there is little room
    const item = make("li", name === me ? "mine" : "", face(name), shown, way);
    item.dataset.uid = name;
    item.dataset.how = ws && ajax ? "both" : ws ? "ws" : "ajax";
    return item;
  });
  the("people").replaceChildren(...items);
  the("people-count").textContent = people.length || "";
  the("nobody").hidden = people.length > 0;
}

const typing = new Map(); // name -> the timer that forgets it

function hint({ from, on }) {
  clearTimeout(typing.get(from));
  if (on && from !== me) {
    typing.set(
      from,
      setTimeout(() => hint({ from, on: false }), HINT_LASTS),
    );
  } else {
    typing.delete(from);
  }
  the("typing").textContent = whoTypes([...typing.keys()]);
}

// -- speaking

let hintedAt = 0;

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const kept = []; // messages that were given back since the channel was closed for good

/**
 * Send a message; the client keeps it while there is no connection, however long that takes. One
 * that is sent again has the same key, so that the server passes it on once.
 */
async function say(message) {
  const sender = client;
  const again = ["Send again", () => say(message)];
  talk.pending(message, state.open ? "" : WAITS);
  showEmpty();
  try {
    const { text, key } = message;
    const reply = await sender.send("chat/say", { text, key }, { timeout: Infinity });
    if (reply.error) {
      const act = reply.retry ? again : ["Edit", () => edit(message)];
      talk.failed(message, reply.error, ...act);
    } else {
      talk.said({ ...message, at: reply.at });
    }
  } catch (error) {
    if (!(error instanceof ChannelClosed) || message.from !== me) {
      talk.failed(message, "No answer came.", ...again);
    } else if (state.open) {
      say(message); // another transport has taken over
    } else {
      kept.push(message); // the next handshake sends it
    }
  }
}

function edit(message) {
  talk.drop(message);
  the("text").value = message.text;
  the("text").focus();
  showLength();
  showEmpty();
}

the("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = the("text").value.trim();
  if (!text) return;
  say({ from: me, text, key: newKey() });
  the("text").value = "";
  hintedAt = 0;
  showLength();
});

the("text").addEventListener("input", () => {
  showLength();
  const on = the("text").value.trim() !== "";
  const isDue = on ? Date.now() - hintedAt > HINT_EVERY : hintedAt > 0;
  if (!isDue || !state.open) return;
  hintedAt = on ? Date.now() : 0;
  client.send("chat/typing", on).catch(() => {}); // a hint that is lost is no loss
});

/** Count as the server does, once it gets close. */
function showLength() {
  const { length } = [...the("text").value.trim()];
  the("text-note").textContent = length > limits.text * 0.8 ? `${length} of ${limits.text}` : "";
  the("text-note").classList.toggle("over", length > limits.text);
}

function showEmpty() {
  the("empty").hidden = !talk.isEmpty;
}

// -- the name

const otherTabs = new BroadcastChannel("chat-name");
otherTabs.addEventListener("message", () => client.reconnect());

/** Show the form for a name, or the one for a message. */
function showForm(isForName) {
  const wasIn = the("name-form").contains(document.activeElement);
  the("me").textContent = me ?? "";
  the("compose").hidden = isForName;
  the("name-form").hidden = !isForName;
  the("name-cancel").hidden = me === null;
  if (isForName) the("name").focus();
  else if (wasIn || document.activeElement === document.body) the("text").focus();
}

the("name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  the("name-error").textContent = "";
  try {
    const body = new URLSearchParams({ name: the("name").value });
    const answer = await fetch("/name", { method: "POST", body });
    if (!answer.ok) throw new Error(await answer.text());
    otherTabs.postMessage("changed"); // the cookie is theirs too
    client.reconnect();
  } catch (error) {
    const isLost = error instanceof TypeError;
    the("name-error").textContent = isLost ? "The server cannot be reached." : error.message;
    the("name").focus();
  }
});

the("rename").addEventListener("click", () => {
  the("name").value = me;
  showForm(true);
  the("name").select();
});
the("name-cancel").addEventListener("click", () => showForm(false));

// -- what else can be pressed

the("try-now").addEventListener("click", () => client.reconnect());
the("disconnect").addEventListener("click", () => client.disconnect());
transport.addEventListener("change", () => {
  keep("transport", transport.value);
  open();
});

const isCovered = matchMedia("(max-width: 44rem)"); // by the drawer, as chat.css has it

function showDrawer(on) {
  const hadFocus = the("drawer").contains(document.activeElement);
  the("drawer").hidden = !on;
  the("drawer-toggle").setAttribute("aria-expanded", String(on));
  the("page").inert = on && isCovered.matches;
  wire.isOpen = on;
  if (on) the("drawer-close").focus();
  else if (hadFocus) the("drawer-toggle").focus();
}

isCovered.addEventListener("change", () => {
  the("page").inert = !the("drawer").hidden && isCovered.matches;
});
the("drawer-toggle").addEventListener("click", () => showDrawer(the("drawer").hidden));
the("drawer-close").addEventListener("click", () => showDrawer(false));
the("wire-pings").addEventListener("change", (event) => (wire.withPings = event.target.checked));
the("wire-clear").addEventListener("click", () => wire.clear());
the("wire-pause").addEventListener("click", (event) => {
  const on = event.target.getAttribute("aria-pressed") !== "true";
  event.target.setAttribute("aria-pressed", String(on));
  wire.isPaused = on;
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  if (!the("drawer").hidden) showDrawer(false);
  else if (!the("name-form").hidden && me !== null) showForm(false);
});

// -- and off it goes

const chosen = recall("transport");
if ([...transport.options].some((option) => option.value === chosen)) transport.value = chosen;
open();
setInterval(count, 250);
plotRoundTrips(the("rtt"), () =>
  state.open ? client.send("chat/ping", null, { timeout: 5 }) : null,
);

// Drives one JavaScript client: sends by chance, and reports what it gets. For Node and for pages.
// What is reported is in children.py.

const KINDS = ["u", "b", "c", "l", "k"];
const ASKS = ["q", "w", "p", "l"];
const REPLY_TIMEOUT = 30; // seconds
const MOST = 200; // sends under way
const OPTIONS = { connectTimeout: 2.5, ajaxTimeout: 8, pingInterval: 1.5, pingTimeout: 1.5, maxBackoff: 0.7 };

const choice = (items) => items[Math.floor(Math.random() * items.length)];

/**
 * Connect, and go on for ever. `report(item)` is called for each thing that happens; `next()` gives
 * the number of the next event. Returns `{hold, isQuiet}`.
 */
export const drive = ({ connect, url, options, report, next, mayBreak = true, bursts = [1, 2, 10, 30] }) => {
  let underWay = 0;
  let isGoing = true;
  const client = connect(url, { ...OPTIONS, ...options });
  for (const kind of KINDS) client.on(`s/${kind}`, ([g, n]) => report(["e", kind, g, n]));
  client.on("chsk/state", ([, state, openChanged]) => {
    if (state.open && openChanged) report(["h", state.resumed, state.handshakeData]);
    const { kind, code, text } = state.reason ?? {};
    if (!state.open) report(["n", `closed ${kind} ${code} ${text}`]);
  });

  const send = () => {
    const k = next();
    const kind = choice(["e", "e", "e", ...ASKS]);
    const wantsReply = kind !== "e";
    const x = wantsReply ? Math.floor(Math.random() * 1000) : "x".repeat(choice([0, 30, 300]));
    const sent = client.send(`c/${kind}`, [k, x], wantsReply ? { timeout: REPLY_TIMEOUT } : {});
    if (wantsReply) report(["a", k, x]);
    report(["s", k]);
    underWay += 1;
    sent
      .then(
        (value) => wantsReply && report(["r", k, value]),
        (error) => report(wantsReply ? ["x", k, String(error)] : ["f", "send failed", `${k}: ${error}`]),
      )
      .finally(() => (underWay -= 1));
  };

  const burst = () => {
    setTimeout(burst, 50 + Math.random() * 750);
    if (!isGoing) return;
    for (let left = choice(bursts); left > 0 && underWay < MOST; left--) send();
    const chance = Math.random();
    if (mayBreak && chance < 0.02) client.breakConnection();
    else if (mayBreak && chance < 0.04) client.reconnect();
  };
  burst();
  return { hold: () => (isGoing = false), isQuiet: () => !isGoing && !underWay, client };
};

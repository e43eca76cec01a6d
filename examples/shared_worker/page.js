// The page of one tab. Where there is no SharedWorker, it has a client of its own instead.

import { connect } from "/chsk/chansock.js";
import { share } from "/shared.js";

const the = (id) => document.getElementById(id);

function showTabs(count) {
  the("tabs").textContent = count === 1 ? "1 tab" : `${count} tabs`;
}

const canShare = "SharedWorker" in globalThis && "locks" in navigator;
const channel = canShare ? share("/worker.js", showTabs) : connect("/chsk");
if (!canShare) showTabs(1);

channel.onState(({ open, type }) => {
  the("state").textContent = open ? `Connected by ${type}` : "Not connected";
  the("state").dataset.open = open;
});

channel.on("room/said", (text) => {
  const item = document.createElement("li");
  item.textContent = text;
  the("said").append(item);
});

the("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = the("text").value;
  the("text").value = "";
  the("error").textContent = "";
  try {
    await channel.send("room/say", text, { timeout: 10 });
  } catch (error) {
    the("error").textContent = `Not sent: ${error.message}`;
    the("text").value ||= text;
  }
});

// Servers for the JavaScript tests. tests/integration/test_js.py starts one for all of them; a test that
// stops its server, or wants it set up otherwise, starts its own.
//
//     node js/test/some.test.mjs       by hand: PYTHON has chansock on its path,
//                                      CHANSOCK_URL is where one `python js/test/server.py` is

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("server.py", import.meta.url));

/** Where the server that all tests share has its channel: `http://127.0.0.1:N/chsk`. */
export const url = process.env.CHANSOCK_URL;

/**
 * Start a server of one's own; it ends with this process at the latest.
 *
 * `port` 0 takes a free one; give that of a server that has stopped, and its clients come back.
 * `args` are further ones of server.py: ["--set", "poll_timeout=0.5"].
 */
export async function start({ port = 0, args = [] } = {}) {
  const command = [PROGRAM, "--port", String(port), ...args];
  const child = spawn(process.env.PYTHON ?? "python3", command, {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const ended = new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (status, signal) => {
      process.removeListener("exit", kill);
      resolve(signal ?? status);
    });
  });
  const line = await Promise.race([
    new Promise((resolve) => createInterface(child.stdout).once("line", resolve)),
    ended.then((how) => Promise.reject(new Error(`expected a server, it ended with ${how}`))),
  ]);
  const address = line.split(" ")[2];
  return {
    url: address,
    port: Number(new URL(address).port),
    /** Send a signal: "SIGSTOP" makes it silent, "SIGCONT" ends that. */
    signal: (name) => child.kill(name),
    /** End it: in order, or with "SIGKILL" at once. Settles when it is gone. */
    stop: (name = "SIGTERM") => {
      child.kill(name);
      return ended;
    },
  };
}

// Reads edn and writes it again: a text in a JSON string on each line of stdin, the answer on
// one of stdout, `{"text": ...}` or `{"error": ...}`; with the argument `msgpack` the same of
// MessagePack, as base64. For tests/conformance/test_js_edn.py.

import { createInterface } from "node:readline";
import { PacketError, pack, read, write } from "./module.mjs";

const again = {
  edn: (text) => write(read(text)),
  msgpack: (text) => Buffer.from(pack.write(pack.read(Buffer.from(text, "base64")))).toString("base64"),
}[process.argv[2] ?? "edn"];

const answer = (text) => {
  try {
    return { text: again(text) };
  } catch (error) {
    if (!(error instanceof PacketError)) throw error;
    return { error: error.message };
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + "\n");
}

// Reads edn and writes it again: a text in a JSON string on each line of stdin, the answer on
// one of stdout, `{"text": ...}` or `{"error": ...}`. For tests/test_js_edn.py.

import { createInterface } from "node:readline";
import { EdnError, read, write } from "./module.mjs";

const answer = (text) => {
  try {
    return { text: write(read(text)) };
  } catch (error) {
    if (!(error instanceof EdnError)) throw error;
    return { error: error.message };
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + "\n");
}

// A channel's other side, scripted: an HTTP server whose WebSockets, polls and POSTs a test
// answers by hand, so that it can refuse, cut, and keep silent. Knows nothing of the client.

import { createServer } from "node:http";
import { once } from "node:events";
import { WebSocketServer } from "ws";

/** Hands values from whoever puts to whoever takes, first to first. */
export class Line {
  #values = [];
  #takers = [];

  put(value) {
    const taker = this.#takers.shift();
    if (taker) taker(value);
    else this.#values.push(value);
  }

  take() {
    if (this.#values.length) return Promise.resolve(this.#values.shift());
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  get length() {
    return this.#values.length;
  }
}

export const HANDSHAKE = '[[:chsk/handshake ["ada" nil nil]] nil]';

/**
 * Listen; `peer.onUpgrade(request, socket, head)`, `peer.onGet(call)` and `peer.onPost(call)`
 * are the script. A call is `{request, body, query, form, response, answer(status, body), cut()}`.
 */
export const listen = async (port = 0) => {
  const sockets = new Set();
  const upgrader = new WebSocketServer({ noServer: true });
  const peer = {
    upgrades: 0,
    gets: 0,
    type: "text/html; charset=utf-8", // of all answers: Sente's; of chansock's server, application/edn
    onUpgrade: (request, socket) => socket.destroy(),
    onGet: (call) => call.answer(200, HANDSHAKE),
    onPost: (call) => call.answer(200, "[:chsk/dummy-cb-200 nil]"),
    /** Answer an upgrade with 101; gives the WebSocket. */
    accept: (request, socket, head) =>
      new Promise((resolve) => upgrader.handleUpgrade(request, socket, head, resolve)),
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((done) => server.close(done));
    },
  };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const call = {
      request,
      body,
      query: new URL(request.url, "http://peer").searchParams,
      form: new URLSearchParams(body.toString()),
      answer: (status, body = "") => {
        response.writeHead(status, { "content-type": peer.type });
        response.end(body);
      },
      response,
      cut: () => response.destroy(),
    };
    if (request.method === "GET") {
      peer.gets += 1;
      peer.onGet(call);
    } else peer.onPost(call);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  server.on("upgrade", (request, socket, head) => {
    peer.upgrades += 1;
    peer.onUpgrade(request, socket, head);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  peer.url = `http://127.0.0.1:${server.address().port}/chsk`;
  return peer;
};

/**
 * Types of chansock.js, the browser's client of a channel socket. Durations are seconds, moments
 * are Dates.
 *
 *     type FromServer = { "chat/said": { from: string; text: string } };
 *     type ToServer = {
 *       "chat/say": { text: string }; // the data
 *       "math/double": (data: number) => number; // the data, and the reply
 *     };
 *     const client = connect<FromServer, ToServer>("/chsk");
 *     client.on("chat/said", ({ from, text }) => show(from, text));
 *     await client.ready;
 *     await client.send("chat/say", { text: "hello" });
 *     const doubled = await client.send("math/double", 21, { timeout: 5 }); // a number
 */

/**
 * Events by id: the type of the data, undefined for an event without data. An event to the server
 * may be a function type instead, `(data: Data) => Reply`, which names the type of its reply too.
 */
export type Events = Record<string, any>;

type IsAny<T> = 0 extends 1 & T ? true : false;
/** The data of an event to the server. */
export type DataOf<E> = IsAny<E> extends true ? any : E extends (...data: infer Data) => any ? Data[0] : E;
/** The reply to an event to the server; any where the map of events does not name it. */
export type ReplyOf<E> = IsAny<E> extends true ? any : E extends (...data: any) => infer Reply ? Reply : any;
/** What follows the id in a call of `send`: data that may be undefined may be left out. */
type SendArgs<Data, Options> = undefined extends Data ? [data?: Data, options?: Options] : [data: Data, options?: Options];
type AskArgs<Data, Options> = undefined extends Data ? [data: Data | undefined, options: Options] : [data: Data, options: Options];

export type Transport = "auto" | "ws" | "ajax";

/** A value, or a function (plain or async) that is called anew for each attempt to connect. */
export type Source<T> = T | (() => T | Promise<T>);

export interface Options {
  /** "auto" (the default) tries a WebSocket, and goes on with Ajax where none is to be had. */
  transport?: Transport;
  /** How values travel; the server must have the same. edn is built in; json.js, msgpack.js. */
  packer?: Packer;
  /** What this tab is to the server, across reconnects. Random by default; best kept secret. */
  clientId?: string;
  /** Sent with the handshake and each POST, as Sente does. */
  csrfToken?: Source<string | null | undefined>;
  /**
   * Where a WebSocket's request carries the token: in the URL, as Sente does (the default), or in
   * Sec-WebSocket-Protocol, which no access log shows; not for Sente's servers. Ajax has a header.
   */
  csrfTokenIn?: "param" | "subprotocol";
  /** Joins the query of handshakes and polls, not of POSTs. */
  params?: Source<Record<string, string> | undefined>;
  /** Ajax only: a WebSocket of a browser cannot send any. */
  headers?: Source<Record<string, string> | undefined>;
  /**
   * Whether a connection goes on where the last one ended: events of both ways arrive once and in
   * order over lost connections. true is the default; "reload" goes on after a reload of the page as
   * well, and keeps in sessionStorage what it needs for that; false is as with Sente's client. A
   * server that does not resume is served as with false.
   */
  resume?: boolean | "reload";
  /**
   * What `send` does while closed: wait in a queue, or refuse at once. By default it waits, unless
   * the server (or `resume: false`) does not resume.
   */
  offline?: "refuse" | "queue";
  /** How many events may wait while closed; past it `send` rejects with BacklogFull. 1000. */
  maxQueuedEvents?: number;
  /** How many events may wait for a slow `for await`; past it the connection is given up. 10000. */
  maxInboxEvents?: number;
  /**
   * The largest packet or answer that is read, and how much may wait to be handled; past either
   * the connection is given up. 16 MiB; text counts in UTF-16 units where it is not yet bytes.
   */
  maxMessageBytes?: number;
  /** How much may wait to be sent; past it `send` rejects with BacklogFull. 4 MiB. */
  maxBacklogBytes?: number;
  /** How long a WebSocket or an Ajax handshake may take. 5. */
  connectTimeout?: number;
  /** How long a poll may be parked, and a POST that asks for no reply may take. 60. */
  ajaxTimeout?: number;
  /** A WebSocket on which nothing was heard for so long is pinged. 10. */
  pingInterval?: number;
  /** How long the answer to that ping may take. 5. */
  pingTimeout?: number;
  /**
   * Returns the seconds to wait before the second attempt after a close (n is 2), the third ... The
   * first is made at once, unless the server said that it restarts: then n begins with 2.
   */
  backoff?: (n: number) => number;
  /** Without `backoff`: the longest wait between two attempts (in a hidden tab 24 times that). 2.5. */
  maxBackoff?: number;
  /** Ajax in place of a blocked WebSocket looks for one again after so long, then ever later. 30. */
  upgradeInterval?: number;
  /** edn only: readers of tagged elements, by tag without "#": `{"my/point": ([x, y]) => new Point(x, y)}`. */
  readers?: Readers;
  /** Disconnects the client when it is aborted. */
  signal?: AbortSignal;
  /** Is called with each packet that travels, bytes if the packer is binary: for a log or a debugger. */
  trace?: (direction: "in" | "out", packet: any, type: "ws" | "ajax") => void;
  /** In place of the global ones: Node 20 has no WebSocket of its own, but npm's `ws`. */
  WebSocket?: any;
  fetch?: typeof fetch;
}

/**
 * Values to packets `[value cbId]` and back. Bytes travel in binary frames, and as the bodies of
 * POSTs; text in text frames, and in a form.
 */
export interface Packer<Packet extends string | Uint8Array = any> {
  readonly binary: boolean;
  /**
   * Text only: the Content-Type of POSTs to chansock's server, whose body is the packet. Not one
   * that a page may send anywhere, like text/plain. Without it, POSTs are forms, as Sente's.
   */
  readonly contentType?: string;
  /** Encode the event `[id data]`, or `[id]` if the data is undefined, at once. */
  fragment(id: string, data: unknown): Packet;
  /** Make the packet of an encoded event. Over Ajax who wants a reply says `:ajax`. */
  packet(fragment: Packet, cbId: string | Keyword | null): Packet;
  /** Decode a packet; throws for what is none. */
  unpack(packet: Packet): [value: any, cbId?: any];
  /** The name of a value that stands for a keyword, like "chsk/handshake"; else undefined. */
  name(value: any): string | undefined;
}

export type ReasonKind =
  /** The server closed with code 1000. */
  | "clean"
  /** Any other end of a connection that was open. */
  | "unexpected"
  /** Never got as far as a handshake: network, time-out, a status other than 200. */
  | "not-opened"
  /** 401, 403, or close code 1008 or 4401: not tried again until `reconnect()`. */
  | "refused"
  /** The server did not answer our ping. */
  | "ws-ping-timeout"
  /** The WebSocket would not send. */
  | "ws-error"
  /** No WebSocket to be had here; Ajax for now. */
  | "downgrading-ws-to-ajax"
  /** A WebSocket is to be had again. */
  | "upgrading-ajax-to-ws"
  | "requested-reconnect"
  | "requested-disconnect";

/** Why a channel is, or last was, closed. */
export interface Reason {
  readonly kind: ReasonKind;
  /**
   * The WebSocket close code or the HTTP status; null where there was neither. The client itself
   * closes with 4007 if it cannot read a packet, and with 4009 if one is too large; npm's `ws`
   * refuses that itself, in its own words.
   */
  readonly code: number | null;
  /** What the other side or the network said, in its words. */
  readonly text: string;
}

/** What is known of a channel at one moment; frozen, a change is a new one. */
export interface State {
  readonly open: boolean;
  /** The transport of the last attempt. */
  readonly type: "ws" | "ajax";
  /** As the server named the user in the last handshake; null: anonymous. */
  readonly uid: any;
  readonly handshakeData: any;
  readonly everOpened: boolean;
  /**
   * How the connection goes on from the last one: "resumed", nothing was missed; "gap", events may be
   * missing, so reload what you show; "fresh", it is the first of this client. null while closed, and
   * if the server does not resume.
   */
  readonly resumed: "fresh" | "resumed" | "gap" | null;
  /** Why it closed last, or did not open; kept after it has opened again. */
  readonly reason: Reason | null;
  /** When the next attempt is due; null if none is. */
  readonly retryAt: Date | null;
  /** As the last attempt sent it. */
  readonly csrfToken: string | null;
  /** When and why it closed last after it was open. */
  readonly lastClose: { readonly time: Date; readonly reason: Reason } | null;
  /** The last end of a WebSocket that was not the client's own doing; `clean`: by a handshake. */
  readonly lastWsClose: {
    readonly time: Date;
    readonly code: number;
    readonly reason: string;
    readonly clean: boolean;
  } | null;
  /** The last error of a WebSocket; browsers give no text. */
  readonly lastWsError: { readonly time: Date; readonly text: string } | null;
}

export interface Event<Id extends string = string, Data = any> {
  readonly id: Id;
  readonly data: Data;
}

type EventOf<In extends Events> = { [Id in keyof In & string]: Event<Id, In[Id]> }[keyof In & string];

/** Options of `send`. */
export interface Sending {
  /** Seconds to wait for a reply, and asks for one. */
  timeout?: number;
  /**
   * Aborted: the promise rejects with the signal's reason. What still waited is not sent; what
   * was sent may be handled.
   */
  signal?: AbortSignal;
}

type Handler<Data, Id extends string> = (data: Data, event: Event<Id, Data>) => unknown;

/**
 * A channel to one server, which comes back after every close. `connect` makes it. Its methods are
 * bound: `const { send, on } = client` works.
 */
export interface Client<In extends Events = Events, Out extends Events = Events> extends AsyncIterable<EventOf<In>> {
  /** Changes if another client turns out to have the same. */
  readonly clientId: string;
  readonly state: State;
  /** Settles at the first handshake; rejects with ChannelClosed if refused or disconnected before. */
  readonly ready: Promise<void>;

  /**
   * Send an event `[:chat/say {...}]`. Without a timeout the promise is of undefined once the
   * socket has the event, over Ajax once its POST was answered; with one, of the reply.
   * Events arrive in the order of the calls.
   *
   * Rejects with InvalidEvent or PacketError for what cannot be sent; ChannelClosed if the channel
   * closes for good before the answer; BacklogFull; ReplyTimeout; ReplyError if the server's handler
   * failed, or it did not take the event. An event whose reply timed out is delivered all the same.
   *
   * If the server does not resume, also with ChannelClosed at once while closed (unless `offline:
   * "queue"`), or if an Ajax connection closes before the answer, or if the client could not read a
   * packet, which may have been the reply.
   */
  send<Id extends keyof Out & string>(
    id: Id, ...rest: SendArgs<DataOf<Out[Id]>, Sending & { timeout?: undefined }>
  ): Promise<undefined>;
  send<Id extends keyof Out & string>(
    id: Id, ...rest: AskArgs<DataOf<Out[Id]>, Sending & { timeout: number }>
  ): Promise<ReplyOf<Out[Id]>>;
  send<Id extends keyof Out & string, Reply>(
    id: Id, ...rest: AskArgs<DataOf<Out[Id]>, Sending & { timeout: number }>
  ): Promise<Reply>;

  /** Have each change of state handled: the state before and after, and whether `open` changed. */
  on(id: "chsk/state", handler: (data: [old: State, state: State, openChanged: boolean], event: Event) => unknown): () => void;
  /** Have each handshake handled; `first` is true once for each client. */
  on(id: "chsk/handshake", handler: (data: [uid: any, _: null, handshakeData: any, first: boolean], event: Event) => unknown): () => void;
  /** Have the server's pings handled, which have been answered. */
  on(id: "chsk/ws-ping", handler: (data: null, event: Event) => unknown): () => void;
  /** Have every event of the server handled, after the handlers of its id. */
  on(id: "*", handler: (data: In[keyof In & string], event: EventOf<In>) => unknown): () => void;
  /** Have events of this id handled, in the order of the calls; returns a function that undoes it. */
  on<Id extends keyof In & string>(id: Id, handler: Handler<In[Id], Id>): () => void;
  /** Have the next event of this id handled, and no further one. */
  once<Id extends keyof In & string>(id: Id, handler: Handler<In[Id], Id>): () => void;
  /** Call the handler with each new state, and with the present one at once; returns a function that undoes it. */
  onState(handler: (state: State) => unknown): () => void;

  /** Connect anew, at once: with other credentials, or after `disconnect`. */
  reconnect(): void;
  /** Close, and stay closed until `reconnect`. */
  disconnect(): void;
  /** For tests: end the connection as if it broke; the client comes back by itself. */
  breakConnection(): void;
}

/**
 * Make a client of the channel at `url`, and connect.
 *
 * The url is relative to the page; ws, wss, http and https all mean the same place. Where there is
 * no page, as when a server renders one, a client of a path like "/chsk" stays closed and connects to
 * nothing. Throws TypeError for a url or an option that cannot be.
 */
export function connect<In extends Events = Events, Out extends Events = Events>(
  url: string | URL,
  options?: Options,
): Client<In, Out>;

export class ChansockError extends Error {}
/** The caller's event: an id that is no namespaced keyword, or one in `chsk/`. */
export class InvalidEvent extends ChansockError {}
export class ChannelClosed extends ChansockError {
  readonly reason: Reason | null;
}
/** As much waits to be sent as may: `maxBacklogBytes`; while closed `maxQueuedEvents`, or 1 MiB. */
export class BacklogFull extends ChansockError {}
export class ReplyTimeout extends ChansockError {}
export class ReplyError extends ChansockError {
  /** Why the server's handler could not take the data, in the server's words. */
  readonly reason?: string;
}
/** What a packer cannot write or read; EdnError is one. */
export class PacketError extends ChansockError {
  /** Reading: where in the packet, in UTF-16 units or in bytes; not of json.js. */
  readonly position?: number;
  /** Writing: the way to the value, as in `$.users[0]`. */
  readonly path?: string;
}
/** For the packers beside this module; may change. */
export const internals: any;

// edn

export type Readers = Record<string, (value: any) => any>;

/**
 * Read the first form of an edn text. What Clojure writes becomes
 *
 *     nil true "s" 1 1.5    null true "s" 1 1.5       :kw sym \a           Keyword Symbol Char
 *     12345678901234567890  BigInt                    [1] (1)              Array List
 *     1.10M 1/2             Decimal Ratio             #{1}                 Set
 *     {:a 1, :b/c 2}        {"a": 1, "b/c": 2}        {"a" 1}, {1 2}       Map
 *     #inst "..."           Instant (a Date)          #uuid "..."          UUID
 *     #my/tag v             Tagged
 *
 * and is written back unchanged (but 1.0 and 1N are 1 in JavaScript). Throws EdnError.
 */
export function read(text: string, options?: { readers?: Readers }): any;

/**
 * Write a value as edn. An object is a map with keyword keys, or with string keys if one of them
 * cannot be a keyword (`{"bob smith": 1}`); a Map has any keys. Properties that are undefined are
 * left out, as JSON.stringify does. Throws EdnError for what edn cannot say (a function, a cycle),
 * and for what Python could not read: keys or members that are one to it (1 and true, :a and "a"),
 * more than 4300 digits, the year 0.
 */
export function write(value: any): string;

export class EdnError extends PacketError {}

/** `:ns/name`. One object for each name, so `===` works; `keyword("a/b")` gives it. */
export class Keyword {
  private constructor();
  /** Without the colon: "ns/name". */
  readonly name: string;
  toString(): string;
  toJSON(): string;
}
export function keyword(name: string): Keyword;
export class Symbol {
  constructor(name: string);
  readonly name: string;
  toString(): string;
}
/** One UTF-16 unit: `\a`. */
export class Char {
  constructor(char: string);
  readonly char: string;
  toString(): string;
}
/** `(1 2)`; an Array, or anything else iterable, is written as a vector. */
export class List<T = any> extends Array<T> {}
export class UUID {
  constructor(text: string);
  toString(): string;
  toJSON(): string;
}
/** A Date that keeps the digits past its milliseconds. */
export class Instant extends Date {
  constructor(text: string);
  /** 0 to 999. */
  readonly microseconds: number;
}
/** `1/2`, in lowest terms. */
export class Ratio {
  constructor(numerator: bigint | number, denominator: bigint | number);
  readonly numerator: bigint;
  readonly denominator: bigint;
  valueOf(): number;
  toString(): string;
}
/** `1.10M`, as written; without the M. */
export class Decimal {
  constructor(text: string);
  valueOf(): number;
  toString(): string;
  /** The text: a JSON number would lose digits. */
  toJSON(): string;
}
export class Tagged<T = any> {
  constructor(tag: string, value: T);
  readonly tag: string;
  readonly value: T;
}

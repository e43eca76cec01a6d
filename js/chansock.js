/**
 * chansock.js: the browser's client of a channel socket, and edn in JavaScript.
 *
 * One ES module without a build or a dependency, so it holds both halves, edn first; it is long
 * for that reason alone. It speaks the wire of Sente 1.21 and later. chansock.d.ts documents each
 * export. It may touch the network, timers, Web Locks, and the browser's events about sleep and
 * networks; never the page, and no storage but sessionStorage, if `resume: "reload"` asks for it.
 * Other packers are modules beside it.
 */

/** The base of all that chansock throws on purpose. */
export class ChansockError extends Error {
  name = "ChansockError";
}

/** What a packer cannot write, or cannot read. */
export class PacketError extends ChansockError {
  name = "PacketError";
}

// -- edn: errors, and the values that JavaScript has no type for --

export class EdnError extends PacketError {
  name = "EdnError";
}

const MAX_DEPTH = 500; // Clojure's own readers overflow their stack soon after 600
const IN_EVENT = 2; // collections around the data of `[[:id data] cb-id]`

const expected = (what, got) => {
  throw new EdnError(`expected ${what}, got ${JSON.stringify(String(got)).slice(0, 80)}`);
};

const namesWithout = (digit) =>
  new RegExp(
    String.raw`^(?!:|.*(?::(?:[:/]|$)|\/${digit}|[\s\p{Cc}\p{Cs}"();@[\\\]^\x60{},~]))` +
      String.raw`(\/|[^/]+(\/(\/|[^/]+))?)$`,
    "u",
  );
// A name that Clojure, tools.reader and ClojureScript all read as this one name.
const NAME = namesWithout(String.raw`\p{Nd}`);
// What is read besides. Digits past U+FFFF are none to Java, and new ones come with each Unicode.
const READABLE = namesWithout(String.raw`(?![\u{10000}-\u{10ffff}])\p{Nd}`);
const NO_SYMBOL = /^([-+]?(?![\u{10000}-\u{10ffff}])\p{Nd}|#|(nil|true|false)$)/u;
const NO_TAG = /^([^a-zA-Z\xaa\xb5\xba\xc0-\xd6\xd8-\xf6\xf8-\xff]|(nil|true|false)$)/;

const checkName = (what, name, excluded) => {
  const isName = typeof name === "string" && NAME.test(name) && !excluded?.test(name);
  return isName ? name : expected(what, name);
};

export class Keyword {
  constructor(name) {
    // The name of a property is a copy: a slice would keep a whole message alive.
    this.name = Object.keys({ [checkName("the name of a keyword", name)]: 0 })[0];
  }
  toString() {
    return ":" + this.name;
  }
  toJSON() {
    return this.name;
  }
}

// One Keyword for each name for as long as anyone holds it. Peers choose the names, so what is
// held here is bounded, and a name that nobody holds is forgotten.
const recent = new Map(); // names that edn can spell, no others
const living = new Map();
const dead = new FinalizationRegistry((name) => living.get(name)?.deref() || living.delete(name));

/** Return a value of a class that checks names, of a name that edn need not be able to spell. */
const named = (Type, name) => Object.assign(Object.create(Type.prototype), { name });

const intern = (name) => {
  let word = living.get(name)?.deref();
  if (!word) {
    word = NAME.test(name) ? new Keyword(name) : named(Keyword, name);
    living.set(word.name, new WeakRef(word));
    dead.register(word, word.name);
  }
  return word;
};

export function keyword(name) {
  let word = recent.get(name);
  if (!word) {
    word = intern(checkName("the name of a keyword", name));
    if (recent.size > 2047) recent.clear();
    if (name.length < 65) recent.set(word.name, word);
  }
  return word;
}

const isName = (name) => recent.has(name) || NAME.test(name);

const Name = class Symbol {
  constructor(name) {
    this.name = checkName("the name of a symbol", name, NO_SYMBOL);
  }
  toString() {
    return this.name;
  }
};
export { Name as Symbol };

export class Char {
  constructor(char) {
    this.char = /^[^\ud800-\udfff]$/.test(char) ? char : expected("one character", char);
  }
  toString() {
    return this.char;
  }
}

export class List extends Array {}

export class UUID {
  constructor(text) {
    const isUuid = text?.match?.(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i);
    this.text = isUuid ? text.toLowerCase() : expected("a UUID", text);
  }
  toString() {
    return this.text;
  }
  toJSON() {
    return this.text;
  }
}

const INSTANT = new RegExp(
  /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?)?)?/.source +
    /(?:Z|([-+])([01]\d|2[0-3]):([0-5]\d))?$/.source,
);

export class Instant extends Date {
  constructor(text) {
    const found = text?.match?.(INSTANT) ?? [];
    const [, year, month = "01", day = "01", hour = "00", minute = "00"] = found;
    const [second = "00", digits = "", sign = "+", hours = 0, minutes = 0] = found.slice(6);
    const isLeap = minute + second === "5960"; // as in Clojure, whatever the day
    const fraction = digits.padEnd(6, 0);
    const date = `${year}-${month}-${day}T${hour}:${minute}`;
    const iso = `${date}:${isLeap ? 59 : second}.${fraction.slice(0, 3)}Z`;
    const time = new Date(iso);
    if (time.toJSON() !== iso) expected("a date and time", text);
    super(+time + +isLeap * 1e3 - +(sign + 1) * (+hours * 60 + +minutes) * 6e4);
    this.microseconds = +fraction.slice(3, 6);
  }
}

export class Ratio {
  constructor(numerator, denominator) {
    const [a, b] = [BigInt(numerator), BigInt(denominator)];
    if (!b) expected("a denominator", b);
    let [divisor, rest] = [a, b];
    while (rest) [divisor, rest] = [rest, divisor % rest];
    if (divisor < 0n !== b < 0n) divisor = -divisor;
    this.numerator = a / divisor;
    this.denominator = b / divisor;
  }
  valueOf() {
    return Number(this.numerator) / Number(this.denominator);
  }
  toString() {
    const { numerator, denominator } = this;
    return numerator + (denominator === 1n ? "" : "/" + denominator);
  }
}

const DECIMAL = /^([-+]?\d+)(?:\.(\d*))?([eE][-+]?\d+)?$/;

export class Decimal {
  constructor(text) {
    this.text = DECIMAL.test(text) ? text : expected("a decimal", text);
  }
  valueOf() {
    return +this.text;
  }
  toString() {
    return this.text;
  }
  toJSON() {
    return this.text;
  }
}

export class Tagged {
  constructor(tag, value) {
    this.tag = checkName("a tag", tag, NO_TAG);
    this.value = value;
  }
}

const isPlain = (value) => {
  const type = Object.getPrototypeOf(value);
  return !type || type === Object.prototype || !Object.getPrototypeOf(type); // of another frame
};

/** Whether a text has no half of a surrogate pair, which UTF-8 cannot carry. */
const isWhole = (value) => value.isWellFormed?.() ?? !/[\ud800-\udfff]/u.test(value);

/**
 * Take a Decimal apart: its digits, and how many of them are places.
 * @returns {[string, number]}
 */
const scaled = ({ text }) => {
  const [, whole, part = "", power = "e0"] = DECIMAL.exec(text);
  return [whole + part, part.length - +power.slice(1)];
};

/** The value of a Decimal, however it is written: without zeros at either end. */
const normal = (value) => {
  const [digits, places] = scaled(value);
  const [all, sign, kept] = /^\+?(-?)0*([1-9](?:\d*[1-9])?)?/.exec(digits);
  return kept ? `${sign}${kept}E${digits.length - all.length - places}` : "0";
};

/** The exact value of a number, as `1` or `1/2`. */
const exactly = (value) => {
  if (value instanceof Decimal) {
    const [digits, places] = scaled(value);
    if (Math.abs(places) > 5000) return value.text; // which no other type has
    const n = 10n ** BigInt(Math.abs(places));
    return `${places > 0 ? new Ratio(digits, n) : BigInt(digits) * n}`;
  }
  if (typeof value !== "number" || !Number.isFinite(value)) return `${value}`;
  let divisor = 1n;
  for (; value % 1; value *= 2) divisor *= 2n;
  return `${new Ratio(value, divisor)}`;
};

/**
 * Return a function that names values: two have one name if they are one key or member, to edn;
 * or, if a `writer` writes them, to Python, which takes 1 for true and 1.0, and :a for "a". A name
 * is short: a number stands for what is long, which is named once, however deep it is nested.
 */
const makeIdentity = (writer) => {
  const known = new Map(); // objects and texts with a number -> that
  const numbers = new Map(); // what objects consist of -> a number
  const nameOf = (value) => {
    if (value == null) return "nil";
    const is = (...types) => types.some((type) => value instanceof type);
    const pairs = (entries) => Array.from(entries, (pair) => pair.map(of).join(" ")).sort();
    if (typeof value === "string") return JSON.stringify(value);
    const kind = writer ? "" : value.constructor?.name;
    if (is(Keyword, Name, Char)) return kind + of(value.name ?? value.char);
    if (typeof value === "boolean") return `${writer ? +value : value}`;
    if (typeof value !== "object") return exactly(value);
    if (is(Number, String, Boolean)) return of(value.valueOf());
    if (is(Decimal, Ratio)) return (kind === "Decimal" ? normal : exactly)(value) + kind;
    if (is(Map)) return `{${pairs(value)}}`;
    if (is(Set)) return `#{${Array.from(value, of).sort()}}`;
    if (is(Date)) return `#inst ${+value} ${value.microseconds || 0}`;
    if (is(UUID)) return `#uuid ${value}`;
    if (is(Tagged)) return `#${value.tag} ${of(value.value)}`;
    if (ArrayBuffer.isView(value) && writer !== "edn") return `#bytes [${value}]`;
    if (value[Symbol.iterator]) return `[${Array.from(value, of)}]`;
    if (typeof value.toJSON === "function") return of(value.toJSON());
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return `{${pairs(entries.map(([key, item]) => [named(Keyword, key), item]))}}`;
  };
  const of = (value) => {
    let name = known.get(value) ?? nameOf(value);
    if (name.length > 31) {
      if (!numbers.has(name)) numbers.set(name, `@${numbers.size}`);
      known.set(value, (name = numbers.get(name)));
    }
    return name;
  };
  return of;
};

/** Return a function that refuses what is one, by its name, with what it was given before. */
const distinct = (fail, identity) => {
  const seen = new Set();
  return (value, position) => {
    const id = identity(value);
    if (seen.has(id)) {
      fail(`expected different keys or members, got ${id} again`, position);
    }
    seen.add(id);
    return value;
  };
};

// -- edn: reading --

// What ends a name: 1 is whitespace, 2 all the rest.
const ENDS = new Uint8Array(128);
for (const c of " ,\t\n\v\f\r\"();[\\]^{}") ENDS[c.charCodeAt(0)] = /[\s,]/.test(c) ? 1 : 2;
const endOf = (c) => (c < 128 ? ENDS[c] : c > 0 ? +/\s/.test(String.fromCharCode(c)) : 2);

const ESCAPE = /\\(?:u([\da-fA-F]{4})|([0-7]{3}|[0-7]{1,2}(?![^\s,"\\]))|(["\\nrtbf]))/y;
const ESCAPED = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };
const CHARS = {
  newline: "\n", return: "\r", space: " ", tab: "\t", backspace: "\b", formfeed: "\f",
};
const TOKEN = /[^\s,"#();[\\\]^{}]+/y;
const INTEGER =
  /^([-+]?)(?:(0[xX][\da-fA-F]+|[1-9]\d*|0)|0(\d+)|([1-9]\d?)[rR]0*([\da-zA-Z]+?))N?$/;
const MAX_DIGITS = 4300; // of an integer, as on the server
const BIGGEST = 10n ** BigInt(MAX_DIGITS);
const isShort = (n) => -BIGGEST < n && n < BIGGEST;
const POWERS = Array.from({ length: 23 }, (_, n) => +`1e${n}`);
const BUILT_IN = { inst: (text) => new Instant(text), uuid: (text) => new UUID(text) };
const LARGE = 2 ** 17; // characters; less is read in one go, within some 20 ms
// How a packet of many events begins and ends.
const BATCH = /^[\s,]*\[[\s,]*\[(?=[\s,]*\[)/;
const BATCH_END = /\][\s,]*nil[\s,]*\][\s,]*$/;
const SHAPE = 32; // so many keys of a map are guessed at most, and kept between two messages

// The text and the place in it. `quote` and `slash` are where the next of them stands, if that is
// not before pos. `shapes` are the keys of the last map at each depth: those of the next are
// most likely the same.
let text, pos, quote, slash, depth, readers, shapes = [];
let identity; // of the values of what is read or written now

const refuse = (message, position = pos, cause) => {
  const near = JSON.stringify(text.slice(position, position + 40));
  throw Object.assign(new EdnError(`${message} at ${position}: ${near}`, { cause }), { position });
};

/** Return what `make` makes of the text at position; what it throws gets that position. */
const attempt = (position, make) => {
  try {
    return make();
  } catch (error) {
    refuse(error?.message ?? error, position, error);
  }
};

const checkDepth = () => {
  if (depth > MAX_DEPTH) refuse(`expected at most ${MAX_DEPTH} levels, got more`);
};

/** Pass over whitespace and the like; give the code of the next character, or -1 at the end. */
function skip() {
  for (; pos < text.length; pos++) {
    const c = text.charCodeAt(pos);
    if (endOf(c) === 1) continue;
    const next = c === 35 && text[pos + 1];
    if (c === 59 || next === "!") {
      pos = text.indexOf("\n", pos);
      if (pos < 0) pos = text.length;
    } else if (next === "_") {
      const saved = readers;
      readers = {}; // what is thrown away is read, but no reader hears of it
      pos += 2;
      depth++;
      checkDepth();
      readForm(skip());
      depth--;
      pos--;
      readers = saved;
    } else {
      return c;
    }
  }
  return -1;
}

function readName() {
  const start = pos;
  let end = pos;
  while (!endOf(text.charCodeAt(end))) end++;
  pos = end;
  return text.slice(start, end);
}

function readForm(c) {
  const start = pos;
  checkDepth();
  switch (c) {
    case 34: // "
      return readString();
    case 58: { // :
      pos++;
      const name = readName();
      return recent.get(name) ??
        attempt(start, () => (READABLE.test(name) ? intern(name) : keyword(name)));
    }
    case 91: // [
      return readItems([], 93);
    case 40: // (
      return readItems(new List(), 41);
    case 123: // {
      return readMap();
    case 92: // \
      return readChar();
    case 35: // #
      return readTagged(text[pos + 1]);
    case 94: // ^
      return readMarked();
  }
  const first = c === 43 || c === 45 ? text.charCodeAt(pos + 1) : c;
  if (first > 47 && first < 58) return readNumber(c);
  const word = c === 110 ? "nil" : c === 116 ? "true" : "false";
  if (text.startsWith(word, pos) && endOf(text.charCodeAt(pos + word.length))) {
    pos += word.length;
    return c === 110 ? null : c === 116;
  }
  const name = readName();
  if (!name) refuse(`expected a form, got ${text[pos] ?? "the end"}`);
  const isOther = READABLE.test(name) && !NO_SYMBOL.test(name);
  return attempt(start, () => (isOther ? named(Name, name) : new Name(name)));
}

function readItems(found, close) {
  pos++;
  depth++;
  let c;
  while ((c = skip()) !== close) found.push(readForm(c));
  pos++;
  depth--;
  return found;
}

function readSet() {
  const found = new Set();
  const isNew = distinct(refuse, (identity ??= makeIdentity()));
  pos++;
  depth++;
  let c;
  while ((c = skip()) !== 125) {
    const start = pos;
    found.add(isNew(readForm(c), start));
  }
  pos++;
  depth--;
  return found;
}

function readMap(namespace) {
  let object = {};
  let found, isNew, c;
  pos++;
  depth++;
  const shape = (shapes[depth] ??= []);
  let index = namespace ? SHAPE : 0;
  while ((c = skip()) !== 125) {
    const start = pos;
    const guess = shape[index];
    if (
      c === 58 && guess !== undefined && text.startsWith(guess, start + 1) &&
      endOf(text.charCodeAt(start + 1 + guess.length))
    ) {
      pos += 1 + guess.length;
      index++;
      object[guess] = readForm(skip());
      continue;
    }
    let key = readForm(c);
    if (namespace && (key instanceof Keyword || key instanceof Name)) {
      const { name } = key;
      const full = name.startsWith("_/") ? name.slice(2)
        : name.includes("/") ? name : `${namespace}/${name}`;
      key = attempt(start, () => (key instanceof Keyword ? keyword(full) : new Name(full)));
    }
    const value = readForm(skip());
    if (!found && key instanceof Keyword) {
      const { name } = key;
      if (Object.hasOwn(object, name)) refuse(`expected different keys, got ${key} again`, start);
      if (name === "__proto__") {
        object = { ...object, [name]: value }; // an assignment would give it another class
      } else {
        object[name] = value;
        if (index < SHAPE && name.length < 65) {
          shape.length = index; // so that the keys in it stay different ones
          shape[index++] = name;
        }
      }
      continue;
    }
    if (!found) {
      found = new Map();
      isNew = distinct(refuse, (identity ??= makeIdentity()));
      index = SHAPE;
      for (const name of Object.keys(object)) found.set(isNew(intern(name)), object[name]);
    }
    found.set(isNew(key, start), value);
  }
  pos++;
  depth--;
  return found ?? object;
}

function readString() {
  const start = pos++;
  let out = "";
  for (;;) {
    if (quote < pos) {
      quote = text.indexOf('"', pos);
      if (quote < 0) refuse("expected a closing quote, got the end", start);
    }
    if (slash < pos) {
      slash = text.indexOf("\\", pos);
      if (slash < 0) slash = Infinity;
    }
    const end = Math.min(quote, slash);
    out += text.slice(pos, end);
    pos = end + 1;
    if (quote < slash) return out;
    ESCAPE.lastIndex = slash;
    const [, hex, octal, char] = ESCAPE.exec(text) ?? refuse("expected an escape", slash);
    out += char ? ESCAPED[char] ?? char : String.fromCharCode(+(hex ? "0x" + hex : "0o" + octal));
    pos = ESCAPE.lastIndex;
  }
}

function readChar() {
  const start = pos++;
  const name = readName() || text[pos++];
  const [, hex, octal] = /^(?:u([\da-fA-F]{4})|o([0-7]{1,3}))$/.exec(name) ?? [];
  const char = hex || octal ? String.fromCharCode(+(hex ? "0x" + hex : "0o" + octal))
    : Object.hasOwn(CHARS, name) ? CHARS[name] : name;
  return attempt(start, () => new Char(char));
}

function readNumber(c) {
  const start = pos;
  const first = c < 48 ? pos + 1 : pos;
  let end = first;
  let n = 0;
  let point = 0;
  let digit = 0;
  const all = text;
  for (;; end++) {
    digit = all.charCodeAt(end) - 48;
    if (digit >= 0 && digit < 10) n = n * 10 + digit;
    else if (digit === -2 && !point) point = end;
    else break;
  }
  if (endOf(digit + 48)) {
    pos = end;
    if (point) {
      // One division of two exact numbers is rounded as the text would be.
      const places = end - point - 1;
      if (n > Number.MAX_SAFE_INTEGER || places > 22) return +text.slice(start, end);
      return (c === 45 ? -n : n) / POWERS[places];
    }
    if (n <= Number.MAX_SAFE_INTEGER && (text.charCodeAt(first) !== 48 || end === first + 1)) {
      return c === 45 ? -n || 0 : n;
    }
  }
  TOKEN.lastIndex = start;
  const [token] = TOKEN.exec(text);
  pos = TOKEN.lastIndex;
  return attempt(start, () => numberOf(token));
}

const tooLong = (token) => expected(`at most ${MAX_DIGITS} digits`, token);
const shortest = (n) => (Number.isSafeInteger(Number(n)) ? Number(n) : n);

/** Return the number of a token that `readNumber` did not know at once. */
function numberOf(token) {
  const [all, sign, plain, octal, radix, digits] = INTEGER.exec(token) ?? [];
  if (all) {
    const small = parseInt(digits, +radix);
    if (radix && small.toString(+radix) !== digits.toLowerCase()) expected("a number", token);
    const whole = plain ?? "0o" + octal;
    const isLong = !radix && whole.length > MAX_DIGITS + 2;
    const n = isLong ? BIGGEST : BigInt(radix ? small : whole);
    if (!isShort(n)) tooLong(token);
    return shortest(sign === "-" ? -n : n);
  }
  const [, minus, numerator, denominator] = /^([-+]?)(\d+)\/(\d+)$/.exec(token) ?? [];
  if (denominator) {
    if (Math.max(numerator.length, denominator.length) > MAX_DIGITS) tooLong(token);
    const ratio = new Ratio(minus + numerator, denominator);
    return ratio.denominator === 1n ? shortest(ratio.numerator) : ratio;
  }
  if (token.endsWith("M")) return new Decimal(token.slice(0, -1));
  return DECIMAL.test(token) ? +token : expected("a number", token);
}

function readTagged(next) {
  const start = pos++;
  if (next === "{") return readSet();
  if (next === "^") return readMarked();
  if (next === "#") {
    pos++;
    skip();
    const name = readName();
    if (/^(-?Inf|NaN)$/.test(name)) return Number(name.replace("f", "finity"));
    refuse("expected ##Inf, ##-Inf or ##NaN", start);
  }
  if (next === ":") {
    pos++;
    const namespace = readName();
    // It stands here once, and in each key of the map.
    const isNamespace = /^[^/]{1,255}$/.test(namespace) && NAME.test(namespace);
    if (isNamespace && skip() === 123) return readMap(namespace);
    refuse("expected a namespace and a map", start);
  }
  const tag = readName();
  depth++;
  const value = readForm(skip());
  depth--;
  const reader = [readers, BUILT_IN].find((known) => Object.hasOwn(known, tag));
  return attempt(start, () => (reader ? reader[tag](value) : new Tagged(tag, value)));
}

const takesMark = (value) =>
  [Name, Array, Map, Set].some((type) => value instanceof type) || (value && isPlain(value));

/** Read what has metadata before it, and drop that. */
function readMarked() {
  const start = pos;
  let isMark = true;
  for (let c = 94; c === 94; c = skip()) {
    pos++;
    depth++; // of the metadata alone, as on the Python side
    const mark = readForm(skip());
    depth--;
    isMark &&= mark instanceof Keyword || typeof mark === "string" || takesMark(mark);
    skip();
    if (text.startsWith("#^", pos)) pos++;
  }
  const value = readForm(skip());
  return isMark && takesMark(value) ? value : refuse("expected metadata and a collection", start);
}

/** Read from a state on; give the one that was left for it. */
const enter = (state) => {
  const left = [text, pos, quote, slash, depth, readers, shapes, identity];
  [text, pos, quote, slash, depth, readers, shapes, identity] = state;
  return left;
};

export function read(source, options) {
  if (typeof source !== "string") expected("a text", source);
  const known = text === undefined ? shapes : []; // a reader reads
  const left = enter([source, 0, -1, -1, 0, options?.readers ?? {}, known, undefined]);
  try {
    const c = skip();
    return c < 0 ? null : readForm(c);
  } finally {
    enter(left);
  }
}

/** Read the items of `[[item ...] nil]` one by one, from the first on. */
function* readBatch(source, options, start) {
  let state = [source, start, -1, -1, IN_EVENT, options.readers ?? {}, [], undefined];
  for (;;) {
    let item;
    const left = enter(state);
    try {
      const c = skip();
      if (c === 93) {
        if (BATCH_END.exec(text.slice(pos))?.index !== 0) refuse("expected one batch");
        return;
      }
      identity = undefined; // it would keep what was read
      item = readForm(c);
    } finally {
      state = enter(left);
    }
    yield item;
  }
}

// -- edn: writing --

// The steps to the value that is being written: those from `base` on, how many collections of its
// packet stand around it, to `level`.
let steps, level, base;

/** Make the error of a value that cannot be written, from the steps that lead to it. */
const unwritableAt = (Type, message, taken) => {
  const path = taken.reduce(
    (way, step) => way + (typeof step === "string" ? `.${step}` : `[${step}]`),
    "$",
  );
  return Object.assign(new Type(`${message} at ${path.slice(0, 80)}`), { path });
};

const unwritable = (message, depth = level) => {
  throw unwritableAt(EdnError, message, steps.slice(base + 1, depth + 1));
};

const checkLevel = () => {
  if (level > MAX_DEPTH) unwritable(`expected at most ${MAX_DEPTH} levels, got more, or a cycle`);
};

/** Write an integer, or the two of a ratio. */
const writeDigits = (value) => {
  const digits = `${value}`;
  if (!/\d{4301}/.test(digits)) return digits;
  return unwritable("expected at most 4300 digits, got more"); // the Python side reads no more
};

function writeForm(value) {
  checkLevel();
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "number":
      if (Number.isSafeInteger(value)) return Object.is(value, -0) ? "-0.0" : `${value}`;
      if (value % 1) return `${value}`;
      return isFinite(value) ? value.toExponential() : "##" + `${value}`.replace("inity", "");
    case "boolean":
      return value ? "true" : "false";
    case "undefined":
      return "nil";
    case "bigint":
      return writeDigits(value) + (BigInt.asIntN(64, value) === value ? "" : "N");
    case "object":
      if (value) {
        level++;
        const written = writeObject(value);
        level--;
        return written;
      }
      return "nil";
  }
  unwritable(`expected a value, got a ${typeof value}`);
}

function writeObject(value) {
  if (Array.isArray(value)) {
    const isList = value instanceof List;
    return (isList ? "(" : "[") + writeItems(value) + (isList ? ")" : "]");
  }
  if (isPlain(value)) return writeProperties(value);
  if (value instanceof Keyword || value instanceof Name) {
    const { name } = value;
    if (isName(name) && (value instanceof Keyword || !NO_SYMBOL.test(name))) return `${value}`;
    unwritable(`expected a name, got ${JSON.stringify(name)}`, level - 1);
  }
  if (value instanceof Ratio) return writeDigits(value);
  if (value instanceof Map || value instanceof Set) return writeEntries(value);
  if (value instanceof Date) {
    const iso = value.toJSON();
    if (iso?.length !== 24 || iso < "0001") {
      unwritable(`expected a date of the years 1 to 9999, got ${iso}`, level - 1);
    }
    checkLevel(); // of the text behind the tag
    const { microseconds } = /** @type {Instant} */ (value);
    const digits = microseconds ? `${microseconds}`.padStart(3, "0") : "";
    return `#inst "${iso.slice(0, 23)}${digits}-00:00"`;
  }
  if (value instanceof UUID) {
    checkLevel();
    return `#uuid "${value}"`;
  }
  if (value instanceof Tagged) {
    steps[level] = "value";
    return `#${value.tag} ${writeForm(value.value)}`;
  }
  if (value instanceof Char) {
    const { char } = value;
    return "\\" + (Object.keys(CHARS).find((name) => CHARS[name] === char) ?? char);
  }
  if (value instanceof Decimal) {
    if (Math.abs(scaled(value)[1]) < 2 ** 31) return `${value}M`;
    unwritable(`expected an exponent of 32 bits, got ${value}`, level - 1);
  }
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    return writeForm(value.valueOf());
  }
  if (value[Symbol.iterator]) return `[${writeItems(value)}]`;
  if (typeof value.toJSON === "function") {
    steps[level] = "toJSON()";
    return writeForm(value.toJSON());
  }
  // What shows nothing of itself (a Promise, a RegExp, an Error) would be lost without a sound.
  if (!Object.keys(value).length) unwritable(`expected a value, got ${value}`, level - 1);
  return writeProperties(value);
}

function writeItems(items) {
  let out = "";
  let index = 0;
  for (const item of items) {
    steps[level] = index;
    if (index++) out += " ";
    out += writeForm(item);
  }
  return out;
}

/** Return the keys that are written: a property that is undefined is left out, as in JSON. */
const definedKeys = (object) => Object.keys(object).filter((key) => object[key] !== undefined);

/** Whether keys can be written as keywords. If one cannot, all keys of its object are strings. */
const areNames = (keys) => keys.every((key) => recent.has(key) || (isName(key) && keyword(key)));

function writeProperties(object) {
  const keys = definedKeys(object);
  if (!areNames(keys)) return writeEntries(new Map(keys.map((key) => [key, object[key]])));
  let out = "";
  for (const key of keys) {
    steps[level] = key;
    out += (out ? ", :" : ":") + key + " " + writeForm(object[key]);
  }
  return "{" + out + "}";
}

function writeEntries(found) {
  const isNew = distinct(unwritable, (identity ??= makeIdentity("edn")));
  const parts = [];
  const isSet = found instanceof Set;
  for (const [key, value] of found.entries()) {
    steps[level] = [parts.length];
    const written = writeForm(key);
    isNew(key);
    steps[level] = [written];
    parts.push(isSet ? written : `${written} ${writeForm(value)}`);
  }
  return isSet ? `#{${parts.join(" ")}}` : `{${parts.join(", ")}}`;
}

const writeAt = (value, around) => {
  const saved = [steps, level, base, identity];
  steps = [];
  identity = undefined;
  level = base = around;
  try {
    return writeForm(value);
  } finally {
    [steps, level, base, identity] = saved;
  }
};

export function write(value) {
  return writeAt(value, 0);
}

/** The packer that is built in; the others are modules of their own. */
const makeEdn = (options) => ({
  binary: false,
  contentType: "application/edn",
  fragment: (id, data) => `[:${id}${data === undefined ? "" : ` ${writeAt(data, IN_EVENT)}`}]`,
  packet: (fragment, cbId) => `[${fragment} ${write(cbId)}]`,
  unpack: (packet) => read(packet, options),
  batch: (packet) => {
    const begin = packet.length > LARGE && BATCH_END.test(packet.slice(-64)) && BATCH.exec(packet);
    return begin && readBatch(packet, options, begin[0].length);
  },
  name: (value) => (value instanceof Keyword ? value.name : undefined),
});

/**
 * Return the seconds before attempt n, counted since the channel was last in health. The first is
 * made at once; the next two soon, for most outages are restarts; then 2 to 4 s, doubling up to
 * `cap`. Each is spread by chance, so that the clients of a server do not come back in step.
 */
const retryDelay = (n, cap, random = Math.random()) => {
  const top = Math.min(2 ** (n - 2), cap);
  const [least, most] = [[0, 0], [0.3, 1], [0.5, 1.5]][n - 1] ?? [top / 2, top];
  return (least + (most - least) * random) * Math.min(1, cap / most);
};

// For the packers beside this module, and the tests.
export const internals = {
  areNames, definedKeys, distinct, intern, isName, isPlain, isWhole, makeEdn, makeIdentity, named,
  retryDelay, shortest, unwritableAt, IN_EVENT, MAX_DEPTH,
};

// The client: links (one WebSocket, or one Ajax session), and the Client that makes them.

/** The caller's event: an id that is no namespaced keyword, or one in `chsk/`. */
export class InvalidEvent extends ChansockError {
  name = "InvalidEvent";
}

/** The channel is closed; `reason` says why. */
export class ChannelClosed extends ChansockError {
  name = "ChannelClosed";
  constructor(message, reason) {
    super(message);
    this.reason = reason;
  }
}

/** The server reads more slowly than the application sends: `maxBacklogBytes` wait already. */
export class BacklogFull extends ChansockError {
  name = "BacklogFull";
}

/** No reply came in time; the event may have been handled. */
export class ReplyTimeout extends ChansockError {
  name = "ReplyTimeout";
}

/** The server's handler failed, or its POST was not taken; `reason` is why the data did not fit. */
export class ReplyError extends ChansockError {
  name = "ReplyError";
  constructor(message, reason) {
    super(reason ? `${message}: ${reason}` : message);
    this.reason = reason;
  }
}

const MIB = 2 ** 20;

const DEFAULTS = {
  transport: "auto",
  packer: undefined,
  clientId: undefined,
  csrfToken: undefined,
  csrfTokenIn: "param", // as Sente's
  params: undefined,
  headers: undefined,
  resume: true,
  offline: undefined,
  maxQueuedEvents: 1000,
  maxInboxEvents: 10000,
  maxMessageBytes: 16 * MIB, // a server sends all that waits as one batch: 1 MiB by default
  maxBacklogBytes: 4 * MIB,
  connectTimeout: 5,
  ajaxTimeout: 60, // the server ends a poll after 20 s
  pingInterval: 10, // Sente's window: its 20 s option, halved
  pingTimeout: 5,
  backoff: undefined,
  maxBackoff: 2.5, // a page that is seen is back within 3 s of the server's return
  upgradeInterval: 30,
  readers: undefined,
  signal: undefined,
  trace: undefined,
  WebSocket: undefined,
  fetch: undefined,
};

const SENDING = { timeout: undefined, signal: undefined };

const CHOICES = {
  transport: ["auto", "ws", "ajax"],
  resume: [true, false, "reload"],
  offline: ["refuse", "queue"],
  csrfTokenIn: ["param", "subprotocol"],
};

// Seconds.
const MOVE_TIMEOUT = 3; // Ajax to WebSocket, with no poll parked: less than the server's grace of 5
const CHECK_TIMEOUT = 2; // a ping because something woke us: there is a suspicion
const SILENT_POLL = 25; // the server ends polls after 20
const JUMP = 4; // a clock that ticks each second and is that late has slept
const ASK = 0.25; // between two pings that ask for an acknowledgement
const LOCK_WAIT = 1; // for the lock of a client-id, which a page that goes away lets go
const RELOAD_WAIT = 10; // after a reload: the page before it is sure to go
const UNREADABLE = 4007; // close code: RFC 6455's 1007, which no page may send
const TOO_LARGE = 4009; // close code: the same of 1009
const REPLACED = 4409; // close code: another connection has this client-id
const QUICK = 1; // an empty answer to a poll that came sooner is no poll_timeout of a server
const LONGEST_RETRY_AFTER = 300; // a server may ask for more, but not for a day
const LOG_INTERVAL = 10; // between two lines of one kind
const SLOT_WAIT = 1; // for a slot; thrice as long in a hidden tab: less than the server's grace of 5
const DRAIN = 0.005; // a socket with much in its buffer is looked at again; it has no event for that
const CLOSING = 5; // npm's `ws` alone: for the server's goodbye, as in Python
const STEADY = 1; // a channel that closed sooner is no sign of a server in health
const USEFUL = 5; // a WebSocket that closed sooner, three times running, counts as blocked

const MAX_POSTS = 4; // a browser has 6 connections to a host, and the poll needs one
const MAX_UNACKED = 1000; // events that the server has not said it handled; in bytes 1 MiB
const MAX_ABANDONED = 1; // POSTs that nobody waits for any more: the sixth connection
const MAX_SLOTS = 3; // of those 6, for the parked polls of all tabs
const MAX_HANDSHAKES = 8; // of one WebSocket; no server sends more than one
const MAX_LEFT = 1000; // npm's `ws` alone: messages before the server's goodbye
const MAX_BUFFERED = MIB; // a socket gets no more: what it has can't be taken back
const MAX_WORDS = 4096; // bytes of an error's body that are read
const OVERHEAD = 256; // bytes that an event costs while it waits, besides its own
const SLICE = 10; // ms of work between two pauses of the event loop
const IN_CACHE = "the page is in the page cache";
const UPGRADING = "upgrading-ajax-to-ws";
const OWN = ["chsk/state", "chsk/handshake", "chsk/ws-ping"]; // events of the client itself
const ENDINGS = ["fresh", "resumed", "gap"]; // how a server says that a connection was resumed
const RESTARTING = [1001, 1012, 502, 503]; // codes of a server, or a proxy, that is down for a moment

const makeReason = (kind, code = null, text = "") => Object.freeze({ kind, code, text });

/** Name the reason of a close code, or of an HTTP status other than 200. */
const peerReason = (code, text, wasOpen) =>
  makeReason(
    [401, 403, 1008, 4401].includes(code)
      ? "refused"
      : !wasOpen
        ? "not-opened"
        : code === 1000
          ? "clean"
          : "unexpected",
    code,
    text.trim().split("\n")[0].slice(0, 200),
  );

/** setTimeout, in seconds. What does not fit into 31 bits of ms would fire at once. */
const later = (go, seconds, ...args) =>
  setTimeout(go, Math.min(seconds * 1000, 2 ** 31 - 1), ...args);

/** Wait so long; not longer than until the signal. */
const wait = (seconds, signal) =>
  new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", go);
      resolve();
    };
    const timer = later(go, signal.aborted ? 0 : seconds);
    signal.addEventListener("abort", go);
  });

/** Decode a packet that was pushed to [value, cbId]; throws for what is none. */
const unpack = (packer, packet) => {
  const batch = packer.batch?.(packet);
  if (batch) return [batch];
  const found = packer.unpack(packet) ?? [];
  if (!Array.isArray(found)) throw new PacketError(`expected a packet, got ${got(packet)}`);
  return found;
};

/** Whether a batch is read event by event, while it is handled. */
const isLazy = (value) => value instanceof readBatch;

const isHandshake = (packer, value) =>
  Array.isArray(value) && packer.name(value[0]) === "chsk/handshake";

/** Return the url with these fields in its query besides; what is null is left out. */
const withQuery = (url, fields) => {
  const at = new URL(url);
  for (const [key, value] of Object.entries(fields)) {
    if (value != null) at.searchParams.set(key, value);
  }
  return at;
};

/** Write a token as a subprotocol, whatever is in it. */
const offerOf = (token) => {
  const binary = String.fromCharCode(...new TextEncoder().encode(token));
  const text = btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["chansock", `csrf64.${text}`];
};

const makeId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");

const got = (packet) => {
  const start = packet.slice(0, 80);
  return JSON.stringify(typeof start === "string" ? start : new TextDecoder().decode(start));
};

const ignore = () => {};

const pauses = []; // who waits for the event loop
let channel;

/**
 * Wait until the event loop has run other tasks. Browsers slow down timers, but not messages; Node
 * delivers up to 1000 messages in one task, but has setImmediate.
 */
const breathe = () =>
  new Promise((go) => {
    const { setImmediate } = /** @type {any} */ (globalThis);
    if (setImmediate) return setImmediate(go);
    if (!channel) {
      channel = new MessageChannel();
      channel.port1.onmessage = () => pauses.shift()();
    }
    pauses.push(go);
    return channel.port2.postMessage(0);
  });

/** The seconds that a Retry-After asks for: a number, or a date (RFC 9110 section 10.2.3). */
const retryAfter = (response) => {
  const field = response.headers?.get("retry-after") ?? "";
  const seconds = /^\d+$/.test(field) ? +field : (Date.parse(field) - Date.now()) / 1000;
  return Math.min(Math.max(seconds || 0, 0), LONGEST_RETRY_AFTER);
};

/**
 * Read a body up to its first bytes past the limit; the rest is not waited for. Gives its size, and
 * its bytes or its text; a text is decoded as it comes, for engines free bytes late.
 * @returns {Promise<[number, any]>}
 */
const readBody = async ({ body }, limit, isBytes) => {
  const chunks = [];
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  let until = performance.now() + SLICE;
  const reader = body?.getReader();
  while (reader && size <= limit) {
    if (performance.now() > until) {
      await breathe(); // a body may come byte by byte
      until = performance.now() + SLICE;
    }
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (isBytes) chunks.push(value);
    else text += decoder.decode(value, { stream: true });
  }
  if (size > limit) reader.cancel().catch(ignore);
  if (!isBytes) return [size, text + decoder.decode()];
  const bytes = new Uint8Array(size > limit ? 0 : size);
  let at = 0;
  for (const chunk of bytes.length ? chunks : []) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return [size, bytes];
};

/** What the platform says of an error; Node names the cause apart. */
const wordsOf = ({ message, cause }) =>
  cause ? `${message}: ${cause.message || cause.code}` : message;

/**
 * Wait a moment for one of the slots for parked polls, which the tabs of an origin share by Web
 * Locks: a browser has six connections to a host over HTTP/1.1, and parked polls of six tabs would
 * leave none for POSTs. Gives a function that frees the slot; undefined if none is free: such a tab
 * asks with `wait=0`, which the server answers at once.
 */
const takeSlot = (name, signal) =>
  new Promise((go) => {
    const wanted = new AbortController();
    const stop = () => wanted.abort();
    signal.addEventListener("abort", stop);
    const grant = () => {
      if (wanted.signal.aborted) return undefined;
      stop(); // waiting for the others
      return new Promise((end) => {
        signal.addEventListener("abort", end);
        go(end);
      });
    };
    // A page in a sandbox may have no locks.
    const fail = ({ name }) => name === "AbortError" || go(ignore);
    for (let i = 0; i < MAX_SLOTS; i++) {
      globalThis.navigator.locks.request(`${name} ${i}`, { signal: wanted.signal }, grant).catch(fail);
    }
    wait(isHidden() ? 3 * SLOT_WAIT : SLOT_WAIT, wanted.signal).then(() => {
      stop();
      go(); // if not granted
    });
  });

/** Return the word that is most like another, or all words if none is like it. */
const nearest = (word, words) => {
  const distance = (other) => {
    const [a, b] = [word.toLowerCase().slice(0, 40), other.toLowerCase()];
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 0; i < a.length; i++) {
      const next = [i + 1];
      for (let j = 0; j < b.length; j++) {
        next.push(Math.min(row[j + 1] + 1, next[j] + 1, row[j] + +(a[i] !== b[j])));
      }
      row = next;
    }
    return row[b.length];
  };
  const best = words.reduce((best, other) => (distance(other) < distance(best) ? other : best));
  return distance(best) <= word.length / 2 ? best : `one of ${words.join(", ")}`;
};

const checkOptions = (given, known) => {
  if (!given || typeof given !== "object") {
    throw new TypeError(`expected an object of options like { timeout: 5 }, got ${given}`);
  }
  for (const key of Object.keys(given)) {
    if (Object.hasOwn(known, key)) continue;
    throw new TypeError(`option ${key}: expected ${nearest(key, Object.keys(known))}`);
  }
};

const checkSignal = (signal) => {
  if (signal && typeof signal.addEventListener !== "function") {
    throw new TypeError(`option signal: expected an AbortSignal, got ${signal}`);
  }
};

const checkHandler = (handler) => {
  if (typeof handler !== "function") {
    throw new TypeError(`expected a handler (data, event) => {}, got ${handler}`);
  }
};

/** How much a packet holds: bytes, or UTF-16 units of text. */
const sizeOf = (packet) => packet.length ?? packet.size;

const isHidden = () => !!globalThis.document?.hidden;

const records = new Map(); // key -> the record of a client of this page

/**
 * Make the record of one client in sessionStorage, so that it resumes after a reload of its page:
 * at its key a head (client-id, position, numbers), and at `<key> <n>` the encoded event n. A send
 * writes one event and the head, an acknowledgement removes events. Undefined without storage.
 */
const makeRecord = (url, isBinary, complain) => {
  let key;
  let head = null; // as it was written last
  let storage = null;
  const at = (n) => `${key} ${n}`;
  const keep = (write) => {
    try {
      if (storage) write();
    } catch (error) {
      record.clear();
      storage = null;
      complain("a reload will not resume", error);
    }
  };
  const record = {
    /** Take the first key that no other client of this page has; or keep the one that we had. */
    claim() {
      if (records.get(key) === record) return;
      for (let i = 1; !key || records.has(key); i++) key = `chansock ${url} ${i}`;
      records.set(key, record);
    },
    release: () => records.get(key) === record && records.delete(key),
    /** Whether another page has written here since. */
    isForeign: () => !!storage && storage.getItem(key) !== head,
    read() {
      head = storage.getItem(key);
      const found = JSON.parse(head);
      if (!found) return null;
      found.fragments = [];
      for (let n = found.acked + 1; ; n++) {
        const text = storage.getItem(at(n));
        if (text === null) return found;
        found.fragments.push(isBinary ? Uint8Array.from(text, (c) => c.charCodeAt(0)) : text);
      }
    },
    write: (found) => keep(() => storage.setItem(key, (head = JSON.stringify(found)))),
    put: (n, fragment) =>
      keep(() => {
        const char = (byte) => String.fromCharCode(byte);
        storage.setItem(at(n), isBinary ? Array.from(fragment, char).join("") : fragment);
      }),
    drop: (n) => storage?.removeItem(at(n)),
    clear() {
      for (const name of Object.keys(storage ?? {})) {
        if (name === key || name.startsWith(`${key} `)) storage.removeItem(name);
      }
    },
  };
  try {
    storage = globalThis.sessionStorage; // which a browser may refuse to a page
  } catch {
    // as without
  }
  return storage ? record : undefined;
};

/** Ask for a lock: `{isMine, free}`, a promise of whether nobody else has it, and its end. */
const takeLock = (name) => {
  const { locks } = globalThis.navigator ?? {};
  const entries = globalThis.performance?.getEntriesByType?.("navigation") ?? [];
  const [navigation] = /** @type {PerformanceNavigationTiming[]} */ (entries);
  const wanted = new AbortController();
  let free = () => wanted.abort();
  const isMine = new Promise((go) => {
    if (!locks) return go(true);
    const timer = later(free, navigation?.type === "reload" ? RELOAD_WAIT : LOCK_WAIT);
    const hold = () => {
      clearTimeout(timer);
      const isWanted = !wanted.signal.aborted;
      go(isWanted);
      return isWanted ? new Promise((end) => (free = () => end(undefined))) : undefined;
    };
    // A sandboxed page has no locks and goes on without. A page that is leaving gets another error.
    const fail = ({ name }) => go(name === "SecurityError");
    return locks.request(name, { signal: wanted.signal }, hold).catch(fail);
  });
  return { isMine, free: () => free() };
};

/** Return the value of a reply, or throw what it stands for by its name. */
const readReply = (value, packer) => {
  const name = packer.name(value);
  if (name === "chsk/error") throw new ReplyError("the server's handler failed (:chsk/error)");
  if (Array.isArray(value) && value.length === 2 && packer.name(value[0]) === "chsk/error") {
    const text =
      value[1] === "unclaimed"
        ? "no handler on the server takes this event"
        : "the server's handler could not take the data";
    throw new ReplyError(text, String(value[1]));
  }
  if (name === "chsk/timeout") throw new ReplyTimeout("the server's own time-out (:chsk/timeout)");
  return value;
};

/** Make the reason of a link that ends since a packet cannot be read. */
const unreadable = ({ opened }, { message }, code) =>
  makeReason(opened ? "unexpected" : "not-opened", code, `cannot read a packet: ${message}`.slice(0, 200));

/**
 * A link is one WebSocket, or one Ajax session:
 * `{type, opened, resumes, ended, start, isAlive, hasRoom, buffered, send, ask, tick, check, leave,
 * end}`.
 * `start(timeout)` gives a promise of the reason of its end; `end(reason)` ends it; `check()`
 * finds out whether it is alive; `leave(isKept)` frees what would keep a page out of the back-forward
 * cache, and ends a WebSocket if the page is kept there; `send(call)` sends an encoded event, if
 * `hasRoom()`; `ask()` asks for an acknowledgement. `resumes` is whether the server of its
 * handshake does: then a call whose fate is unknown is left alone, and the next link sends it again.
 * It calls its `owner`: `perform(link, job, size)` with a generator for what came in, run in
 * order; from there `opened(link, handshake)`, and `took(link, value, cbId)`, a generator too.
 * Besides `lost(reason)` (what came cannot be used, so a reply may be lost), `answered(call,
 * value)`, `position(link)` (fields of a query), `counts(link)` (data of pings), `flush()` (there is
 * room again), `isEvent`,
 * `trace`, `own` (an event of the client itself), `note` (what joins the next state), `retryAfter`
 * (seconds), and `complain(what, ...)` (to the log, at a bounded pace).
 */
const makeSocket = (owner, place) => {
  const {
    WebSocket = globalThis.WebSocket, pingInterval, pingTimeout, csrfTokenIn, maxMessageBytes,
  } = owner.options;
  const { packer } = owner;
  let socket;
  let timer; // until it must have opened, or have answered a ping
  let heard = 0;
  let finish;
  let failure = ""; // what the platform says of an error
  let handshakes = 0;
  let early = []; // what came before the handshake
  let earlySize = 0;
  let late = 0; // messages that are not handled yet
  let asked = -ASK * 1000; // when an acknowledgement was asked for

  const say = (fragment, cbId) => {
    const packet = packer.packet(fragment, cbId);
    owner.trace("out", packet, "ws");
    try {
      socket.send(packet);
    } catch (error) {
      const reason = makeReason("ws-error", null, error.message);
      link.end(reason);
      throw closedError(reason);
    }
  };

  const sayOwn = (id, cbId) => {
    try {
      say(packer.fragment(id, owner.counts(link)), cbId);
    } catch {
      // it has ended, and said why
    }
  };

  const stopTimer = () => {
    clearTimeout(timer);
    timer = undefined;
  };

  const ping = (seconds) => {
    clearTimeout(timer);
    timer = later(() => link.end(makeReason("ws-ping-timeout")), seconds);
    sayOwn("chsk/ws-ping", "ping");
  };

  /** End it, since what the server sent cannot be used: its events are lost. */
  const refuse = (reason, code, text) => {
    owner.lost(reason);
    link.end(reason, code, text);
  };

  function* receive(packet) {
    if (link.opened) stopTimer(); // whatever it says, it lives
    owner.trace("in", packet, "ws");
    const size = sizeOf(packet);
    if (size > maxMessageBytes) {
      const text = `expected packets of ${maxMessageBytes} bytes at most, got ${size}`;
      const kind = link.opened ? "unexpected" : "not-opened";
      return refuse(makeReason(kind, TOO_LARGE, text), TOO_LARGE, "a packet that is too large");
    }
    try {
      yield* take(size, ...unpack(packer, packet));
    } catch (error) {
      // The client comes back, and the application knows of the gap.
      owner.complain("a packet that cannot be read", error);
      refuse(unreadable(link, error, UNREADABLE), UNREADABLE, "a packet that cannot be read");
    }
  }

  function* take(size, value, cbId) {
    if (cbId == null && isHandshake(packer, value)) {
      if (++handshakes > MAX_HANDSHAKES) {
        return link.end(makeReason("unexpected", null, "expected one handshake, got many"));
      }
      stopTimer();
      link.opened = true;
      owner.opened(link, value[1]);
      for (const [value, cbId] of early.splice(0)) {
        yield;
        yield* owner.took(link, value, cbId);
      }
    } else if (cbId == null && packer.name(value) === "chsk/ws-ping") {
      // What the server has not read yet shows that we live; pongs would pile up there.
      if (!socket.bufferedAmount) sayOwn("chsk/ws-pong", null);
      owner.own("chsk/ws-ping", null);
    } else if (link.opened) yield* owner.took(link, value, cbId);
    else if ((earlySize += size + OVERHEAD) > maxMessageBytes) {
      link.end(makeReason("not-opened", null, "expected a handshake first"));
    } else early.push([value, cbId]);
  }

  /** Read no more until what came is handled, with npm's `ws`, which can wait. */
  const slowDown = (work) => {
    if (!work || !socket.pause) return;
    late++;
    socket.pause();
    work.then(() => --late || socket.resume());
  };

  const link = {
    type: "ws",
    opened: false,
    ended: false,

    start: (seconds) =>
      new Promise((resolve) => {
        finish = resolve;
        timer = later(
          () => link.end(makeReason("not-opened", null, "no handshake in time")),
          seconds,
        );
        const { token } = place;
        const isOffered = token != null && csrfTokenIn === "subprotocol";
        const query = { "csrf-token": isOffered ? null : token, why: 1, ...owner.position(link) };
        const url = place.url(query);
        url.protocol = url.protocol.replace("http", "ws");
        try {
          const offered = isOffered ? offerOf(token) : [];
          // Only npm's `ws` knows options: it would hold 100 MiB of a message that has no end.
          socket = new /** @type {any} */ (WebSocket)(url.href, offered, { maxPayload: maxMessageBytes });
        } catch (error) {
          return link.end(makeReason("not-opened", null, error.message));
        }
        // A browser hands each message over in a task of its own, and `ws` many in one.
        link.isBursty = !!socket.pause;
        if (packer.binary) socket.binaryType = "arraybuffer";
        socket.onclose = ({ code, reason, wasClean: clean }) => {
          owner.note({ lastWsClose: Object.freeze({ time: new Date(), code, reason, clean }) });
          // After what came before it.
          owner.perform(link, (function* () {
            const why = peerReason(code, reason || failure, link.opened);
            if (link.opened && failure) owner.lost(why); // `ws` threw a message away
            link.end(why);
          })());
        };
        socket.onerror = ({ message = "" }) => {
          // A close follows. Browsers say nothing more.
          failure = message;
          if (socket.readyState === 2) socket.terminate?.(); // `ws` would wait for the goodbye, and read
          owner.note({ lastWsError: Object.freeze({ time: new Date(), text: message }) });
        };
        socket.onmessage = ({ data }) => {
          heard = performance.now();
          const packet = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
          slowDown(owner.perform(link, receive(packet), sizeOf(packet)));
        };
      }),

    isAlive: () => socket.readyState === 1 && !link.ended,
    hasRoom: () => socket.bufferedAmount < MAX_BUFFERED,
    buffered: () => socket.bufferedAmount,

    send(call) {
      try {
        say(call.fragment, call.cbId);
        if (!call.wantsReply) call.resolve();
      } catch (error) {
        if (!link.resumes) call.reject(error);
      }
    },

    // No sign of life is waited for: all that was sent before comes first.
    ask() {
      const now = performance.now();
      if (now - asked < ASK * 1000) return;
      asked = now;
      sayOwn("chsk/ws-ping", "ping");
    },

    // What we say is no sign of life of the other side: a dead network takes it too.
    tick() {
      const isIdle = performance.now() - heard >= pingInterval * 1000;
      if (link.opened && !timer && isIdle) ping(pingTimeout);
    },

    check() {
      if (socket.readyState === 1) ping(CHECK_TIMEOUT);
      else link.end(makeReason("unexpected"));
    },

    leave: (isKept) => isKept && link.end(makeReason("unexpected", null, IN_CACHE)),

    end(reason, code = 1000, text = "CLOSE_NORMAL") {
      if (link.ended) return;
      link.ended = true;
      clearTimeout(timer);
      early = [];
      if (socket) {
        // Closing may take the platform long; nothing of ours is kept until then. For 30 s npm's `ws`
        // would read whatever comes instead of a goodbye.
        let left = MAX_LEFT;
        const cut = () => socket.terminate?.();
        if (socket.terminate && socket.readyState < 3) timer = later(cut, CLOSING);
        socket.onclose = stopTimer;
        socket.onmessage = () => --left || cut();
        socket.onerror = ignore; // npm's `ws` would throw an error that nobody handles
        socket.close(code, text);
      }
      finish(reason);
    },
  };
  return link;
};

const makeAjax = (owner, place) => {
  const { fetch = globalThis.fetch, ajaxTimeout, maxMessageBytes } = owner.options;
  const { packer } = owner;
  const headers = { ...place.headers, "x-requested-with": "XMLHTTPRequest" };
  if (place.token != null) headers["x-csrf-token"] = place.token;
  const { navigator, location } = globalThis;
  const slots = navigator?.locks && location && `chansock ${place.base.origin}${place.base.pathname}`;
  const ended = new AbortController();
  const refused = new Set(); // the numbers of POSTs that got 503: they go first
  let session; // the udt of the GET that was answered with a handshake
  let isOurs = false; // the server's kind: Sente's says text/html, and reads forms alone
  let polls = 0;
  let idle = 0; // answers to polls, running, that came at once and brought no event
  let posts = 0; // POSTs under way
  let abandoned = 0; // those of them that nobody waits for any more
  let heard = Date.now();
  let udt = 0;
  let finish;
  let why; // it ended

  const now = () => (udt = Math.max(Date.now(), udt + 1)); // never the same twice

  const fail = (code, text) => makeReason(link.opened ? "unexpected" : "not-opened", code, text);

  /**
   * Ask; give the status, the packet or the words for an error, and the seconds of Retry-After.
   * Throws what fetch throws, or a reason: for a redirect, which would take the token, the headers
   * and the packet elsewhere, and for a packet that is too large.
   */
  const ask = async (url, init, seconds, signal) => {
    const abort = new AbortController();
    const stop = () => abort.abort();
    let late;
    const timer = later(() => {
      late = true;
      stop();
    }, seconds);
    const signals = [ended.signal, signal].filter(Boolean);
    for (const each of signals) {
      if (each.aborted) stop();
      each.addEventListener("abort", stop);
    }
    try {
      const response = await fetch(url, {
        headers,
        ...init,
        credentials: "include",
        redirect: "manual",
        signal: abort.signal,
      });
      const { status, type } = response;
      if (type === "opaqueredirect" || (status > 299 && status < 400)) {
        stop();
        throw fail(status || null, "expected an answer, got a redirect, which is not followed");
      }
      const limit = status === 200 ? maxMessageBytes : MAX_WORDS;
      const [size, packet] = await readBody(response, limit, status === 200 && packer.binary);
      if (status === 200 && size > limit) {
        throw fail(null, `expected packets of ${limit} bytes at most, got more`);
      }
      if (status === 200 && !link.opened) {
        isOurs = !!response.headers?.get("content-type")?.startsWith("application/edn");
      }
      return [status, packet, retryAfter(response)];
    } catch (error) {
      throw late ? new ReplyTimeout("no answer in time") : error;
    } finally {
      clearTimeout(timer);
      for (const each of signals) each.removeEventListener("abort", stop);
    }
  };

  const get = async (seconds, isParked = true) => {
    const asked = now();
    const start = performance.now();
    // A poll has a number: the server knows it again if a browser repeats it by itself.
    const fields = link.opened ? { n: ++polls, wait: isParked ? null : 0 } : { "handshake?": 1 };
    const query = { udt: asked, ...fields, ...owner.position(link) };
    const [status, packet, after] = await ask(place.url(query), {}, seconds);
    owner.retryAfter(after);
    if (status !== 200) throw peerReason(status, packet, link.opened);
    heard = Date.now();
    owner.trace("in", packet, "ajax");
    const isQuick = isParked && performance.now() - start < QUICK * 1000;
    try {
      return [unpack(packer, packet)[0], asked, isQuick];
    } catch (error) {
      throw unreadable(link, error, null);
    }
  };

  const repoll = async () => {
    if (idle) await wait(Math.min(2 ** idle / 8, QUICK), ended.signal);
    if (!slots) return get(ajaxTimeout);
    const leaving = new AbortController();
    link.leave = () => leaving.abort();
    const free = await takeSlot(slots, leaving.signal);
    try {
      return await get(ajaxTimeout, !!free);
    } finally {
      free?.();
    }
  };

  const pollOn = () => {
    const next = repoll();
    next.catch(() => {}); // thrown where it is awaited
    return next;
  };

  function* take(value, weigh) {
    try {
      weigh(yield* owner.took(link, value));
    } catch (error) {
      link.end(unreadable(link, error, null));
    }
  }

  const poll = async (seconds, isTrial) => {
    let next = get(seconds);
    for (;;) {
      const [value, asked, isQuick] = await next;
      const isFirst = isHandshake(packer, value);
      if (isTrial) return makeReason("clean");
      const weigh = (hasEvent) => (idle = link.opened && isQuick && !hasEvent ? idle + 1 : 0);
      const isWhole = !isLazy(value);
      if (isWhole) weigh(Array.isArray(value) && value.some(owner.isEvent));
      if (isFirst) {
        session = asked;
        link.opened = true;
        owner.opened(link, value[1]);
      } else if (!link.opened) throw makeReason("not-opened", null, "expected a handshake");
      const isMove = !isFirst && owner.beginMove();
      // What the server sends meanwhile finds the next poll parked; but one that names a position
      // waits until the events before that are passed on.
      const isAhead = isWhole && !link.resumes;
      if (!isMove && isAhead) next = pollOn();
      if (!isFirst && packer.name(value) !== "chsk/timeout") {
        await owner.perform(link, take(value, isWhole ? ignore : weigh), 0);
      }
      if (!isMove && !isAhead) next = pollOn();
      if (isMove) {
        // What is on its way by POST must be there before anything goes by the WebSocket.
        for (let i = 0; posts && i < 20; i++) await wait(0.05, ended.signal);
        if (!posts || why) return makeReason(UPGRADING);
        owner.endMove();
        next = pollOn();
      }
    }
  };

  /** Whether any HTTP is answered: a page of another origin may not read the answer of a WebSocket's server. */
  const isReached = async (seconds) => {
    if (!location || location.origin === place.base.origin) return false;
    const signal = AbortSignal.timeout(seconds * 1000);
    return fetch(place.base, { mode: "no-cors", credentials: "omit", signal }).then(() => true, () => false);
  };

  const link = {
    type: "ajax",
    opened: false,
    ended: false,

    start: (seconds, isTrial) =>
      new Promise((resolve) => {
        finish = resolve;
        poll(link.opened ? ajaxTimeout : seconds, isTrial)
          .catch(async (error) => {
            if (isTrial && error instanceof TypeError && (await isReached(seconds))) {
              return makeReason("clean");
            }
            return error.kind ? error : fail(null, wordsOf(error));
          })
          .then((reason) => (reason.kind === UPGRADING ? resolve(reason) : link.end(reason)));
      }),

    isAlive: () => !why,
    hasRoom: () => posts - abandoned < MAX_POSTS && !refused.size,
    buffered: () => 0,

    async send(call) {
      const { fragment, number, until = 0, wantsReply } = call;
      const isKept = link.resumes; // it goes on when nobody waits any more: its fate must be known
      const longest = performance.now() + ajaxTimeout * 1000;
      const due = isKept ? Math.max(until, longest) : until || longest;
      const signal = isKept ? undefined : call.signal;
      const left = () => (due - performance.now()) / 1000;
      let isAbandoned = false;
      let timer;
      if (isKept && until > performance.now()) {
        timer = later(() => {
          isAbandoned = true;
          if (++abandoned > MAX_ABANDONED) link.end(fail(null, "POST: no answer in time"));
          owner.flush();
        }, (until - performance.now()) / 1000);
      }
      posts++;
      const packet = packer.packet(fragment, call.cbId ? keyword("ajax") : null);
      const id = place.clientId;
      const { waits } = owner.position(link);
      const fields = { udt: `${now()}`, "client-id": id, n: `${session}-${number}`, why: "1" };
      if (waits) fields.waits = waits;
      let url = place.base;
      const init = { method: "POST" };
      const { contentType } = packer;
      if (packer.binary || (isOurs && contentType)) {
        url = withQuery(url, { ...fields, [packer.binary ? "binary?" : "raw"]: true });
        const type = packer.binary ? "application/octet-stream" : contentType;
        init.headers = { ...headers, "content-type": type };
        init.body = packet;
      } else init.body = new URLSearchParams({ ...fields, ppstr: packet }); // thrice the size
      const post = () => {
        owner.trace("out", packet, "ajax");
        return ask(url, init, left(), signal);
      };
      try {
        let [status, answer, after] = await post();
        while (status === 503) {
          // Nothing of it was taken: it is sent again with its number.
          refused.add(number);
          let pause = Math.max(after, 0.5 + Math.random());
          do {
            if (left() <= 0) throw new ReplyTimeout("no room in time");
            await wait(Math.min(pause, left()), ended.signal);
            signal?.throwIfAborted();
            pause = 0.5 + Math.random();
          } while (number > Math.min(...refused) && !why);
          [status, answer, after] = await post();
        }
        if (status !== 200) {
          const reason = peerReason(status, answer, true);
          call.isRefused = status === 400 || status === 413;
          throw call.isRefused ? new ReplyError(`${status} ${reason.text}`) : reason;
        }
        if (wantsReply) owner.trace("in", answer, "ajax");
        let found;
        try {
          found = answer.length && packer.unpack(answer);
        } catch (error) {
          throw new ReplyError(error.message);
        }
        // A page of a proxy, say.
        if (!Array.isArray(found)) throw new ReplyError(`expected a packet, got ${got(answer)}`);
        owner.answered(call, found[0]);
      } catch (error) {
        const isOwn = error instanceof ChansockError;
        const reason = why ?? (error.kind ? error : fail(null, `POST: ${wordsOf(error)}`));
        if (call.isRefused || (isOwn && !isKept)) call.reject(error);
        else if (signal?.aborted) call.reject(signal.reason);
        else if (!isKept) call.reject(closedError(reason));
        if (isKept || !(isOwn || signal?.aborted)) link.end(reason);
      } finally {
        clearTimeout(timer);
        refused.delete(number);
        posts--;
        if (isAbandoned) abandoned--;
        owner.flush();
      }
    },

    ask: ignore,
    tick() {},

    check() {
      if (Date.now() - heard > SILENT_POLL * 1000) {
        link.end(makeReason("unexpected", null, "no answer in time"));
      }
    },

    leave: ignore,

    end(reason) {
      why ??= reason;
      link.ended = true;
      ended.abort();
      link.leave();
      finish(reason);
    },
  };
  return link;
};

const closedError = (reason) => {
  const { kind = "connecting", code, text } = reason ?? {};
  const why = [kind, code, text].filter(Boolean).join(" ");
  return new ChannelClosed(`expected an open channel, got one that is closed (${why})`, reason);
};

const isSendable = (id) =>
  typeof id === "string" && NAME.test(id) && /.\//.test(id) && !id.startsWith("chsk/");

const checkId = (id, others = ', not in "chsk/"') => {
  if (!isSendable(id)) throw new InvalidEvent(`expected an id like "chat/say"${others}, got ${id}`);
};

const NO_PAGE = "there is no page here that a relative url belongs to";
const METHODS = ["send", "on", "once", "onState", "reconnect", "disconnect", "breakConnection"];

class Client {
  #base;
  #options;
  #owner;
  /** @type {any} */
  #state = Object.freeze({
    open: false,
    type: "ws",
    uid: null,
    handshakeData: null,
    everOpened: false,
    resumed: null,
    reason: null,
    retryAt: null,
    csrfToken: null,
    lastClose: null,
    lastWsClose: null,
    lastWsError: null,
  });
  #noted; // what joins the state at its next change
  #stateHandlers = new Set();
  #handlers = new Map(); // event id -> a set of {handler, once}
  #warned = new Set(); // ids of events that nobody took
  #logged = new Map(); // kind of log line -> {at, missed}
  #jobs = []; // {link, job, size, done}: what links brought, not yet handled
  #nextJob = 0; // those before it are done
  #held = 0; // bytes of them
  #isAtWork = false;
  #sliceEnd = 0; // of what is handled without a pause now
  #inbox = []; // for `for await`
  #iterators = 0;
  #arrivals = []; // who waits for the inbox
  #asked = 0;
  #calls = new Map(); // callback id -> a call that was sent and waits for its reply, over links
  // What was sent and is not acknowledged, then what waits for a connection, or for room in it. The
  // first has the number #acked + 1: the client numbers its events for life. With a server that
  // does not resume, an event leaves when it is sent.
  #buffer = [];
  #bytes = 0; // of all that
  #acked = 0; // the server has handled the events up to this number
  #handed = 0; // the present link has the events up to this number
  #handedBytes = 0; // of those in the buffer that it has
  #sent = 0; // the highest number that any link ever had
  #isHanding = false;
  #tries = 0; // grows with each handshake
  #at = "0"; // our position, as the server gave it
  #hasLost = false; // what came could not be used: the next position is behind a gap
  #resumes; // whether the server of the last handshake does
  #user; // of the last handshake, as text: what one has sent is not sent again as another
  #isTooLarge = false; // the server closed since an event was too large
  #record; // in sessionStorage, to resume after a reload
  #lock; // of the client-id, if there is a record
  #drain; // a timer: look whether there is room
  #link;
  #isMoving = false; // from Ajax to a WebSocket: no poll is out, no POST may go
  #isHalted = false; // by disconnect()
  #isLiving = false;
  #isCalled = false; // an attempt is wanted at once
  #rouse; // ends the wait for the next attempt, or for the functions of the options
  #soon; // a timer: look whether the attempt hangs
  #failures = 0; // since the channel was last in health
  #retryAfter = 0; // seconds that the server asked for
  #hasBroken = false; // since the last handshake: ask by HTTP before a WebSocket is opened
  #startedAt = 0;
  #openedAt = 0;
  #useless = 0; // WebSockets that opened and died young, running
  #upgrades = 0; // WebSockets looked for in vain, running
  #socketAt = 0; // when one may be tried
  #isProbing = false;
  #endProbe;
  #isAway = false; // the page is in the back-forward cache, until it is shown again
  #isProven = false; // a probe got through: the next poll that ends is followed by a move
  #settle;

  #packer;

  constructor(base, options) {
    this.#base = base;
    this.#options = options;
    this.#packer = options.packer ?? makeEdn(options);
    this.clientId = options.clientId ?? makeId();
    if (base && options.resume === "reload") this.#restore();
    for (const name of METHODS) this[name] = this[name].bind(this);
    this.#owner = {
      options,
      packer: this.#packer,
      trace: (...packet) => options.trace && guard(options.trace, ...packet),
      perform: (link, job, size) => this.#perform(link, job, size),
      opened: (link, handshake) => this.#opened(link, handshake),
      took: (link, value, cbId) => this.#took(link, value, cbId),
      answered: (call, value) => this.#answered(call, value),
      position: (link) => this.#position(link),
      counts: (link) =>
        link.resumes ? [this.#handed, this.#waits() ?? this.#handed + 1] : undefined,
      isEvent: (value) => this.#idOf(value) !== undefined,
      lost: (reason) => {
        this.#lose();
        this.#failCalls(reason);
      },
      flush: () => this.#flush(),
      own: (id, data) => this.#emit(id, data),
      note: (facts) => (this.#noted = { ...this.#noted, ...facts }),
      retryAfter: (seconds) => (this.#retryAfter = seconds),
      complain: (...words) => this.#complain(...words),
      beginMove: () => (this.#isMoving = this.#isProven && this.#state.open && !this.#isCalled),
      endMove: () => {
        this.#isMoving = this.#isProven = false;
        this.#avoidSocket(); // else each answer to a poll would be followed by such a wait
        this.#flush();
      },
    };
    if (options.transport === "ajax") this.#change({ type: "ajax" });
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {}); // nobody need wait for it
    const { signal } = options;
    signal?.addEventListener("abort", this.disconnect);
    if (!base) this.#halt(makeReason("not-opened", null, NO_PAGE));
    else if (signal?.aborted) this.disconnect();
    else this.#live();
  }

  get state() {
    return this.#state;
  }

  async send(id, data, options = {}) {
    checkId(id);
    checkOptions(options, SENDING);
    const { timeout, signal } = options;
    if (timeout !== undefined && !(timeout > 0)) {
      throw new TypeError(`timeout: expected a positive number of seconds, got ${timeout}`);
    }
    checkSignal(signal);
    signal?.throwIfAborted();
    const fragment = this.#packer.fragment(id, data);
    const { maxQueuedEvents, maxBacklogBytes } = this.#options;
    const { open, reason } = this.#state;
    const isOpen = open && (this.#isMoving || this.#link?.isAlive());
    // It may have ended, and the state not yet say so.
    if (!isOpen && (this.#isFinal() || !this.#queues())) {
      throw closedError(open ? makeReason("unexpected") : reason);
    }
    const size = sizeOf(fragment) + OVERHEAD;
    const waiting = isOpen ? this.#bytes - this.#handedBytes : this.#bytes;
    if (!isOpen && this.#buffer.length >= maxQueuedEvents) {
      throw new BacklogFull(`expected ${maxQueuedEvents} events to wait at most, got one more`);
    }
    if (!isOpen || waiting || !this.#hasRoom(size)) {
      const limit = isOpen || !this.#mayResume() ? maxBacklogBytes : Math.min(maxBacklogBytes, MIB);
      const total = waiting + (isOpen ? (this.#link?.buffered() ?? 0) : 0);
      if (total && total + size > limit) {
        throw new BacklogFull(`expected ${limit} bytes to wait at most, got ${total + size}`);
      }
    }
    return new Promise((resolve, reject) => {
      let timer;
      const settle = (act) => (value) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", quit);
        this.#calls.delete(call.cbId);
        call.isSettled = true;
        act(value);
      };
      const call = {
        fragment,
        size,
        wantsReply: timeout !== undefined,
        until: timeout && performance.now() + timeout * 1000,
        signal,
        resolve: settle(resolve),
        reject: settle(reject),
      };
      const quit = () => {
        this.#takeBack(call);
        call.reject(signal.reason);
      };
      signal?.addEventListener("abort", quit);
      if (timeout) timer = later(() => this.#expire(call), timeout);
      this.#buffer.push(call);
      this.#bytes += size;
      this.#record?.put(this.#acked + this.#buffer.length, fragment);
      this.#flush();
    });
  }

  on(id, handler) {
    return this.#handle(id, handler, false);
  }

  once(id, handler) {
    return this.#handle(id, handler, true);
  }

  #handle(id, handler, once) {
    if (id !== "*" && !OWN.includes(id)) checkId(id, `, "*", or ${OWN.join(", ")}`);
    checkHandler(handler);
    if (!this.#handlers.has(id)) this.#handlers.set(id, new Set());
    const mine = this.#handlers.get(id);
    const entry = { handler, once };
    mine.add(entry);
    return () => {
      mine.delete(entry);
      if (!mine.size && this.#handlers.get(id) === mine) this.#handlers.delete(id);
    };
  }

  onState(handler) {
    checkHandler(handler);
    const mine = (state) => handler(state);
    this.#stateHandlers.add(mine);
    guard(mine, this.#state);
    return () => this.#stateHandlers.delete(mine);
  }

  async *[globalThis.Symbol.asyncIterator]() {
    this.#iterators++;
    try {
      while (!this.#isHalted || this.#inbox.length) {
        if (this.#inbox.length) yield this.#inbox.shift();
        else await new Promise((go) => this.#arrivals.push(go));
      }
    } finally {
      this.#iterators--;
    }
  }

  reconnect() {
    if (!this.#base) return;
    const reason = makeReason("requested-reconnect");
    this.#isHalted = false;
    this.#failures = this.#useless = this.#upgrades = this.#socketAt = 0;
    this.#close(reason);
    this.#call(reason);
    this.#live();
  }

  disconnect() {
    if (!this.#isHalted) this.#halt(makeReason("requested-disconnect"));
  }

  #halt(reason) {
    this.#isHalted = true;
    this.#close(reason);
    this.#call(reason);
    this.#free(); // the next client of this page may go on from here
    this.#record?.release();
    this.#arrive();
  }

  breakConnection() {
    const reason = makeReason("unexpected", null, "breakConnection()");
    this.#link?.end(reason, 3000, "CLOSE_ABNORMAL");
  }

  // the state machine: one attempt after the other

  async #live() {
    if (this.#isLiving) return;
    this.#isLiving = true;
    const stop = this.#listen();
    while (!this.#isHalted) {
      this.#isCalled = false;
      this.#startedAt = performance.now();
      this.#retryAfter = 0;
      const reason = await this.#attempt();
      // To a handshake, 409 says that a newer one has come.
      const isTaken = reason?.code === 409 && reason.kind === "unexpected";
      if (isTaken || reason?.code === REPLACED) this.#rename();
      this.#isTooLarge ||= reason?.code === 1009 && !this.#hasLost;
      if (this.#isCalled) continue;
      // A WebSocket that fell silent is replaced at once, on a new connection; HTTP might use an old
      // one, as dead as the WebSocket after a sleep, until connectTimeout.
      this.#hasBroken ||= reason.kind !== "ws-ping-timeout";
      this.#close(reason);
      if (!this.#isCalled) await this.#rest(reason);
    }
    stop();
    this.#isLiving = false;
  }

  /** Make one attempt, and live with what it gives; the reason of its end. */
  async #attempt() {
    const { transport, connectTimeout } = this.#options;
    let reason;
    let ajax;
    let blocked; // why there is no WebSocket
    try {
      if (this.#record) await this.#own();
      const place = await new Promise((resolve, reject) => {
        this.#rouse = resolve; // a function of the options may take for ever
        this.#place().then(resolve, reject);
      });
      this.#rouse = undefined;
      if (place) this.#owner.note({ csrfToken: place.token ?? null });
      const ask = () => this.#run(makeAjax(this.#owner, place), connectTimeout, true);
      while (!this.#isCalled) {
        if (this.#wantsSocket()) {
          if (this.#hasBroken) {
            // Firefox holds WebSockets back, up to a minute, after one met a server that is down.
            reason = await ask();
            if (this.#isCalled || !isThere(reason)) return reason;
          }
          const socket = makeSocket(this.#owner, place);
          reason = await this.#run(socket, ajax ? MOVE_TIMEOUT : connectTimeout);
          this.#isProven = false;
          if (this.#isCalled || reason.kind === "refused") return reason;
          const { opened } = socket;
          if (opened && !this.#isUseless(reason)) return reason;
          if (transport === "ws") {
            // A WebSocket that does not open cannot tell why; Ajax can.
            const told = this.#hasBroken ? reason : await ask();
            return told.kind === "refused" ? told : reason;
          }
          blocked = reason;
          this.#avoidSocket();
          const downgrading = makeReason("downgrading-ws-to-ajax", reason.code, reason.text);
          if (opened) {
            this.#close(downgrading);
            ajax = undefined; // its session ended where that of the WebSocket began
          } else if (!ajax) this.#change({ reason: downgrading });
        }
        ajax ??= makeAjax(this.#owner, place);
        this.#isMoving = false;
        reason = await this.#run(ajax, connectTimeout);
        // Else the server was down, not WebSockets blocked.
        if (!ajax.opened) this.#socketAt = this.#upgrades = 0;
        if (reason.kind !== UPGRADING) {
          // Where there is a server, but none of Ajax, what befell the WebSocket is the reason.
          return !ajax.opened && blocked?.text && isThere(reason) ? blocked : reason;
        }
      }
    } catch (error) {
      return makeReason("not-opened", null, error.message);
    }
  }

  async #run(link, timeout, isTrial) {
    // Our position is where the last batch ends: one that was begun is passed on to its end first.
    while (this.#nextJob < this.#jobs.length && !this.#isHalted) {
      if (!this.#isAtWork) this.#work(link);
      await breathe();
    }
    if (this.#isCalled) return makeReason("unexpected");
    this.#link = link;
    const ended = link.start(timeout, isTrial);
    if (!this.#state.open && !isTrial) this.#change({ type: link.type });
    if (link.opened) this.#flush();
    const reason = await ended;
    this.#link = undefined;
    return reason;
  }

  /** Wait for the time of the next attempt, or for a call. */
  async #rest({ code }) {
    const steady = performance.now() - STEADY * 1000;
    if (this.#openedAt && this.#openedAt <= steady) this.#failures = 0;
    this.#openedAt = 0;
    const isFinal = this.#isFinal();
    // A server that restarts need not be asked at once.
    this.#failures += !this.#failures && RESTARTING.includes(code) ? 2 : 1;
    const seconds = this.#backoff(this.#failures) + this.#retryAfter;
    if (!isFinal && !seconds && !this.#isAway) return;
    let timer;
    await new Promise((go) => {
      this.#rouse = go;
      if (isFinal || this.#isAway) return;
      timer = later(go, seconds);
      this.#change({ retryAt: new Date(Date.now() + seconds * 1000) });
    });
    this.#rouse = undefined;
    clearTimeout(timer);
    this.#change({ retryAt: null });
  }

  /** Return how long to wait before attempt n: our rule, or the application's. */
  #backoff(n) {
    if (n < 2) return 0;
    const { backoff, maxBackoff } = this.#options;
    let seconds = NaN;
    guard(() => (seconds = backoff?.(n)));
    if (seconds >= 0) return seconds;
    if (backoff) console.error(`chansock: backoff: expected seconds, got ${seconds}`);
    return retryDelay(n, maxBackoff * (isHidden() ? 24 : 1));
  }

  /** Make the next attempt now. */
  #call(reason) {
    this.#isCalled = true;
    this.#link?.end(reason);
    this.#endProbe?.();
    this.#rouse?.();
  }

  /** Something tells of a change: the network, a tab that is seen again, a clock that jumped. */
  #wake() {
    if (this.#isMoving || this.#isFinal()) return;
    if (this.#state.open) this.#link?.check();
    else if (this.#state.retryAt || performance.now() - this.#startedAt > 1000) {
      this.#call(makeReason("not-opened"));
    } else {
      clearTimeout(this.#soon);
      this.#soon = later(() => this.#wake(), 1); // one has just begun; it may hang
    }
  }

  #listen() {
    const stop = new AbortController();
    const wake = () => this.#wake();
    const listen = (target, type, seen = wake) =>
      target?.addEventListener?.(type, seen, { signal: stop.signal });
    const { document } = globalThis;
    listen(globalThis, "online");
    listen(globalThis, "offline");
    listen(globalThis, "pagehide", ({ persisted }) => {
      this.#isAway = persisted;
      this.#link?.leave(persisted);
      this.#free();
      if (persisted && this.#record) this.#link?.end(makeReason("unexpected", null, IN_CACHE));
    });
    listen(globalThis, "pageshow", ({ persisted }) => {
      this.#isAway = false;
      if (persisted) wake();
    });
    listen(document, "resume");
    listen(document, "visibilitychange", () => isHidden() || wake());
    let last = Date.now();
    const clock = setInterval(() => {
      const now = Date.now();
      if (now - last > JUMP * 1000 && !isHidden()) wake();
      last = now;
      this.#link?.tick();
      const { open, type } = this.#state;
      const isDue = open && type === "ajax" && this.#wantsSocket() && !this.#isProven;
      if (isDue && !this.#isProbing && !isHidden()) this.#probe();
    }, 1000);
    return () => {
      stop.abort();
      clearInterval(clock);
      clearTimeout(this.#soon);
    };
  }

  #wantsSocket() {
    const { transport, WebSocket = globalThis.WebSocket } = this.#options;
    if (transport !== "auto") return transport === "ws";
    return WebSocket && performance.now() >= this.#socketAt;
  }

  #avoidSocket() {
    const steps = Math.min(this.#upgrades++, 4);
    this.#socketAt = performance.now() + this.#options.upgradeInterval * 2 ** steps * 1000;
  }

  /** Of a WebSocket that was open: do they die young here, one after the other? */
  #isUseless({ code }) {
    const isYoung = performance.now() - this.#openedAt < USEFUL * 1000;
    if (!isYoung) this.#useless = this.#upgrades = 0;
    else if (code === 1006) this.#useless++;
    return isYoung && code === 1006 && this.#useless > 2 && this.#options.transport === "auto";
  }

  /**
   * Find out, beside Ajax, whether a WebSocket gets through both ways. It has a client-id of
   * its own: a push into one that is cut or silent would be lost.
   */
  async #probe() {
    this.#isProbing = true;
    let timer;
    let isCut; // by the client itself: nothing is known of WebSockets then
    try {
      const owner = {
        ...this.#owner,
        trace: ignore,
        own: ignore,
        note: ignore,
        position: () => ({}),
        counts: ignore,
        perform: (link, job) => Array.from(job).at(0),
        opened: (link) => link.check(),
        lost: ignore,
        *took(link, value, cbId) {
          if (cbId) link.end(makeReason(UPGRADING));
        },
      };
      const link = makeSocket(owner, await this.#place(makeId()));
      isCut = !this.#state.open;
      if (!isCut) {
        const { connectTimeout } = this.#options;
        const ended = link.start(connectTimeout);
        timer = later(link.end, connectTimeout + CHECK_TIMEOUT, makeReason("not-opened"));
        this.#endProbe = () => {
          isCut = true;
          link.end(makeReason("not-opened"));
        };
        this.#isProven = (await ended).kind === UPGRADING;
      }
    } catch {
      // a function of the options threw: as if none had opened
    }
    if (!this.#isProven && !isCut) this.#avoidSocket();
    clearTimeout(timer);
    this.#endProbe = undefined;
    this.#isProbing = false;
  }

  #isFinal() {
    return this.#isHalted || (!this.#state.open && this.#state.reason?.kind === "refused");
  }

  async #place(clientId = this.clientId) {
    const { params, headers, csrfToken } = this.#options;
    const get = async (source) => (typeof source === "function" ? source() : source);
    const [more, ...rest] = await Promise.all([params, headers, csrfToken].map(get));
    const url = (query) => withQuery(this.#base, { ...more, "client-id": clientId, ...query });
    return { url, base: this.#base, clientId, headers: rest[0], token: rest[1] };
  }

  // what links tell

  /**
   * Run what a link brought, after what came before it, a slice at a time. Gives nothing if that
   * is done, else a promise. What is left of a link that was ended here is dropped; but a batch of
   * a server that resumes, once begun, is passed on to its end, or half of it would come again.
   */
  #perform(link, job, size = 0) {
    let done;
    const finished = new Promise((resolve) => (done = resolve));
    const each = { link, job, size: size + OVERHEAD, done };
    this.#jobs.push(each);
    this.#held += each.size;
    const { maxMessageBytes } = this.#options;
    if (this.#held - each.size > maxMessageBytes) {
      link.end(makeReason("unexpected", null, "too much waits to be handled"));
    }
    if (!this.#isAtWork) this.#work(link);
    return each.done ? finished : undefined;
  }

  async #work({ isBursty }) {
    this.#isAtWork = true;
    let until = performance.now() + SLICE;
    if (isBursty && this.#sliceEnd) until = this.#sliceEnd;
    else if (isBursty) {
      this.#sliceEnd = until;
      breathe().then(() => (this.#sliceEnd = 0));
    }
    while (this.#nextJob < this.#jobs.length) {
      const each = this.#jobs[this.#nextJob];
      // With a record a batch is passed on in one task: a reload must not come in between.
      const isLate = performance.now() > until && !(each.isBegun && this.#record);
      const isDue = each.isBegun && each.link.resumes;
      if (isDue && this.#isHalted) break; // until reconnect()
      const isCut = each.link.ended && !isDue;
      each.isBegun ||= !isCut && !isLate;
      if (isCut || (!isLate && each.job.next().done)) {
        each.done();
        each.done = undefined;
        this.#held -= each.size;
        if (++this.#nextJob === this.#jobs.length || this.#nextJob > 1023) {
          this.#jobs.splice(0, this.#nextJob);
          this.#nextJob = 0;
        }
      } else if (isLate) {
        await breathe();
        until = performance.now() + SLICE;
      }
    }
    this.#isAtWork = false;
  }

  #opened(link, handshake) {
    if (link !== this.#link || this.#isCalled) return;
    const [uid, told, data] = Array.isArray(handshake) ? handshake : [];
    const user = this.#packer.name(uid) === "sente/nil-uid" ? null : (uid ?? null);
    const resumed = this.#resume(link, told, String(user));
    if (link.ended) return;
    const { open, everOpened } = this.#state;
    if (open && !this.#isMoving) {
      this.#close(makeReason("unexpected", null, "the server began the session anew"));
    }
    const moved = this.#isMoving && { reason: makeReason(UPGRADING) };
    this.#isMoving = this.#hasBroken = false;
    this.#openedAt = performance.now();
    this.#change({
      ...moved,
      open: true,
      type: link.type,
      uid: user,
      handshakeData: data ?? null,
      resumed,
      everOpened: true,
      retryAt: null,
    });
    this.#settle.resolve();
    this.#emit("chsk/handshake", [user, null, data ?? null, !everOpened]);
  }

  *#took(link, value, cbId) {
    if (cbId === "ping" && link.resumes && Array.isArray(value)) this.#acknowledge(value[1]);
    const call = this.#calls.get(cbId);
    if (call) this.#answered(call, value);
    if (cbId != null) return false;
    let hasEvent = false;
    for (const event of Array.isArray(value) || isLazy(value) ? value : [value]) {
      const id = this.#idOf(event);
      hasEvent ||= !!id;
      if (id) this.#dispatch(id, event[1] ?? null);
      else if (!link.resumes || !this.#tookOwn(event)) {
        const what = Array.isArray(event) ? this.#packer.name(event[0]) : typeof event;
        this.#complain("no event", what);
      }
      yield;
    }
    return hasEvent;
  }

  /** The id of an event that a server may send; undefined if it is none. */
  #idOf(event) {
    const id = Array.isArray(event) ? this.#packer.name(event[0]) : undefined;
    return id?.includes("/") && !id.startsWith("chsk/") ? id : undefined;
  }

  /** Warn, but seldom: a server can send a million of what is warned of. */
  #complain(kind, ...words) {
    const now = performance.now();
    const last = this.#logged.get(kind);
    if (last && now - last.at < LOG_INTERVAL * 1000) return last.missed++;
    if (last?.missed) words.push(`(and ${last.missed} more before)`);
    this.#logged.set(kind, { at: now, missed: 0 });
    return console.warn(`chansock: ${kind}`, ...words);
  }

  #dispatch(id, data) {
    const isHandled = this.#emit(id, data);
    if (this.#emit("*", data, id) || isHandled) return;
    if (this.#iterators) {
      const { maxInboxEvents } = this.#options;
      if (this.#inbox.length < maxInboxEvents) {
        this.#inbox.push({ id, data });
        return this.#arrive();
      }
      this.#lose();
      this.#link?.end(makeReason("unexpected", null, "too many events wait"));
    } else if (!this.#warned.has(id) && this.#warned.size < 100) {
      this.#warned.add(id);
      console.warn(`chansock: no handler for ${id}`);
    }
  }

  /** Call the handlers of an event; says whether there are any. */
  #emit(key, data, id = key) {
    const mine = this.#handlers.get(key);
    if (!mine) return false;
    for (const entry of [...mine]) {
      if (!mine.has(entry)) continue;
      if (entry.once) mine.delete(entry);
      guard(entry.handler, data, { id, data });
    }
    if (!mine.size) this.#handlers.delete(key);
    return true;
  }

  #failCalls(reason) {
    for (const { reject } of this.#calls.values()) reject(closedError(reason));
  }

  // resuming

  /** Whether `send` keeps an event while there is no connection. */
  #queues() {
    const { offline } = this.#options;
    return offline ? offline === "queue" : this.#mayResume();
  }

  #mayResume() {
    return this.#options.resume && this.#resumes !== false;
  }

  /** The number of the first event that was sent and still waits for its reply. */
  #waits() {
    for (const { number } of this.#calls.values()) if (number) return number;
    return undefined;
  }

  /** The fields that say in the query of a handshake, a poll or a POST how far we are. */
  #position(link) {
    if (!this.#options.resume || (link.opened && !link.resumes)) return {};
    const waits = this.#resumes ? this.#waits() : undefined;
    if (link.opened) return { pos: this.#at, waits };
    const [acked, sent] = this.#resumes === false ? [0, 0] : [this.#acked, this.#sent];
    // A handshake that comes after a newer one is refused.
    this.#tries = Math.max(Date.now(), this.#tries + 1);
    return { pos: this.#at, acked, sent, try: this.#tries, waits };
  }

  /**
   * Go on where the server's handshake says that it is: how that is named in the state. Ends the
   * link if this client-id turns out to be another client's as well.
   */
  #resume(link, told, user) {
    const { pos, was, handled } = told instanceof Map ? Object.fromEntries(told) : (told ?? {});
    const isTold = typeof pos === "string" && Number.isSafeInteger(handled);
    link.resumes = !!this.#options.resume && isTold;
    if (!link.resumes || this.#resumes === false) {
      // The numbers begin anew. What was sent and not acknowledged may have been handled.
      const { reason } = this.#state;
      const sent = this.#remove(0, this.#sent - this.#acked);
      for (const { reject } of sent) reject(closedError(reason));
      if (this.#resumes) this.#failCalls(reason);
      for (const call of this.#calls.values()) call.number = 0;
      this.#acked = this.#sent = this.#handed = 0;
      if (!link.resumes) this.#at = "0";
    }
    const isOther = link.resumes && (handled > this.#sent || handled < this.#acked);
    this.#resumes = link.resumes;
    if (isOther) {
      this.#rename();
      link.end(makeReason("unexpected", null, "another client has this client-id"));
      return null;
    }
    if (!link.resumes) {
      this.#handedBytes = 0;
      this.#save();
      return null;
    }
    const taken = handled - this.#acked;
    // What was answered or refused is not sent again. It keeps its number, which is of one event.
    const isTooLarge = (i) => this.#isTooLarge && i === taken && handled < this.#sent;
    this.#buffer.forEach((call, i) => {
      if (i < taken || !(call.isDone || call.isRefused || isTooLarge(i))) return;
      call.reject(new ReplyError("1009 too large for the server"));
      this.#bytes -= call.size;
      call.fragment = this.#packer.fragment("chsk/refused");
      this.#bytes += call.size = sizeOf(call.fragment) + OVERHEAD;
    });
    this.#isTooLarge = false;
    if ((this.#user ??= user) !== user) {
      this.#user = user;
      const { reason } = this.#state;
      const sent = this.#remove(taken, this.#sent - handled);
      for (const { reject } of sent) reject(closedError(reason));
      this.#sent = handled;
      this.#failCalls(reason);
    }
    this.#handed = handled;
    this.#handedBytes = 0;
    for (const call of this.#buffer.slice(0, taken)) {
      this.#handedBytes += call.size;
      if (!call.wantsReply) call.resolve();
    }
    this.#at = pos;
    const name = this.#packer.name(was) ?? was;
    const resumed = ENDINGS.includes(name) && !this.#hasLost ? name : "gap";
    this.#hasLost = false;
    this.#save();
    return resumed;
  }

  /** Take an event by which the server says how far it is, and we are; false if it is none. */
  #tookOwn(event) {
    const [id, data] = Array.isArray(event) ? event : [];
    const name = this.#packer.name(id);
    if (name === "chsk/pos" && typeof data === "string") {
      if (!this.#hasLost) this.#at = data;
      this.#saveHead();
    } else if (name === "chsk/ack") this.#acknowledge(data);
    else if (name === "chsk/reply" && Array.isArray(data)) {
      for (const call of this.#calls.values()) {
        if (call.number === data[0]) this.#answered(call, data[1]);
      }
    } else return false;
    return true;
  }

  /** The server has handled the events up to n. */
  #acknowledge(n) {
    const count = Math.min(n, this.#handed) - this.#acked;
    if (!(count > 0)) return;
    for (let i = 1; i <= count; i++) this.#record?.drop(this.#acked + i);
    this.#acked += count;
    for (const call of this.#remove(0, count)) {
      this.#handedBytes -= call.size;
      if (!call.wantsReply) call.resolve();
    }
    this.#saveHead();
    this.#flush();
  }

  #answered(call, value) {
    const name = this.#packer.name(value);
    if (!call.wantsReply) return call.resolve();
    // Taken before: its reply comes otherwise.
    if (name === "chsk/dummy-cb-200" && this.#resumes) return;
    try {
      call.resolve(readReply(value, this.#packer));
    } catch (error) {
      call.reject(error);
    }
    call.isDone = name !== "chsk/timeout";
    while (this.#resumes && this.#buffer[0]?.isDone) this.#acknowledge(this.#acked + 1);
  }

  /** What came is lost, whatever the server believes: begin anew, behind a gap. */
  #lose() {
    this.#hasLost = true;
    this.#at = "0";
    this.#saveHead();
  }

  /** Take another client-id: someone else has ours. */
  #rename() {
    if (!this.#options.resume) return;
    this.clientId = makeId();
    this.#free();
    this.#save();
  }

  #remove(start, count) {
    const calls = this.#buffer.splice(start, count);
    for (const { size } of calls) this.#bytes -= size;
    return calls;
  }

  /** Do not send what no link ever had. */
  #takeBack(call) {
    const i = this.#buffer.indexOf(call);
    if (i < this.#sent - this.#acked) return;
    this.#remove(i, 1);
    this.#save();
  }

  /** Tell that no reply came. A server that resumes gets the event all the same. */
  #expire(call) {
    const isSent = !!call.number;
    if (!this.#mayResume()) this.#takeBack(call);
    call.reject(new ReplyTimeout(isSent ? "no reply in time" : "not sent in time"));
  }

  // the record in sessionStorage

  #restore() {
    const complain = (...words) => this.#complain(...words);
    this.#record = makeRecord(this.#base.href, this.#packer.binary, complain);
    this.#record?.claim();
    /** @type {any} */
    let found = null;
    guard(() => (found = this.#record?.read()));
    if (!found || (this.#options.clientId ?? found.id) !== found.id) return this.#save();
    this.clientId = found.id;
    this.#at = found.pos;
    this.#hasLost = found.hasLost;
    this.#resumes = found.resumes;
    this.#user = found.user;
    [this.#acked, this.#sent] = [found.acked, found.sent];
    for (const fragment of found.fragments) {
      const size = sizeOf(fragment) + OVERHEAD;
      const [resolve, reject] = [ignore, ignore]; // whoever waited is gone
      this.#buffer.push({ fragment, size, isSettled: true, isOld: true, resolve, reject });
      this.#bytes += size;
    }
    return undefined;
  }

  #saveHead() {
    if (!this.#record) return;
    this.#record.write({
      id: this.clientId,
      user: this.#user,
      pos: this.#at,
      hasLost: this.#hasLost,
      resumes: this.#resumes,
      acked: this.#acked,
      sent: this.#sent,
    });
  }

  #save() {
    if (!this.#record) return;
    this.#record.clear();
    this.#saveHead();
    this.#buffer.forEach(({ fragment }, i) => this.#record.put(this.#acked + 1 + i, fragment));
  }

  /** Hold the lock of our client-id. A duplicated tab does not get it, and is a new client. */
  async #own() {
    if (this.#lock) return;
    this.#record.claim();
    const lock = (this.#lock = takeLock(`chansock ${this.clientId}`));
    const isOurs = (await lock.isMine) && !this.#record.isForeign();
    if (isOurs || this.#lock !== lock) return;
    const { everOpened, reason } = this.#state;
    for (const call of this.#buffer.filter(({ isOld }) => isOld)) {
      this.#remove(this.#buffer.indexOf(call), 1);
      call.reject(closedError(reason));
    }
    this.#failCalls(reason);
    this.#acked = this.#sent = this.#handed = this.#handedBytes = 0;
    this.#at = "0";
    this.#hasLost = everOpened;
    this.#resumes = undefined;
    this.#rename();
    this.#lock = takeLock(`chansock ${this.clientId}`);
  }

  /** Free the lock; who has it next has what we have sent, and what waits. */
  #free() {
    if (this.#record) for (const call of this.#buffer) call.isOld = true;
    this.#lock?.free();
    this.#lock = undefined;
  }

  // sending

  #hasRoom(size = 0) {
    const link = this.#link;
    if (!this.#state.open || this.#isMoving || !link?.isAlive() || !link.hasRoom()) return false;
    const isWithin = !this.#handedBytes || this.#handedBytes + size <= MIB;
    return !link.resumes || (isWithin && this.#handed - this.#acked < MAX_UNACKED);
  }

  /** Send what waits, as far as there is room. */
  #flush() {
    if (this.#isHanding) return; // a trace, say, sends too: its event comes later
    this.#isHanding = true;
    const first = () => this.#buffer[this.#handed - this.#acked];
    let call;
    while ((call = first()) && this.#hasRoom(call.size)) this.#hand(call);
    this.#isHanding = false;
    clearTimeout(this.#drain);
    const link = this.#link;
    if (!call || !this.#state.open || link?.type !== "ws" || !link.isAlive()) return;
    const isBehind = link.hasRoom(); // the server, with what it handled
    if (isBehind) link.ask();
    this.#drain = later(() => this.#flush(), isBehind ? ASK : DRAIN);
  }

  #hand(call) {
    const link = this.#link;
    call.number = ++this.#handed;
    if (link.resumes) this.#handedBytes += call.size;
    else {
      this.#acked++;
      this.#remove(0, 1);
      this.#record?.drop(call.number);
    }
    if (this.#handed > this.#sent) {
      this.#sent = this.#handed;
      this.#saveHead(); // before a byte of it is written
    }
    call.cbId = null;
    if (call.wantsReply && !call.isSettled) {
      // The reply to an event of the page before its reload has another id.
      const count = link.resumes ? call.number : this.#asked++;
      call.cbId = call.id ??= (0x100000 + (count % 0xf00000)).toString(16);
      this.#calls.set(call.cbId, call);
    }
    link.send(call);
    const count = this.#handed - this.#acked;
    if (link.resumes && (2 * this.#handedBytes > MIB || 2 * count > MAX_UNACKED)) link.ask();
  }

  #arrive() {
    for (const go of this.#arrivals.splice(0)) go();
  }

  #close(reason) {
    this.#isMoving = false;
    if (!reason.text && globalThis.navigator?.onLine === false) {
      reason = makeReason(reason.kind, reason.code, "the browser is offline");
    }
    const time = new Date();
    const closed = this.#state.open ? { lastClose: Object.freeze({ time, reason }) } : {};
    this.#change({ ...closed, open: false, resumed: null, reason, retryAt: null });
    const isFinal = this.#isFinal();
    if (isFinal) {
      this.#settle.reject(closedError(reason));
      this.#failCalls(reason);
    }
    if (isFinal || !this.#queues()) {
      const unsent = this.#remove(this.#sent - this.#acked, Infinity);
      const left = isFinal ? [...this.#buffer, ...unsent] : unsent;
      for (const { reject } of left) reject(closedError(reason));
      if (unsent.length) this.#save();
    }
  }

  #change(changes) {
    const old = this.#state;
    if (Object.keys(changes).every((key) => changes[key] === old[key])) return;
    const now = (this.#state = Object.freeze({ ...old, ...this.#noted, ...changes }));
    this.#noted = undefined;
    if (changes.open) this.#flush(); // before a handler, told of it, sends what came later
    for (const handler of [...this.#stateHandlers]) {
      if (this.#stateHandlers.has(handler)) guard(handler, this.#state);
    }
    this.#emit("chsk/state", [old, now, old.open !== now.open]);
  }
}

/** Whether there is a server: it answered, though perhaps not as it should have. */
const isThere = ({ kind, code }) =>
  kind === "clean" || (kind !== "refused" && code >= 400 && code < 500 && code !== 429);

/** Call the application's function; its failure is its own. */
const guard = (call, ...args) => {
  try {
    call(...args)?.catch?.(console.error); // of an async one
  } catch (error) {
    console.error(error);
  }
};

/** Return the URL of the channel; undefined for a path where there is no page, as on a server. */
const baseOf = (url) => {
  const page = globalThis.location?.href;
  if ((!page || page === "about:blank") && /^[/.]/.test(url)) return undefined;
  let base;
  try {
    base = new URL(url, page);
    base.protocol = base.protocol.replace("ws", "http");
    base.hash = "";
  } catch {
    // below
  }
  if (base?.protocol.startsWith("http")) return base;
  throw new TypeError(`expected a url like "https://host/chsk", or a path like "/chsk", got ${url}`);
};

export const connect = (url, options = {}) => {
  const base = baseOf(url);
  checkOptions(options, DEFAULTS);
  const chosen = { ...DEFAULTS };
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const isNumber = typeof DEFAULTS[key] === "number";
    if (isNumber && !(typeof value === "number" && value > 0)) {
      throw new TypeError(`option ${key}: expected a number above 0, got ${value}`);
    }
    if (CHOICES[key] && !CHOICES[key].includes(value)) {
      throw new TypeError(`option ${key}: expected one of ${CHOICES[key].join(", ")}, got ${value}`);
    }
    chosen[key] = value;
  }
  const { clientId, packer, backoff, trace, signal } = chosen;
  if (clientId !== undefined && !/^(?=.*\S).{1,256}$/su.test(clientId)) {
    throw new TypeError(`option clientId: expected 1 to 256 characters, got ${clientId}`);
  }
  const lacks = (name) => typeof packer[name] !== "function";
  const lacking = packer && ["fragment", "packet", "unpack", "name"].find(lacks);
  if (lacking) throw new TypeError(`option packer: expected a ${lacking}()`);
  for (const [name, value] of Object.entries({ backoff, trace })) {
    if (value && typeof value !== "function") {
      throw new TypeError(`option ${name}: expected a function, got ${value}`);
    }
  }
  checkSignal(signal);
  return new Client(base, chosen);
};

/** The base of all that chansock throws on purpose. */
export class ChansockError extends Error {
  name = "ChansockError";
}

// -- edn: errors, and the values that JavaScript has no type for --

export class EdnError extends ChansockError {
  name = "EdnError";
}

const MAX_DEPTH = 500; // Clojure's own readers overflow their stack soon after 600

const expected = (what, got) => {
  throw new EdnError(`expected ${what}, got ${JSON.stringify(String(got)).slice(0, 80)}`);
};

// A name that Clojure, tools.reader and ClojureScript all read as this one name.
const NAME =
  /^(?!:|.*(?::(?:[:/]|$)|\/\p{Nd}|[\s\p{Cc}\p{Cs}"();@[\\\]^`{},~]))(\/|[^/]+(\/(\/|[^/]+))?)$/u;
const NO_SYMBOL = /^([-+]?\p{Nd}|#|(nil|true|false)$)/u;
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
const recent = new Map();
const living = new Map();
const dead = new FinalizationRegistry((name) => living.get(name)?.deref() || living.delete(name));

export function keyword(name) {
  let word = recent.get(name);
  if (!word) {
    word = living.get(name)?.deref();
    if (!word) {
      word = new Keyword(name);
      living.set(word.name, new WeakRef(word));
      dead.register(word, word.name);
    }
    if (recent.size > 2047) recent.clear();
    if (name.length < 65) recent.set(word.name, word);
  }
  return word;
}

class Name {
  constructor(name) {
    this.name = checkName("the name of a symbol", name, NO_SYMBOL);
  }
  toString() {
    return this.name;
  }
}
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
    super(+time + isLeap * 1e3 - (sign + 1) * (hours * 60 + +minutes) * 6e4);
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

const DECIMAL = /^[-+]?\d+(\.\d*)?([eE][-+]?\d+)?$/;

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

/** Return a function that refuses what equals, by value, what it was given before. */
const distinct = (fail) => {
  const seen = new Set();
  return (value, position) => {
    const isOne = value instanceof Keyword || !(value && /^[so]/.test(typeof value));
    const id = isOne ? value : render(value, true);
    if (seen.has(id)) fail(`expected different keys or members, got ${id} again`, position);
    seen.add(id);
    return value;
  };
};

// -- edn: reading --

// What ends a name: 1 is whitespace, 2 all the rest.
const ENDS = new Uint8Array(128);
for (const c of " ,\t\n\v\f\r\"();[\\]^{}") ENDS[c.charCodeAt()] = /[\s,]/.test(c) ? 1 : 2;
const endOf = (c) => (c < 128 ? ENDS[c] : c > 0 ? +/\s/.test(String.fromCharCode(c)) : 2);

const ESCAPE = /\\(?:u([\da-fA-F]{4})|([0-7]{3}|[0-7]{1,2}(?![^\s,"\\]))|(["\\nrtbf]))/y;
const ESCAPED = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };
const CHARS = {
  newline: "\n", return: "\r", space: " ", tab: "\t", backspace: "\b", formfeed: "\f",
};
const TOKEN = /[^\s,"#();[\\\]^{}]+/y;
const INTEGER =
  /^([-+]?)(?:(0[xX][\da-fA-F]+|[1-9]\d*|0)|0(\d+)|([1-9]\d?)[rR]0*([\da-zA-Z]+?))N?$/;
const POWERS = Array.from({ length: 23 }, (_, n) => +`1e${n}`);
const BUILT_IN = { inst: (text) => new Instant(text), uuid: (text) => new UUID(text) };
const SHAPE = 32; // so many keys of a map are guessed at most

// The text and the place in it. `quote` and `slash` are where the next of them stands, if that is
// not before pos. `shapes` are the keys of the last map at each depth: those of the next are
// most likely the same.
let text, pos, quote, slash, depth, readers, shapes = [];

const refuse = (message, position = pos, cause) => {
  const near = JSON.stringify(text.slice(position, position + 40));
  throw Object.assign(new EdnError(`${message} at ${position}: ${near}`, { cause }), { position });
};

/** Give what `make` makes of the text at position; what it throws gets that position. */
const attempt = (position, make) => {
  try {
    return make();
  } catch (error) {
    refuse(error?.message ?? error, position, error);
  }
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
  if (depth > MAX_DEPTH) refuse(`expected at most ${MAX_DEPTH} levels, got more`);
  switch (c) {
    case 34: // "
      return readString();
    case 58: { // :
      pos++;
      const name = readName();
      return recent.get(name) ?? attempt(start, () => keyword(name));
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
  return attempt(start, () => new Name(name));
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
  const isNew = distinct(refuse);
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
  const object = {};
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
        // An assignment would give the object another class.
        const property = { value, writable: true, enumerable: true, configurable: true };
        Object.defineProperty(object, name, property);
      } else {
        object[name] = value;
        if (index < SHAPE) {
          shape.length = index; // so that the keys in it stay different ones
          shape[index++] = name;
        }
      }
      continue;
    }
    if (!found) {
      found = new Map();
      isNew = distinct(refuse);
      index = SHAPE;
      for (const name of Object.keys(object)) found.set(isNew(keyword(name)), object[name]);
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
    out += char ? ESCAPED[char] ?? char : String.fromCharCode(hex ? "0x" + hex : "0o" + octal);
    pos = ESCAPE.lastIndex;
  }
}

function readChar() {
  const start = pos++;
  const name = readName() || text[pos++];
  const [, hex, octal] = /^(?:u([\da-fA-F]{4})|o([0-7]{1,3}))$/.exec(name) ?? [];
  const char = hex || octal ? String.fromCharCode(hex ? "0x" + hex : "0o" + octal)
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

const shortest = (n) => (Number.isSafeInteger(Number(n)) ? Number(n) : n);

/** Give the number of a token that `readNumber` did not know at once. */
function numberOf(token) {
  const [all, sign, plain, octal, radix, digits] = INTEGER.exec(token) ?? [];
  if (all) {
    const small = parseInt(digits, radix);
    if (radix && small.toString(radix) !== digits.toLowerCase()) expected("a number", token);
    const n = BigInt(radix ? small : plain ?? "0o" + octal);
    return shortest(sign === "-" ? -n : n);
  }
  const [, numerator, denominator] = /^([-+]?\d+)\/(\d+)$/.exec(token) ?? [];
  if (denominator) {
    const ratio = new Ratio(numerator, denominator);
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
    const isNamespace = NAME.test(namespace) && !namespace.includes("/");
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
  const start = pos++;
  depth++;
  const mark = readForm(skip());
  const value = readForm(skip());
  depth--;
  const isMark = mark instanceof Keyword || typeof mark === "string" || takesMark(mark);
  return isMark && takesMark(value) ? value : refuse("expected metadata and a collection", start);
}

export function read(source, options) {
  const saved = [text, pos, quote, slash, depth, readers, shapes];
  if (typeof source !== "string") expected("a text", source);
  if (text !== undefined) shapes = []; // a reader reads
  text = source;
  pos = depth = 0;
  quote = slash = -1;
  readers = options?.readers ?? {};
  try {
    const c = skip();
    return c < 0 ? null : readForm(c);
  } finally {
    [text, pos, quote, slash, depth, readers, shapes] = saved;
  }
}

// -- edn: writing --

// The steps to the value that is being written, so many as `level` says; isCanonical: for a
// comparison, so that equal values give equal texts.
let steps, level, isCanonical;

const unwritable = (message) => {
  let path = "$";
  for (const step of steps.slice(1, level + 1)) {
    path += typeof step === "string" ? `.${step}` : `[${step}]`;
  }
  throw Object.assign(new EdnError(`${message} at ${path.slice(0, 80)}`), { path });
};

function writeForm(value) {
  if (level > MAX_DEPTH) unwritable(`expected at most ${MAX_DEPTH} levels, got more, or a cycle`);
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
      return value + (BigInt.asIntN(64, value) === value ? "" : "N");
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
    const isList = value instanceof List && !isCanonical;
    return (isList ? "(" : "[") + writeItems(value) + (isList ? ")" : "]");
  }
  if (isPlain(value)) return writeProperties(value);
  if (value instanceof Keyword || value instanceof Name || value instanceof Ratio) {
    return value.toString();
  }
  if (value instanceof Map || value instanceof Set) return writeEntries(value);
  if (value instanceof Date) {
    const iso = value.toJSON();
    if (iso?.length !== 24) unwritable(`expected a date of the years 0 to 9999, got ${iso}`);
    const digits = value.microseconds ? `${value.microseconds}`.padStart(3, 0) : "";
    return `#inst "${iso.slice(0, 23)}${digits}-00:00"`;
  }
  if (value instanceof UUID) return `#uuid "${value}"`;
  if (value instanceof Tagged) {
    steps[level] = "value";
    return `#${value.tag} ${writeForm(value.value)}`;
  }
  if (value instanceof Char) {
    const { char } = value;
    return "\\" + (Object.keys(CHARS).find((name) => CHARS[name] === char) ?? char);
  }
  if (value instanceof Decimal) return `${isCanonical ? +value : value.text}M`;
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    return writeForm(value.valueOf());
  }
  if (value[Symbol.iterator]) return `[${writeItems(value)}]`;
  if (typeof value.toJSON === "function") {
    steps[level] = "toJSON()";
    return writeForm(value.toJSON());
  }
  // What shows nothing of itself (a Promise, a RegExp, an Error) would be lost without a sound.
  if (!Object.keys(value).length) unwritable(`expected a value, got ${value}`);
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

function writeProperties(object) {
  let out = "";
  for (const key of Object.keys(object)) {
    const value = object[key];
    if (value === undefined) continue;
    if (!recent.has(key)) {
      try {
        keyword(key);
      } catch {
        level--;
        unwritable(`expected the name of a keyword as key (or a Map), got ${JSON.stringify(key)}`);
      }
    }
    steps[level] = key;
    out += (out ? ", :" : ":") + key + " " + writeForm(value);
  }
  return "{" + out + "}";
}

function writeEntries(found) {
  const isNew = distinct(unwritable);
  const parts = [];
  const isSet = found instanceof Set;
  for (const [key, value] of found.entries()) {
    steps[level] = [parts.length];
    if (!isCanonical) isNew(key);
    const written = writeForm(key);
    steps[level] = [written];
    parts.push(isSet ? written : `${written} ${writeForm(value)}`);
  }
  if (isCanonical) parts.sort();
  return isSet ? `#{${parts.join(" ")}}` : `{${parts.join(", ")}}`;
}

function render(value, canonical) {
  const saved = [steps, level, isCanonical];
  steps = [];
  level = 0;
  isCanonical = canonical;
  try {
    return writeForm(value);
  } finally {
    [steps, level, isCanonical] = saved;
  }
}

export function write(value) {
  return render(value);
}

/**
 * msgpack.js: MessagePack as Sente writes it, as a packer for chansock.js, and as two functions.
 *
 * The values are those of edn in chansock.js, each in the extension that Sente has for it; a map's
 * keys that come again are numbers of a table. It knows bytes alone; connections are chansock.js's.
 */

import {
  Char, Decimal, Instant, Keyword, PacketError, Ratio, Symbol as Name, Tagged, UUID, internals,
  keyword,
} from "./chansock.js";

const {
  IN_EVENT, MAX_DEPTH, areNames, definedKeys, distinct, intern, isName, isPlain, isWhole,
  makeIdentity, named, shortest, unwritableAt,
} = internals;

const LENGTHS = ["getUint8", "getUint16", "getUint32"]; // of 1, 2 and 4 bytes
const SHORT = 32; // what is shorter and of ASCII is copied here: a call of a coder costs more
const MAX_KEYS = 256; // of one message that have a number

// Extensions.
const [KEYWORD, SYMBOL, CHAR, RATIO, SET, INTS, FLOATS, DOUBLES, KEY, ID] = Array(10).keys();
const TIME = -1;

/** @type {any} */
const ARRAYS = [
  [INTS, Int32Array, "getInt32", "setInt32"],
  [FLOATS, Float32Array, "getFloat32", "setFloat32"],
  [DOUBLES, Float64Array, "getFloat64", "setFloat64"],
];

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// -- reading --

class Reader {
  #bytes;
  #view;
  #pos = 0;
  #end;
  #depth = 0;
  #keys = [];
  #names = new Set(); // keywords among the keys that edn can spell
  #identity = makeIdentity();

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#end = bytes.length;
  }

  #refuse(message, position = this.#pos, cause) {
    const error = new PacketError(`${message} at byte ${position}`, { cause });
    throw Object.assign(error, { position });
  }

  /** Return what `make` makes of the bytes at position; what it throws gets that position. */
  #attempt(position, make) {
    try {
      return make();
    } catch (error) {
      this.#refuse(error.message, position, error);
    }
  }

  /** Go past n bytes; where they begin. */
  #take(n) {
    const start = this.#pos;
    if (n > this.#end - start) this.#refuse(`expected ${n} more bytes, got ${this.#end - start}`);
    this.#pos += n;
    return start;
  }

  #number(get, size) {
    return this.#view[get](this.#take(size));
  }

  /** Read an unsigned number of 1, 2 or 4 bytes: 2 ** power. */
  #length(power) {
    return this.#number(LENGTHS[power], 1 << power);
  }

  read() {
    if (this.#depth > MAX_DEPTH) this.#refuse(`expected at most ${MAX_DEPTH} levels, got more`);
    const start = this.#take(1);
    const type = this.#bytes[start];
    if (type < 0x80) return type;
    if (type < 0x90) return this.#map(type & 15);
    if (type < 0xa0) return this.#array(type & 15);
    if (type < 0xc0) return this.#text(type & 31);
    if (type > 0xdf) return type - 256;
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return type === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6: {
        const n = this.#length(type - 0xc4);
        const from = this.#take(n);
        return this.#bytes.slice(from, from + n); // a part would keep the whole message alive
      }
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return this.#extension(start, this.#length(type - 0xc7));
      case 0xca:
        return this.#number("getFloat32", 4);
      case 0xcb:
        return this.#number("getFloat64", 8);
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#length(type - 0xcc);
      case 0xcf:
        return shortest(this.#number("getBigUint64", 8));
      case 0xd0:
        return this.#number("getInt8", 1);
      case 0xd1:
        return this.#number("getInt16", 2);
      case 0xd2:
        return this.#number("getInt32", 4);
      case 0xd3:
        return shortest(this.#number("getBigInt64", 8));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#length(type - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#length(type - 0xdb));
      case 0xde:
      case 0xdf:
        return this.#map(this.#length(type - 0xdd));
      case 0xc1:
        return this.#refuse("expected a type, got 0xc1", start);
    }
    return this.#extension(start, 1 << (type - 0xd4));
  }

  #text(n) {
    const start = this.#take(n);
    if (n < SHORT) {
      let out = "";
      let at = start;
      for (; at < this.#pos && this.#bytes[at] < 128; at++) {
        out += String.fromCharCode(this.#bytes[at]);
      }
      if (at === this.#pos) return out;
    }
    return this.#attempt(start, () => decoder.decode(this.#bytes.subarray(start, start + n)));
  }

  #array(n) {
    const found = [];
    this.#depth++;
    while (n--) found.push(this.read());
    this.#depth--;
    return found;
  }

  #key() {
    if (this.#bytes[this.#pos] === 0xd4 && this.#bytes[this.#pos + 1] === KEY) {
      const number = this.#bytes[this.#take(3) + 2];
      return this.#keys[number] ?? this.#refuse(`expected a known key, got ${number}`, this.#pos - 1);
    }
    const key = this.read();
    const isKept = typeof key === "string" || key instanceof Keyword;
    if (isKept && this.#keys.length < MAX_KEYS) this.#keys.push(key);
    return key;
  }

  /** Whether edn can spell a keyword: looked at once, since three bytes may bring it again. */
  #isName(word) {
    return this.#names.has(word) || (isName(word.name) && this.#names.add(word));
  }

  #map(n) {
    const object = {};
    let found, isNew;
    this.#depth++;
    while (n--) {
      const start = this.#pos;
      const key = this.#key();
      const value = this.read();
      if (!found && key instanceof Keyword && this.#isName(key)) {
        const { name } = key;
        if (Object.hasOwn(object, name)) {
          this.#refuse(`expected different keys, got ${key} again`, start);
        }
        if (name === "__proto__") {
          // An assignment would give the object another class.
          const property = { value, writable: true, enumerable: true, configurable: true };
          Object.defineProperty(object, name, property);
        } else object[name] = value;
        continue;
      }
      if (!found) {
        isNew = distinct((...fault) => this.#refuse(...fault), this.#identity);
        found = new Map();
        for (const name of Object.keys(object)) found.set(isNew(intern(name)), object[name]);
      }
      found.set(isNew(key, start), value);
    }
    this.#depth--;
    return found ?? object;
  }

  #extension(start, n) {
    const type = this.#number("getInt8", 1);
    const from = this.#pos;
    if (type >= KEYWORD && type <= CHAR) {
      const name = this.#text(n);
      return this.#attempt(start, () =>
        type === KEYWORD ? intern(name) : type === SYMBOL ? named(Name, name) : new Char(name));
    }
    if (type === ID) {
      const text = this.#text(n);
      return this.#attempt(start, () => new UUID(text));
    }
    this.#take(n);
    const array = ARRAYS.find(([known]) => known === type);
    if (array) return this.#numbers(from, n, array);
    if (type === TIME) return this.#time(start, from, n);
    if (type !== RATIO && type !== SET) {
      this.#refuse(`expected a known extension, got ${type}`, start);
    }
    // Their content is read where it stands: its keys have their numbers like all others.
    const outer = this.#end;
    [this.#pos, this.#end] = [from, from + n];
    const found = type === SET ? this.#set() : this.#ratio(start);
    if (this.#pos < this.#end) this.#refuse("expected the end of an extension, got more");
    this.#end = outer;
    return found;
  }

  #set() {
    const start = this.#pos;
    const items = this.read();
    if (!Array.isArray(items)) this.#refuse("expected an array as what a set holds", start);
    const isNew = distinct((message) => this.#refuse(message, start), this.#identity);
    return new Set(items.map((item) => isNew(item)));
  }

  #ratio(start) {
    const parts = [this.read(), this.read()];
    if (!parts.every((part) => typeof part === "bigint" || Number.isSafeInteger(part))) {
      this.#refuse(`expected two integers, got ${parts}`, start);
    }
    const ratio = this.#attempt(start, () => new Ratio(parts[0], parts[1]));
    return ratio.denominator === 1n ? shortest(ratio.numerator) : ratio;
  }

  #numbers(from, n, [, Type, get]) {
    const size = Type.BYTES_PER_ELEMENT;
    if (n % size) this.#refuse(`expected a multiple of ${size} bytes, got ${n}`, from);
    return Type.from({ length: n / size }, (_, i) => this.#view[get](from + i * size));
  }

  #time(start, from, n) {
    if (n !== 12) this.#refuse(`expected a time of 12 bytes, got ${n}`, start);
    const nanos = this.#view.getUint32(from);
    const seconds = Number(this.#view.getBigInt64(from + 4));
    return this.#attempt(start, () => {
      const iso = new Date(seconds * 1000).toJSON() ?? `${seconds} s`;
      return new Instant(`${iso.slice(0, -5)}.${String(nanos).padStart(9, "0").slice(0, 6)}Z`);
    });
  }
}

export function read(source) {
  const bytes = source instanceof ArrayBuffer ? new Uint8Array(source) : source;
  if (!(bytes instanceof Uint8Array)) {
    throw new PacketError(`expected bytes, got ${JSON.stringify(String(source)).slice(0, 80)}`);
  }
  return new Reader(bytes).read();
}

// -- writing --

/** Return what a key is written as, since a reader numbers it by that. */
const standIn = (key) => {
  if (key instanceof String) return `${key}`;
  const hasOwn = [Decimal, Keyword, UUID, Date].some((type) => key instanceof type);
  if (!key || typeof key !== "object" || hasOwn || isPlain(key) || key[Symbol.iterator]) return key;
  return typeof key.toJSON === "function" ? standIn(key.toJSON()) : key;
};

class Writer {
  #bytes = new Uint8Array(128);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #steps = []; // those to the value that is being written
  #around; // how many collections of its packet stand around the first value
  #hashed = 0; // keys and members under way
  #keys = new Map(); // a key that was written -> its number
  #identity = makeIdentity("msgpack");

  constructor(around) {
    this.#around = around;
  }

  get bytes() {
    return this.#bytes.subarray(0, this.#length);
  }

  #refuse(message) {
    throw unwritableAt(PacketError, message, this.#steps);
  }

  /** Make room for n bytes; where they begin. */
  #room(n) {
    const start = this.#length;
    this.#length += n;
    if (this.#length > this.#bytes.length) {
      const more = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      more.set(this.#bytes);
      this.#bytes = more;
      this.#view = new DataView(more.buffer);
    }
    return start;
  }

  #byte(n) {
    const start = this.#room(1); // which may give other #bytes
    this.#bytes[start] = n;
  }

  #number(head, set, size, n) {
    const start = this.#room(1 + size);
    this.#bytes[start] = head;
    this.#view[set](start + 1, n);
  }

  #raw(bytes) {
    const start = this.#room(bytes.length);
    this.#bytes.set(bytes, start);
  }

  /** Write a length: in the head itself, or in 1 (if there is such a head), 2 or 4 bytes. */
  #head(n, small, limit, head8, head16) {
    if (n < limit) this.#byte(small | n);
    else if (n < 256 && head8) this.#number(head8, "setUint8", 1, n);
    else if (n < 65536) this.#number(head16, "setUint16", 2, n);
    else this.#number(head16 + 1, "setUint32", 4, n);
  }

  write(value) {
    switch (typeof value) {
      case "string":
        return this.#text(value);
      case "number":
        return this.#anyNumber(value);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "undefined":
        return this.#byte(0xc0);
      case "bigint":
        return this.#integer(value);
      case "object":
        return value ? this.#object(value) : this.#byte(0xc0);
    }
    this.#refuse(`expected a value, got a ${typeof value}`);
  }

  #inner(step, value) {
    this.#steps.push(step);
    if (this.#steps.length + this.#around > MAX_DEPTH) {
      this.#refuse(`expected at most ${MAX_DEPTH} levels, got more, or a cycle`);
    }
    this.write(value);
    this.#steps.pop();
  }

  #anyNumber(n) {
    if (Number.isSafeInteger(n) && !Object.is(n, -0)) this.#integer(n);
    else if (Math.fround(n) === n) this.#number(0xca, "setFloat32", 4, n);
    else this.#number(0xcb, "setFloat64", 8, n);
  }

  #integer(n) {
    if (n >= -32 && n < 128) this.#byte(Number(n) & 255);
    else if (n >= -0x80 && n < 0x100) this.#number(n < 0 ? 0xd0 : 0xcc, "setInt8", 1, Number(n));
    else if (n >= -0x8000 && n < 0x10000) this.#number(n < 0 ? 0xd1 : 0xcd, "setInt16", 2, Number(n));
    else if (n >= -0x80000000 && n < 0x100000000) {
      this.#number(n < 0 ? 0xd2 : 0xce, "setInt32", 4, Number(n));
    } else {
      const big = BigInt(n);
      const isSigned = BigInt.asIntN(64, big) === big;
      if (!isSigned && BigInt.asUintN(64, big) !== big) {
        this.#refuse(`expected an integer of 64 bits, got ${big}`);
      }
      this.#number(isSigned ? 0xd3 : 0xcf, "setBigInt64", 8, big);
    }
  }

  #utf8(text) {
    if (!isWhole(text)) {
      this.#refuse(`expected text, got half a character in ${JSON.stringify(text).slice(0, 80)}`);
    }
    return encoder.encode(text);
  }

  /** Write a short text of ASCII with its head; whether it is one. */
  #ascii(text, head) {
    const n = text.length;
    if (n >= SHORT) return false;
    const start = this.#length;
    head(n);
    const at = this.#room(n);
    for (let i = 0; i < n; i++) {
      const c = text.charCodeAt(i);
      if (c > 127) {
        this.#length = start;
        return false;
      }
      this.#bytes[at + i] = c;
    }
    return true;
  }

  #text(text) {
    if (this.#ascii(text, this.#headOfText)) return;
    const bytes = this.#utf8(text);
    this.#head(bytes.length, 0xa0, 32, 0xd9, 0xda);
    this.#raw(bytes);
  }

  #headOfText = (n) => this.#byte(0xa0 | n);

  #headOfKeyword = (n) => this.#headOfExtension(KEYWORD, n);

  #headOfExtension(type, n) {
    const fixed = [1, 2, 4, 8, 16].indexOf(n);
    if (fixed < 0) this.#head(n, 0, 0, 0xc7, 0xc8);
    else this.#byte(0xd4 + fixed);
    this.#byte(type);
  }

  #extension(type, bytes) {
    this.#headOfExtension(type, bytes.length);
    this.#raw(bytes);
  }

  /** Write what `fill` writes as the content of an extension. */
  #wrapped(type, fill) {
    const start = this.#length;
    fill();
    const content = this.#bytes.slice(start, this.#length);
    this.#length = start;
    this.#extension(type, content);
  }

  #object(value) {
    if (Array.isArray(value)) return this.#items(value);
    if (isPlain(value)) return this.#properties(value);
    if (value instanceof Keyword) return this.#keyword(value.name);
    if (value instanceof Name) return this.#extension(SYMBOL, this.#utf8(value.name));
    if (value instanceof Map) return this.#map(value);
    if (value instanceof Set) return this.#wrapped(SET, () => this.#set(value));
    if (value instanceof Date) return this.#time(value);
    if (value instanceof UUID) return this.#extension(ID, encoder.encode(`${value}`));
    if (value instanceof Char) return this.#extension(CHAR, encoder.encode(value.char));
    if (value instanceof Ratio) {
      return this.#wrapped(RATIO, () => {
        this.#integer(value.numerator);
        this.#integer(value.denominator);
      });
    }
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return this.write(value.valueOf());
    }
    if (value instanceof ArrayBuffer) return this.#object(new Uint8Array(value));
    if (value instanceof Uint8Array) {
      this.#head(value.length, 0, 0, 0xc4, 0xc5);
      return this.#raw(value);
    }
    const array = ARRAYS.find(([, Type]) => value instanceof Type);
    if (array) return this.#numbers(value, array);
    if (value[Symbol.iterator]) return this.#items([...value]);
    // What Sente has no extension for, or shows nothing of itself, would be lost without a sound.
    const isKnown = [Decimal, Tagged].some((type) => value instanceof type);
    if (!isKnown && typeof value.toJSON === "function") {
      return this.#inner("toJSON()", value.toJSON());
    }
    if (isKnown || !Object.keys(value).length) this.#refuse(`expected a value, got ${value}`);
    this.#properties(value);
  }

  #items(items) {
    this.#head(items.length, 0x90, 16, 0, 0xdc);
    for (let i = 0; i < items.length; i++) this.#inner(i, items[i]);
  }

  #set(found) {
    const items = [...found];
    this.#hashed++;
    this.#items(items);
    this.#hashed--;
    const isNew = distinct((message) => this.#refuse(message), this.#identity);
    items.forEach((item) => isNew(item));
  }

  #keyword(name) {
    if (!this.#ascii(name, this.#headOfKeyword)) this.#extension(KEYWORD, encoder.encode(name));
  }

  /** Write the number of a key that was written before, or note it; whether it was. */
  #isKnown(key) {
    const number = this.#keys.get(key);
    if (number === undefined) {
      if (this.#keys.size < MAX_KEYS) this.#keys.set(key, this.#keys.size);
      return false;
    }
    const at = this.#room(3);
    this.#bytes[at] = 0xd4;
    this.#bytes[at + 1] = KEY;
    this.#bytes[at + 2] = number;
    return true;
  }

  #properties(object) {
    const names = definedKeys(object);
    if (!areNames(names)) return this.#map(new Map(names.map((name) => [name, object[name]])));
    this.#head(names.length, 0x80, 16, 0, 0xde);
    for (const name of names) {
      if (!this.#isKnown(keyword(name))) this.#keyword(name);
      this.#inner(name, object[name]);
    }
  }

  #map(found) {
    const isNew = distinct((message) => this.#refuse(message), this.#identity);
    this.#head(found.size, 0x80, 16, 0, 0xde);
    let number = 0;
    for (const [given, value] of found) {
      const key = standIn(given);
      const isText = typeof key === "string";
      const isKept = isText || key instanceof Keyword;
      this.#hashed++;
      if (!isKept || !this.#isKnown(key)) this.#inner([number], key);
      this.#hashed--;
      isNew(key);
      this.#inner([isText ? JSON.stringify(key) : isKept ? `${key}` : number], value);
      number++;
    }
  }

  #time(date) {
    const iso = date.toJSON();
    if (iso?.length !== 24 || iso < "0001") {
      this.#refuse(`expected a date of the years 1 to 9999, got ${iso}`);
    }
    const seconds = Math.floor(date / 1000);
    const nanos = (date - seconds * 1000) * 1e6 + (date.microseconds ?? 0) * 1e3;
    const view = new DataView(new ArrayBuffer(12));
    view.setUint32(0, nanos);
    view.setBigInt64(4, BigInt(seconds));
    this.#extension(TIME, new Uint8Array(view.buffer));
  }

  #numbers(items, [type, { BYTES_PER_ELEMENT: size }, , set]) {
    if (this.#hashed) this.#refuse("expected a key or member, got an array of numbers");
    const view = new DataView(new ArrayBuffer(items.length * size));
    items.forEach((item, i) => view[set](i * size, item));
    this.#extension(type, new Uint8Array(view.buffer));
  }
}

const writeAt = (value, around) => {
  const writer = new Writer(around);
  writer.write(value);
  return writer.bytes;
};

export function write(value) {
  return writeAt(value, 0);
}

/** Join encoded values to an array of them. */
const arrayOf = (...parts) => {
  const joined = new Uint8Array(parts.reduce((n, part) => n + part.length, 1));
  joined[0] = 0x90 | parts.length;
  let at = 1;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
};

export const msgpack = {
  binary: true,
  fragment(id, data) {
    const name = write(keyword(id));
    return data === undefined ? arrayOf(name) : arrayOf(name, writeAt(data, IN_EVENT));
  },
  packet: (fragment, cbId) => arrayOf(fragment, write(cbId)),
  unpack: read,
  name: (value) => (value instanceof Keyword ? value.name : undefined),
};

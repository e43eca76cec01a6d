/**
 * json.js: JSON as a packer for chansock.js, for a server without edn: ids and all that is a
 * keyword elsewhere are strings.
 *
 * What JSON would change without a word (a Map, NaN, a big integer) is refused. It knows packets
 * alone; connections are chansock.js's.
 */

import { Char, PacketError, Ratio, Symbol as Name, Tagged, internals } from "./chansock.js";

const { isPlain, isWhole, unwritableAt, IN_EVENT, MAX_DEPTH } = internals;

const OWN = [Char, Name, Ratio, Tagged]; // values of edn, which are not their properties

/** Whether a number is the same one in digits: past 2^53 JavaScript rounds those. */
const isKept = (value) =>
  Number.isInteger(value) && Math.abs(value) < 1e21
    ? BigInt(value) === BigInt(`${value}`)
    : isFinite(value);

/** Name what JSON has no form for; undefined if it has one. */
const faultOf = (value) => {
  const type = typeof value;
  if (type === "number") return isKept(value) ? undefined : `${value}`;
  if (type === "string") return isWhole(value) ? undefined : "half a character";
  if (type !== "object") return ["function", "symbol", "bigint"].find((name) => name === type);
  if (!value || Array.isArray(value) || isPlain(value)) return undefined;
  if (OWN.some((kind) => value instanceof kind)) return value.constructor.name;
  const isBoxed = value.valueOf() !== value;
  const showsNothing = ArrayBuffer.isView(value) || !Object.keys(value).length;
  return showsNothing && !isBoxed ? value.constructor.name : undefined;
};

const write = (value) => {
  const ways = new Map(); // an object -> its depth, the step to it, and the way to what holds it
  const refuse = (message, way) => {
    const steps = [];
    for (; way[0]; way = way[2]) steps.unshift(way[1]);
    throw unwritableAt(PacketError, message, steps);
  };
  const check = function (key, item) {
    const outer = ways.get(this);
    const way = outer ? [outer[0] + 1, Array.isArray(this) ? +key : key, outer] : [0];
    const fault = faultOf(item) ?? faultOf(key);
    if (fault) refuse(`expected a value of JSON, got ${fault}`, way);
    if (item && typeof item === "object") {
      if (way[0] + IN_EVENT >= MAX_DEPTH) refuse(`expected at most ${MAX_DEPTH} levels, got more`, way);
      ways.set(item, way);
    }
    return item;
  };
  try {
    return JSON.stringify(value, check);
  } catch (error) {
    if (error instanceof PacketError) throw error;
    throw new PacketError(error.message, { cause: error }); // a cycle
  }
};

export const json = {
  binary: false,
  contentType: "application/json",
  fragment: (id, data) => (data === undefined ? `["${id}"]` : `["${id}",${write(data)}]`),
  packet: (fragment, cbId) => `[${fragment},${JSON.stringify(cbId)}]`,
  unpack(packet) {
    try {
      return JSON.parse(packet);
    } catch (error) {
      throw new PacketError(error.message, { cause: error });
    }
  },
  name: (value) => (typeof value === "string" ? value : undefined),
};

/** Types of msgpack.js, the packer for a channel whose server speaks MessagePack as Sente does. */

import type { Packer } from "./chansock.js";

/** `connect(url, { packer: msgpack })`: less to send than edn, with the same values. */
export const msgpack: Packer<Uint8Array>;

/**
 * Read the first value of a message; what follows it is ignored. Values are what edn's `read`
 * gives, and bytes (Uint8Array) and arrays of numbers (Int32Array, Float32Array, Float64Array)
 * besides. A list is an Array here. A Keyword or Symbol may have any name; a map with a keyword that
 * edn cannot spell is a Map. Throws PacketError.
 */
export function read(bytes: Uint8Array | ArrayBuffer): any;

/**
 * Write a value. Throws PacketError for what there is no form for: what edn cannot say, a Decimal,
 * a Tagged, an integer of more than 64 bits, an array of numbers as a key or member.
 */
export function write(value: any): Uint8Array;

/** Types of json.js, the packer for a channel whose server speaks JSON. */

import type { Packer } from "./chansock.js";

/**
 * `connect(url, { packer: json })`: ids, and all that is a keyword elsewhere, are strings. Refuses
 * what JSON would change without a word: a Map, a Set, NaN, bytes, a BigInt, values of edn such as
 * Decimal, a whole number past 2^53 that its digits would round.
 */
export const json: Packer<string>;

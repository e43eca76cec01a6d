// The modules under test, by one name for all tests.
export * from "../chansock.js";
export { json } from "../json.js";
export * as pack from "../msgpack.js";

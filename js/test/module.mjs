// The module under test, by one name for all tests.
export * from "../chansock.js";

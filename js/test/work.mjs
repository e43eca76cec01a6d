// How much work a call makes, counted and not timed.

/** Return the sum of `weigh(self, ...args)` over all calls of `owner[name]` that `call` makes. */
export const workOf = (owner, name, weigh, call) => {
  const original = owner[name];
  let total = 0;
  owner[name] = function (...args) {
    total += weigh(this, ...args);
    return original.apply(this, args);
  };
  try {
    call();
  } finally {
    owner[name] = original;
  }
  return total;
};

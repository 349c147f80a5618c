// Waiting for conditions. A deadline only ends a test that hangs; it is never a measurement.

/** Long enough for a machine that compiles beside the tests. */
export const DEADLINE_MS = 60_000;
const POLL_INTERVAL_MS = 25;

/** The promise's outcome, or a rejection that names what did not happen before the deadline. */
export async function withDeadline(promise, what, ms = DEADLINE_MS) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`waited ${ms} ms for ${typeof what === 'function' ? what() : what}`));
    }, ms);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/** Evaluates the condition repeatedly until its result is truthy, and returns that. */
export async function waitUntil(condition, what, ms = DEADLINE_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${typeof what === 'function' ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

/** Runs `work` over `items`, at most `width` at a time; results in the items' order. */
export async function mapConcurrently(width, items, work) {
  const results = new Array(items.length);
  const queue = items.entries();
  const drainQueue = async () => {
    for (const [index, item] of queue) results[index] = await work(item, index);
  };
  await Promise.all(Array.from({ length: width }, drainQueue));
  return results;
}

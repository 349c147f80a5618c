// The two ways to run, behind one face: whatever a test needs is `backend.url`.
// `serve` stands on ministack, set up by the project's own templates.

import { after, before, describe } from 'node:test';
import { startServe } from './ministack.mjs';
import { startDev } from './server.mjs';

const STARTERS = { dev: startDev, serve: startServe };

/** `BACKENDS=dev` or `BACKENDS=serve` runs the tests on that one alone. */
export const BACKENDS = process.env.BACKENDS?.split(',') ?? Object.keys(STARTERS);

/** Starts a server of that kind. */
export function startBackend(name, options) {
  return STARTERS[name](options);
}

/** Runs the suite once for each backend, each time with a server of its own, started with `options`. */
export function onEachBackend(subject, suite, options) {
  for (const name of BACKENDS) {
    describe(`${subject}, ${name}`, () => {
      const backend = { name };
      before(async () => {
        backend.server = await startBackend(name, options);
        backend.url = backend.server.url;
      });
      after(() => backend.server?.stop());
      suite(backend);
    });
  }
}

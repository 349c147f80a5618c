// The two ways to run the server, behind one interface: `backend.url`.
// `serve` runs on the ministack emulator, set up by the project's own templates.

import { after, before, describe } from 'node:test';
import { startServe } from './aws-account.mjs';
import { startDev } from './server.mjs';

const STARTERS = { dev: startDev, serve: startServe };

/** `BACKENDS=dev` or `BACKENDS=serve` runs the tests on that backend alone. */
export const BACKENDS = process.env.BACKENDS?.split(',') ?? Object.keys(STARTERS);

/** Whether the tests of that backend are to run. */
export function isBackendChosen(name) {
  return BACKENDS.includes(name);
}

/** Starts a server of that backend. */
export function startBackend(name, options) {
  return STARTERS[name](options);
}

/** Runs the suite once for each backend, with a server of its own that is started with `options`. */
export function describeOnEachBackend(subject, suite, options) {
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

// .env.sample, against the settings that `photoshare serve` has.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { runCommand } from './lib/process.mjs';
import { BINARY, runUntilExit, startServer } from './lib/server.mjs';

/** Read by the AWS SDK and not by PhotoShare, so `--help` does not list them. */
const AWS_SDK_SETTINGS = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];

/** The lines `NAME=value` of the file, and those that are commented out: `#NAME=value`. */
async function readSample() {
  const text = await readFile(new URL('../../.env.sample', import.meta.url), 'utf8');
  const matches = [...text.matchAll(/^(#?)([A-Z0-9_]+)=(.*)$/gm)];
  const select = (mark) => Object.fromEntries(matches.filter((match) => match[1] === mark).map(([, , name, value]) => [name, value]));
  return { required: select(''), optional: select('#') };
}

test('names only settings that serve has', async () => {
  const { required, optional } = await readSample();
  const help = await runCommand(BINARY, ['serve', '--help']);
  const known = new Set([...help.matchAll(/\[env:\s+([A-Z0-9_]+)/g)].map(([, name]) => name));
  assert.ok(known.has('S3_BUCKET'), help);
  const unknown = Object.keys({ ...required, ...optional }).filter((name) => !known.has(name) && !AWS_SDK_SETTINGS.includes(name));
  assert.deepEqual(unknown, []);
});

test('sets everything that serve does not start without', async () => {
  const { required } = await readSample();
  const { code, log } = await runUntilExit(['serve'], {});
  assert.equal(code, 78);
  const missing = [...log.matchAll(/^ +([A-Z0-9_]+) /gm)].map(([, name]) => name);
  assert.ok(missing.includes('S3_BUCKET'), log);
  assert.deepEqual(missing.filter((name) => !(name in required)), []);
});

test('filled in, it is a valid configuration', async () => {
  const { required } = await readSample();
  const empty = Object.keys(required).filter((name) => required[name] === '');
  const filled = Object.fromEntries(empty.map((name) => [name, 'a-value-of-more-than-32-bytes-in-length']));
  // Nothing listens on port 9: the server starts, but is not ready.
  const server = await startServer('serve', { ...required, ...filled, PORT: '0', AWS_ENDPOINT_URL: 'http://127.0.0.1:9' });
  await server.stop();
});

// The server against its own OpenAPI document, by requests that schemathesis generates.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { ChildProcess } from './lib/process.mjs';
import { startDev, createTemporaryFolder } from './lib/server.mjs';
import { SECRET, createToken } from './lib/tokens.mjs';
import { withDeadline } from './lib/wait.mjs';

const SCHEMATHESIS = process.env.SCHEMATHESIS ?? fileURLToPath(new URL('../../.venv-schemathesis/bin/st', import.meta.url));

// Left out, each for a reason:
// - the stream of server-sent events never ends by itself;
// - positive_data_acceptance: a well-formed request for an object or a multipart upload that S3 does not have
//   is refused;
// - negative_data_rejection: unknown fields and parameters are ignored, since clients may be newer.
const ARGUMENTS = ['--exclude-path', '/v1/feeds/{feed}/events',
  '--exclude-checks', 'positive_data_acceptance,negative_data_rejection',
  '--max-examples', '30', '--seed', '7', '--no-color'];

const TOKEN = createToken({ '*': ['view', 'upload', 'delete'] });
/** For each kind of client: the environment of the server, and more arguments of schemathesis. */
const CLIENTS = {
  'without a token': [{}, []],
  'with a token': [{ AUTH: 'on', AUTH_JWT_SECRET: SECRET, METRICS_TOKEN: TOKEN }, ['--header', `Authorization: Bearer ${TOKEN}`]],
};

for (const [client, [env, moreArguments]] of Object.entries(CLIENTS)) {
  test(`generated requests ${client} get only responses that the document describes`, {
    skip: !existsSync(SCHEMATHESIS) && 'schemathesis is not installed: make tools',
  }, async (t) => {
    const server = await startDev({ env });
    t.after(() => server.stop());
    const child = new ChildProcess(SCHEMATHESIS, ['run', `${server.url}/openapi.json`, ...ARGUMENTS, ...moreArguments], { cwd: await createTemporaryFolder(t) });
    const { code } = await withDeadline(child.exited, () => `schemathesis:\n${child.log}`, 300_000);
    t.diagnostic(child.log.split('\n').slice(-25).join('\n'));
    assert.equal(code, 0, child.log);
  });
}

// Starting, refusing to start, and stopping.

import assert from 'node:assert/strict';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import { BACKENDS, startBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { createGrant, makeFeedId, makePhoto, putPhoto, uploadPhoto } from './lib/photos.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { assertFreshJoin } from './lib/assertions.mjs';
import { runUntilExit, startDev, createTemporaryFolder } from './lib/server.mjs';
import { withDeadline } from './lib/wait.mjs';

/** A valid configuration of `serve` without an AWS behind it: no call is made before the configuration is validated. */
const SERVE = {
  AWS_REGION: 'eu-central-1',
  AWS_ACCESS_KEY_ID: 'x',
  AWS_SECRET_ACCESS_KEY: 'x',
  AWS_ENDPOINT_URL: 'http://127.0.0.1:9',
  S3_BUCKET: 'photos',
  SQS_QUEUE_URL: 'http://127.0.0.1:9/000000000000/events',
  AUTH: 'off',
  PORT: '0',
  BIND_ADDR: '127.0.0.1',
};
const omit = (env, ...names) => Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));

/** The program exits by itself with an error that names all of these, and never listens. */
async function assertFailsToStart(args, env, ...names) {
  const { code, log } = await runUntilExit(args, env);
  assert.notEqual(code, 0, log);
  assert.equal(typeof code, 'number', `exited by itself, not by a signal:\n${log}`);
  for (const name of names) assert.ok(log.includes(name), `${name} is named in:\n${log}`);
  assert.doesNotMatch(log, /"listening"|panicked/);
}

for (const backend of BACKENDS) {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    test(`${signal} to ${backend}: clients receive reconnect, their transports close, the exit code is 0`, async (t) => {
      const server = await startBackend(backend);
      const feed = makeFeedId();
      const clients = [
        connectSocketIo4(server.url), connectSocketIo4(server.url, { transports: ['polling'] }),
        connectSocketIo2(server.url), connectSocketIo2(server.url, { transports: ['polling'] }),
      ].map((client) => closeAfterTest(t, client));
      const stream = closeAfterTest(t, await openEventStream(server.url, feed));
      await Promise.all(clients.map((client) => client.request('join', feed)));
      await uploadPhoto(server.url, feed);
      await Promise.all(clients.map((client) => client.inbox.waitFor('imageUploaded')));

      await server.stop(signal);
      for (const { inbox } of clients) {
        const { afterMs } = await inbox.waitFor('reconnect');
        assert.ok(Number.isInteger(afterMs) && afterMs >= 0, `afterMs is ${afterMs}`);
        const reason = await inbox.waitFor('disconnect');
        assert.match(reason, /^transport (close|error)$/, 'after this reason official clients reconnect by themselves');
      }
      assert.equal(clients[0].socket.active, true, 'the client is about to reconnect');
      await stream.inbox.waitFor('ended');
    });
  }
}

test('a client that connects to the namespace while the server stops is not refused permanently', async (t) => {
  const server = await startDev();
  // The process lasts until this request is answered or aborted.
  const unfinished = request(`${server.url}/v1/feeds/summer/uploads`, { method: 'POST', headers: { 'content-length': 9 } });
  unfinished.on('error', () => {}).write('{');
  const connected = closeAfterTest(t, new RawWebSocket(server.url, { eio: 4 }));
  const connecting = [RawWebSocket, RawPolling].map((Client) => closeAfterTest(t, new Client(server.url, { eio: 4, manualConnect: true })));
  await connected.waitForConnect();
  for (const { inbox } of connecting) await inbox.waitFor('open');

  const stopped = server.stop();
  await connected.inbox.waitFor('ended');
  for (const client of connecting) client.connect();
  for (const { inbox } of connecting) {
    await inbox.waitUntil(() => inbox.events.find(({ name, data }) => name === 'ended' || data === '1'), 'the end of the session');
    assert.deepEqual(inbox.dataOf('packet').filter((packet) => packet.startsWith('44')), [], 'official clients would not reconnect after it');
  }
  unfinished.destroy();
  await stopped;
});

test('official clients reconnect by themselves after a restart', async (t) => {
  const dataDir = await createTemporaryFolder(t);
  const first = await startDev({ dataDir });
  const feed = makeFeedId();
  const fastReconnection = { reconnectionDelay: 50, reconnectionDelayMax: 200 };
  const clients = [
    connectSocketIo4(first.url, fastReconnection), connectSocketIo4(first.url, { ...fastReconnection, transports: ['polling'] }),
    connectSocketIo2(first.url, fastReconnection), connectSocketIo2(first.url, { ...fastReconnection, transports: ['polling'] }),
  ].map((client) => closeAfterTest(t, client));
  const cursors = await Promise.all(clients.map(async (client) => (await client.request('join', feed)).cursor));
  await first.stop();

  const server = await startDev({ dataDir, env: { PORT: first.port } });
  t.after(() => server.stop());
  assert.equal(server.port, first.port);
  for (const [i, client] of clients.entries()) {
    await client.inbox.waitForCount(2, 'connect');
    assertFreshJoin(await client.request('join', { feed, cursor: cursors[i] }), feed);
  }
  const { key } = await uploadPhoto(server.url, feed);
  for (const client of clients) assert.equal((await client.inbox.waitFor('imageUploaded')).key, key);
});

test('an idle WebSocket stays open for more than 55 s', async (t) => {
  const server = await startDev();
  t.after(() => server.stop());
  const feed = makeFeedId();
  const clients = [connectSocketIo4(server.url), connectSocketIo2(server.url)].map((client) => closeAfterTest(t, client));
  // The server pings an Engine.IO 4 client, an Engine.IO 3 client pings the server: every 25 s, so the third is later than 55 s.
  const heartbeats = clients.map(async (client, i) => {
    await client.request('join', feed);
    await waitForThird(client.socket.io, ['ping', 'pong'][i]);
  });
  await withDeadline(Promise.all(heartbeats), 'the heartbeats', 120_000);
  const { key } = await uploadPhoto(server.url, feed);
  for (const { inbox } of clients) {
    assert.equal((await inbox.waitFor('imageUploaded')).key, key);
    assert.deepEqual(inbox.dataOf('disconnect'), []);
  }
});

function waitForThird(emitter, event) {
  return new Promise((resolve) => {
    let times = 0;
    emitter.on(event, () => {
      times += 1;
      if (times === 3) resolve();
    });
  });
}

test('SIGTERM without any client: the exit code is 0', async () => {
  await (await startDev()).stop();
});

test('clients that send nothing do not delay the stop', async (t) => {
  const server = await startDev();
  const clients = Array.from({ length: 30 }, () => closeAfterTest(t, connectSocketIo4(server.url)));
  await Promise.all(clients.map((client) => client.waitForConnect()));
  assert.equal(new Set(clients.map(({ socket }) => socket.id)).size, 30);
  await server.stop();
});

test('a photo that is in the bucket at the stop is listed after the next start', async (t) => {
  const dataDir = await createTemporaryFolder(t);
  const first = await startDev({ dataDir });
  const feed = makeFeedId();
  const picture = makePhoto();
  const grant = await createGrant(first.url, feed, picture);
  const response = await putPhoto(grant, picture.bytes);
  assert.equal(response.status, 200);
  await first.stop();
  const server = await startDev({ dataDir });
  t.after(() => server.stop());
  const { photos } = await (await fetch(`${server.url}/v1/feeds/${feed}/photos`)).json();
  assert.deepEqual(photos.map(({ key }) => key), [grant.key]);
});

test('every error of the configuration is reported at once, and no port is bound', async (t) => {
  const cwd = await createTemporaryFolder(t);
  await assertFailsToStart(['dev'], { DATA_DIR: cwd, PORT: 'abc', VIEW_URL_SECS: '-1', LOG_FORMAT: 'xml' }, 'PORT', 'VIEW_URL_SECS', 'LOG_FORMAT');
});

test('errors of flags are reported like those of the environment', async (t) => {
  const cwd = await createTemporaryFolder(t);
  const { code, log } = await runUntilExit(['dev', '--port=abc', '--view-url-secs=-1'], { DATA_DIR: cwd });
  assert.notEqual(code, 0);
  assert.match(log, /PORT|--port/);
  assert.match(log, /VIEW_URL_SECS|--view-url-secs/);
});

test('serve reports every missing setting', () => assertFailsToStart(['serve'], { PORT: '0' }, 'S3_BUCKET', 'SQS_QUEUE_URL', 'AUTH'));

test('serve does not start without a key source unless AUTH=off', () =>
  assertFailsToStart(['serve'], omit(SERVE, 'AUTH'), 'AUTH'));

test('a key of less than 32 bytes is rejected, and not printed', async () => {
  const secret = 'a-very-short-one';
  const { code, log } = await runUntilExit(['serve'], { ...omit(SERVE, 'AUTH'), AUTH_JWT_SECRET: secret });
  assert.notEqual(code, 0);
  assert.match(log, /AUTH_JWT_SECRET/);
  assert.ok(!log.includes(secret), 'a secret is not printed');
});

test('serve reports a missing PORT', () => assertFailsToStart(['serve'], omit(SERVE, 'PORT'), 'PORT'));

for (const args of [['poll'], ['serve', '--no-poller']]) {
  test(`${args.join(' ')} does not start without REDIS_URL`, () => assertFailsToStart(args, SERVE, 'REDIS_URL'));
}

test('a second dyno does not start without REDIS_URL', () => assertFailsToStart(['serve'], { ...SERVE, DYNO: 'web.2' }, 'REDIS_URL'));

test('a port that is in use is reported', async (t) => {
  const occupant = createServer().listen(0, '127.0.0.1');
  await once(occupant, 'listening');
  t.after(() => occupant.close());
  const port = String(occupant.address().port);
  await assertFailsToStart(['dev'], { DATA_DIR: await createTemporaryFolder(t), PORT: port, BIND_ADDR: '127.0.0.1' }, port);
});

test('an unknown command and an unknown flag are rejected', async () => {
  await assertFailsToStart(['dance'], {}, 'dance');
  await assertFailsToStart(['dev', '--dance'], {}, '--dance');
});

test('--help lists every setting with its environment variable', async () => {
  for (const [command, names] of Object.entries({
    dev: ['PORT', 'BIND_ADDR', 'DATA_DIR', 'LOG_FORMAT', 'VIEW_URL_SECS', 'UPLOAD_MAX_BYTES', 'UPLOAD_CONTENT_TYPES', 'PUBLIC_URL'],
    serve: ['PORT', 'BIND_ADDR', 'S3_BUCKET', 'S3_KEY_PREFIX', 'SQS_QUEUE_URL', 'DEMO_PAGE', 'AUTH', 'MAX_FEEDS_PER_CONNECTION'],
  })) {
    const { code, log } = await runUntilExit([command, '--help'], {});
    assert.equal(code, 0);
    for (const name of names) assert.ok(log.includes(name), `${command} --help lists ${name}:\n${log}`);
  }
});

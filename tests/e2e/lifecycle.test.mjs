// Starting, refusing to start, and stopping.

import assert from 'node:assert/strict';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import { BACKENDS, startBackend } from './lib/backends.mjs';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { grantFor, newFeed, photo, put, upload } from './lib/photos.mjs';
import { openStream } from './lib/sse.mjs';
import { assertFreshJoin } from './lib/shapes.mjs';
import { failedStart, startDev, temporaryFolder } from './lib/server.mjs';
import { within } from './lib/wait.mjs';

/** Enough for `serve` to start, were AWS there: nothing of it is asked before the configuration is judged. */
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
const without = (env, ...names) => Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));

/** The start fails by itself, names all of these, and never listened. */
async function assertRefusesToStart(args, env, ...names) {
  const { code, log } = await failedStart(args, env);
  assert.notEqual(code, 0, log);
  assert.equal(typeof code, 'number', `ended by itself, not by a signal:\n${log}`);
  for (const name of names) assert.ok(log.includes(name), `${name} is named in:\n${log}`);
  assert.doesNotMatch(log, /"listening"|panicked/);
}

for (const backend of BACKENDS) {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    test(`invariant 8: ${signal} to ${backend} tells clients to come back, closes their transports and ends with 0`, async (t) => {
      const server = await startBackend(backend);
      const feed = newFeed();
      const clients = [
        connect4(server.url), connect4(server.url, { transports: ['polling'] }),
        connect2(server.url), connect2(server.url, { transports: ['polling'] }),
      ].map((client) => closing(t, client));
      const stream = closing(t, await openStream(server.url, feed));
      await Promise.all(clients.map((client) => client.ask('join', feed)));
      await upload(server.url, feed);
      await Promise.all(clients.map((client) => client.inbox.find('imageUploaded')));

      await server.stop(signal);
      for (const { inbox } of clients) {
        const { afterMs } = await inbox.find('reconnect');
        assert.ok(Number.isInteger(afterMs) && afterMs >= 0, `afterMs is ${afterMs}`);
        const reason = await inbox.find('disconnect');
        assert.match(reason, /^transport (close|error)$/, 'with this reason official clients come back by themselves');
      }
      assert.equal(clients[0].socket.active, true, 'the client is about to come back');
      await stream.inbox.find('ended');
    });
  }
}

test('a client that asks to be let in while the server stops is not turned away for good', async (t) => {
  const server = await startDev();
  // Until this is answered or cut the process lasts.
  const unfinished = request(`${server.url}/v1/feeds/summer/uploads`, { method: 'POST', headers: { 'content-length': 9 } });
  unfinished.on('error', () => {}).write('{');
  const early = closing(t, new RawWebSocket(server.url, { eio: 4 }));
  const late = [RawWebSocket, RawPolling].map((Client) => closing(t, new Client(server.url, { eio: 4, hesitates: true })));
  await early.opened();
  for (const { inbox } of late) await inbox.find('open');

  const stopped = server.stop();
  await early.inbox.find('ended');
  for (const client of late) client.connect();
  for (const { inbox } of late) {
    await inbox.until(() => inbox.told.find(({ name, data }) => name === 'ended' || data === '1'), 'the end');
    assert.deepEqual(inbox.named('packet').filter((packet) => packet.startsWith('44')), [], 'official clients would stay away');
  }
  unfinished.destroy();
  await stopped;
});

test('official clients come back by themselves after a restart', async (t) => {
  const dataDir = await temporaryFolder(t);
  const earlier = await startDev({ dataDir });
  const feed = newFeed();
  const hurry = { reconnectionDelay: 50, reconnectionDelayMax: 200 };
  const clients = [
    connect4(earlier.url, hurry), connect4(earlier.url, { ...hurry, transports: ['polling'] }),
    connect2(earlier.url, hurry), connect2(earlier.url, { ...hurry, transports: ['polling'] }),
  ].map((client) => closing(t, client));
  const cursors = await Promise.all(clients.map(async (client) => (await client.ask('join', feed)).cursor));
  await earlier.stop();

  const server = await startDev({ dataDir, env: { PORT: earlier.port } });
  t.after(() => server.stop());
  assert.equal(server.port, earlier.port);
  for (const [i, client] of clients.entries()) {
    await client.inbox.first(2, 'connect');
    assertFreshJoin(await client.ask('join', { feed, cursor: cursors[i] }), feed);
  }
  const { key } = await upload(server.url, feed);
  for (const client of clients) assert.equal((await client.inbox.find('imageUploaded')).key, key);
});

test('trap 27: an idle WebSocket outlives 55 s', async (t) => {
  const server = await startDev();
  t.after(() => server.stop());
  const feed = newFeed();
  const clients = [connect4(server.url), connect2(server.url)].map((client) => closing(t, client));
  // Engine.IO 4 is pinged, 3 pings and is answered: every 25 s, so the third one is later than 55 s.
  const beats = clients.map(async (client, i) => {
    await client.ask('join', feed);
    await third(client.socket.io, ['ping', 'pong'][i]);
  });
  await within(Promise.all(beats), 'the heartbeats', 120_000);
  const { key } = await upload(server.url, feed);
  for (const { inbox } of clients) {
    assert.equal((await inbox.find('imageUploaded')).key, key);
    assert.deepEqual(inbox.named('disconnect'), []);
  }
});

function third(emitter, event) {
  return new Promise((resolve) => {
    let times = 0;
    emitter.on(event, () => {
      times += 1;
      if (times === 3) resolve();
    });
  });
}

test('a stop without any client ends with 0', async () => {
  await (await startDev()).stop();
});

test('a client that connected and never spoke again does not hold up the stop', async (t) => {
  const server = await startDev();
  const held = new Set();
  const clients = Array.from({ length: 30 }, () => closing(t, connect4(server.url)));
  await Promise.all(clients.map((client) => client.connected()));
  for (const { socket } of clients) held.add(socket.id);
  assert.equal(held.size, 30);
  await server.stop();
});

test('a photo that the bucket has at the stop is listed at the next start', async (t) => {
  const dataDir = await temporaryFolder(t);
  const earlier = await startDev({ dataDir });
  const feed = newFeed();
  const picture = photo();
  const grant = await grantFor(earlier.url, feed, picture);
  const response = await put(grant, picture.bytes);
  assert.equal(response.status, 200);
  await earlier.stop();
  const server = await startDev({ dataDir });
  t.after(() => server.stop());
  const { photos } = await (await fetch(`${server.url}/v1/feeds/${feed}/photos`)).json();
  assert.deepEqual(photos.map(({ key }) => key), [grant.key]);
});

test('every mistake of a configuration is named at once, and nothing is bound', async (t) => {
  const cwd = await temporaryFolder(t);
  await assertRefusesToStart(['dev'], { DATA_DIR: cwd, PORT: 'abc', VIEW_URL_SECS: '-1', LOG_FORMAT: 'xml' }, 'PORT', 'VIEW_URL_SECS', 'LOG_FORMAT');
});

test('the mistakes of flags are named like those of the environment', async (t) => {
  const cwd = await temporaryFolder(t);
  const { code, log } = await failedStart(['dev', '--port=abc', '--view-url-secs=-1'], { DATA_DIR: cwd });
  assert.notEqual(code, 0);
  assert.match(log, /PORT|--port/);
  assert.match(log, /VIEW_URL_SECS|--view-url-secs/);
});

test('serve names all that is missing', () => assertRefusesToStart(['serve'], { PORT: '0' }, 'S3_BUCKET', 'SQS_QUEUE_URL', 'AUTH'));

test('invariant 7: serve does not start without a key source unless AUTH=off says so', () =>
  assertRefusesToStart(['serve'], without(SERVE, 'AUTH'), 'AUTH'));

test('a key of less than 32 bytes is refused, and not repeated', async () => {
  const secret = 'a-very-short-one';
  const { code, log } = await failedStart(['serve'], { ...without(SERVE, 'AUTH'), AUTH_JWT_SECRET: secret });
  assert.notEqual(code, 0);
  assert.match(log, /AUTH_JWT_SECRET/);
  assert.ok(!log.includes(secret), 'a secret is not printed');
});

test('trap 26: serve without PORT ends with a clear word', () => assertRefusesToStart(['serve'], without(SERVE, 'PORT'), 'PORT'));

for (const args of [['poll'], ['serve', '--no-poller']]) {
  test(`${args.join(' ')} refuses to start without REDIS_URL`, () => assertRefusesToStart(args, SERVE, 'REDIS_URL'));
}

test('a second dyno refuses to start without REDIS_URL', () => assertRefusesToStart(['serve'], { ...SERVE, DYNO: 'web.2' }, 'REDIS_URL'));

test('a port that is taken is a clear end', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const port = String(taken.address().port);
  await assertRefusesToStart(['dev'], { DATA_DIR: await temporaryFolder(t), PORT: port, BIND_ADDR: '127.0.0.1' }, port);
});

test('an unknown command and an unknown flag are refused', async () => {
  await assertRefusesToStart(['dance'], {}, 'dance');
  await assertRefusesToStart(['dev', '--dance'], {}, '--dance');
});

test('--help tells every setting with its name in the environment', async () => {
  for (const [command, names] of Object.entries({
    dev: ['PORT', 'BIND_ADDR', 'DATA_DIR', 'LOG_FORMAT', 'VIEW_URL_SECS', 'UPLOAD_MAX_BYTES', 'UPLOAD_CONTENT_TYPES', 'PUBLIC_URL'],
    serve: ['PORT', 'BIND_ADDR', 'S3_BUCKET', 'S3_KEY_PREFIX', 'SQS_QUEUE_URL', 'DEMO_PAGE', 'AUTH', 'MAX_FEEDS_PER_CONNECTION'],
  })) {
    const { code, log } = await failedStart([command, '--help'], {});
    assert.equal(code, 0);
    for (const name of names) assert.ok(log.includes(name), `${command} --help tells ${name}:\n${log}`);
  }
});

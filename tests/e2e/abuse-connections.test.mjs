// Connections that send requests slowly, in part, or not at all: they end, they take bounded memory, and other
// clients are served meanwhile.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawConnection, buildHead, sendOnce } from './lib/raw-connection.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { makeFeedId, uploadPhoto } from './lib/photos.mjs';
import { parseLogLines, startDev } from './lib/server.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { waitUntil } from './lib/wait.mjs';

const UPLOADS = '/v1/feeds/summer/uploads';
const MIB = 1024 * 1024;

async function startServer(t, options) {
  const server = await startDev(options);
  t.after(() => server.stop());
  return server;
}

function openConnections(t, count, port) {
  return Promise.all(Array.from({ length: count }, () => RawConnection.open(t, port)));
}

async function assertHealthy(t, { port }) {
  assert.equal((await sendOnce(t, port, 'GET', '/healthz')).status, 200);
}

test('connections that send no request, a part of its head, or its head byte by byte are closed', async (t) => {
  const server = await startServer(t, { env: { REQUEST_TIMEOUT_SECS: '1' } });
  const connections = await openConnections(t, 60, server.port);
  const timers = connections.flatMap((connection, i) => {
    if (i % 3 === 0) return [];
    connection.send('GET /healthz HTTP/1.1\r\nHost: localhost\r\n');
    return i % 3 === 1 ? [] : setInterval(() => connection.send('x'), 100);
  });
  t.after(() => timers.forEach(clearInterval));
  await assertHealthy(t, server);
  for (const connection of connections) await connection.waitForClose();
});

test('an idle connection is closed after KEEP_ALIVE_SECS; streams and WebSockets are not', async (t) => {
  const server = await startServer(t, { env: { KEEP_ALIVE_SECS: '1', REQUEST_TIMEOUT_SECS: '1' } });
  const feed = makeFeedId();
  const stream = closeAfterTest(t, await openEventStream(server.url, feed));
  const clients = [['websocket'], ['polling']].map((transports) => closeAfterTest(t, connectSocketIo4(server.url, { transports })));
  await Promise.all(clients.map((client) => client.request('join', feed)));
  for (let i = 0; i < 3; i += 1) {
    const [connection] = await openConnections(t, 1, server.port);
    connection.send(buildHead('GET', '/healthz'));
    await connection.waitForClose();
    assert.equal(connection.status, 200);
  }
  await uploadPhoto(server.url, feed);
  for (const { inbox } of [stream, ...clients]) {
    await inbox.waitFor('imageUploaded');
    assert.deepEqual(inbox.dataOf('disconnect'), []);
  }
});

test('a request head is limited to 64 KiB', async (t) => {
  const server = await startServer(t);
  const [connection] = await openConnections(t, 1, server.port);
  connection.send(buildHead('GET', '/healthz', ...Array.from({ length: 40 }, (_, i) => `X-${i}: ${'x'.repeat(4_000)}`)));
  await connection.waitForClose();
  assert.equal(connection.status, 431);
});

test('a body that stalls or arrives byte by byte is answered with 408', async (t) => {
  const server = await startServer(t, { env: { REQUEST_TIMEOUT_SECS: '1' } });
  const [stalled, slow] = await openConnections(t, 2, server.port);
  for (const connection of [stalled, slow]) {
    connection.send(`${buildHead('POST', UPLOADS, 'Content-Type: application/json', 'Content-Length: 1000')}{`);
  }
  const timer = setInterval(() => slow.send(' '), 50);
  t.after(() => clearInterval(timer));
  for (const connection of [stalled, slow]) {
    await connection.waitForClose();
    assert.equal(connection.status, 408);
    assert.match(connection.received, /urn:photoshare:problem:request-timeout/);
  }
});

test('two hundred stalled bodies of a MiB each take less than 100 MiB together, and small requests are served', async (t) => {
  const server = await startServer(t);
  const before = await server.readMemory('VmRSS');
  const body = Buffer.alloc(MIB - 1, ' ');
  const connections = await openConnections(t, 200, server.port);
  for (const connection of connections) {
    connection.send(buildHead('POST', UPLOADS, 'Content-Type: application/json', `Content-Length: ${MIB}`));
    connection.send(body);
  }
  // The memory for bodies is in use once a body is refused.
  await waitUntil(() => connections.some(({ status }) => status === 503), 'a refused body');
  await uploadPhoto(server.url, makeFeedId());
  await waitUntil(() => connections.every(({ socket }) => socket.bytesWritten > MIB || socket.destroyed), 'the bodies');
  await assertHealthy(t, server);
  const growth = (await server.readMemory('VmHWM')) - before;
  assert.ok(growth < 100, `the server took ${growth.toFixed()} MiB`);
  for (const connection of connections) {
    await connection.waitForClose();
    assert.ok([408, 503, Number.NaN].includes(connection.status), connection.received);
  }
});

test('at the limit of connections, health checks are answered, other requests receive 503, and the log has one line', async (t) => {
  const server = await startServer(t, { descriptorLimit: 128 });
  const connections = await openConnections(t, 200, server.port);
  for (const connection of connections) connection.send(buildHead('GET', '/healthz'));
  // 64 descriptors are reserved. The connections above the limit are closed after their response.
  await waitUntil(() => connections.filter(({ socket }) => socket.destroyed).length === 200 - 64, 'the connections above the limit');
  for (let i = 0; i < 20; i += 1) {
    // Connections that only take the places of health checks.
    await openConnections(t, 20, server.port);
    const health = await sendOnce(t, server.port, 'GET', '/healthz');
    assert.equal(health.status, 200, health.received);
    assert.match(health.received, /^connection: close\r$/im);
  }
  assert.equal((await sendOnce(t, server.port, 'GET', '/readyz')).status, 200);
  for (const path of ['/v1/feeds/summer', '/socket.io/?EIO=4&transport=polling', '/']) {
    const refused = await sendOnce(t, server.port, 'GET', path);
    assert.equal(refused.status, 503, path);
    assert.match(refused.received, /urn:photoshare:problem:unavailable/);
    assert.match(refused.received, /^retry-after: \d+\r$/im);
  }
  const countLines = (text) => parseLogLines(server.log).filter(({ fields }) => fields.message.startsWith(text)).length;
  assert.equal(countLines('connection limit reached'), 1);
  assert.equal(countLines('failed to accept'), 0);

  for (const connection of connections) connection.socket.destroy();
  await waitUntil(() => countLines('connection limit no longer reached') === 1, 'the end of the overload in the log');
  await uploadPhoto(server.url, makeFeedId());
});

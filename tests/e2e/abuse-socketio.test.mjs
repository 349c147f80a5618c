// Engine.IO requests that no client library sends: bodies in tiny chunks, queries that mean two things, versions
// that change, and WebSocket requests without a WebSocket.

import assert from 'node:assert/strict';
import { describe, test, before, after } from 'node:test';
import { readFile } from 'node:fs/promises';
import { RawConnection, buildHead, sendOnce } from './lib/raw-connection.mjs';
import { closeAfterTest } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { startDev } from './lib/server.mjs';
import { mapConcurrently } from './lib/wait.mjs';

const TEXT = { 'content-type': 'text/plain;charset=UTF-8' };
const UPGRADE = {
  Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};
const formatHeaders = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${value}`);

describe('Engine.IO requests', () => {
  let server;
  before(async () => {
    server = await startDev();
  });
  after(() => server.stop());

  /** Opens a session by polling. */
  async function openSession(eio) {
    const packet = await (await fetch(`${server.url}/socket.io/?EIO=${eio}&transport=polling`)).text();
    return JSON.parse(packet.slice(packet.indexOf('{'))).sid;
  }

  async function send(query, init) {
    const response = await fetch(`${server.url}/socket.io/?${query}`, init);
    return { status: response.status, text: await response.text() };
  }

  /** CPU time of the server, in clock ticks. */
  async function readCpuTicks() {
    const stat = await readFile(`/proc/${server.child.process.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  }

  /** The CPU time that one packet of this size costs, sent by several sessions in chunks of one byte. */
  async function measureChunked(t, eio, size) {
    const packet = `4${'x'.repeat(size - 1)}`;
    const body = eio === 3 ? `${size}:${packet}` : packet;
    const chunks = Array.from(body, (byte) => `1\r\n${byte}\r\n`).join('');
    const started = await readCpuTicks();
    await mapConcurrently(4, Array.from({ length: 4 }), async () => {
      const query = `EIO=${eio}&transport=polling&sid=${await openSession(eio)}`;
      const connection = await RawConnection.open(t, server.port);
      connection.send(buildHead('POST', `/socket.io/?${query}`, 'Content-Type: text/plain;charset=UTF-8', 'Transfer-Encoding: chunked'));
      connection.send(`${chunks}0\r\n\r\n`);
      await connection.waitFor(/\r\n\r\n/);
    });
    return (await readCpuTicks()) - started;
  }

  for (const eio of [3, 4]) {
    test(`Engine.IO ${eio}: a body in chunks of one byte costs in proportion to its size`, async (t) => {
      const small = await measureChunked(t, eio, 20_000);
      const large = await measureChunked(t, eio, 80_000);
      assert.ok(large < 8 * Math.max(small, 10), `${small} ticks, and ${large} for the fourfold size`);
    });
  }

  test('a body larger than the limit, whole or in chunks, is refused', async (t) => {
    const path = `/socket.io/?EIO=4&transport=polling&sid=${await openSession(4)}`;
    const announced = await sendOnce(t, server.port, 'POST', path, 'Content-Type: text/plain', 'Content-Length: 1000000');
    assert.equal(announced.status, 413);
    const chunked = await RawConnection.open(t, server.port);
    chunked.send(buildHead('POST', path, 'Content-Type: text/plain', 'Transfer-Encoding: chunked', 'Connection: close'));
    for (let i = 0; i < 20; i += 1) chunked.send(`2710\r\n${'4'.repeat(10_000)}\r\n`);
    await chunked.waitForClose();
    // The response is lost where the server closes the connection before it has read what follows.
    assert.ok([413, Number.NaN].includes(chunked.status), chunked.received);
  });

  for (const [eio, other] of [[4, 3], [3, 4]]) {
    test(`EIO=${other} in a session of version ${eio} is refused, and the session continues`, async (t) => {
      const client = closeAfterTest(t, new RawPolling(server.url, { eio }));
      await client.waitForConnect();
      const { sid } = client.session;
      const polling = `EIO=${other}&transport=polling&sid=${sid}`;
      assert.equal((await send(polling)).status, 400);
      assert.equal((await send(polling, { method: 'POST', headers: TEXT, body: '41' })).status, 400);
      const upgrade = await sendOnce(t, server.port, 'GET', `/socket.io/?EIO=${other}&transport=websocket&sid=${sid}`, ...formatHeaders(UPGRADE));
      assert.equal(upgrade.status, 400);
      client.send('420["join","summer"]');
      await client.inbox.waitFor('ack');
    });
  }

  test('a parameter that occurs twice is refused, however its name is encoded', async (t) => {
    const sid = await openSession(4);
    for (const query of [
      'EIO=4&transport=polling&transport=websocket', 'EIO=4&transport=websocket&transport=polling', 'EIO=4&transport=polling&%74ransport=websocket',
      'EIO=4&transport=polling&transport', 'EIO=4&transport=polling&EIO=3', 'EIO=4&transport=polling&token=a&tok%65n=b',
      'EIO=4&transport=polling&feed=a&feed=b', `EIO=4&transport=polling&sid=${sid}&sid=${sid}`, `EIO=4&transport=polling&sid=${sid}&s%69d=`,
    ]) {
      for (const [method, headers] of [['GET', {}], ['GET', UPGRADE], ['POST', { 'Content-Length': '0' }]]) {
        const response = await sendOnce(t, server.port, method, `/socket.io/?${query}`, ...formatHeaders(headers));
        assert.equal(response.status, 400, `${method} ${query}`);
      }
    }
  });

  test('an encoded parameter counts as it is decoded', async () => {
    const { status, text } = await send('%45IO=4&transport=%70olling&tag=1&tag=2');
    assert.equal(status, 200, text);
    assert.match(text, /^0\{/, 'version 4');
  });

  test('a session that ends does not end the stream that now uses the connection of its first poll', async (t) => {
    const connection = await RawConnection.open(t, server.port);
    connection.send(buildHead('GET', '/socket.io/?EIO=4&%74ransport=polling&t=websocket&Transport=websocket'));
    const [, sid] = await connection.waitFor(/"sid":"([^"]+)"/);
    connection.send(buildHead('GET', '/v1/feeds/summer/events'));
    await connection.waitFor(/joined/);
    await send(`EIO=4&transport=polling&sid=${sid}`, { method: 'POST', headers: TEXT, body: '40' });
    await send(`EIO=4&transport=polling&sid=${sid}`);
    const socket = closeAfterTest(t, new RawWebSocket(server.url, { eio: 4, query: { sid }, manualConnect: true }));
    socket.socket.on('open', () => socket.send('2probe'));
    await socket.inbox.waitFor('packet');
    socket.send('5', '41');
    await socket.inbox.waitFor('ended');
    assert.equal(connection.socket.destroyed, false);
    assert.equal(connection.socket.readableEnded, false);
  });

  for (const [what, changes, expected] of [
    ['without Upgrade', { Upgrade: undefined }, 426],
    ['without Connection', { Connection: 'close' }, 426],
    ['for another protocol', { Upgrade: 'h2c' }, 426],
    ['of version 8', { 'Sec-WebSocket-Version': '8' }, 426],
    ['without a version', { 'Sec-WebSocket-Version': undefined }, 426],
    ['without a key', { 'Sec-WebSocket-Key': undefined }, 400],
    ['with a short key', { 'Sec-WebSocket-Key': 'c2hvcnQ=' }, 400],
    ['with a body', { 'Content-Length': '1' }, 400],
  ]) {
    test(`a WebSocket request ${what} receives ${expected}`, async (t) => {
      const headers = Object.entries({ ...UPGRADE, ...changes }).filter(([, value]) => value !== undefined);
      for (const sid of ['', `&sid=${await openSession(4)}`]) {
        const connection = await RawConnection.open(t, server.port);
        connection.send(buildHead('GET', `/socket.io/?EIO=4&transport=websocket${sid}`, ...formatHeaders(Object.fromEntries(headers))));
        await connection.waitFor(/\r\n\r\n/);
        assert.equal(connection.status, expected);
        if (expected === 426) assert.match(connection.received, /^sec-websocket-version: 13\r$/im);
      }
    });
  }

  test('a session goes on after a WebSocket request that was refused', async (t) => {
    const client = closeAfterTest(t, new RawPolling(server.url, { eio: 4 }));
    await client.waitForConnect();
    const path = `/socket.io/?EIO=4&transport=websocket&sid=${client.session.sid}`;
    assert.equal((await sendOnce(t, server.port, 'GET', path)).status, 426);
    client.send('420["join","summer"]');
    await client.inbox.waitFor('ack');
  });
});

// Rate limits of requests and joins, limits of connections and of message sizes.

import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { describe, test } from 'node:test';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { buildFeedUrl, makeFeedId, uploadPhoto } from './lib/photos.mjs';
import { runUntilExit, startDev } from './lib/server.mjs';
import { assertFreshJoin, assertProblem, assertRefused } from './lib/assertions.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { SECRET, createToken } from './lib/tokens.mjs';
import { waitUntil, withDeadline } from './lib/wait.mjs';

// So little is refilled that what a test uses up stays used up.
const LIMITED = { RATE_LIMITS: 'on', GRANTS_PER_MINUTE: '1', GRANTS_BURST: '4', REQUESTS_PER_MINUTE: '1', REQUESTS_BURST: '3', JOINS_PER_SECOND: '0' };
const EVERYTHING = { '*': ['view', 'upload', 'delete'] };

async function startLimited(t, env) {
  const server = await startDev({ env });
  t.after(() => server.stop());
  return server;
}

const file = { contentType: 'image/jpeg', size: 10 };

function grant(url, body, headers = {}) {
  return fetch(buildFeedUrl(url, 'summer', '/uploads'), {
    method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

function list(url, headers = {}, feed = 'summer') {
  return fetch(buildFeedUrl(url, feed, '/photos'), { headers });
}

async function readStatus(response) {
  await response.text();
  return response.status;
}

/** Rejected until later; the header and the problem agree on when. */
async function assertTooMany(response) {
  const after = response.headers.get('retry-after');
  const problem = await assertRefused(response, 'too-many-requests', 429);
  assert.match(after, /^[1-9]\d*$/);
  assert.equal(problem.retryAfter, Number(after));
  return problem;
}

describe('rates', () => {
  test('uploads are granted until the burst is used up', async (t) => {
    const { url } = await startLimited(t, LIMITED);
    for (let i = 0; i < 4; i += 1) assert.equal(await readStatus(await grant(url, file)), 201);
    const { detail } = await assertTooMany(await grant(url, file));
    assert.match(detail, /1 per minute \(burst of 4\)/, 'the detail states the limit');
  });

  test('a batch counts as its files, and is granted entirely or not at all', async (t) => {
    const { url } = await startLimited(t, LIMITED);
    const batch = (count) => grant(url, { files: Array(count).fill(file) });
    assert.equal(await readStatus(await batch(3)), 200);
    await assertTooMany(await batch(2));
    assert.equal(await readStatus(await batch(1)), 200);
    await assertTooMany(await batch(1));
  });

  test('a batch of more than the burst costs the whole burst', async (t) => {
    const { url } = await startLimited(t, LIMITED);
    assert.equal(await readStatus(await grant(url, { files: Array(50).fill(file) })), 200);
    await assertTooMany(await grant(url, file));
  });

  for (const [what, body, expected] of [['invalid JSON', '{', 400], ['an empty batch', { files: [] }, 200], ['a file too large', { ...file, size: 1e12 }, 413]]) {
    test(`a request with ${what} counts, too`, async (t) => {
      const { url } = await startLimited(t, LIMITED);
      for (let i = 0; i < 4; i += 1) assert.equal(await readStatus(await grant(url, body)), expected);
      await assertTooMany(await grant(url, body));
    });
  }

  test('other requests have a limit of their own', async (t) => {
    const { url } = await startLimited(t, LIMITED);
    const calls = [() => list(url), () => fetch(buildFeedUrl(url, 'summer')), () => fetch(buildFeedUrl(url, 'summer', '/photos/x.jpg'), { method: 'DELETE' })];
    for (const call of calls) assert.ok([200, 202].includes(await readStatus(await call())));
    for (const call of calls) await assertTooMany(await call());
    await assertTooMany(await fetch(buildFeedUrl(url, 'summer', '/events')));
    assert.equal(await readStatus(await grant(url, file)), 201);
    for (const path of ['/healthz', '/readyz', '/metrics', '/']) {
      for (let i = 0; i < 5; i += 1) assert.equal(await readStatus(await fetch(`${url}${path}`)), 200, `${path} is not limited`);
    }
  });

  test('each subject has its own limit, whatever its address; without a subject, each address has one', async (t) => {
    const { url } = await startLimited(t, { ...LIMITED, AUTH: 'on', AUTH_JWT_SECRET: SECRET, TRUSTED_PROXY_HOPS: '1' });
    const as = (sub, address) => ({ authorization: `Bearer ${createToken(EVERYTHING, { sub })}`, 'x-forwarded-for': address });
    for (let i = 0; i < 3; i += 1) assert.equal(await readStatus(await list(url, as('anna', `10.0.0.${i}`))), 200);
    await assertTooMany(await list(url, as('anna', '10.0.0.9')));
    assert.equal(await readStatus(await list(url, as('berta', '10.0.0.0'))), 200);
    for (let i = 0; i < 3; i += 1) assert.equal(await readStatus(await list(url, as(undefined, '10.0.0.0'))), 200);
    await assertTooMany(await list(url, as(undefined, '10.0.0.0')));
    assert.equal(await readStatus(await list(url, as(undefined, '10.0.0.1'))), 200);
  });

  test('invalid tokens are limited by address', async (t) => {
    const { url } = await startLimited(t, { ...LIMITED, AUTH: 'on', AUTH_JWT_SECRET: SECRET });
    const guess = (token) => list(url, { authorization: `Bearer ${token}` });
    for (let i = 0; i < 3; i += 1) await assertRefused(await guess(`guess-${i}`), 'token-invalid', 401);
    await assertTooMany(await guess('guess-4'));
    await assertTooMany(await grant(url, file, { authorization: 'Bearer guess-5' }));
    assert.equal(await readStatus(await guess(createToken(EVERYTHING))), 200, 'a valid token is not limited');
  });

  for (const [hops, forwarded, same] of [
    ['0', ['1.1.1.1', '2.2.2.2', '3.3.3.3', '4.4.4.4'], true],
    ['1', ['1.1.1.1', '2.2.2.2', '3.3.3.3', '4.4.4.4'], false],
    ['1', ['1.1.1.1, 9.9.9.9', '2.2.2.2, 9.9.9.9', '3.3.3.3, 9.9.9.9', '9.9.9.9'], true],
    ['2', ['9.9.9.9, 1.1.1.1', '7.7.7.7, 9.9.9.9, 2.2.2.2', '9.9.9.9, 3.3.3.3', '8.8.8.8, 9.9.9.9, 4.4.4.4'], true],
    ['2', ['1.1.1.1, 9.9.9.9', '2.2.2.2, 9.9.9.9', '3.3.3.3, 9.9.9.9', '4.4.4.4, 9.9.9.9'], false],
    ['1', ['2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3', '2001:db8::4'], true],
  ]) {
    test(`with TRUSTED_PROXY_HOPS=${hops}, X-Forwarded-For ${forwarded.join(' | ')} is ${same ? 'one client' : 'four'}`, async (t) => {
      const { url } = await startLimited(t, { ...LIMITED, TRUSTED_PROXY_HOPS: hops });
      const listFrom = (address) => list(url, { 'x-forwarded-for': address });
      for (const address of forwarded.slice(0, 3)) assert.equal(await readStatus(await listFrom(address)), 200);
      if (same) await assertTooMany(await listFrom(forwarded[3]));
      else assert.equal(await readStatus(await listFrom(forwarded[3])), 200);
    });
  }

  for (const [version, connect] of Object.entries({ 'socket.io-client 4': connectSocketIo4, 'socket.io-client 2': connectSocketIo2 })) {
    test(`${version}: joins beyond the rate of a connection are answered with a problem`, async (t) => {
      const { url } = await startLimited(t, { RATE_LIMITS: 'on', JOINS_PER_SECOND: '1', JOINS_BURST: '5' });
      const client = closeAfterTest(t, connect(url));
      const feeds = Array.from({ length: 60 }, (_, i) => makeFeedId(`f${i}`));
      const answers = await Promise.all(feeds.map((feed) => client.request('join', feed)));
      for (const [i, feed] of feeds.slice(0, 5).entries()) assertFreshJoin(answers[i], feed);
      const refused = answers.find(({ status: code }) => code === 429);
      assertProblem(refused, 'too-many-requests', 429);
      assert.ok(refused.retryAfter > 0);

      // Repeated, since a second of waiting allows one join again.
      const problem = await waitUntil(() => {
        client.emit('join', makeFeedId());
        return client.inbox.dataOf('problem')[0];
      }, 'a problem');
      assertProblem(problem, 'too-many-requests', 429);
      assert.deepEqual(await client.request('leave', feeds[0]), { feed: feeds[0] }, 'nothing else is limited');
      const other = closeAfterTest(t, connect(url));
      assertFreshJoin(await other.request('join', feeds[0]), feeds[0]);
      const again = await waitUntil(async () => {
        const answer = await client.request('join', feeds[0]);
        return answer.feed && answer;
      }, 'the rate to allow a join again');
      assertFreshJoin(again, feeds[0]);
    });
  }

  test('feeds of the handshake are not counted as joins', async (t) => {
    const { url } = await startLimited(t, { RATE_LIMITS: 'on', JOINS_PER_SECOND: '1', JOINS_BURST: '1' });
    const feeds = Array.from({ length: 10 }, (_, i) => makeFeedId(`f${i}`));
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: { feeds } }));
    assert.equal((await client.inbox.waitForCount(10, 'joined')).length, 10);
  });

  for (const [what, env] of [['dev by default', {}], ['0', { ...LIMITED, GRANTS_PER_MINUTE: '0', REQUESTS_PER_MINUTE: '0' }]]) {
    test(`${what} disables the limits`, async (t) => {
      const { url } = await startLimited(t, env);
      const client = closeAfterTest(t, connectSocketIo4(url));
      for (let i = 0; i < 15; i += 1) {
        const answers = await Promise.all(Array.from({ length: 100 }, () => Promise.all([list(url).then(readStatus), client.request('join', 'summer')])));
        for (const [code, { feed }] of answers) assert.deepEqual([code, feed], [200, 'summer']);
        assert.equal(await readStatus(await grant(url, { files: Array(100).fill(file) })), 200);
      }
    });
  }
});

describe('connections', () => {
  const refusalOrConnection = (client) => client.inbox.waitUntil(
    () => (client.inbox.dataOf('connect').length > 0 ? 'connected' : client.inbox.dataOf('connect_error')[0]?.message),
    'an outcome',
  );

  test('MAX_CONNECTIONS is never exceeded when many clients connect at once; a closed connection frees its slot', async (t) => {
    const { url } = await startLimited(t, { MAX_CONNECTIONS: '5' });
    const clients = Array.from({ length: 40 }, (_, i) => closeAfterTest(t, connectSocketIo4(url, { reconnection: false, transports: [i % 2 ? 'polling' : 'websocket'] })));
    const outcomes = await Promise.all(clients.map(refusalOrConnection));
    assert.equal(outcomes.filter((outcome) => outcome === 'connected').length, 5);
    assert.equal(outcomes.filter((outcome) => outcome === 'too-many-connections').length, 35);

    for (const client of clients) client.close();
    for (let i = 0; i < 5; i += 1) {
      await waitUntil(async () => {
        const client = closeAfterTest(t, connectSocketIo4(url, { reconnection: false }));
        return (await refusalOrConnection(client)) === 'connected';
      }, 'a free connection slot');
    }
  });

  test('a rejected handshake takes no connection slot', async (t) => {
    const { url } = await startLimited(t, { MAX_CONNECTIONS: '1', AUTH: 'on', AUTH_JWT_SECRET: SECRET });
    for (let i = 0; i < 5; i += 1) {
      assert.equal(await refusalOrConnection(closeAfterTest(t, connectSocketIo4(url, { auth: { token: 'bad' } }))), 'token-invalid');
    }
    assert.equal(await refusalOrConnection(closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken(EVERYTHING) } }))), 'connected');
  });

  for (const [transport, connectAndLeave] of Object.entries({
    WebSocket: async (url) => {
      const client = new RawWebSocket(url, { eio: 4 });
      await client.inbox.waitFor('open');
      client.send('1');
    },
    polling: async (url) => {
      const address = `${url}/socket.io/?EIO=4&transport=polling`;
      const { sid } = JSON.parse((await (await fetch(address)).text()).slice(1));
      await fetch(`${address}&sid=${sid}`, { method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' }, body: '40\x1e1' });
    },
  })) {
    test(`a client that disconnects right after connecting over ${transport} frees its slot, and its disconnect is announced`, async (t) => {
      const { url } = await startLimited(t, { MAX_CONNECTIONS: '2', ANNOUNCE_CONNECTIONS: 'true' });
      const observer = closeAfterTest(t, connectSocketIo4(url));
      const counts = { aUserHasConnected: 0, aUserHasDisconnected: 0 };
      for (const name of Object.keys(counts)) observer.socket.on(name, () => { counts[name] += 1; });
      await observer.waitForConnect();
      for (let i = 0; i < 20; i += 1) await connectAndLeave(url);
      await waitUntil(async () => {
        const client = connectSocketIo4(url, { reconnection: false });
        const outcome = await refusalOrConnection(client);
        client.close();
        return outcome === 'connected';
      }, 'a free connection slot');
      await waitUntil(() => counts.aUserHasConnected === counts.aUserHasDisconnected + 1, 'a disconnect for each connect');
    });
  }

  for (const eio of [3, 4]) {
    test(`connections that close before their Engine.IO ${eio} session opens free their slots`, async (t) => {
      const { url, port } = await startLimited(t, {});
      const request = [
        `GET /socket.io/?EIO=${eio}&transport=websocket HTTP/1.1`, 'Host: localhost', 'Connection: Upgrade', 'Upgrade: websocket',
        'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', '',
      ].join('\r\n');
      const connectAndLeave = () => new Promise((resolve) => {
        const connection = createConnection(port, '127.0.0.1', () => connection.write(request, () => connection.destroy()));
        connection.on('error', () => {}).on('close', resolve);
      });
      await Promise.all(Array.from({ length: 300 }, connectAndLeave));
      closeAfterTest(t, await openEventStream(url, 'summer'));
      await waitUntil(async () => {
        const metrics = await (await fetch(`${url}/metrics`)).text();
        return /^photoshare_connections 1$/m.test(metrics);
      }, 'the stream to be the only connection');
    });
  }

  test('a session that is closed while it connects to the namespace frees its slot', async (t) => {
    const { url, port } = await startLimited(t, {});
    await Promise.all(Array.from({ length: 5 }, async () => {
      const polling = '/socket.io/?EIO=4&transport=polling';
      const { sid } = JSON.parse((await (await fetch(url + polling)).text()).slice(1));
      const asking = closeAfterTest(t, createConnection(port, '127.0.0.1'));
      asking.close = () => asking.destroy();
      asking.write([
        `POST ${polling}&sid=${sid} HTTP/1.1`, 'Host: localhost', 'Content-Type: text/plain', 'Content-Length: 2',
        'Expect: 100-continue', '', '',
      ].join('\r\n'));
      const nextData = () => new Promise((resolve) => asking.once('data', (data) => resolve(data.toString())));
      assert.match(await nextData(), /^HTTP\/1.1 100 /);
      await fetch(`${url}${polling}&sid=${sid}`, { method: 'POST', headers: { 'content-type': 'text/plain' }, body: '1' });
      asking.write('40');
      await nextData();
    }));
    closeAfterTest(t, await openEventStream(url, 'summer'));
    await waitUntil(async () => {
      const metrics = await (await fetch(`${url}/metrics`)).text();
      return /^photoshare_connections 1$/m.test(metrics);
    }, 'the stream to be the only connection');
  });

  test('an event stream ends when its client disconnects, also if that had sent bytes after its request', async (t) => {
    const { url, port } = await startLimited(t, {});
    const feed = makeFeedId();
    const reader = createConnection(port, '127.0.0.1');
    reader.write(`GET /v1/feeds/${feed}/events HTTP/1.1\r\nHost: localhost\r\n\r\nX`);
    await withDeadline(new Promise((resolve) => reader.on('data', (data) => data.includes('joined') && resolve())), 'the stream');
    reader.resetAndDestroy();
    await waitUntil(async () => {
      await uploadPhoto(url, feed);
      return (await (await fetch(buildFeedUrl(url, feed))).json()).watchers === 0;
    }, 'the stream to end');
  });

  test('a client that disconnects from the namespace loses its session', async (t) => {
    const { url } = await startLimited(t, { MAX_CONNECTIONS: '1' });
    for (const [Client, eio] of [[RawWebSocket, 4], [RawPolling, 4], [RawWebSocket, 3]]) {
      const client = closeAfterTest(t, new Client(url, { eio }));
      await client.waitForConnect();
      client.send('41');
      await client.inbox.waitFor('ended');
    }
  });

  test('event streams count as connections', async (t) => {
    const { url } = await startLimited(t, { MAX_CONNECTIONS: '2' });
    const [one] = [await openEventStream(url, 'summer'), closeAfterTest(t, await openEventStream(url, 'summer'))];
    await assertRefused(await fetch(buildFeedUrl(url, 'summer', '/events')), 'too-many-connections', 429);
    assert.equal(await refusalOrConnection(closeAfterTest(t, connectSocketIo4(url))), 'too-many-connections');
    one.close();
    await waitUntil(async () => (await refusalOrConnection(closeAfterTest(t, connectSocketIo4(url)))) === 'connected', 'a free connection slot');
  });

  test('MAX_CONNECTIONS_PER_ADDRESS limits each address separately', async (t) => {
    const { url } = await startLimited(t, { MAX_CONNECTIONS_PER_ADDRESS: '2', TRUSTED_PROXY_HOPS: '1' });
    const from = (address, transports = ['websocket']) => closeAfterTest(t, connectSocketIo4(url, { transports, reconnection: false, extraHeaders: { 'x-forwarded-for': address } }));
    const first = from('1.1.1.1');
    assert.equal(await refusalOrConnection(first), 'connected');
    assert.equal(await refusalOrConnection(from('1.1.1.1', ['polling'])), 'connected');
    assert.equal(await refusalOrConnection(from('1.1.1.1')), 'too-many-connections');
    assert.equal(await refusalOrConnection(from('2.2.2.2')), 'connected');
    first.close();
    await waitUntil(async () => (await refusalOrConnection(from('1.1.1.1'))) === 'connected', 'a free connection slot');
  });
});

describe('messages', () => {
  const sendBytes = (client, bytes) => client.send(`420${JSON.stringify(['x'.repeat(bytes)])}`);

  test('a handshake with a long token and a hundred feeds, each with a cursor, fits', async (t) => {
    const { url } = await startLimited(t, { AUTH: 'on', AUTH_JWT_SECRET: SECRET });
    const token = createToken(EVERYTHING, { padding: 'x'.repeat(5_900) });
    assert.ok(token.length > 8_000);
    const feeds = Array.from({ length: 100 }, (_, i) => ({ feed: `${'"'.repeat(61)}${100 + i}`, cursor: 'x'.repeat(128) }));
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token, feeds } }));
    assert.deepEqual((await client.inbox.waitForCount(100, 'joined')).map(({ feed }) => feed), feeds.map(({ feed }) => feed));
  });

  for (const [what, env, fits, ends] of [['by default', {}, 40_000, 42_000], ['MAX_MESSAGE_BYTES', { MAX_MESSAGE_BYTES: '2000' }, 1_900, 2_100]]) {
    for (const eio of [3, 4]) {
      test(`a message that is too large ends the transport: ${what}, Engine.IO ${eio}`, async (t) => {
        const { url } = await startLimited(t, env);
        const client = closeAfterTest(t, new RawWebSocket(url, { eio }));
        await client.waitForConnect();
        sendBytes(client, fits);
        assertProblem((await client.inbox.waitFor('ack')).answer, 'unknown-event', 400);
        sendBytes(client, ends);
        await client.inbox.waitFor('ended');
      });
    }
  }
});

test('all invalid limits are reported together at the start', async () => {
  const env = {
    RATE_LIMITS: 'maybe', GRANTS_PER_MINUTE: '-1', GRANTS_BURST: '0', REQUESTS_PER_MINUTE: 'x', REQUESTS_BURST: '1.5', JOINS_PER_SECOND: '1e9',
    JOINS_BURST: '', MAX_CONNECTIONS: '0', MAX_MESSAGE_BYTES: '1', MAX_CONNECTIONS_PER_ADDRESS: 'x', TRUSTED_PROXY_HOPS: '99',
  };
  const { code, log } = await runUntilExit(['dev'], env);
  assert.equal(code, 78);
  for (const name of Object.keys(env)) assert.match(log, new RegExp(`^ +${name} must `, 'm'));
});

test('--help lists every limit with its default', async () => {
  for (const [command, on] of [['dev', 'off'], ['serve', 'on']]) {
    const { log } = await runUntilExit([command, '--help'], {});
    for (const [name, value] of Object.entries({
      RATE_LIMITS: on, GRANTS_PER_MINUTE: 6000, GRANTS_BURST: 3000, REQUESTS_PER_MINUTE: 30000, REQUESTS_BURST: 10000, JOINS_PER_SECOND: 200,
      JOINS_BURST: 1000, MAX_CONNECTIONS: 50000, MAX_CONNECTIONS_PER_ADDRESS: 0, TRUSTED_PROXY_HOPS: 0,
    })) {
      assert.match(log, new RegExp(`env:\\s+${name}=\\]\\s+\\[default:\\s+${value}\\]`), `${command} ${name}`);
    }
  }
});

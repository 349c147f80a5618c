// How often somebody may ask, and how many may be connected.

import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { describe, test } from 'node:test';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { feedUrl, newFeed, upload } from './lib/photos.mjs';
import { failedStart, startDev } from './lib/server.mjs';
import { assertFreshJoin, assertProblem, assertRefused } from './lib/shapes.mjs';
import { openStream } from './lib/sse.mjs';
import { SECRET, tokenFor } from './lib/tokens.mjs';
import { until, within } from './lib/wait.mjs';

// One an hour or so comes back: what a test uses up stays used up.
const LIMITED = { RATE_LIMITS: 'on', GRANTS_PER_MINUTE: '1', GRANTS_BURST: '4', REQUESTS_PER_MINUTE: '1', REQUESTS_BURST: '3', JOINS_PER_SECOND: '0' };
const EVERYTHING = { '*': ['view', 'upload', 'delete'] };

async function starting(t, env) {
  const server = await startDev({ env });
  t.after(() => server.stop());
  return server;
}

const file = { contentType: 'image/jpeg', size: 10 };

function grant(url, body, headers = {}) {
  return fetch(feedUrl(url, 'summer', '/uploads'), {
    method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

function list(url, headers = {}, feed = 'summer') {
  return fetch(feedUrl(url, feed, '/photos'), { headers });
}

async function status(response) {
  await response.text();
  return response.status;
}

/** Refused until later, which the header and the problem tell alike. */
async function assertTooMany(response) {
  const after = response.headers.get('retry-after');
  const problem = await assertRefused(response, 'too-many-requests', 429);
  assert.match(after, /^[1-9]\d*$/);
  assert.equal(problem.retryAfter, Number(after));
  return problem;
}

describe('rates', () => {
  test('uploads are granted until the burst is used up', async (t) => {
    const { url } = await starting(t, LIMITED);
    for (let i = 0; i < 4; i += 1) assert.equal(await status(await grant(url, file)), 201);
    const { detail } = await assertTooMany(await grant(url, file));
    assert.match(detail, /1 a minute \(bursts of 4\)/, 'the detail tells the limit');
  });

  test('a batch counts as its files, and is granted whole or not at all', async (t) => {
    const { url } = await starting(t, LIMITED);
    const batch = (count) => grant(url, { files: Array(count).fill(file) });
    assert.equal(await status(await batch(3)), 200);
    await assertTooMany(await batch(2));
    assert.equal(await status(await batch(1)), 200);
    await assertTooMany(await batch(1));
  });

  test('a batch of more than the burst costs the whole burst', async (t) => {
    const { url } = await starting(t, LIMITED);
    assert.equal(await status(await grant(url, { files: Array(50).fill(file) })), 200);
    await assertTooMany(await grant(url, file));
  });

  for (const [what, body, expected] of [['no JSON', '{', 400], ['an empty batch', { files: [] }, 200], ['a file too large', { ...file, size: 1e12 }, 413]]) {
    test(`asking with ${what} counts, too`, async (t) => {
      const { url } = await starting(t, LIMITED);
      for (let i = 0; i < 4; i += 1) assert.equal(await status(await grant(url, body)), expected);
      await assertTooMany(await grant(url, body));
    });
  }

  test('other requests have an allowance of their own', async (t) => {
    const { url } = await starting(t, LIMITED);
    const calls = [() => list(url), () => fetch(feedUrl(url, 'summer')), () => fetch(feedUrl(url, 'summer', '/photos/x.jpg'), { method: 'DELETE' })];
    for (const call of calls) assert.ok([200, 202].includes(await status(await call())));
    for (const call of calls) await assertTooMany(await call());
    await assertTooMany(await fetch(feedUrl(url, 'summer', '/events')));
    assert.equal(await status(await grant(url, file)), 201);
    for (const path of ['/healthz', '/readyz', '/metrics', '/']) {
      for (let i = 0; i < 5; i += 1) assert.equal(await status(await fetch(`${url}${path}`)), 200, `${path} is not limited`);
    }
  });

  test('each subject has its own allowance, wherever it calls from; without a subject the address counts', async (t) => {
    const { url } = await starting(t, { ...LIMITED, AUTH: 'on', AUTH_JWT_SECRET: SECRET, TRUSTED_PROXY_HOPS: '1' });
    const as = (sub, address) => ({ authorization: `Bearer ${tokenFor(EVERYTHING, { sub })}`, 'x-forwarded-for': address });
    for (let i = 0; i < 3; i += 1) assert.equal(await status(await list(url, as('anna', `10.0.0.${i}`))), 200);
    await assertTooMany(await list(url, as('anna', '10.0.0.9')));
    assert.equal(await status(await list(url, as('berta', '10.0.0.0'))), 200);
    for (let i = 0; i < 3; i += 1) assert.equal(await status(await list(url, as(undefined, '10.0.0.0'))), 200);
    await assertTooMany(await list(url, as(undefined, '10.0.0.0')));
    assert.equal(await status(await list(url, as(undefined, '10.0.0.1'))), 200);
  });

  test('guessing tokens is slowed down by address', async (t) => {
    const { url } = await starting(t, { ...LIMITED, AUTH: 'on', AUTH_JWT_SECRET: SECRET });
    const guess = (token) => list(url, { authorization: `Bearer ${token}` });
    for (let i = 0; i < 3; i += 1) await assertRefused(await guess(`guess-${i}`), 'token-invalid', 401);
    await assertTooMany(await guess('guess-4'));
    await assertTooMany(await grant(url, file, { authorization: 'Bearer guess-5' }));
    assert.equal(await status(await guess(tokenFor(EVERYTHING))), 200, 'whoever has a token is not held up');
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
      const { url } = await starting(t, { ...LIMITED, TRUSTED_PROXY_HOPS: hops });
      const ask = (address) => list(url, { 'x-forwarded-for': address });
      for (const address of forwarded.slice(0, 3)) assert.equal(await status(await ask(address)), 200);
      if (same) await assertTooMany(await ask(forwarded[3]));
      else assert.equal(await status(await ask(forwarded[3])), 200);
    });
  }

  for (const [version, connect] of Object.entries({ 'socket.io-client 4': connect4, 'socket.io-client 2': connect2 })) {
    test(`${version}: joins beyond the rate of a connection are answered with the problem`, async (t) => {
      const { url } = await starting(t, { RATE_LIMITS: 'on', JOINS_PER_SECOND: '1', JOINS_BURST: '5' });
      const client = closing(t, connect(url));
      const feeds = Array.from({ length: 60 }, (_, i) => newFeed(`f${i}`));
      const answers = await Promise.all(feeds.map((feed) => client.ask('join', feed)));
      for (const [i, feed] of feeds.slice(0, 5).entries()) assertFreshJoin(answers[i], feed);
      const refused = answers.find(({ status: code }) => code === 429);
      assertProblem(refused, 'too-many-requests', 429);
      assert.ok(refused.retryAfter > 0);

      client.tell('join', newFeed());
      assertProblem(await client.inbox.find('problem'), 'too-many-requests', 429);
      assert.deepEqual(await client.ask('leave', feeds[0]), { feed: feeds[0] }, 'nothing else is limited');
      const other = closing(t, connect(url));
      assertFreshJoin(await other.ask('join', feeds[0]), feeds[0]);
      const again = await until(async () => {
        const answer = await client.ask('join', feeds[0]);
        return answer.feed && answer;
      }, 'the rate to allow a join again');
      assertFreshJoin(again, feeds[0]);
    });
  }

  test('feeds of the handshake are not counted as joins', async (t) => {
    const { url } = await starting(t, { RATE_LIMITS: 'on', JOINS_PER_SECOND: '1', JOINS_BURST: '1' });
    const feeds = Array.from({ length: 10 }, (_, i) => newFeed(`f${i}`));
    const client = closing(t, connect4(url, { auth: { feeds } }));
    assert.equal((await client.inbox.first(10, 'joined')).length, 10);
  });

  for (const [what, env] of [['dev by default', {}], ['0', { ...LIMITED, GRANTS_PER_MINUTE: '0', REQUESTS_PER_MINUTE: '0' }]]) {
    test(`${what} sets no limit`, async (t) => {
      const { url } = await starting(t, env);
      const client = closing(t, connect4(url));
      for (let i = 0; i < 15; i += 1) {
        const answers = await Promise.all(Array.from({ length: 100 }, () => Promise.all([list(url).then(status), client.ask('join', 'summer')])));
        for (const [code, { feed }] of answers) assert.deepEqual([code, feed], [200, 'summer']);
        assert.equal(await status(await grant(url, { files: Array(100).fill(file) })), 200);
      }
    });
  }
});

describe('connections', () => {
  const refusalOrConnection = (client) => client.inbox.until(
    () => (client.inbox.named('connect').length > 0 ? 'connected' : client.inbox.named('connect_error')[0]?.message),
    'an outcome',
  );

  test('MAX_CONNECTIONS is kept to the letter when many come at once; places are given back', async (t) => {
    const { url } = await starting(t, { MAX_CONNECTIONS: '5' });
    const clients = Array.from({ length: 40 }, (_, i) => closing(t, connect4(url, { reconnection: false, transports: [i % 2 ? 'polling' : 'websocket'] })));
    const outcomes = await Promise.all(clients.map(refusalOrConnection));
    assert.equal(outcomes.filter((outcome) => outcome === 'connected').length, 5);
    assert.equal(outcomes.filter((outcome) => outcome === 'too-many-connections').length, 35);

    for (const client of clients) client.close();
    for (let i = 0; i < 5; i += 1) {
      await until(async () => {
        const client = closing(t, connect4(url, { reconnection: false }));
        return (await refusalOrConnection(client)) === 'connected';
      }, 'a place to be free');
    }
  });

  test('a refused handshake takes no place', async (t) => {
    const { url } = await starting(t, { MAX_CONNECTIONS: '1', AUTH: 'on', AUTH_JWT_SECRET: SECRET });
    for (let i = 0; i < 5; i += 1) {
      assert.equal(await refusalOrConnection(closing(t, connect4(url, { auth: { token: 'bad' } }))), 'token-invalid');
    }
    assert.equal(await refusalOrConnection(closing(t, connect4(url, { auth: { token: tokenFor(EVERYTHING) } }))), 'connected');
  });

  for (const [transport, comeAndGo] of Object.entries({
    WebSocket: async (url) => {
      const client = new RawWebSocket(url, { eio: 4 });
      await client.inbox.find('open');
      client.send('1');
    },
    polling: async (url) => {
      const address = `${url}/socket.io/?EIO=4&transport=polling`;
      const { sid } = JSON.parse((await (await fetch(address)).text()).slice(1));
      await fetch(`${address}&sid=${sid}`, { method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' }, body: '40\x1e1' });
    },
  })) {
    test(`a client that is gone the moment it connects over ${transport} gives its place back, and is announced to have gone`, async (t) => {
      const { url } = await starting(t, { MAX_CONNECTIONS: '2', ANNOUNCE_CONNECTIONS: 'true' });
      const onlooker = closing(t, connect4(url));
      const told = { aUserHasConnected: 0, aUserHasDisconnected: 0 };
      for (const name of Object.keys(told)) onlooker.socket.on(name, () => { told[name] += 1; });
      await onlooker.connected();
      for (let i = 0; i < 20; i += 1) await comeAndGo(url);
      await until(async () => {
        const client = connect4(url, { reconnection: false });
        const outcome = await refusalOrConnection(client);
        client.close();
        return outcome === 'connected';
      }, 'a place to be free');
      await until(() => told.aUserHasConnected === told.aUserHasDisconnected + 1, 'the goodbye of everybody who came');
    });
  }

  for (const eio of [3, 4]) {
    test(`connections that are gone before their session of Engine.IO ${eio} is opened give their places back`, async (t) => {
      const { url, port } = await starting(t, {});
      const request = [
        `GET /socket.io/?EIO=${eio}&transport=websocket HTTP/1.1`, 'Host: x', 'Connection: Upgrade', 'Upgrade: websocket',
        'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', '',
      ].join('\r\n');
      const comeAndGo = () => new Promise((resolve) => {
        const connection = createConnection(port, '127.0.0.1', () => connection.write(request, () => connection.destroy()));
        connection.on('error', () => {}).on('close', resolve);
      });
      await Promise.all(Array.from({ length: 300 }, comeAndGo));
      closing(t, await openStream(url, 'summer'));
      await until(async () => {
        const metrics = await (await fetch(`${url}/metrics`)).text();
        return /^photoshare_connections 1$/m.test(metrics);
      }, 'the stream to be the only connection');
    });
  }

  test('a session that is closed while it asks to be let in gives its place back', async (t) => {
    const { url, port } = await starting(t, {});
    await Promise.all(Array.from({ length: 5 }, async () => {
      const polling = '/socket.io/?EIO=4&transport=polling';
      const { sid } = JSON.parse((await (await fetch(url + polling)).text()).slice(1));
      const asking = closing(t, createConnection(port, '127.0.0.1'));
      asking.close = () => asking.destroy();
      asking.write([
        `POST ${polling}&sid=${sid} HTTP/1.1`, 'Host: x', 'Content-Type: text/plain', 'Content-Length: 2',
        'Expect: 100-continue', '', '',
      ].join('\r\n'));
      const heard = () => new Promise((resolve) => asking.once('data', (data) => resolve(data.toString())));
      assert.match(await heard(), /^HTTP\/1.1 100 /);
      await fetch(`${url}${polling}&sid=${sid}`, { method: 'POST', headers: { 'content-type': 'text/plain' }, body: '1' });
      asking.write('40');
      await heard();
    }));
    closing(t, await openStream(url, 'summer'));
    await until(async () => {
      const metrics = await (await fetch(`${url}/metrics`)).text();
      return /^photoshare_connections 1$/m.test(metrics);
    }, 'the stream to be the only connection');
  });

  test('a stream ends with its reader, also if that one had sent something after its request', async (t) => {
    const { url, port } = await starting(t, {});
    const feed = newFeed();
    const gone = createConnection(port, '127.0.0.1');
    gone.write(`GET /v1/feeds/${feed}/events HTTP/1.1\r\nHost: x\r\n\r\nX`);
    await within(new Promise((resolve) => gone.on('data', (data) => data.includes('joined') && resolve())), 'the stream');
    gone.resetAndDestroy();
    await until(async () => {
      await upload(url, feed);
      return (await (await fetch(feedUrl(url, feed))).json()).watchers === 0;
    }, 'the stream to end');
  });

  test('a client that disconnects keeps no session without a place', async (t) => {
    const { url } = await starting(t, { MAX_CONNECTIONS: '1' });
    for (const [Client, eio] of [[RawWebSocket, 4], [RawPolling, 4], [RawWebSocket, 3]]) {
      const client = closing(t, new Client(url, { eio }));
      await client.opened();
      client.send('41');
      await client.inbox.find('ended');
    }
  });

  test('streams of events are connections, too', async (t) => {
    const { url } = await starting(t, { MAX_CONNECTIONS: '2' });
    const [one] = [await openStream(url, 'summer'), closing(t, await openStream(url, 'summer'))];
    await assertRefused(await fetch(feedUrl(url, 'summer', '/events')), 'too-many-connections', 429);
    assert.equal(await refusalOrConnection(closing(t, connect4(url))), 'too-many-connections');
    one.close();
    await until(async () => (await refusalOrConnection(closing(t, connect4(url)))) === 'connected', 'a place to be free');
  });

  test('MAX_CONNECTIONS_PER_ADDRESS limits each address alone', async (t) => {
    const { url } = await starting(t, { MAX_CONNECTIONS_PER_ADDRESS: '2', TRUSTED_PROXY_HOPS: '1' });
    const from = (address, transports = ['websocket']) => closing(t, connect4(url, { transports, reconnection: false, extraHeaders: { 'x-forwarded-for': address } }));
    const first = from('1.1.1.1');
    assert.equal(await refusalOrConnection(first), 'connected');
    assert.equal(await refusalOrConnection(from('1.1.1.1', ['polling'])), 'connected');
    assert.equal(await refusalOrConnection(from('1.1.1.1')), 'too-many-connections');
    assert.equal(await refusalOrConnection(from('2.2.2.2')), 'connected');
    first.close();
    await until(async () => (await refusalOrConnection(from('1.1.1.1'))) === 'connected', 'a place to be free');
  });
});

describe('messages', () => {
  const tell = (client, bytes) => client.send(`420${JSON.stringify(['x'.repeat(bytes)])}`);

  test('a handshake with a long token and a hundred feeds, each with a cursor, fits', async (t) => {
    const { url } = await starting(t, { AUTH: 'on', AUTH_JWT_SECRET: SECRET });
    const token = tokenFor(EVERYTHING, { padding: 'x'.repeat(5_900) });
    assert.ok(token.length > 8_000);
    const feeds = Array.from({ length: 100 }, (_, i) => ({ feed: `${'"'.repeat(61)}${100 + i}`, cursor: 'x'.repeat(128) }));
    const client = closing(t, connect4(url, { auth: { token, feeds } }));
    assert.deepEqual((await client.inbox.first(100, 'joined')).map(({ feed }) => feed), feeds.map(({ feed }) => feed));
  });

  for (const [what, env, fits, ends] of [['by default', {}, 40_000, 42_000], ['MAX_MESSAGE_BYTES', { MAX_MESSAGE_BYTES: '2000' }, 1_900, 2_100]]) {
    for (const eio of [3, 4]) {
      test(`a message that is too large ends the transport: ${what}, Engine.IO ${eio}`, async (t) => {
        const { url } = await starting(t, env);
        const client = closing(t, new RawWebSocket(url, { eio }));
        await client.opened();
        tell(client, fits);
        assertProblem((await client.inbox.find('ack')).answer, 'unknown-event', 400);
        tell(client, ends);
        await client.inbox.find('ended');
      });
    }
  }
});

test('mistakes in the limits are named together at the start', async () => {
  const env = {
    RATE_LIMITS: 'maybe', GRANTS_PER_MINUTE: '-1', GRANTS_BURST: '0', REQUESTS_PER_MINUTE: 'x', REQUESTS_BURST: '1.5', JOINS_PER_SECOND: '1e9',
    JOINS_BURST: '', MAX_CONNECTIONS: '0', MAX_MESSAGE_BYTES: '1', MAX_CONNECTIONS_PER_ADDRESS: 'x', TRUSTED_PROXY_HOPS: '99',
  };
  const { code, log } = await failedStart(['dev'], env);
  assert.equal(code, 78);
  for (const name of Object.keys(env)) assert.match(log, new RegExp(`^ +${name} must `, 'm'));
});

test('--help tells every limit with its default', async () => {
  for (const [command, on] of [['dev', 'off'], ['serve', 'on']]) {
    const { log } = await failedStart([command, '--help'], {});
    for (const [name, value] of Object.entries({
      RATE_LIMITS: on, GRANTS_PER_MINUTE: 6000, GRANTS_BURST: 3000, REQUESTS_PER_MINUTE: 30000, REQUESTS_BURST: 10000, JOINS_PER_SECOND: 200,
      JOINS_BURST: 1000, MAX_CONNECTIONS: 50000, MAX_CONNECTIONS_PER_ADDRESS: 0, TRUSTED_PROXY_HOPS: 0,
    })) {
      assert.match(log, new RegExp(`env:\\s+${name}=\\]\\s+\\[default:\\s+${value}\\]`), `${command} ${name}`);
    }
  }
});

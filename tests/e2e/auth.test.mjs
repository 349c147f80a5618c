// Authentication and authorization: tokens and rights, anonymous access, key sets, allowed origins.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { sendRawRequest } from './lib/raw-request.mjs';
import { buildFeedUrl, makeFeedId, makePhoto, putPhoto } from './lib/photos.mjs';
import { runUntilExit, spawnServer, startDev } from './lib/server.mjs';
import { assertFreshJoin, assertProblem, assertRefused, assertTime } from './lib/assertions.mjs';
import { Inbox } from './lib/inbox.mjs';
import { KeySetServer, SECRET, SigningKey, buildClaims, signHs256, nearlyExpired, epochSeconds, createToken } from './lib/tokens.mjs';
import { mapConcurrently, waitUntil, withDeadline } from './lib/wait.mjs';

const WITH_SECRET = { AUTH: 'on', AUTH_JWT_SECRET: SECRET };
const CONNECTORS = { 'socket.io-client 4': connectSocketIo4, 'socket.io-client 2': connectSocketIo2 };
const ALL_RIGHTS = { '*': ['view', 'upload', 'delete'] };

/** Starts `photoshare dev` and stops it at the end of the test. */
async function startDevServer(t, env) {
  const server = await startDev({ env });
  t.after(() => server.stop());
  return server;
}

/** Requests the list of a feed's photos with a token, or without one. */
function listWithToken(url, token, feed = 'summer') {
  return fetch(buildFeedUrl(url, feed, '/photos'), { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });
}

async function assertAdmitted(url, token, feed) {
  const response = await listWithToken(url, token, feed);
  assert.equal(response.status, 200, await response.text());
}

/** The problem name with which the server refuses the client's handshake. */
async function handshakeError(client) {
  const name = await client.inbox.waitUntil(
    () => (client.inbox.dataOf('connect_error')[0] ?? client.inbox.dataOf('error')[0])?.message,
    'a refused handshake',
  );
  assert.deepEqual(client.inbox.dataOf('connect'), [], 'a refused client receives no connect event');
  return name;
}

/** Uploads a photo to the feed with a token that has every right. Returns the grant. */
async function uploadTo(url, feed) {
  const { contentType, bytes } = makePhoto();
  const response = await fetch(buildFeedUrl(url, feed, '/uploads'), {
    method: 'POST',
    headers: { authorization: `Bearer ${createToken(ALL_RIGHTS)}`, 'content-type': 'application/json' },
    body: JSON.stringify({ contentType, size: bytes.length }),
  });
  assert.equal(response.status, 201);
  const grant = await response.json();
  assert.equal((await putPhoto(grant, bytes)).status, 200);
  return grant;
}

describe('tokens', () => {
  let server;
  let url;
  before(async () => {
    server = await startDev({ env: WITH_SECRET });
    url = server.url;
  });
  after(() => server.stop());

  const view = (more) => buildClaims({ '*': ['view'] }, more);
  const [head, body, signature] = createToken({ '*': ['view'] }).split('.');
  const header = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const BAD_TOKENS = {
    'token-missing': { 'that is missing': undefined },
    'token-expired': {
      'that expired longer ago than the leeway': signHs256(view({ exp: epochSeconds(-31) })),
      'that expired decades ago': signHs256(view({ exp: 1 })),
    },
    'token-invalid': {
      'that is not a JWT': 'nonsense',
      'signed with another secret': signHs256(view(), { secret: 'another-secret-that-has-more-than-32-bytes' }),
      'without a signature': `${head}.${body}.`,
      'with a changed payload': `${head}.${header(view({ sub: 'root' }))}.${signature}`,
      'with alg none, unsigned': `${header({ alg: 'none' })}.${body}.`,
      'with alg None and a signature': `${header({ alg: 'None' })}.${body}.${signature}`,
      'with another HMAC algorithm': signHs256(view(), { header: { alg: 'HS384' } }),
      'with RS256, for which no key is configured': signHs256(view(), { header: { alg: 'RS256' } }),
      'without exp': signHs256({ feeds: { '*': ['view'] } }),
      'that is not valid yet': signHs256(view({ nbf: epochSeconds(60) })),
      'with feeds of the wrong type': signHs256(view({ feeds: 'summer' })),
      'with a critical extension': signHs256(view(), { header: { crit: ['x'], x: 1 } }),
      'of 9,000 bytes': signHs256(view({ long: 'x'.repeat(9_000) })),
    },
  };

  for (const [name, tokens] of Object.entries(BAD_TOKENS)) {
    for (const [what, token] of Object.entries(tokens)) {
      test(`a token ${what} is refused with ${name}, over HTTP and in the handshake`, async (t) => {
        const response = await listWithToken(url, token);
        assert.match(response.headers.get('www-authenticate'), /^Bearer/);
        await assertRefused(response, name, 401);
        const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token } }));
        assert.equal(await handshakeError(client), name);
      });
    }
  }

  for (const [what, token] of Object.entries({
    'that expired within the leeway': signHs256(view({ exp: epochSeconds(-20) })),
    'that becomes valid within the leeway': signHs256(view({ nbf: epochSeconds(20) })),
    'with a fractional exp': signHs256(view({ exp: epochSeconds(60) + 0.5 })),
    'with an audience and an issuer, where none is configured': signHs256(view({ aud: 'others', iss: 'https://others' })),
    'with unknown rights and an invalid feed id': createToken({ '*': ['view', 'dance'], 'not/a/feed': ['view'] }),
  })) {
    test(`a token ${what} is accepted`, async (t) => {
      await assertAdmitted(url, token);
      const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token } }));
      assertFreshJoin(await client.request('join', 'summer'), 'summer');
    });
  }

  test('the token is read from the Authorization header, else from the query', async () => {
    const good = createToken({ '*': ['view'] });
    const photos = (query, headers) => fetch(buildFeedUrl(url, 'summer', `/photos${query}`), { headers });
    for (const [query, headers, status] of [
      [`?token=${good}`, {}, 200],
      ['', { authorization: `bearer ${good}` }, 200],
      ['?token=bad', { authorization: `Bearer ${good}` }, 200],
      [`?token=${good}`, { authorization: 'Bearer bad' }, 401],
      ['?token=', {}, 401],
      ['', { authorization: `Basic ${good}` }, 401],
    ]) {
      const response = await photos(query, headers);
      await response.text();
      assert.equal(response.status, status, `${query} ${JSON.stringify(headers)}`);
    }
  });

  for (const [what, feeds, allowed] of [
    ['view', { summer: ['view'] }, ['view']],
    ['upload', { summer: ['upload'] }, ['upload']],
    ['delete', { summer: ['delete'] }, ['delete']],
    ['view all feeds and upload to this one', { '*': ['view'], summer: ['upload'] }, ['view', 'upload']],
    ['do everything in another feed', { winter: ['view', 'upload', 'delete'] }, []],
    ['do nothing', {}, []],
    ['do nothing, by feeds: null', null, []],
    ['do nothing in this feed, by null', { summer: null }, []],
  ]) {
    test(`the right to ${what} permits ${allowed.join(' and ') || 'nothing'}`, async (t) => {
      const token = createToken(feeds);
      const call = (method, rest, body) => fetch(buildFeedUrl(url, 'summer', rest), {
        method, body, headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
      });
      const grant = JSON.stringify({ contentType: 'image/jpeg', size: 10 });
      for (const [right, ...request] of [
        ['view', 'GET', '/photos'], ['view', 'GET', ''], ['upload', 'POST', '/uploads', grant], ['delete', 'DELETE', '/photos/x.jpg'],
      ]) {
        const response = await call(...request);
        if (!allowed.includes(right)) {
          const { detail } = await assertRefused(response, 'forbidden', 403);
          assert.match(detail, new RegExp(right), 'the detail names the right');
        } else {
          await response.text();
          assert.ok(response.ok, `${request} ${response.status}`);
        }
      }
      for (const path of ['/s3/multipart', '/s3/multipart/1/complete?key=summer/x.jpg', '/uploads', '/uploads/x.jpg/renew']) {
        const response = await call('POST', path, '{');
        if (allowed.includes('upload')) await response.text();
        else await assertRefused(response, 'forbidden', 403);
      }
      const stream = new AbortController();
      const events = await fetch(buildFeedUrl(url, 'summer', `/events?token=${token}`), { signal: stream.signal });
      assert.equal(events.status, allowed.includes('view') ? 200 : 403);
      stream.abort();
      const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token } }));
      const answer = await client.request('join', 'summer');
      if (allowed.includes('view')) assertFreshJoin(answer, 'summer');
      else assertProblem(answer, 'forbidden', 403);
    });
  }

  for (const [version, connect] of Object.entries(CONNECTORS)) {
    for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
      test(`${version} over ${transports} authenticates by the token in the query, and is refused with the problem's name`, async (t) => {
        const good = closeAfterTest(t, connect(url, { transports, query: { token: createToken({ '*': ['view'] }), feed: 'summer' } }));
        assertFreshJoin(await good.inbox.waitFor('joined'), 'summer');
        for (const [name, query] of [['token-missing', {}], ['token-invalid', { token: 'bad' }], ['token-expired', { token: createToken({}, { exp: 1 }) }]]) {
          assert.equal(await handshakeError(closeAfterTest(t, connect(url, { transports, query, reconnection: false }))), name);
        }
      });
    }
  }

  test('the handshake reads the token from auth, else from the query, else from the Authorization header', async (t) => {
    const [good, bad] = [createToken({ '*': ['view'] }), 'bad'];
    for (const options of [
      { auth: { token: good }, query: { token: bad }, extraHeaders: { authorization: `Bearer ${bad}` } },
      { query: { token: good }, extraHeaders: { authorization: `Bearer ${bad}` } },
      { extraHeaders: { authorization: `Bearer ${good}` } },
    ]) {
      await closeAfterTest(t, connectSocketIo4(url, options)).waitForConnect();
    }
  });

  for (const [transport, Client] of Object.entries({ polling: RawPolling, WebSocket: RawWebSocket })) {
    for (const eio of [3, 4]) {
      test(`a refused handshake over ${transport} with EIO=${eio} receives the problem's name, then the server closes its transport`, async (t) => {
        const client = closeAfterTest(t, new Client(url, { eio, query: { token: 'bad' } }));
        const refusal = await client.inbox.waitFor('packet', (packet) => packet.startsWith('44'));
        assert.match(refusal, /token-invalid/);
        await client.inbox.waitUntil(() => client.inbox.events.find(({ name, data }) => name === 'ended' || data === '1'), 'the closed transport');
      });
    }
  }

  test('the transport of a refused socket.io-client 2 is also closed after an upgrade to WebSocket', async (t) => {
    const client = closeAfterTest(t, connectSocketIo2(url, { transports: ['polling', 'websocket'], query: { token: 'bad' }, reconnection: false }));
    const { engine } = client.socket.io;
    const [upgraded, closed] = ['upgrade', 'close'].map((event) => new Promise((resolve) => engine.once(event, resolve)));
    assert.equal(await handshakeError(client), 'token-invalid');
    await withDeadline(upgraded, 'the upgrade to WebSocket');
    await withDeadline(closed, 'the closed transport');
  });

  test('the handshake joins the feeds that the token covers, and emits a problem for each other one', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken({ summer: ['view'] }), feeds: ['winter', 'summer'] } }));
    assertProblem(await client.inbox.waitFor('problem'), 'forbidden', 403);
    assertFreshJoin(await client.inbox.waitFor('joined'), 'summer');
  });

  for (const [version, connect] of Object.entries(CONNECTORS)) {
    test(`${version} receives tokenExpiring at once for a token that expires soon, and is disconnected after the leeway`, async (t) => {
      const exp = nearlyExpired(2);
      const client = closeAfterTest(t, connect(url, { query: { token: createToken({ '*': ['view'] }, { exp }) } }));
      const { expiresAt } = await client.inbox.waitFor('tokenExpiring');
      assertTime(expiresAt, 'expiresAt');
      assert.equal(Date.parse(expiresAt), exp * 1000);
      assert.equal(await client.inbox.waitFor('disconnect'), 'io server disconnect');
      assert.equal(client.inbox.dataOf('tokenExpiring').length, 1);
    });

    test(`${version} that reconnects with its expired token is refused with token-expired`, async (t) => {
      const client = closeAfterTest(t, connect(url, { query: { token: createToken({ '*': ['view'] }, { exp: nearlyExpired() }) } }));
      assert.equal(await client.inbox.waitFor('disconnect'), 'io server disconnect');
      // `exp` is in whole seconds: the last second of the leeway may not be over yet.
      const refusal = () => (client.inbox.dataOf('connect_error')[0] ?? client.inbox.dataOf('error')[0])?.message;
      await waitUntil(() => {
        if (!client.socket.connected && !refusal()) client.socket.connect();
        return refusal();
      }, 'a refused handshake');
      assert.equal(refusal(), 'token-expired');
    });
  }

  test('a reconnect with an expired token fails with connect_error, and one with a fresh token succeeds', async (t) => {
    let token = createToken({ '*': ['view'] });
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: (provide) => provide({ token }), reconnectionDelay: 10 }));
    await client.waitForConnect();
    token = createToken({ '*': ['view'] }, { exp: epochSeconds(-31) });
    client.socket.io.engine.close();
    assert.match(await client.inbox.waitFor('disconnect'), /close/);
    assert.equal((await client.inbox.waitFor('connect_error')).message, 'token-expired');
    token = createToken({ '*': ['view'] });
    client.socket.connect();
    await client.inbox.waitForCount(2, 'connect');
  });

  test('tokenExpiring is not emitted long before the expiry', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken({ '*': ['view'] }) } }));
    await client.request('join', 'summer');
    await client.request('leave', 'summer');
    assert.deepEqual(client.inbox.dataOf('tokenExpiring'), []);
  });

  test('authenticate renews a live connection', async (t) => {
    const connectExpiring = (secs) => closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken({ '*': ['view'] }, { exp: nearlyExpired(secs) }) } }));
    const [client, control] = [connectExpiring(2), connectExpiring(3)];
    const feed = makeFeedId();
    await client.request('join', feed);
    const exp = epochSeconds(3600);
    assert.deepEqual(await client.request('authenticate', { token: createToken({ '*': ['view'] }, { exp }) }), {
      expiresAt: new Date(exp * 1000).toISOString().replace('.000', ''),
    });
    // The control does not renew its token, which expires a second later: its disconnection bounds the wait.
    await control.inbox.waitFor('disconnect');
    const { key } = await uploadTo(url, feed);
    assert.equal((await client.inbox.waitFor('imageUploaded')).key, key);
    assert.deepEqual(client.inbox.dataOf('disconnect'), []);
  });

  test('tokenExpiring is emitted again for the token of authenticate', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken({ '*': ['view'] }, { exp: epochSeconds(30) }) } }));
    await client.inbox.waitFor('tokenExpiring');
    const exp = epochSeconds(40);
    await client.request('authenticate', { token: createToken({ '*': ['view'] }, { exp }) });
    await client.inbox.waitFor('tokenExpiring', ({ expiresAt }) => Date.parse(expiresAt) === exp * 1000);
  });

  for (const [what, argument, name, status] of [
    ['an expired token', { token: createToken({}, { exp: 1 }) }, 'token-expired', 401],
    ['a bad token', { token: 'bad' }, 'token-invalid', 401],
    ['a token of 9,000 bytes', { token: createToken({ '*': ['view'] }, { long: 'x'.repeat(9_000) }) }, 'token-invalid', 401],
    ['no token', {}, 'invalid-parameter', 400],
    ['a number as token', { token: 7 }, 'invalid-parameter', 400],
    ['no argument', undefined, 'invalid-parameter', 400],
  ]) {
    test(`authenticate with ${what} returns a problem and keeps the token in force`, async (t) => {
      const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken({ '*': ['view'] }), feeds: ['summer'] } }));
      await client.inbox.waitFor('joined');
      assertProblem(await client.request('authenticate', argument), name, status);
      client.emit('authenticate', argument);
      assertProblem(await client.inbox.waitFor('problem'), name, status);
      assertFreshJoin(await client.request('join', 'winter'), 'winter');
      assert.deepEqual(client.inbox.dataOf('left'), []);
    });
  }

  test('authenticate removes the connection at once from the feeds that the new token does not cover, and from no other', async (t) => {
    const [kept, lost] = [makeFeedId('kept'), makeFeedId('lost')];
    const client = closeAfterTest(t, connectSocketIo4(url, { auth: { token: createToken({ '*': ['view'] }), feeds: [kept, lost] } }));
    await client.inbox.waitForCount(2, 'joined');
    await client.request('authenticate', { token: createToken({ [kept]: ['view'], [lost]: ['upload'] }) });
    const left = client.inbox.dataOf('left');
    assert.deepEqual(left.map(({ feed }) => feed), [lost], 'left is emitted before the answer');
    assert.equal(typeof left[0].reason, 'string');
    await uploadTo(url, lost);
    const { key } = await uploadTo(url, kept);
    await client.inbox.waitFor('imageUploaded', (event) => event.key === key);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
    assertProblem(await client.request('join', lost), 'forbidden', 403);
  });

  test('authenticate ends the subscriptions of a slow client at once, before the client reads left', async (t) => {
    const server = await startDev({ env: { ...WITH_SECRET, SLOW_CLIENT_SECS: '3600' } });
    t.after(() => server.stop());
    const feeds = [makeFeedId('one'), makeFeedId('other')];
    const client = closeAfterTest(t, new RawWebSocket(server.url, { eio: 4, query: { token: createToken({ '*': ['view'] }), feeds: JSON.stringify(feeds) } }));
    const [{ cursor }] = await client.inbox.waitForCount(2, 'joined');
    const uploadMany = () => mapConcurrently(8, Array.from({ length: 150 }), () => uploadTo(server.url, feeds[0]));
    await uploadMany();
    await client.inbox.waitForCount(150, 'imageUploaded');

    client.socket.pause();
    for (let i = 0; i < 20; i += 1) client.send(`420${JSON.stringify(['join', { feed: feeds[0], cursor }])}`);
    await uploadMany();
    client.send(`421${JSON.stringify(['authenticate', { token: createToken({}) }])}`);
    for (const feed of feeds) {
      await waitUntil(async () => {
        const response = await fetch(buildFeedUrl(server.url, feed), { headers: { authorization: `Bearer ${createToken(ALL_RIGHTS)}` } });
        return (await response.json()).watchers === 0;
      }, `${feed} to have no watcher`);
    }
    assert.deepEqual(client.inbox.dataOf('left'), [], 'the client has not read left yet');
    client.socket.resume();
    assert.deepEqual((await client.inbox.waitForCount(2, 'left')).map(({ feed }) => feed).toSorted(), feeds.toSorted());
  });

  test('a stream of server-sent events ends with its token', async () => {
    const token = createToken({ '*': ['view'] }, { exp: nearlyExpired(2) });
    const response = await fetch(buildFeedUrl(url, 'summer', `/events?token=${token}`));
    assert.equal(response.status, 200);
    assert.match(await withDeadline(response.text(), 'the end of the stream'), /^event: ?joined$/m);
  });
});

describe('audience and issuer', () => {
  let server;
  before(async () => {
    server = await startDev({ env: { ...WITH_SECRET, AUTH_AUDIENCE: 'photos', AUTH_ISSUER: 'https://issuer.example' } });
  });
  after(() => server.stop());

  const ours = { aud: 'photos', iss: 'https://issuer.example' };
  for (const [what, more, allowed] of [
    ['both', ours, true],
    ['several audiences', { ...ours, aud: ['others', 'photos'] }, true],
    ['another audience', { ...ours, aud: 'others' }, false],
    ['another issuer', { ...ours, iss: 'https://issuer.example.evil.net' }, false],
    ['no audience', { iss: ours.iss }, false],
    ['no issuer', { aud: ours.aud }, false],
  ]) {
    test(`a token with ${what} is ${allowed ? 'accepted' : 'refused'}`, async () => {
      const token = createToken({ '*': ['view'] }, more);
      if (allowed) await assertAdmitted(server.url, token);
      else await assertRefused(await listWithToken(server.url, token), 'token-invalid', 401);
    });
  }

  test('photoshare token sets audience and issuer', async () => {
    const env = { AUTH_JWT_SECRET: SECRET, AUTH_AUDIENCE: ours.aud, AUTH_ISSUER: ours.iss };
    const { log } = await runUntilExit(['token', '--feed', '*'], env);
    await assertAdmitted(server.url, log.trim());
  });
});

describe('AUTH_ANONYMOUS', () => {
  let server;
  before(async () => {
    server = await startDev({ env: { ...WITH_SECRET, AUTH_ANONYMOUS: 'view' } });
  });
  after(() => server.stop());

  test('a client without a token has exactly the configured rights', async (t) => {
    const feed = makeFeedId();
    const clients = [connectSocketIo4, connectSocketIo2].map((connect) => closeAfterTest(t, connect(server.url)));
    for (const client of clients) assertFreshJoin(await client.request('join', feed), feed);
    await assertAdmitted(server.url, undefined, feed);
    const { key } = await uploadTo(server.url, feed);
    for (const client of clients) assert.equal((await client.inbox.waitFor('imageUploaded')).key, key);
    for (const [method, rest, body] of [['POST', '/uploads', '{"contentType":"image/jpeg","size":10}'], ['DELETE', '/photos/x.jpg']]) {
      const headers = body ? { 'content-type': 'application/json' } : {};
      await assertRefused(await fetch(buildFeedUrl(server.url, feed, rest), { method, headers, body }), 'token-missing', 401);
    }
  });

  test('an invalid token does not fall back to the anonymous rights', async (t) => {
    await assertRefused(await listWithToken(server.url, 'bad'), 'token-invalid', 401);
    assert.equal(await handshakeError(closeAfterTest(t, connectSocketIo4(server.url, { auth: { token: 'bad' } }))), 'token-invalid');
    await assertRefused(await listWithToken(server.url, createToken({})), 'forbidden', 403);
  });

  test('an anonymous connection may authenticate later', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', 'summer');
    const { expiresAt } = await client.request('authenticate', { token: createToken({ winter: ['view'] }) });
    assertTime(expiresAt, 'expiresAt');
    assert.deepEqual(client.inbox.dataOf('left').map(({ feed }) => feed), ['summer']);
  });
});

describe('JWKS', () => {
  const keys = ['RS256', 'ES256', 'EdDSA'].map((alg) => new SigningKey(alg, `key-of-${alg}`));
  const view = buildClaims({ '*': ['view'] });

  for (const key of keys) {
    test(`a token signed with ${key.alg} is accepted over HTTP and Socket.IO, with and without a kid`, async (t) => {
      const issuer = await KeySetServer.start(t, ...keys);
      const { url } = await startDevServer(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
      for (const header of [{}, { kid: undefined }]) {
        await assertAdmitted(url, key.sign(view, header));
        await closeAfterTest(t, connectSocketIo4(url, { auth: { token: key.sign(view, header) } })).waitForConnect();
      }
      await assertRefused(await listWithToken(url, key.sign({ ...view, exp: 1 })), 'token-expired', 401);
      assert.equal(issuer.requestCount, 1, 'the keys are cached');
    });
  }

  test('each algorithm has one source of keys', async (t) => {
    const [rsa, ec, ed] = keys;
    const rogue = new SigningKey('RS256', 'rogue');
    const secretKey = Buffer.from('a-secret-that-was-published-in-error-0');
    const oct = { kty: 'oct', kid: 'oct', alg: 'HS256', use: 'sig', k: secretKey.toString('base64url') };
    const pss = new SigningKey('RS256', 'pss', { alg: 'PS256' });
    const encryption = new SigningKey('RS256', 'enc', { use: 'enc' });
    const misnamed = new SigningKey('ES256', 'misnamed', { alg: 'EdDSA' });
    const unnamed = new SigningKey('EdDSA', 'unnamed', { alg: undefined, use: undefined });
    const issuer = await KeySetServer.start(t, ...keys, oct, pss, encryption, misnamed, unnamed, { kty: 'X', kid: 'x' });
    const [both, jwksOnly] = [await startDevServer(t, { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url }), await startDevServer(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url })];
    const pem = (key) => key.publicKey.export({ type: 'spki', format: 'pem' });
    const hmac = signHs256(view);

    await assertAdmitted(both.url, hmac);
    await assertRefused(await listWithToken(jwksOnly.url, hmac), 'token-invalid', 401);
    for (const { url } of [both, jwksOnly]) {
      for (const token of [...keys.map((key) => key.sign(view)), unnamed.sign(view)]) await assertAdmitted(url, token);
      for (const [what, token] of Object.entries({
        'signed with a public key as the secret': signHs256(view, { secret: pem(rsa), header: { kid: rsa.kid } }),
        'signed with a symmetric key of the set': signHs256(view, { secret: secretKey, header: { kid: 'oct' } }),
        'signed with an unknown key under a known kid': rogue.sign(view, { kid: rsa.kid }),
        'signed with an unknown key, without a kid': rogue.sign(view, { kid: undefined }),
        'that carries its own key (jwk)': rogue.sign(view, { kid: rsa.kid, jwk: rogue.jwk }),
        'that names the address of its key (jku, x5u)': rogue.sign(view, { kid: rsa.kid, jku: issuer.url, x5u: issuer.url }),
        'whose kid names a key for another algorithm': ec.sign(view, { kid: ed.kid }),
        'whose alg differs from the alg of its key': ec.sign(view, { alg: 'EdDSA', kid: ed.kid }),
        'signed with a key for PS256': pss.sign(view),
        'signed with a key for encryption': encryption.sign(view),
        'signed with a key whose alg does not fit its type': misnamed.sign(view),
        'with alg none': `${rsa.sign(view, { alg: 'none' }).split('.').slice(0, 2).join('.')}.`,
        'with an algorithm that is not in the contract': rsa.sign(view, { alg: 'RS512' }),
      })) {
        const response = await listWithToken(url, token);
        const text = await response.text();
        assert.equal(JSON.parse(text).type, 'urn:photoshare:problem:token-invalid', `a token ${what}: ${response.status} ${text}`);
      }
    }
  });

  test('the server fetches a new key when a token names it, and drops a key that the issuer has removed', async (t) => {
    const [first, second] = [new SigningKey('ES256', 'first'), new SigningKey('ES256', 'second')];
    const issuer = await KeySetServer.start(t, first);
    const { url } = await startDevServer(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
    await assertAdmitted(url, first.sign(view));
    issuer.keys = [second];
    await assertAdmitted(url, second.sign(view));
    await assertRefused(await listWithToken(url, first.sign(view)), 'token-invalid', 401);
  });

  test('unknown kids do not cause a fetch each', async (t) => {
    const issuer = await KeySetServer.start(t, ...keys);
    const { url } = await startDevServer(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
    await assertAdmitted(url, keys[0].sign(view));
    const tokens = Array.from({ length: 200 }, (_, i) => keys[0].sign(view, { kid: `unknown-${i}` }));
    for (const response of await Promise.all(tokens.map((token) => listWithToken(url, token)))) await assertRefused(response, 'token-invalid', 401);
    assert.ok(issuer.requestCount < 20, `asked ${issuer.requestCount} times`);
  });

  test('while the issuer is unavailable, known keys are accepted and tokens of unknown keys are refused as unavailable', async (t) => {
    const issuer = await KeySetServer.start(t, keys[1]);
    const { url } = await startDevServer(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
    await assertAdmitted(url, keys[1].sign(view));
    await issuer.stop();
    const response = await waitUntil(async () => {
      const attempt = await listWithToken(url, keys[2].sign(view));
      return attempt.status !== 401 && attempt;
    }, 'another fetch of the keys');
    assert.ok(Number(response.headers.get('retry-after')) > 0);
    const problem = await assertRefused(response, 'unavailable', 503);
    assert.equal(problem.retryAfter, Number(response.headers.get('retry-after')));
    assert.equal(await handshakeError(closeAfterTest(t, connectSocketIo4(url, { auth: { token: keys[2].sign(view) } }))), 'unavailable');
    await assertAdmitted(url, keys[1].sign(view));

    issuer.keys.push(keys[2]);
    await issuer.listen();
    await waitUntil(async () => (await listWithToken(url, keys[2].sign(view))).status === 200, 'the new key');
  });

  test('the server starts while the issuer is unavailable, and logs that', async (t) => {
    const issuer = await KeySetServer.start(t, ...keys);
    await issuer.stop();
    const server = await startDevServer(t, { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url });
    await assertRefused(await listWithToken(server.url, keys[0].sign(view)), 'unavailable', 503);
    await assertAdmitted(server.url, signHs256(view));
    assert.match(server.log, /signing keys/);
    await issuer.listen();
    await waitUntil(async () => (await listWithToken(server.url, keys[0].sign(view))).status === 200, 'the keys');
  });

  const redirectTarget = new KeySetServer(...keys);
  for (const [what, answer] of Object.entries({
    'a redirect': (request, response) => response.writeHead(302, { location: redirectTarget.url }).end(),
    'a status of 500': (request, response) => response.writeHead(500).end('{"keys":[]}'),
    'a document that is no key set': (request, response) => response.end('<html>'),
    'a key set of 100 kB': (request, response) => response.end(JSON.stringify({ keys: keys.map(({ jwk }) => jwk), more: 'x'.repeat(100_000) })),
    'an endless body': (request, response) => {
      const more = () => response.write(' '.repeat(60_000), more);
      more();
    },
    'no response': () => {},
  })) {
    test(`an issuer that answers with ${what} provides no keys, and does not delay other tokens`, async (t) => {
      await redirectTarget.listen();
      t.after(() => redirectTarget.stop());
      const issuer = await KeySetServer.start(t, ...keys);
      issuer.respond = answer;
      const { url } = await startDevServer(t, { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url });
      const pending = listWithToken(url, keys[0].sign(view));
      await assertAdmitted(url, signHs256(view));
      await assertRefused(await pending, 'unavailable', 503);
      assert.ok(issuer.requestCount > 0);
      assert.equal(redirectTarget.requestCount, 0, 'a redirect is not followed');
    });
  }

  for (const bad of ['http://issuer.example/jwks', 'http://10.0.0.1/jwks', 'ftp://127.0.0.1/jwks', 'jwks.json', 'https://me:pw@issuer.example/']) {
    test(`AUTH_JWKS_URL=${bad} is refused at startup, together with every other invalid setting`, async () => {
      const { code, log } = await runUntilExit(['dev'], { AUTH: 'on', AUTH_JWKS_URL: bad, AUTH_ANONYMOUS: 'dance', TRUSTED_PROXY_HOPS: '-1' });
      assert.equal(code, 78);
      for (const name of ['AUTH_JWKS_URL', 'AUTH_ANONYMOUS', 'TRUSTED_PROXY_HOPS']) assert.match(log, new RegExp(`^ +${name} `, 'm'));
    });
  }
});

describe('photoshare token', () => {
  const runToken = async (args, env = { AUTH_JWT_SECRET: SECRET }) => runUntilExit(['token', ...args], env);

  test('prints only the token, which carries the requested rights', async (t) => {
    const { url } = await startDevServer(t, WITH_SECRET);
    const { code, log } = await runToken(['--feed', 'summer', '--feed', 'winter', '--can', 'view,upload', '--expires', '1h', '--subject', 'me']);
    assert.equal(code, 0, log);
    assert.match(log, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { exp, iat, ...rest } = JSON.parse(Buffer.from(log.split('.')[1], 'base64url'));
    assert.deepEqual(rest, { sub: 'me', feeds: { summer: ['view', 'upload'], winter: ['view', 'upload'] } });
    assert.equal(exp - iat, 3600);
    await assertAdmitted(url, log.trim(), 'winter');
    await assertRefused(await listWithToken(url, log.trim(), 'spring'), 'forbidden', 403);
  });

  for (const [expires, secs] of [['90s', 90], ['15m', 900], ['7d', 604_800], ['1h 30m', 5400]]) {
    test(`--expires ${expires} sets a lifetime of ${secs} s`, async () => {
      const { log } = await runToken(['--feed', '*', '--expires', expires]);
      const { exp, iat, feeds } = JSON.parse(Buffer.from(log.split('.')[1], 'base64url'));
      assert.equal(exp - iat, secs);
      assert.deepEqual(feeds, { '*': ['view'] });
    });
  }

  test('every invalid option is named at once, and the secret is not printed', async () => {
    const secret = 'too-short';
    const { code, log } = await runToken(['--feed', 'a/b', '--feed', '.c', '--can', 'dance', '--expires', 'soon'], { AUTH_JWT_SECRET: secret });
    assert.equal(code, 78);
    for (const name of ['AUTH_JWT_SECRET', '--feed', '--can', '--expires']) assert.match(log, new RegExp(`^ +${name} `, 'm'));
    assert.equal(log.match(/--feed/g).length, 2);
    assert.ok(!log.includes(secret));
  });

  test('a token needs a secret, a feed, a right and a positive lifetime', async () => {
    for (const [args, env, name] of [
      [['--feed', 'x'], {}, 'AUTH_JWT_SECRET'], [[], { AUTH_JWT_SECRET: SECRET }, '--feed'],
      [['--feed', 'x', '--can', ''], { AUTH_JWT_SECRET: SECRET }, '--can'], [['--feed', 'x', '--expires=-1h'], { AUTH_JWT_SECRET: SECRET }, '--expires'],
    ]) {
      const { code, log } = await runToken(args, env);
      assert.notEqual(code, 0);
      assert.match(log, new RegExp(name));
    }
  });
});

describe('origins', () => {
  const ALLOWED = 'https://app.example.com,https://*.example.org';

  /** Sends the request of a WebSocket handshake, or of a first poll, with these headers. */
  function requestHandshake(server, transport, headers) {
    const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
    return sendRawRequest(server.url, 'GET', `/socket.io/?EIO=4&transport=${transport}`, { headers: { ...(transport === 'websocket' && upgrade), ...headers } });
  }

  for (const transport of ['websocket', 'polling']) {
    test(`pages of origins that are not allowed can't connect over ${transport}`, async (t) => {
      const server = await startDevServer(t, { ALLOWED_ORIGINS: ALLOWED });
      for (const origin of ['https://evil.example', 'null', 'http://app.example.com', 'https://app.example.com.evil.net', `http://127.0.0.1:${Number(server.port) + 1}`, 'file://']) {
        await assertRefused(await requestHandshake(server, transport, { origin }), 'forbidden', 403);
      }
    });

    test(`native clients, the server's own page and pages of ALLOWED_ORIGINS connect over ${transport}`, async (t) => {
      const server = await startDevServer(t, { ALLOWED_ORIGINS: ALLOWED });
      const own = `127.0.0.1:${server.port}`;
      for (const origin of [undefined, `http://${own}`, `ws://${own}`, 'https://app.example.com', 'https://a.b.example.org']) {
        const extraHeaders = origin === undefined ? {} : { origin };
        await closeAfterTest(t, connectSocketIo4(server.url, { transports: [transport], extraHeaders })).waitForConnect();
        await closeAfterTest(t, connectSocketIo2(server.url, { transports: [transport], extraHeaders })).waitForConnect();
      }
    });
  }

  test('the origin is also checked for requests of an existing session', async (t) => {
    const server = await startDevServer(t, { ALLOWED_ORIGINS: ALLOWED });
    const client = closeAfterTest(t, new RawPolling(server.url, { eio: 4 }));
    await client.waitForConnect();
    const path = `/socket.io/?EIO=4&transport=polling&sid=${client.session.sid}`;
    const headers = { origin: 'https://evil.example', 'content-type': 'text/plain' };
    await assertRefused(await sendRawRequest(server.url, 'POST', path, { headers, body: '42["join","summer"]' }), 'forbidden', 403);
  });

  test('without ALLOWED_ORIGINS only the server\'s own pages and native clients connect; dev allows every origin', async (t) => {
    const [strict, dev] = [await startDevServer(t, { ALLOWED_ORIGINS: '' }), await startDevServer(t, {})];
    await assertRefused(await requestHandshake(strict, 'websocket', { origin: 'https://app.example.com' }), 'forbidden', 403);
    await closeAfterTest(t, connectSocketIo4(strict.url)).waitForConnect();
    await closeAfterTest(t, connectSocketIo4(dev.url, { extraHeaders: { origin: 'https://app.example.com' } })).waitForConnect();
  });

  test('CORS lets only scripts of allowed origins read responses', async (t) => {
    const server = await startDevServer(t, { ALLOWED_ORIGINS: ALLOWED });
    const request = (method, path, headers) => sendRawRequest(server.url, method, path, { headers });
    for (const [origin, allowed] of [['https://app.example.com', true], ['https://a.example.org', true], ['https://evil.example', false]]) {
      for (const path of ['/v1/feeds/summer/photos', '/socket.io/?EIO=4&transport=polling', '/nope']) {
        const response = await request('GET', path, { origin });
        assert.equal(response.headers.get('access-control-allow-origin'), allowed ? origin : null, path);
        assert.match(response.headers.get('vary') ?? '', /origin/i, path);
        const preflight = await request('OPTIONS', path, { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,content-type' });
        assert.equal(preflight.headers.get('access-control-allow-origin'), allowed ? origin : null, path);
        assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /authorization/i);
      }
    }
    const exposed = (await request('GET', '/v1/feeds/summer/photos', { origin: 'https://app.example.com' })).headers.get('access-control-expose-headers');
    assert.match(exposed, /retry-after/i);
  });
});

test('no token is logged, however it is sent and whatever the log level', async (t) => {
  const key = new SigningKey('ES256', 'logged');
  const issuer = await KeySetServer.start(t, key);
  const server = await startDev({ env: { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url, RUST_LOG: 'trace' } });
  const { url } = server;
  const token = createToken(ALL_RIGHTS);
  const tokens = [token, key.sign(buildClaims(ALL_RIGHTS)), createToken(ALL_RIGHTS, { exp: 1 }), 'badTokenMark1234567890'];
  const answers = new Inbox();
  for (const sent of tokens) {
    await (await listWithToken(url, sent)).text();
    await (await fetch(buildFeedUrl(url, 'summer', `/photos?token=${sent}`))).text();
    for (const options of [
      { auth: { token: sent } }, { query: { token: sent } }, { extraHeaders: { authorization: `Bearer ${sent}` } },
      { auth: { token: sent }, transports: ['polling'] }, { query: { token: sent }, transports: ['polling', 'websocket'] },
    ]) {
      for (const connect of [connectSocketIo4, connectSocketIo2]) {
        const client = connect(url, { reconnection: false, ...options });
        await client.inbox.waitUntil(() => client.inbox.events.some(({ name }) => /^(connect|connect_error|error)$/.test(name)), 'an outcome');
        client.close();
      }
    }
    const client = connectSocketIo4(url, { auth: { token } });
    answers.push('answer', await client.request('authenticate', { token: sent }));
    client.close();
  }
  assert.equal(answers.dataOf('answer').length, tokens.length);
  await server.stop();
  for (const sent of [...tokens, SECRET]) {
    for (const part of sent.split('.')) {
      // The header is the same for all tokens and holds no secret.
      if (sent.startsWith(`${part}.`)) continue;
      const line = server.log.split('\n').find((text) => text.includes(part));
      assert.equal(line, undefined, `the log contains ${part}`);
    }
  }
});

test('--help lists the settings of authentication', async () => {
  for (const [command, names] of Object.entries({
    serve: ['AUTH', 'AUTH_JWT_SECRET', 'AUTH_JWKS_URL', 'AUTH_AUDIENCE', 'AUTH_ISSUER', 'AUTH_ANONYMOUS', 'ALLOWED_ORIGINS'],
    token: ['--feed', '--can', '--expires', '--subject', 'AUTH_JWT_SECRET'],
  })) {
    const child = spawnServer([command, '--help'], { AUTH_JWT_SECRET: SECRET });
    await child.exited;
    for (const name of names) assert.ok(child.log.includes(name), `${command} --help lists ${name}`);
    assert.ok(!child.log.includes(SECRET));
  }
});

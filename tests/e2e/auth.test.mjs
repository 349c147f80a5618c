// Who gets in, with what, and until when.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { rawRequest } from './lib/http.mjs';
import { feedUrl, newFeed, photo, put } from './lib/photos.mjs';
import { failedStart, launch, startDev } from './lib/server.mjs';
import { assertFreshJoin, assertProblem, assertRefused, assertTime } from './lib/shapes.mjs';
import { Inbox } from './lib/inbox.mjs';
import { Issuer, SECRET, SigningKey, claims, hs256, nearlyOver, seconds, tokenFor } from './lib/tokens.mjs';
import { inParallel, until, within } from './lib/wait.mjs';

const WITH_SECRET = { AUTH: 'on', AUTH_JWT_SECRET: SECRET };
const VERSIONS = { 'socket.io-client 4': connect4, 'socket.io-client 2': connect2 };
const EVERYTHING = { '*': ['view', 'upload', 'delete'] };

async function starting(t, env) {
  const server = await startDev({ env });
  t.after(() => server.stop());
  return server;
}

/** The photos of a feed, asked for with a token. */
function list(url, token, feed = 'summer') {
  return fetch(feedUrl(url, feed, '/photos'), { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });
}

async function assertLetIn(url, token, feed) {
  const response = await list(url, token, feed);
  assert.equal(response.status, 200, await response.text());
}

/** The name that a handshake is refused with. */
async function refusal(client) {
  const refused = await client.inbox.until(
    () => (client.inbox.named('connect_error')[0] ?? client.inbox.named('error')[0])?.message,
    'a refusal',
  );
  assert.deepEqual(client.inbox.named('connect'), [], 'a refused client is not told that it is connected');
  return refused;
}

/** A photo that arrives in the feed, uploaded with every right. */
async function uploadTo(url, feed) {
  const { contentType, bytes } = photo();
  const response = await fetch(feedUrl(url, feed, '/uploads'), {
    method: 'POST',
    headers: { authorization: `Bearer ${tokenFor(EVERYTHING)}`, 'content-type': 'application/json' },
    body: JSON.stringify({ contentType, size: bytes.length }),
  });
  assert.equal(response.status, 201);
  const grant = await response.json();
  assert.equal((await put(grant, bytes)).status, 200);
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

  const view = (more) => claims({ '*': ['view'] }, more);
  const [head, body, signature] = tokenFor({ '*': ['view'] }).split('.');
  const header = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const BAD_TOKENS = {
    'token-missing': { none: undefined },
    'token-expired': {
      'whose leeway is over': hs256(view({ exp: seconds(-31) })),
      'of long ago': hs256(view({ exp: 1 })),
    },
    'token-invalid': {
      nonsense: 'nonsense',
      'of another secret': hs256(view(), { secret: 'another-secret-that-has-more-than-32-bytes' }),
      'without a signature': `${head}.${body}.`,
      'with another body': `${head}.${header(view({ sub: 'root' }))}.${signature}`,
      'with alg none, unsigned': `${header({ alg: 'none' })}.${body}.`,
      'with alg None and a signature': `${header({ alg: 'None' })}.${body}.${signature}`,
      'with another alg': hs256(view(), { header: { alg: 'HS384' } }),
      'with RS256, for which there is no key': hs256(view(), { header: { alg: 'RS256' } }),
      'without exp': hs256({ feeds: { '*': ['view'] } }),
      'that is not valid yet': hs256(view({ nbf: seconds(60) })),
      'with feeds of another shape': hs256(view({ feeds: 'summer' })),
      'with an extension that must be understood': hs256(view(), { header: { crit: ['x'], x: 1 } }),
      'of 9,000 bytes': hs256(view({ long: 'x'.repeat(9_000) })),
    },
  };

  for (const [name, tokens] of Object.entries(BAD_TOKENS)) {
    for (const [what, token] of Object.entries(tokens)) {
      test(`a token ${what} is ${name}, over HTTP and in the handshake`, async (t) => {
        const response = await list(url, token);
        assert.match(response.headers.get('www-authenticate'), /^Bearer/);
        await assertRefused(response, name, 401);
        const client = closing(t, connect4(url, { auth: { token } }));
        assert.equal(await refusal(client), name);
      });
    }
  }

  for (const [what, token] of Object.entries({
    'past its end by less than the leeway': hs256(view({ exp: seconds(-20) })),
    'valid in a moment': hs256(view({ nbf: seconds(20) })),
    'whose exp has a fraction': hs256(view({ exp: seconds(60) + 0.5 })),
    'for some audience, while none is asked for': hs256(view({ aud: 'others', iss: 'https://others' })),
    'with rights that are not ours': tokenFor({ '*': ['view', 'dance'], 'not/a/feed': ['view'] }),
  })) {
    test(`a token ${what} lets in`, async (t) => {
      await assertLetIn(url, token);
      const client = closing(t, connect4(url, { auth: { token } }));
      assertFreshJoin(await client.ask('join', 'summer'), 'summer');
    });
  }

  test('the token comes as a header or in the query; the header wins', async () => {
    const good = tokenFor({ '*': ['view'] });
    const photos = (query, headers) => fetch(feedUrl(url, 'summer', `/photos${query}`), { headers });
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
    ['view everywhere and upload here', { '*': ['view'], summer: ['upload'] }, ['view', 'upload']],
    ['everything elsewhere', { winter: ['view', 'upload', 'delete'] }, []],
    ['nothing', {}, []],
    ['nothing, by null', null, []],
    ['nothing here, by null', { summer: null }, []],
  ]) {
    test(`the right to ${what} lets do ${allowed.join(' and ') || 'nothing'}`, async (t) => {
      const token = tokenFor(feeds);
      const call = (method, rest, body) => fetch(feedUrl(url, 'summer', rest), {
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
      const events = await fetch(feedUrl(url, 'summer', `/events?token=${token}`), { signal: stream.signal });
      assert.equal(events.status, allowed.includes('view') ? 200 : 403);
      stream.abort();
      const client = closing(t, connect4(url, { auth: { token } }));
      const answer = await client.ask('join', 'summer');
      if (allowed.includes('view')) assertFreshJoin(answer, 'summer');
      else assertProblem(answer, 'forbidden', 403);
    });
  }

  for (const [version, connect] of Object.entries(VERSIONS)) {
    for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
      test(`${version} over ${transports} is let in by the query's token, and refused with the problem's name`, async (t) => {
        const good = closing(t, connect(url, { transports, query: { token: tokenFor({ '*': ['view'] }), feed: 'summer' } }));
        assertFreshJoin(await good.inbox.find('joined'), 'summer');
        for (const [name, query] of [['token-missing', {}], ['token-invalid', { token: 'bad' }], ['token-expired', { token: tokenFor({}, { exp: 1 }) }]]) {
          assert.equal(await refusal(closing(t, connect(url, { transports, query, reconnection: false }))), name);
        }
      });
    }
  }

  test('the handshake takes auth before the query, and that before the Authorization header', async (t) => {
    const [good, bad] = [tokenFor({ '*': ['view'] }), 'bad'];
    for (const options of [
      { auth: { token: good }, query: { token: bad }, extraHeaders: { authorization: `Bearer ${bad}` } },
      { query: { token: good }, extraHeaders: { authorization: `Bearer ${bad}` } },
      { extraHeaders: { authorization: `Bearer ${good}` } },
    ]) {
      await closing(t, connect4(url, options)).connected();
    }
  });

  for (const [transport, Client] of Object.entries({ polling: RawPolling, WebSocket: RawWebSocket })) {
    for (const eio of [3, 4]) {
      test(`a refused handshake over ${transport} with EIO=${eio} is told its name, and then its transport is closed`, async (t) => {
        const client = closing(t, new Client(url, { eio, query: { token: 'bad' } }));
        const told = await client.inbox.find('packet', (packet) => packet.startsWith('44'));
        assert.match(told, /token-invalid/);
        await client.inbox.until(() => client.inbox.told.find(({ name, data }) => name === 'ended' || data === '1'), 'the end');
      });
    }
  }

  test('a refused socket.io-client 2 that moves on to WebSocket has its transport closed, too', async (t) => {
    const client = closing(t, connect2(url, { transports: ['polling', 'websocket'], query: { token: 'bad' }, reconnection: false }));
    const { engine } = client.socket.io;
    const [moved, closed] = ['upgrade', 'close'].map((event) => new Promise((resolve) => engine.once(event, resolve)));
    assert.equal(await refusal(client), 'token-invalid');
    await within(moved, 'the move to WebSocket');
    await within(closed, 'the end of its transport');
  });

  test('feeds of the handshake that the token does not cover are problems, the others are joined', async (t) => {
    const client = closing(t, connect4(url, { auth: { token: tokenFor({ summer: ['view'] }), feeds: ['winter', 'summer'] } }));
    assertProblem(await client.inbox.find('problem'), 'forbidden', 403);
    assertFreshJoin(await client.inbox.find('joined'), 'summer');
  });

  for (const [version, connect] of Object.entries(VERSIONS)) {
    test(`${version} is warned at once when little is left, and disconnected at the end of the leeway`, async (t) => {
      const exp = nearlyOver(2);
      const client = closing(t, connect(url, { query: { token: tokenFor({ '*': ['view'] }, { exp }) } }));
      const { expiresAt } = await client.inbox.find('tokenExpiring');
      assertTime(expiresAt, 'expiresAt');
      assert.equal(Date.parse(expiresAt), exp * 1000);
      assert.equal(await client.inbox.find('disconnect'), 'io server disconnect');
      assert.equal(client.inbox.named('tokenExpiring').length, 1);
    });

    test(`trap 34: ${version} that comes back with its old token is refused with token-expired`, async (t) => {
      const client = closing(t, connect(url, { query: { token: tokenFor({ '*': ['view'] }, { exp: nearlyOver() }) } }));
      assert.equal(await client.inbox.find('disconnect'), 'io server disconnect');
      // `exp` has whole seconds: the leeway may have some of its last one left.
      const refused = () => (client.inbox.named('connect_error')[0] ?? client.inbox.named('error')[0])?.message;
      await until(() => {
        if (!client.socket.connected && !refused()) client.socket.connect();
        return refused();
      }, 'a refusal');
      assert.equal(refused(), 'token-expired');
    });
  }

  test('trap 34: an expired token on reconnect is a connect_error', async (t) => {
    let token = tokenFor({ '*': ['view'] });
    const client = closing(t, connect4(url, { auth: (give) => give({ token }), reconnectionDelay: 10 }));
    await client.connected();
    token = tokenFor({ '*': ['view'] }, { exp: seconds(-31) });
    client.socket.io.engine.close();
    assert.match(await client.inbox.find('disconnect'), /close/);
    assert.equal((await client.inbox.find('connect_error')).message, 'token-expired');
    token = tokenFor({ '*': ['view'] });
    client.socket.connect();
    await client.inbox.first(2, 'connect');
  });

  test('nobody is warned long before the end', async (t) => {
    const client = closing(t, connect4(url, { auth: { token: tokenFor({ '*': ['view'] }) } }));
    await client.ask('join', 'summer');
    await client.ask('leave', 'summer');
    assert.deepEqual(client.inbox.named('tokenExpiring'), []);
  });

  test('authenticate renews a live connection', async (t) => {
    const old = (secs) => closing(t, connect4(url, { auth: { token: tokenFor({ '*': ['view'] }, { exp: nearlyOver(secs) }) } }));
    const [client, witness] = [old(2), old(3)];
    const feed = newFeed();
    await client.ask('join', feed);
    const exp = seconds(3600);
    assert.deepEqual(await client.ask('authenticate', { token: tokenFor({ '*': ['view'] }, { exp }) }), {
      expiresAt: new Date(exp * 1000).toISOString().replace('.000', ''),
    });
    // Whoever has not renewed is gone by now, and has had a second more.
    await witness.inbox.find('disconnect');
    const { key } = await uploadTo(url, feed);
    assert.equal((await client.inbox.find('imageUploaded')).key, key);
    assert.deepEqual(client.inbox.named('disconnect'), []);
  });

  test('authenticate warns again', async (t) => {
    const client = closing(t, connect4(url, { auth: { token: tokenFor({ '*': ['view'] }, { exp: seconds(30) }) } }));
    await client.inbox.find('tokenExpiring');
    const exp = seconds(40);
    await client.ask('authenticate', { token: tokenFor({ '*': ['view'] }, { exp }) });
    await client.inbox.find('tokenExpiring', ({ expiresAt }) => Date.parse(expiresAt) === exp * 1000);
  });

  for (const [what, argument, name, status] of [
    ['an expired token', { token: tokenFor({}, { exp: 1 }) }, 'token-expired', 401],
    ['a bad token', { token: 'bad' }, 'token-invalid', 401],
    ['a token of 9,000 bytes', { token: tokenFor({ '*': ['view'] }, { long: 'x'.repeat(9_000) }) }, 'token-invalid', 401],
    ['no token', {}, 'invalid-parameter', 400],
    ['a number', { token: 7 }, 'invalid-parameter', 400],
    ['nothing', undefined, 'invalid-parameter', 400],
  ]) {
    test(`authenticate with ${what} is a problem, and changes nothing`, async (t) => {
      const client = closing(t, connect4(url, { auth: { token: tokenFor({ '*': ['view'] }), feeds: ['summer'] } }));
      await client.inbox.find('joined');
      assertProblem(await client.ask('authenticate', argument), name, status);
      client.tell('authenticate', argument);
      assertProblem(await client.inbox.find('problem'), name, status);
      assertFreshJoin(await client.ask('join', 'winter'), 'winter');
      assert.deepEqual(client.inbox.named('left'), []);
    });
  }

  test('a feed that the new token does not cover is left at once, the others are not', async (t) => {
    const [kept, lost] = [newFeed('kept'), newFeed('lost')];
    const client = closing(t, connect4(url, { auth: { token: tokenFor({ '*': ['view'] }), feeds: [kept, lost] } }));
    await client.inbox.first(2, 'joined');
    await client.ask('authenticate', { token: tokenFor({ [kept]: ['view'], [lost]: ['upload'] }) });
    const left = client.inbox.named('left');
    assert.deepEqual(left.map(({ feed }) => feed), [lost], 'told before the answer');
    assert.equal(typeof left[0].reason, 'string');
    await uploadTo(url, lost);
    const { key } = await uploadTo(url, kept);
    await client.inbox.find('imageUploaded', (event) => event.key === key);
    assert.equal(client.inbox.named('imageUploaded').length, 1);
    assertProblem(await client.ask('join', lost), 'forbidden', 403);
  });

  test('a new token takes its feeds away at once from one that is slow to hear it', async (t) => {
    const patient = await startDev({ env: { ...WITH_SECRET, SLOW_CLIENT_SECS: '3600' } });
    t.after(() => patient.stop());
    const feeds = [newFeed('one'), newFeed('other')];
    const client = closing(t, new RawWebSocket(patient.url, { eio: 4, query: { token: tokenFor({ '*': ['view'] }), feeds: JSON.stringify(feeds) } }));
    const [{ cursor }] = await client.inbox.first(2, 'joined');
    const pour = () => inParallel(8, Array.from({ length: 150 }), () => uploadTo(patient.url, feeds[0]));
    await pour();
    await client.inbox.first(150, 'imageUploaded');

    client.socket.pause();
    for (let i = 0; i < 20; i += 1) client.send(`420${JSON.stringify(['join', { feed: feeds[0], cursor }])}`);
    await pour();
    client.send(`421${JSON.stringify(['authenticate', { token: tokenFor({}) }])}`);
    for (const feed of feeds) {
      await until(async () => {
        const response = await fetch(feedUrl(patient.url, feed), { headers: { authorization: `Bearer ${tokenFor(EVERYTHING)}` } });
        return (await response.json()).watchers === 0;
      }, `nobody to be in ${feed}`);
    }
    assert.deepEqual(client.inbox.named('left'), [], 'it has not heard of it yet');
    client.socket.resume();
    assert.deepEqual((await client.inbox.first(2, 'left')).map(({ feed }) => feed).toSorted(), feeds.toSorted());
  });

  test('a stream of events ends with its token', async () => {
    const token = tokenFor({ '*': ['view'] }, { exp: nearlyOver(2) });
    const response = await fetch(feedUrl(url, 'summer', `/events?token=${token}`));
    assert.equal(response.status, 200);
    assert.match(await within(response.text(), 'the end of the stream'), /^event: ?joined$/m);
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
      const token = tokenFor({ '*': ['view'] }, more);
      if (allowed) await assertLetIn(server.url, token);
      else await assertRefused(await list(server.url, token), 'token-invalid', 401);
    });
  }

  test('photoshare token makes tokens with both', async () => {
    const env = { AUTH_JWT_SECRET: SECRET, AUTH_AUDIENCE: ours.aud, AUTH_ISSUER: ours.iss };
    const { log } = await failedStart(['token', '--feed', '*'], env);
    await assertLetIn(server.url, log.trim());
  });
});

describe('AUTH_ANONYMOUS', () => {
  let server;
  before(async () => {
    server = await startDev({ env: { ...WITH_SECRET, AUTH_ANONYMOUS: 'view' } });
  });
  after(() => server.stop());

  test('who has no token may do what it says and no more', async (t) => {
    const feed = newFeed();
    const clients = [connect4, connect2].map((connect) => closing(t, connect(server.url)));
    for (const client of clients) assertFreshJoin(await client.ask('join', feed), feed);
    await assertLetIn(server.url, undefined, feed);
    const { key } = await uploadTo(server.url, feed);
    for (const client of clients) assert.equal((await client.inbox.find('imageUploaded')).key, key);
    for (const [method, rest, body] of [['POST', '/uploads', '{"contentType":"image/jpeg","size":10}'], ['DELETE', '/photos/x.jpg']]) {
      const headers = body ? { 'content-type': 'application/json' } : {};
      await assertRefused(await fetch(feedUrl(server.url, feed, rest), { method, headers, body }), 'token-missing', 401);
    }
  });

  test('a bad token does not fall back to what those without one may do', async (t) => {
    await assertRefused(await list(server.url, 'bad'), 'token-invalid', 401);
    assert.equal(await refusal(closing(t, connect4(server.url, { auth: { token: 'bad' } }))), 'token-invalid');
    await assertRefused(await list(server.url, tokenFor({})), 'forbidden', 403);
  });

  test('who came without a token may show one later', async (t) => {
    const client = closing(t, connect4(server.url));
    await client.ask('join', 'summer');
    const { expiresAt } = await client.ask('authenticate', { token: tokenFor({ winter: ['view'] }) });
    assertTime(expiresAt, 'expiresAt');
    assert.deepEqual(client.inbox.named('left').map(({ feed }) => feed), ['summer']);
  });
});

describe('JWKS', () => {
  const keys = ['RS256', 'ES256', 'EdDSA'].map((alg) => new SigningKey(alg, `key-of-${alg}`));
  const view = claims({ '*': ['view'] });

  for (const key of keys) {
    test(`a token signed with ${key.alg} gets in over HTTP and Socket.IO, with and without a kid`, async (t) => {
      const issuer = await Issuer.start(t, ...keys);
      const { url } = await starting(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
      for (const header of [{}, { kid: undefined }]) {
        await assertLetIn(url, key.sign(view, header));
        await closing(t, connect4(url, { auth: { token: key.sign(view, header) } })).connected();
      }
      await assertRefused(await list(url, key.sign({ ...view, exp: 1 })), 'token-expired', 401);
      assert.equal(issuer.asked, 1, 'the keys are remembered');
    });
  }

  test('each algorithm has one source of keys', async (t) => {
    const [rsa, ec, ed] = keys;
    const rogue = new SigningKey('RS256', 'rogue');
    const secretKey = Buffer.from('a-secret-that-was-published-by-mistake');
    const oct = { kty: 'oct', kid: 'oct', alg: 'HS256', use: 'sig', k: secretKey.toString('base64url') };
    const pss = new SigningKey('RS256', 'pss', { alg: 'PS256' });
    const encryption = new SigningKey('RS256', 'enc', { use: 'enc' });
    const misnamed = new SigningKey('ES256', 'misnamed', { alg: 'EdDSA' });
    const unnamed = new SigningKey('EdDSA', 'unnamed', { alg: undefined, use: undefined });
    const issuer = await Issuer.start(t, ...keys, oct, pss, encryption, misnamed, unnamed, { kty: 'X', kid: 'x' });
    const [both, jwksOnly] = [await starting(t, { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url }), await starting(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url })];
    const pem = (key) => key.publicKey.export({ type: 'spki', format: 'pem' });
    const hmac = hs256(view);

    await assertLetIn(both.url, hmac);
    await assertRefused(await list(jwksOnly.url, hmac), 'token-invalid', 401);
    for (const { url } of [both, jwksOnly]) {
      for (const token of [...keys.map((key) => key.sign(view)), unnamed.sign(view)]) await assertLetIn(url, token);
      for (const [what, token] of Object.entries({
        'signed with a public key as the secret': hs256(view, { secret: pem(rsa), header: { kid: rsa.kid } }),
        'signed with a secret out of the set': hs256(view, { secret: secretKey, header: { kid: 'oct' } }),
        'of a key that is not in the set, under a kid that is': rogue.sign(view, { kid: rsa.kid }),
        'of a key that is not in the set, without a kid': rogue.sign(view, { kid: undefined }),
        'that brings its own key': rogue.sign(view, { kid: rsa.kid, jwk: rogue.jwk }),
        'that says where its key is': rogue.sign(view, { kid: rsa.kid, jku: issuer.url, x5u: issuer.url }),
        'whose kid is of a key for another algorithm': ec.sign(view, { kid: ed.kid }),
        'whose alg is not that of its key': ec.sign(view, { alg: 'EdDSA', kid: ed.kid }),
        'of a key for PS256': pss.sign(view),
        'of a key for encryption': encryption.sign(view),
        'of a key whose alg is not that of its type': misnamed.sign(view),
        'of alg none': `${rsa.sign(view, { alg: 'none' }).split('.').slice(0, 2).join('.')}.`,
        'of an algorithm that is not in the contract': rsa.sign(view, { alg: 'RS512' }),
      })) {
        const response = await list(url, token);
        const text = await response.text();
        assert.equal(JSON.parse(text).type, 'urn:photoshare:problem:token-invalid', `a token ${what}: ${response.status} ${text}`);
      }
    }
  });

  test('a key that is new is fetched when a token names it, and one that is gone is not kept for ever', async (t) => {
    const [first, second] = [new SigningKey('ES256', 'first'), new SigningKey('ES256', 'second')];
    const issuer = await Issuer.start(t, first);
    const { url } = await starting(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
    await assertLetIn(url, first.sign(view));
    issuer.keys = [second];
    await assertLetIn(url, second.sign(view));
    await assertRefused(await list(url, first.sign(view)), 'token-invalid', 401);
  });

  test('kids that nobody knows do not make the server ask every time', async (t) => {
    const issuer = await Issuer.start(t, ...keys);
    const { url } = await starting(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
    await assertLetIn(url, keys[0].sign(view));
    const tokens = Array.from({ length: 200 }, (_, i) => keys[0].sign(view, { kid: `unknown-${i}` }));
    for (const response of await Promise.all(tokens.map((token) => list(url, token)))) await assertRefused(response, 'token-invalid', 401);
    assert.ok(issuer.asked < 20, `asked ${issuer.asked} times`);
  });

  test('who is known gets in while the issuer is away; who is not is told to come again', async (t) => {
    const issuer = await Issuer.start(t, keys[1]);
    const { url } = await starting(t, { AUTH: 'on', AUTH_JWKS_URL: issuer.url });
    await assertLetIn(url, keys[1].sign(view));
    await issuer.stop();
    const response = await until(async () => {
      const tried = await list(url, keys[2].sign(view));
      return tried.status !== 401 && tried;
    }, 'the issuer to be asked again');
    assert.ok(Number(response.headers.get('retry-after')) > 0);
    const problem = await assertRefused(response, 'unavailable', 503);
    assert.equal(problem.retryAfter, Number(response.headers.get('retry-after')));
    assert.equal(await refusal(closing(t, connect4(url, { auth: { token: keys[2].sign(view) } }))), 'unavailable');
    await assertLetIn(url, keys[1].sign(view));

    issuer.keys.push(keys[2]);
    await issuer.listen();
    await until(async () => (await list(url, keys[2].sign(view))).status === 200, 'the issuer to be asked again');
  });

  test('the server starts while the issuer is away, and says so', async (t) => {
    const issuer = await Issuer.start(t, ...keys);
    await issuer.stop();
    const server = await starting(t, { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url });
    await assertRefused(await list(server.url, keys[0].sign(view)), 'unavailable', 503);
    await assertLetIn(server.url, hs256(view));
    assert.match(server.log, /signing keys/);
    await issuer.listen();
    await until(async () => (await list(server.url, keys[0].sign(view))).status === 200, 'the keys');
  });

  const elsewhere = new Issuer(...keys);
  for (const [what, answer] of Object.entries({
    'a redirect': (request, response) => response.writeHead(302, { location: elsewhere.url }).end(),
    'a failure': (request, response) => response.writeHead(500).end('{"keys":[]}'),
    'what is no key set': (request, response) => response.end('<html>'),
    'more than anybody needs': (request, response) => response.end(JSON.stringify({ keys: keys.map(({ jwk }) => jwk), more: 'x'.repeat(100_000) })),
    'no end of bytes': (request, response) => {
      const more = () => response.write(' '.repeat(60_000), more);
      more();
    },
    nothing: () => {},
  })) {
    test(`an issuer that answers ${what} gives no keys, and holds up nobody else`, async (t) => {
      await elsewhere.listen();
      t.after(() => elsewhere.stop());
      const issuer = await Issuer.start(t, ...keys);
      issuer.answer = answer;
      const { url } = await starting(t, { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url });
      const waiting = list(url, keys[0].sign(view));
      await assertLetIn(url, hs256(view));
      await assertRefused(await waiting, 'unavailable', 503);
      assert.ok(issuer.asked > 0);
      assert.equal(elsewhere.asked, 0, 'a redirect is not followed');
    });
  }

  for (const bad of ['http://issuer.example/jwks', 'http://10.0.0.1/jwks', 'ftp://127.0.0.1/jwks', 'jwks.json', 'https://me:pw@issuer.example/']) {
    test(`AUTH_JWKS_URL=${bad} is refused at the start, named with every other mistake`, async () => {
      const { code, log } = await failedStart(['dev'], { AUTH: 'on', AUTH_JWKS_URL: bad, AUTH_ANONYMOUS: 'dance', TRUSTED_PROXY_HOPS: '-1' });
      assert.equal(code, 78);
      for (const name of ['AUTH_JWKS_URL', 'AUTH_ANONYMOUS', 'TRUSTED_PROXY_HOPS']) assert.match(log, new RegExp(`^ +${name} `, 'm'));
    });
  }
});

describe('photoshare token', () => {
  const mint = async (args, env = { AUTH_JWT_SECRET: SECRET }) => failedStart(['token', ...args], env);

  test('prints a token alone, which gives what was asked for', async (t) => {
    const { url } = await starting(t, WITH_SECRET);
    const { code, log } = await mint(['--feed', 'summer', '--feed', 'winter', '--can', 'view,upload', '--expires', '1h', '--subject', 'me']);
    assert.equal(code, 0, log);
    assert.match(log, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { exp, iat, ...rest } = JSON.parse(Buffer.from(log.split('.')[1], 'base64url'));
    assert.deepEqual(rest, { sub: 'me', feeds: { summer: ['view', 'upload'], winter: ['view', 'upload'] } });
    assert.equal(exp - iat, 3600);
    await assertLetIn(url, log.trim(), 'winter');
    await assertRefused(await list(url, log.trim(), 'spring'), 'forbidden', 403);
  });

  for (const [expires, secs] of [['90s', 90], ['15m', 900], ['7d', 604_800], ['1h 30m', 5400]]) {
    test(`--expires ${expires}`, async () => {
      const { log } = await mint(['--feed', '*', '--expires', expires]);
      const { exp, iat, feeds } = JSON.parse(Buffer.from(log.split('.')[1], 'base64url'));
      assert.equal(exp - iat, secs);
      assert.deepEqual(feeds, { '*': ['view'] });
    });
  }

  test('every mistake is named at once, and the secret is not', async () => {
    const secret = 'too-short';
    const { code, log } = await mint(['--feed', 'a/b', '--feed', '.c', '--can', 'dance', '--expires', 'soon'], { AUTH_JWT_SECRET: secret });
    assert.equal(code, 78);
    for (const name of ['AUTH_JWT_SECRET', '--feed', '--can', '--expires']) assert.match(log, new RegExp(`^ +${name} `, 'm'));
    assert.equal(log.match(/--feed/g).length, 2);
    assert.ok(!log.includes(secret));
  });

  test('without a secret, a feed or a right there is no token', async () => {
    for (const [args, env, name] of [
      [['--feed', 'x'], {}, 'AUTH_JWT_SECRET'], [[], { AUTH_JWT_SECRET: SECRET }, '--feed'],
      [['--feed', 'x', '--can', ''], { AUTH_JWT_SECRET: SECRET }, '--can'], [['--feed', 'x', '--expires=-1h'], { AUTH_JWT_SECRET: SECRET }, '--expires'],
    ]) {
      const { code, log } = await mint(args, env);
      assert.notEqual(code, 0);
      assert.match(log, new RegExp(name));
    }
  });
});

describe('origins', () => {
  const ALLOWED = 'https://app.example.com,https://*.example.org';

  /** A WebSocket that wants to open, or a first poll, by hand; the status that it gets. */
  function knock(server, transport, headers) {
    const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
    return rawRequest(server.url, 'GET', `/socket.io/?EIO=4&transport=${transport}`, { headers: { ...(transport === 'websocket' && upgrade), ...headers } });
  }

  for (const transport of ['websocket', 'polling']) {
    test(`pages of other origins may not connect over ${transport}`, async (t) => {
      const server = await starting(t, { ALLOWED_ORIGINS: ALLOWED });
      for (const origin of ['https://evil.example', 'null', 'http://app.example.com', 'https://app.example.com.evil.net', `http://127.0.0.1:${Number(server.port) + 1}`, 'file://']) {
        await assertRefused(await knock(server, transport, { origin }), 'forbidden', 403);
      }
    });

    test(`over ${transport} native clients, our own page and pages of ALLOWED_ORIGINS may connect`, async (t) => {
      const server = await starting(t, { ALLOWED_ORIGINS: ALLOWED });
      const own = `127.0.0.1:${server.port}`;
      for (const origin of [undefined, `http://${own}`, `ws://${own}`, 'https://app.example.com', 'https://a.b.example.org']) {
        const extraHeaders = origin === undefined ? {} : { origin };
        await closing(t, connect4(server.url, { transports: [transport], extraHeaders })).connected();
        await closing(t, connect2(server.url, { transports: [transport], extraHeaders })).connected();
      }
    });
  }

  test('sending to a session is judged, too', async (t) => {
    const server = await starting(t, { ALLOWED_ORIGINS: ALLOWED });
    const client = closing(t, new RawPolling(server.url, { eio: 4 }));
    await client.opened();
    const path = `/socket.io/?EIO=4&transport=polling&sid=${client.session.sid}`;
    const headers = { origin: 'https://evil.example', 'content-type': 'text/plain' };
    await assertRefused(await rawRequest(server.url, 'POST', path, { headers, body: '42["join","summer"]' }), 'forbidden', 403);
  });

  test('without ALLOWED_ORIGINS only our own pages and native clients may connect; dev lets everybody', async (t) => {
    const [strict, dev] = [await starting(t, { ALLOWED_ORIGINS: '' }), await starting(t, {})];
    await assertRefused(await knock(strict, 'websocket', { origin: 'https://app.example.com' }), 'forbidden', 403);
    await closing(t, connect4(strict.url)).connected();
    await closing(t, connect4(dev.url, { extraHeaders: { origin: 'https://app.example.com' } })).connected();
  });

  test('CORS lets scripts of those origins alone read answers', async (t) => {
    const server = await starting(t, { ALLOWED_ORIGINS: ALLOWED });
    const ask = (method, path, headers) => rawRequest(server.url, method, path, { headers });
    for (const [origin, allowed] of [['https://app.example.com', true], ['https://a.example.org', true], ['https://evil.example', false]]) {
      for (const path of ['/v1/feeds/summer/photos', '/socket.io/?EIO=4&transport=polling', '/nope']) {
        const response = await ask('GET', path, { origin });
        assert.equal(response.headers.get('access-control-allow-origin'), allowed ? origin : null, path);
        assert.match(response.headers.get('vary') ?? '', /origin/i, path);
        const preflight = await ask('OPTIONS', path, { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,content-type' });
        assert.equal(preflight.headers.get('access-control-allow-origin'), allowed ? origin : null, path);
        assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /authorization/i);
      }
    }
    const exposed = (await ask('GET', '/v1/feeds/summer/photos', { origin: 'https://app.example.com' })).headers.get('access-control-expose-headers');
    assert.match(exposed, /retry-after/i);
  });
});

test('trap 32: no token is logged, on whatever way it comes and however much is logged', async (t) => {
  const key = new SigningKey('ES256', 'logged');
  const issuer = await Issuer.start(t, key);
  const server = await startDev({ env: { ...WITH_SECRET, AUTH_JWKS_URL: issuer.url, RUST_LOG: 'trace' } });
  const { url } = server;
  const token = tokenFor(EVERYTHING);
  const tokens = [token, key.sign(claims(EVERYTHING)), tokenFor(EVERYTHING, { exp: 1 }), 'badTokenMark1234567890'];
  const told = new Inbox();
  for (const sent of tokens) {
    await (await list(url, sent)).text();
    await (await fetch(feedUrl(url, 'summer', `/photos?token=${sent}`))).text();
    for (const options of [
      { auth: { token: sent } }, { query: { token: sent } }, { extraHeaders: { authorization: `Bearer ${sent}` } },
      { auth: { token: sent }, transports: ['polling'] }, { query: { token: sent }, transports: ['polling', 'websocket'] },
    ]) {
      for (const connect of [connect4, connect2]) {
        const client = connect(url, { reconnection: false, ...options });
        await client.inbox.until(() => client.inbox.told.some(({ name }) => /^(connect|connect_error|error)$/.test(name)), 'an outcome');
        client.close();
      }
    }
    const client = connect4(url, { auth: { token } });
    told.push('answer', await client.ask('authenticate', { token: sent }));
    client.close();
  }
  assert.equal(told.named('answer').length, tokens.length);
  await server.stop();
  for (const sent of [...tokens, SECRET]) {
    for (const part of sent.split('.')) {
      // The head is the same for everybody, and says nothing.
      if (sent.startsWith(`${part}.`)) continue;
      const line = server.log.split('\n').find((text) => text.includes(part));
      assert.equal(line, undefined, `the log holds ${part}`);
    }
  }
});

test('--help tells the settings of access', async () => {
  for (const [command, names] of Object.entries({
    serve: ['AUTH', 'AUTH_JWT_SECRET', 'AUTH_JWKS_URL', 'AUTH_AUDIENCE', 'AUTH_ISSUER', 'AUTH_ANONYMOUS', 'ALLOWED_ORIGINS'],
    token: ['--feed', '--can', '--expires', '--subject', 'AUTH_JWT_SECRET'],
  })) {
    const child = launch([command, '--help'], { AUTH_JWT_SECRET: SECRET });
    await child.exited;
    for (const name of names) assert.ok(child.log.includes(name), `${command} --help tells ${name}`);
    assert.ok(!child.log.includes(SECRET));
  }
});

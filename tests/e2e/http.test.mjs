// The HTTP API: invalid requests, health, readiness, metrics, request ids.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { sendRawRequest } from './lib/raw-request.mjs';
import { buildFeedUrl, objectNameOf, makeFeedId, uploadPhoto } from './lib/photos.mjs';
import { assertRefused } from './lib/assertions.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { waitUntil } from './lib/wait.mjs';

const BAD_FEEDS = ['', '.', '..', '%2E', '%2e%2e', '.hidden', '*', '%2A', 'a%2Fb', 'a%2fb', '%2F', '%00', 'a%0Ab', '%7F', '%C2%80', '%C2%9F',
  'x'.repeat(65), '%F0%9F%93%B7'.repeat(17), '%FF', 'a%C3'];
const CALLS = [
  ['POST', '/uploads', '{"contentType":"image/jpeg","size":10}'],
  ['GET', '/photos'],
  ['DELETE', '/photos/x.jpg'],
  ['GET', ''],
  ['GET', '/events'],
];
const BAD_NAMES = ['%FF.jpg', 'a/%C3', 'a//b', '/a', 'a/', 'a/../b', '..', '%2e%2e', 'a%2F..%2Fb', './a', 'a%2F%2Fb'];

describeOnEachBackend('http', (backend) => {
  for (const feed of BAD_FEEDS) {
    test(`feed ${feed.slice(0, 24)} is refused with invalid-feed by every call`, async () => {
      for (const [method, rest, body] of CALLS) {
        const headers = body ? { 'content-type': 'application/json' } : {};
        await assertRefused(await sendRawRequest(backend.url, method, `/v1/feeds/${feed}${rest}`, { headers, body }), 'invalid-feed', 400);
      }
    });
  }

  for (const name of BAD_NAMES) {
    test(`photo name ${name.slice(0, 24)} is refused with invalid-key`, async () => {
      await assertRefused(await sendRawRequest(backend.url, 'DELETE', `/v1/feeds/summer/photos/${name}`), 'invalid-key', 400);
    });
  }

  test('responses under /v1 are not stored, and event streams are not transformed either', async (t) => {
    const feed = makeFeedId();
    const grant = { method: 'POST', body: JSON.stringify({ contentType: 'image/jpeg', size: 10 }) };
    for (const [path, status, init] of [['', 200], ['/photos', 200], ['/uploads', 201, grant], ['/uploads', 405], ['/nope', 404], ['/uploads', 400, { method: 'POST', body: '{' }]]) {
      const response = await fetch(buildFeedUrl(backend.url, feed, path), init);
      await response.text();
      assert.equal(response.status, status, path);
      assert.equal(response.headers.get('cache-control'), 'no-store', path);
    }
    const stream = closeAfterTest(t, await openEventStream(backend.url, feed));
    assert.equal(stream.response.headers.get('cache-control'), 'no-store, no-transform');
  });

  test('an upload id that is not UTF-8 is refused with invalid-parameter', async () => {
    await assertRefused(await sendRawRequest(backend.url, 'GET', '/v1/feeds/summer/s3/multipart/%FF?key=summer/a.jpg'), 'invalid-parameter', 400);
  });

  for (const path of ['/nope', '/v1', '/v1/nope', '/v1/feeds', '/v1/feeds/summer/nope', '/v2/feeds/summer', '/healthz/x', '/%FF', '//']) {
    test(`${path} is not found`, async () => {
      await assertRefused(await sendRawRequest(backend.url, 'GET', path), 'not-found', 404);
    });
  }

  for (const [method, path] of [
    ['PUT', '/v1/feeds/summer/uploads'], ['GET', '/v1/feeds/summer/uploads'], ['POST', '/v1/feeds/summer/photos'],
    ['PUT', '/v1/feeds/summer/photos/x.jpg'], ['DELETE', '/v1/feeds/summer'], ['POST', '/v1/feeds/summer/events'], ['POST', '/healthz'],
    ['DELETE', '/readyz'],
  ]) {
    test(`${method} ${path} is not allowed`, async () => {
      const response = await sendRawRequest(backend.url, method, path);
      await assertRefused(response, 'method-not-allowed', 405);
      assert.ok(response.headers.get('allow'), 'RFC 9110: a 405 has Allow');
    });
  }

  for (const [methods, path, allow] of [
    [['POST', 'PUT', 'OPTIONS'], '/v1/feeds/summer/uploads/a/b.jpg', 'GET, HEAD'],
    [['GET', 'PUT', 'OPTIONS'], '/v1/feeds/summer/uploads/a/b.jpg/renew', 'POST'],
    [['OPTIONS'], '/v1/feeds/summer/photos', 'GET,HEAD'],
  ]) {
    test(`${path} allows only ${allow}, whatever the body`, async () => {
      for (const method of methods) {
        const response = await sendRawRequest(backend.url, method, path, { headers: { 'content-type': 'application/json', 'content-length': 1 }, body: '{' });
        await assertRefused(response, 'method-not-allowed', 405);
        assert.equal(response.headers.get('allow'), allow, method);
      }
    });
  }

  test('OPTIONS is answered for CORS preflights, and otherwise handled like any other method', async () => {
    const preflight = { origin: 'https://app.example.com', 'access-control-request-method': 'POST' };
    assert.equal((await sendRawRequest(backend.url, 'OPTIONS', '/v1/feeds/summer/uploads', { headers: preflight })).status, 200);
    await assertRefused(await sendRawRequest(backend.url, 'OPTIONS', '/nope'), 'not-found', 404);
  });

  test('HEAD is answered like GET, without the body', async () => {
    const feed = makeFeedId();
    const { key } = await uploadPhoto(backend.url, feed);
    for (const path of ['/healthz', '/readyz', '/metrics', '/openapi.json', `/v1/feeds/${feed}`, `/v1/feeds/${feed}/photos`,
      `/v1/feeds/${feed}/uploads/${objectNameOf(feed, key)}`, `/v1/feeds/${feed}/uploads/unknown.jpg`, '/nope']) {
      const [got, head] = [await sendRawRequest(backend.url, 'GET', path), await sendRawRequest(backend.url, 'HEAD', path)];
      assert.equal(head.status, got.status, path);
      assert.equal(head.headers.get('content-type'), got.headers.get('content-type'), path);
      assert.equal(await head.text(), '', path);
    }
  });

  test('each response has an x-request-id: the one of the request, else a new one', async () => {
    const idOf = async (headers) => (await sendRawRequest(backend.url, 'GET', '/nope', { headers })).headers.get('x-request-id');
    const [first, second] = [await idOf(), await idOf()];
    assert.match(first, /^[0-9a-f-]{36}$/);
    assert.notEqual(first, second);
    assert.equal(await idOf({ 'x-request-id': 'mine' }), 'mine');
  });

  for (const path of ['/healthz', '/readyz']) {
    test(`${path} answers 200`, async () => {
      const response = await fetch(`${backend.url}${path}`);
      await response.text();
      assert.equal(response.status, 200);
    });
  }

  test('/metrics is Prometheus text', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    await uploadPhoto(backend.url, feed);
    await client.inbox.waitFor('imageUploaded');
    const response = await fetch(`${backend.url}/metrics`);
    const text = await response.text();
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type'), /^text\/plain/);
    assert.match(text, /^# TYPE \w+ (counter|gauge|histogram|summary)$/m);
  });

  test('a problem reveals no internals', async () => {
    const response = await fetch(`${backend.url}/v1/feeds/summer/uploads`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' });
    const text = await response.text();
    assert.doesNotMatch(text, /serde|axum|\.rs\b|src\/|panicked|0x[0-9a-f]{6}/i);
  });

  test('an empty Last-Event-ID counts as absent: the cursor of the query is used', async (t) => {
    const feed = makeFeedId();
    const first = closeAfterTest(t, await openEventStream(backend.url, feed));
    const { cursor } = await first.inbox.waitFor('joined');
    const stream = closeAfterTest(t, await openEventStream(backend.url, feed, { cursor, lastEventId: '' }));
    assert.equal((await stream.inbox.waitFor('joined')).recovered, true);
  });

  test('comments keep an idle stream of server-sent events open', async (t) => {
    const stream = closeAfterTest(t, await openEventStream(backend.url, makeFeedId()));
    await waitUntil(() => stream.comments > 0, 'a comment', 25_000);
  });

  test('a body that is far too large is refused before it has been read completely', async () => {
    const response = await sendRawRequest(backend.url, 'POST', '/v1/feeds/summer/uploads', {
      headers: { 'content-type': 'application/json', 'content-length': 8_000_000 },
      body: `{"contentType":"image/jpeg","size":10,"caption":"${'x'.repeat(1_200_000)}`,
    });
    await assertRefused(response, 'too-large', 413);
  });
});

describeOnEachBackend('METRICS_TOKEN', (backend) => {
  const get = (path, token) => fetch(`${backend.url}${path}`, { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });

  test('/metrics requires it', async () => {
    await assertRefused(await get('/metrics'), 'token-missing', 401);
    for (const wrong of ['wrong', 'the-metrics-tokem', 'the-metrics-token2']) {
      await assertRefused(await get('/metrics', wrong), 'token-invalid', 401);
    }
    const response = await get('/metrics', 'the-metrics-token');
    await response.text();
    assert.equal(response.status, 200);
  });

  test('/readyz shows its parts only with the token, and its status without', async () => {
    for (const token of [undefined, 'wrong']) {
      const response = await get('/readyz', token);
      assert.equal(response.status, 200);
      assert.deepEqual(await response.json(), { ready: true });
    }
    const { ready, parts } = await (await get('/readyz', 'the-metrics-token')).json();
    assert.ok(ready && 'log' in parts, JSON.stringify(parts));
  });
}, { env: { METRICS_TOKEN: 'the-metrics-token' } });

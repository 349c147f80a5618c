// What HTTP answers when it is asked wrongly, and what it tells about itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import { rawRequest } from './lib/http.mjs';
import { nameOf, newFeed, upload } from './lib/photos.mjs';
import { assertRefused } from './lib/shapes.mjs';
import { openStream } from './lib/sse.mjs';
import { until } from './lib/wait.mjs';

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

onEachBackend('http', (backend) => {
  for (const feed of BAD_FEEDS) {
    test(`feed ${feed.slice(0, 24)} is refused by every call`, async () => {
      for (const [method, rest, body] of CALLS) {
        const headers = body ? { 'content-type': 'application/json' } : {};
        await assertRefused(await rawRequest(backend.url, method, `/v1/feeds/${feed}${rest}`, { headers, body }), 'invalid-feed', 400);
      }
    });
  }

  for (const name of BAD_NAMES) {
    test(`photo name ${name.slice(0, 24)} is refused`, async () => {
      await assertRefused(await rawRequest(backend.url, 'DELETE', `/v1/feeds/summer/photos/${name}`), 'invalid-key', 400);
    });
  }

  test('an id of an upload that is no UTF-8 is refused as what it is', async () => {
    await assertRefused(await rawRequest(backend.url, 'GET', '/v1/feeds/summer/s3/multipart/%FF?key=summer/a.jpg'), 'invalid-parameter', 400);
  });

  for (const path of ['/nope', '/v1', '/v1/nope', '/v1/feeds', '/v1/feeds/summer/nope', '/v2/feeds/summer', '/healthz/x', '/%FF', '//']) {
    test(`${path} is not found`, async () => {
      await assertRefused(await rawRequest(backend.url, 'GET', path), 'not-found', 404);
    });
  }

  for (const [method, path] of [
    ['PUT', '/v1/feeds/summer/uploads'], ['GET', '/v1/feeds/summer/uploads'], ['POST', '/v1/feeds/summer/photos'],
    ['PUT', '/v1/feeds/summer/photos/x.jpg'], ['DELETE', '/v1/feeds/summer'], ['POST', '/v1/feeds/summer/events'], ['POST', '/healthz'],
    ['DELETE', '/readyz'],
  ]) {
    test(`${method} ${path} is not allowed`, async () => {
      const response = await rawRequest(backend.url, method, path);
      await assertRefused(response, 'method-not-allowed', 405);
      assert.ok(response.headers.get('allow'), 'RFC 9110: a 405 has Allow');
    });
  }

  for (const [methods, path, allow] of [
    [['POST', 'PUT', 'OPTIONS'], '/v1/feeds/summer/uploads/a/b.jpg', 'GET, HEAD'],
    [['GET', 'PUT', 'OPTIONS'], '/v1/feeds/summer/uploads/a/b.jpg/renew', 'POST'],
    [['OPTIONS'], '/v1/feeds/summer/photos', 'GET,HEAD'],
  ]) {
    test(`${path} is for ${allow} alone, whatever is sent there`, async () => {
      for (const method of methods) {
        const response = await rawRequest(backend.url, method, path, { headers: { 'content-type': 'application/json', 'content-length': 1 }, body: '{' });
        await assertRefused(response, 'method-not-allowed', 405);
        assert.equal(response.headers.get('allow'), allow, method);
      }
    });
  }

  test('OPTIONS is answered to browsers that ask for leave, and else is a method like any other', async () => {
    const asking = { origin: 'https://app.example.com', 'access-control-request-method': 'POST' };
    assert.equal((await rawRequest(backend.url, 'OPTIONS', '/v1/feeds/summer/uploads', { headers: asking })).status, 200);
    await assertRefused(await rawRequest(backend.url, 'OPTIONS', '/nope'), 'not-found', 404);
  });

  test('HEAD is answered as GET is, without the body', async () => {
    const feed = newFeed();
    const { key } = await upload(backend.url, feed);
    for (const path of ['/healthz', '/readyz', '/metrics', '/openapi.json', `/v1/feeds/${feed}`, `/v1/feeds/${feed}/photos`,
      `/v1/feeds/${feed}/uploads/${nameOf(feed, key)}`, `/v1/feeds/${feed}/uploads/unknown.jpg`, '/nope']) {
      const [got, head] = [await rawRequest(backend.url, 'GET', path), await rawRequest(backend.url, 'HEAD', path)];
      assert.equal(head.status, got.status, path);
      assert.equal(head.headers.get('content-type'), got.headers.get('content-type'), path);
      assert.equal(await head.text(), '', path);
    }
  });

  test('each answer has an id; one that was sent along is kept', async () => {
    const idOf = async (headers) => (await rawRequest(backend.url, 'GET', '/nope', { headers })).headers.get('x-request-id');
    const [first, second] = [await idOf(), await idOf()];
    assert.match(first, /^[0-9a-f-]{36}$/);
    assert.notEqual(first, second);
    assert.equal(await idOf({ 'x-request-id': 'mine' }), 'mine');
  });

  for (const path of ['/healthz', '/readyz']) {
    test(`${path} is well`, async () => {
      const response = await fetch(`${backend.url}${path}`);
      await response.text();
      assert.equal(response.status, 200);
    });
  }

  test('/metrics is Prometheus text, and counts', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    await upload(backend.url, feed);
    await client.inbox.find('imageUploaded');
    const response = await fetch(`${backend.url}/metrics`);
    const text = await response.text();
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type'), /^text\/plain/);
    assert.match(text, /^# TYPE \w+ (counter|gauge|histogram|summary)$/m);
  });

  test('a problem tells nothing internal', async () => {
    const response = await fetch(`${backend.url}/v1/feeds/summer/uploads`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' });
    const text = await response.text();
    assert.doesNotMatch(text, /serde|axum|\.rs\b|src\/|panicked|0x[0-9a-f]{6}/i);
  });

  test('an empty Last-Event-ID is none: the cursor of the query holds', async (t) => {
    const feed = newFeed();
    const first = closing(t, await openStream(backend.url, feed));
    const { cursor } = await first.inbox.find('joined');
    const stream = closing(t, await openStream(backend.url, feed, { cursor, lastEventId: '' }));
    assert.equal((await stream.inbox.find('joined')).recovered, true);
  });

  test('a quiet stream of events is kept open by comments', async (t) => {
    const stream = closing(t, await openStream(backend.url, newFeed()));
    await until(() => stream.comments > 0, 'a comment', 25_000);
  });

  test('a body beyond all measure is refused before it has all been sent', async () => {
    const response = await rawRequest(backend.url, 'POST', '/v1/feeds/summer/uploads', {
      headers: { 'content-type': 'application/json', 'content-length': 8_000_000 },
      body: `{"contentType":"image/jpeg","size":10,"caption":"${'x'.repeat(1_200_000)}`,
    });
    await assertRefused(response, 'too-large', 413);
  });
});

onEachBackend('METRICS_TOKEN', (backend) => {
  const get = (path, token) => fetch(`${backend.url}${path}`, { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });

  test('/metrics asks for it', async () => {
    await assertRefused(await get('/metrics'), 'token-missing', 401);
    for (const wrong of ['wrong', 'the-metrics-tokem', 'the-metrics-token2']) {
      await assertRefused(await get('/metrics', wrong), 'token-invalid', 401);
    }
    const response = await get('/metrics', 'the-metrics-token');
    await response.text();
    assert.equal(response.status, 200);
  });

  test('the parts of /readyz are for those who have it, its status is for all', async () => {
    for (const token of [undefined, 'wrong']) {
      const response = await get('/readyz', token);
      assert.equal(response.status, 200);
      assert.deepEqual(await response.json(), { ready: true });
    }
    const { ready, parts } = await (await get('/readyz', 'the-metrics-token')).json();
    assert.ok(ready && 'log' in parts, JSON.stringify(parts));
  });
}, { env: { METRICS_TOKEN: 'the-metrics-token' } });

// What HTTP answers when it is asked wrongly, and what it tells about itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import { rawRequest } from './lib/http.mjs';
import { newFeed, upload } from './lib/photos.mjs';
import { assertRefused } from './lib/shapes.mjs';

const BAD_FEEDS = ['.', '..', '%2E', '%2e%2e', '.hidden', '*', '%2A', 'a%2Fb', 'a%2fb', '%2F', '%00', 'a%0Ab', '%7F', '%C2%80', '%C2%9F',
  'x'.repeat(65), '%F0%9F%93%B7'.repeat(17), '%FF', 'a%C3'];
const CALLS = [
  ['POST', '/uploads', '{"contentType":"image/jpeg","size":10}'],
  ['GET', '/photos'],
  ['DELETE', '/photos/x.jpg'],
  ['GET', ''],
  ['GET', '/events'],
];
const BAD_NAMES = ['a//b', '/a', 'a/', 'a/../b', '..', '%2e%2e', 'a%2F..%2Fb', './a', 'a%2F%2Fb'];

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

  test('a body beyond all measure is refused before it has all been sent', async () => {
    const response = await rawRequest(backend.url, 'POST', '/v1/feeds/summer/uploads', {
      headers: { 'content-type': 'application/json', 'content-length': 8_000_000 },
      body: `{"contentType":"image/jpeg","size":10,"caption":"${'x'.repeat(400_000)}`,
    });
    await assertRefused(response, 'too-large', 413);
  });
});

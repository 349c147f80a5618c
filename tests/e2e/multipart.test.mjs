// Uploads in parts, in Companion's shape.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import { download, feedUrl, jpeg, listPhotos, newFeed } from './lib/photos.mjs';
import { assertIssuedKey, assertRefused } from './lib/shapes.mjs';

const PART = 5 * 1024 * 1024;
const jsonOf = async (response) => {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text);
};

onEachBackend('multipart', (backend) => {
  const base = (feed) => feedUrl(backend.url, feed, '/s3');
  const send = (url, method, body) => fetch(url, {
    method, ...(body !== undefined && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  const begin = async (feed, more = {}) => jsonOf(await send(`${base(feed)}/multipart`, 'POST', { filename: 'IMG_1.JPG', type: 'image/jpeg', ...more }));
  const of = (feed, { uploadId, key }, rest = '', query = {}) =>
    `${base(feed)}/multipart/${encodeURIComponent(uploadId)}${rest}?${new URLSearchParams({ key, ...query })}`;

  async function sendPart(feed, upload, number, bytes) {
    const { url, expires } = await jsonOf(await fetch(of(feed, upload, `/${number}`)));
    assert.ok(expires > 0 && expires <= 3600);
    const response = await fetch(url, { method: 'PUT', body: bytes });
    assert.equal(response.status, 200, await response.text());
    return { PartNumber: number, ETag: response.headers.get('etag') };
  }

  test('trap 19: a photo in parts is announced with its story and its multipart eTag', async (t) => {
    const feed = newFeed('Größe 1');
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const upload = await begin(feed, { metadata: { caption: 'Groß', name: 'ignored', relativePath: null } });
    assertIssuedKey(upload.key, feed);
    assert.equal(typeof upload.bucket, 'string');
    const bytes = Buffer.concat([jpeg({ width: 40, height: 30 }), randomBytes(PART)]);
    const parts = [await sendPart(feed, upload, 1, bytes.subarray(0, PART)), await sendPart(feed, upload, 2, bytes.subarray(PART))];
    const listed = await jsonOf(await fetch(of(feed, upload)));
    assert.deepEqual(listed.map(({ PartNumber, Size }) => ({ PartNumber, Size })), [
      { PartNumber: 1, Size: PART }, { PartNumber: 2, Size: bytes.length - PART },
    ]);
    assert.deepEqual(listed.map(({ ETag }) => ETag.replaceAll('"', '')), parts.map(({ ETag }) => ETag.replaceAll('"', '')));
    const done = await jsonOf(await send(of(feed, upload, '/complete'), 'POST', { parts }));
    assert.equal(done.key, upload.key);
    assert.ok(decodeURIComponent(done.location).endsWith(`/${upload.key}`), done.location);
    const event = await client.inbox.find('imageUploaded');
    assert.equal(event.key, upload.key);
    assert.match(event.eTag, /-2$/);
    assert.deepEqual([event.size, event.width, event.filename, event.caption], [bytes.length, 40, 'IMG_1.JPG', 'Groß']);
    assert.deepEqual(await download(event.url), bytes);
    assert.deepEqual(await jsonOf(await send(of(feed, upload, '/complete'), 'POST', { parts })), done, 'an answer may be lost');
    await assertRefused(await send(of(feed, upload, '/complete'), 'POST', { parts: parts.slice(1) }), 'not-found', 404);
    assert.equal(client.inbox.named('imageUploaded').length, 1);
  });

  test('several parts are signed at once', async () => {
    const feed = newFeed();
    const upload = await begin(feed);
    const { presignedUrls } = await jsonOf(await fetch(of(feed, upload, '/batch', { partNumbers: '4,6' })));
    assert.deepEqual(Object.keys(presignedUrls), ['4', '6']);
    const response = await fetch(presignedUrls['4'], { method: 'PUT', body: 'x' });
    assert.equal(response.status, 200, await response.text());
    for (const partNumbers of ['', '0', '10001', '+1', 'x', '1,,2', Array(101).fill(1).join(',')]) {
      await assertRefused(await fetch(of(feed, upload, '/batch', { partNumbers })), 'invalid-parameter', 400);
    }
  });

  test('an aborted upload is gone, and may be aborted again', async () => {
    const feed = newFeed();
    const upload = await begin(feed);
    const part = await sendPart(feed, upload, 1, jpeg());
    assert.deepEqual(await jsonOf(await send(of(feed, upload), 'DELETE')), {});
    assert.deepEqual(await jsonOf(await send(of(feed, upload), 'DELETE')), {});
    await assertRefused(await fetch(of(feed, upload)), 'not-found', 404);
    await assertRefused(await send(of(feed, upload, '/complete'), 'POST', { parts: [part] }), 'not-found', 404);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos, []);
  });

  test('the parts must be those that were uploaded', async () => {
    const feed = newFeed();
    const upload = await begin(feed);
    const part = await sendPart(feed, upload, 1, jpeg());
    for (const body of [{}, { parts: [] }, { parts: [{ PartNumber: 1 }] }, { parts: [{ ...part, ETag: '"0"' }] }, { parts: [part, part] }, { parts: [part, { PartNumber: 2, ETag: '"0"' }] }]) {
      await assertRefused(await send(of(feed, upload, '/complete'), 'POST', body), 'invalid-body', 400);
    }
    const most = Array.from({ length: 10_000 }, (_, i) => ({ PartNumber: i + 1, ETag: `"${'0'.repeat(32)}"` }));
    const { detail } = await assertRefused(await send(of(feed, upload, '/complete'), 'POST', { parts: [part, ...most.slice(1)] }), 'invalid-body', 400);
    assert.match(detail, /part 2 /, 'as many as S3 takes are read');
    await jsonOf(await send(of(feed, upload, '/complete'), 'POST', { parts: [part] }));
  });

  test('the parts may have any numbers, and one that is not named is left out', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const upload = await begin(feed);
    const [first, last] = [Buffer.concat([jpeg(), randomBytes(PART)]), randomBytes(9)];
    await sendPart(feed, upload, 1, randomBytes(9));
    const parts = [await sendPart(feed, upload, 4, first), await sendPart(feed, upload, 6, last)];
    await jsonOf(await send(of(feed, upload, '/complete'), 'POST', { parts }));
    const { url } = await client.inbox.find('imageUploaded');
    assert.deepEqual(await download(url), Buffer.concat([first, last]));
  });

  test('a key of another feed is forbidden, and an upload of another key is not known', async () => {
    const feed = newFeed();
    const upload = await begin(feed);
    const other = newFeed();
    for (const [method, rest, body] of [['GET', ''], ['GET', '/1'], ['GET', '/batch'], ['DELETE', ''], ['POST', '/complete', { parts: [{ PartNumber: 1, ETag: 'x' }] }]]) {
      await assertRefused(await send(of(other, upload, rest), method, body), 'forbidden', 403);
    }
    const stolen = { ...upload, key: `${other}/stolen.jpg` };
    await assertRefused(await fetch(of(other, stolen)), 'not-found', 404);
    await assertRefused(await send(of(other, stolen, '/complete'), 'POST', { parts: [{ PartNumber: 1, ETag: 'x' }] }), 'not-found', 404);
    const { url } = await jsonOf(await fetch(of(other, stolen, '/1')));
    const response = await fetch(url, { method: 'PUT', body: 'x' });
    assert.equal(response.status, 404, await response.text());
    await assertRefused(await fetch(`${base(feed)}/multipart/${upload.uploadId}`), 'invalid-parameter', 400);
  });

  test('/params gives a form up to the largest size, with a URL that ends in a slash', async () => {
    const feed = newFeed();
    const form = await jsonOf(await fetch(`${base(feed)}/params?${new URLSearchParams({ filename: 'x.jpg', type: 'image/jpeg', 'metadata[name]': 'x', 'metadata[caption]': 'y' })}`));
    assert.equal(form.method, 'POST');
    assert.ok(form.url.endsWith('/'), form.url);
    const { conditions } = JSON.parse(Buffer.from(form.fields.policy, 'base64'));
    assert.deepEqual(conditions.filter(Array.isArray), [['content-length-range', 1, 52_428_800]]);
    assertIssuedKey(form.fields.key, feed);
    for (const [query, name, status] of [
      [{ filename: 'x' }, 'invalid-parameter', 400], [{ type: 'image/svg+xml' }, 'unsupported-content-type', 415],
      [{ type: 'image/jpeg', filename: 'x'.repeat(256) }, 'invalid-parameter', 400],
    ]) {
      await assertRefused(await fetch(`${base(feed)}/params?${new URLSearchParams(query)}`), name, status);
    }
    await assertRefused(await send(`${base(feed)}/multipart`, 'POST', { filename: 'x', type: 'text/html' }), 'unsupported-content-type', 415);
  });
});

onEachBackend('multipart, too large', (backend) => {
  test('parts beyond UPLOAD_MAX_BYTES are too large together, and dropped', async () => {
    const feed = newFeed();
    const base = feedUrl(backend.url, feed, '/s3/multipart');
    const { uploadId, key } = await jsonOf(await fetch(base, { method: 'POST', body: JSON.stringify({ filename: 'x.jpg', type: 'image/jpeg' }) }));
    const query = new URLSearchParams({ key });
    const { url } = await jsonOf(await fetch(`${base}/${uploadId}/1?${query}`));
    const sent = await fetch(url, { method: 'PUT', body: Buffer.alloc(1001) });
    const parts = [{ PartNumber: 1, ETag: sent.headers.get('etag') }];
    const { detail } = await assertRefused(
      await fetch(`${base}/${uploadId}/complete?${query}`, { method: 'POST', body: JSON.stringify({ parts }) }), 'too-large', 413);
    assert.match(detail, /1001.*1000/);
    await assertRefused(await fetch(`${base}/${uploadId}?${query}`), 'not-found', 404);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos, []);
  });
}, { env: { UPLOAD_MAX_BYTES: '1000' } });

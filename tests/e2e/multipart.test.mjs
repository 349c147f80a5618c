// Multipart uploads through the Companion-compatible endpoints.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { downloadPhoto, buildFeedUrl, makeJpeg, listPhotos, makeFeedId } from './lib/photos.mjs';
import { assertIssuedKey, assertRefused } from './lib/assertions.mjs';

const MIN_PART_BYTES = 5 * 1024 * 1024;

/** The JSON of a response that must have the status 200. */
const parseOk = async (response) => {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text);
};

describeOnEachBackend('multipart', (backend) => {
  const base = (feed) => buildFeedUrl(backend.url, feed, '/s3');
  const sendJson = (url, method, body) => fetch(url, {
    method, ...(body !== undefined && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  const createUpload = async (feed, more = {}) => parseOk(await sendJson(`${base(feed)}/multipart`, 'POST', { filename: 'IMG_1.JPG', type: 'image/jpeg', ...more }));
  const uploadUrl = (feed, { uploadId, key }, rest = '', query = {}) =>
    `${base(feed)}/multipart/${encodeURIComponent(uploadId)}${rest}?${new URLSearchParams({ key, ...query })}`;

  async function putPart(feed, upload, number, bytes) {
    const { url, expires } = await parseOk(await fetch(uploadUrl(feed, upload, `/${number}`)));
    assert.ok(expires > 0 && expires <= 3600);
    const response = await fetch(url, { method: 'PUT', body: bytes });
    assert.equal(response.status, 200, await response.text());
    return { PartNumber: number, ETag: response.headers.get('etag') };
  }

  test('a photo uploaded in parts is announced with its metadata and its multipart eTag', async (t) => {
    const feed = makeFeedId('Größe 1');
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const upload = await createUpload(feed, { metadata: { caption: 'Groß', name: 'ignored', relativePath: null } });
    assertIssuedKey(upload.key, feed);
    assert.equal(typeof upload.bucket, 'string');
    const bytes = Buffer.concat([makeJpeg({ width: 40, height: 30 }), randomBytes(MIN_PART_BYTES)]);
    const parts = [await putPart(feed, upload, 1, bytes.subarray(0, MIN_PART_BYTES)), await putPart(feed, upload, 2, bytes.subarray(MIN_PART_BYTES))];
    const listed = await parseOk(await fetch(uploadUrl(feed, upload)));
    assert.deepEqual(listed.map(({ PartNumber, Size }) => ({ PartNumber, Size })), [
      { PartNumber: 1, Size: MIN_PART_BYTES }, { PartNumber: 2, Size: bytes.length - MIN_PART_BYTES },
    ]);
    assert.deepEqual(listed.map(({ ETag }) => ETag.replaceAll('"', '')), parts.map(({ ETag }) => ETag.replaceAll('"', '')));
    const done = await parseOk(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts }));
    assert.equal(done.key, upload.key);
    assert.ok(decodeURIComponent(done.location).endsWith(`/${upload.key}`), done.location);
    const event = await client.inbox.waitFor('imageUploaded');
    assert.equal(event.key, upload.key);
    assert.match(event.eTag, /-2$/);
    assert.deepEqual([event.size, event.width, event.filename, event.caption], [bytes.length, 40, 'IMG_1.JPG', 'Groß']);
    assert.deepEqual(await downloadPhoto(event.url), bytes);
    assert.deepEqual(await parseOk(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts })), done, 'completing is idempotent, since a response may be lost');
    await assertRefused(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts: parts.slice(1) }), 'not-found', 404);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
  });

  test('several parts are signed in one request', async () => {
    const feed = makeFeedId();
    const upload = await createUpload(feed);
    const { presignedUrls } = await parseOk(await fetch(uploadUrl(feed, upload, '/batch', { partNumbers: '4,6' })));
    assert.deepEqual(Object.keys(presignedUrls), ['4', '6']);
    const response = await fetch(presignedUrls['4'], { method: 'PUT', body: 'x' });
    assert.equal(response.status, 200, await response.text());
    for (const partNumbers of ['', '0', '10001', '+1', 'x', '1,,2', Array(101).fill(1).join(',')]) {
      await assertRefused(await fetch(uploadUrl(feed, upload, '/batch', { partNumbers })), 'invalid-parameter', 400);
    }
  });

  test('an aborted upload is not-found, and can be aborted again', async () => {
    const feed = makeFeedId();
    const upload = await createUpload(feed);
    const part = await putPart(feed, upload, 1, makeJpeg());
    assert.deepEqual(await parseOk(await sendJson(uploadUrl(feed, upload), 'DELETE')), {});
    assert.deepEqual(await parseOk(await sendJson(uploadUrl(feed, upload), 'DELETE')), {});
    await assertRefused(await fetch(uploadUrl(feed, upload)), 'not-found', 404);
    await assertRefused(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts: [part] }), 'not-found', 404);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos, []);
  });

  test('completing names parts that were uploaded, with their eTags, in ascending order', async () => {
    const feed = makeFeedId();
    const upload = await createUpload(feed);
    const part = await putPart(feed, upload, 1, makeJpeg());
    for (const body of [{}, { parts: [] }, { parts: [{ PartNumber: 1 }] }, { parts: [{ ...part, ETag: '"0"' }] }, { parts: [part, part] }, { parts: [part, { PartNumber: 2, ETag: '"0"' }] }]) {
      await assertRefused(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', body), 'invalid-body', 400);
    }
    const maxParts = Array.from({ length: 10_000 }, (_, i) => ({ PartNumber: i + 1, ETag: `"${'0'.repeat(32)}"` }));
    const { detail } = await assertRefused(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts: [part, ...maxParts.slice(1)] }), 'invalid-body', 400);
    assert.match(detail, /part 2 /, 'as many parts as S3 supports are read');
    await parseOk(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts: [part] }));
  });

  test('part numbers may have gaps, and a part that completing does not name is left out', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const upload = await createUpload(feed);
    const [first, last] = [Buffer.concat([makeJpeg(), randomBytes(MIN_PART_BYTES)]), randomBytes(9)];
    await putPart(feed, upload, 1, randomBytes(9));
    const parts = [await putPart(feed, upload, 4, first), await putPart(feed, upload, 6, last)];
    await parseOk(await sendJson(uploadUrl(feed, upload, '/complete'), 'POST', { parts }));
    const { url } = await client.inbox.waitFor('imageUploaded');
    assert.deepEqual(await downloadPhoto(url), Buffer.concat([first, last]));
  });

  test('a key of another feed is forbidden, and an upload id with another key is not-found', async () => {
    const feed = makeFeedId();
    const upload = await createUpload(feed);
    const other = makeFeedId();
    for (const [method, rest, body] of [['GET', ''], ['GET', '/1'], ['GET', '/batch'], ['DELETE', ''], ['POST', '/complete', { parts: [{ PartNumber: 1, ETag: 'x' }] }]]) {
      await assertRefused(await sendJson(uploadUrl(other, upload, rest), method, body), 'forbidden', 403);
    }
    const stolen = { ...upload, key: `${other}/stolen.jpg` };
    await assertRefused(await fetch(uploadUrl(other, stolen)), 'not-found', 404);
    await assertRefused(await sendJson(uploadUrl(other, stolen, '/complete'), 'POST', { parts: [{ PartNumber: 1, ETag: 'x' }] }), 'not-found', 404);
    const { url } = await parseOk(await fetch(uploadUrl(other, stolen, '/1')));
    const response = await fetch(url, { method: 'PUT', body: 'x' });
    assert.equal(response.status, 404, await response.text());
    await assertRefused(await fetch(`${base(feed)}/multipart/${upload.uploadId}`), 'invalid-parameter', 400);
  });

  test('/params returns a form for up to the maximum size, with a URL that ends in a slash', async () => {
    const feed = makeFeedId();
    const form = await parseOk(await fetch(`${base(feed)}/params?${new URLSearchParams({ filename: 'x.jpg', type: 'image/jpeg', 'metadata[name]': 'x', 'metadata[caption]': 'y' })}`));
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
    await assertRefused(await sendJson(`${base(feed)}/multipart`, 'POST', { filename: 'x', type: 'text/html' }), 'unsupported-content-type', 415);
  });
});

describeOnEachBackend('multipart, too large', (backend) => {
  test('completing an upload beyond UPLOAD_MAX_BYTES is refused with too-large and aborts it', async () => {
    const feed = makeFeedId();
    const base = buildFeedUrl(backend.url, feed, '/s3/multipart');
    const { uploadId, key } = await parseOk(await fetch(base, { method: 'POST', body: JSON.stringify({ filename: 'x.jpg', type: 'image/jpeg' }) }));
    const query = new URLSearchParams({ key });
    const { url } = await parseOk(await fetch(`${base}/${uploadId}/1?${query}`));
    const sent = await fetch(url, { method: 'PUT', body: Buffer.alloc(1001) });
    const parts = [{ PartNumber: 1, ETag: sent.headers.get('etag') }];
    const { detail } = await assertRefused(
      await fetch(`${base}/${uploadId}/complete?${query}`, { method: 'POST', body: JSON.stringify({ parts }) }), 'too-large', 413);
    assert.match(detail, /1001.*1000/);
    await assertRefused(await fetch(`${base}/${uploadId}?${query}`), 'not-found', 404);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos, []);
  });
}, { env: { UPLOAD_MAX_BYTES: '1000' } });

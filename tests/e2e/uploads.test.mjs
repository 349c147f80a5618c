// Upload grants, what the store refuses, what the server refuses to grant; the list and deletion of photos.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import {
  postGrantRequest, downloadPhoto, buildFeedUrl, createGrant, makeJpeg, listAllKeys, listPhotos, makeFeedId, makePhoto, makePng, putPhoto, removePhoto, uploadPhoto,
} from './lib/photos.mjs';
import { assertCursor, assertIssuedKey, assertNoNulls, assertRefused, assertTime, assertUploaded, assertViewUrl } from './lib/assertions.mjs';
import { waitUntil } from './lib/wait.mjs';

const MAX_BYTES = 52_428_800;
const WEEK_SECS = 604_800;
const jpegOf = (size) => ({ contentType: 'image/jpeg', size });

/** Asserts that the store refused the upload and that the feed is still empty. */
async function assertNotStored(url, feed, response, statuses = [400, 403]) {
  const text = await response.text();
  assert.ok(statuses.includes(response.status), `${response.status} ${text}`);
  assert.deepEqual((await listPhotos(url, feed)).photos, []);
}

/** Asserts that the server refused the request with a detail that names the field. Returns the detail. */
async function assertBadField(response, field) {
  const text = await response.clone().text();
  const name = text.includes('invalid-parameter') ? 'invalid-parameter' : 'invalid-body';
  const { detail } = await assertRefused(response, name, 400);
  assert.match(detail, new RegExp(field));
  return detail;
}

describeOnEachBackend('uploads', (backend) => {
  test('a grant has the fields of the contract', async () => {
    const feed = makeFeedId();
    const response = await postGrantRequest(backend.url, feed, jpegOf(1234));
    assert.equal(response.status, 201);
    const grant = await response.json();
    assertNoNulls(grant);
    assertIssuedKey(grant.key, feed);
    assert.equal(grant.feed, feed);
    assert.equal(grant.method, 'PUT');
    assert.match(new URL(grant.url).search, /X-Amz-Signature=[0-9a-f]{64}/);
    assertTime(grant.expiresAt, 'expiresAt');
    const ttlMs = Date.parse(grant.expiresAt) - Date.now();
    assert.ok(ttlMs > 3_500_000 && ttlMs <= 3_601_000, `an hour by default, not ${ttlMs} ms`);

    const headers = new Headers(grant.headers);
    assert.equal(headers.get('content-type'), 'image/jpeg');
    assert.equal(headers.get('if-none-match'), '*');
    assert.equal(headers.get('host'), null);
    assert.equal(headers.get('content-length'), null);
    const signed = new URL(grant.url).searchParams.get('X-Amz-SignedHeaders').split(';');
    const given = [...headers.keys(), 'host', 'content-length'];
    assert.deepEqual(signed.toSorted(), given.toSorted(), 'every signed header except two is in the grant');
  });

  test('a PUT with exactly the url and headers of the grant succeeds against a store that checks signatures', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const { key } = await uploadPhoto(backend.url, feed, picture, { filename: 'Größe.JPG', caption: 'Im Garten 🌻' });
    const { photos: [stored] } = await listPhotos(backend.url, feed);
    assert.equal(stored.key, key);
    assert.deepEqual(await downloadPhoto(stored.url), picture.bytes);
  });

  const EXTENSIONS = {
    'image/jpeg': 'jpg', 'image/png': 'png', 'image/webp': 'webp', 'image/gif': 'gif', 'image/heic': 'heic', 'image/heif': 'heif', 'image/avif': 'avif',
  };
  for (const [contentType, extension] of Object.entries(EXTENSIONS)) {
    test(`${contentType} is granted, with its extension in the name`, async () => {
      const feed = makeFeedId();
      const grant = await createGrant(backend.url, feed, { contentType, bytes: makePng() });
      assertIssuedKey(grant.key, feed, extension);
      assert.equal(new Headers(grant.headers).get('content-type'), contentType);
    });
  }

  test('a PUT with another length is refused by the store', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture);
    await assertNotStored(backend.url, feed, await putPhoto(grant, makeJpeg({ width: 800, height: 800 })));
    await assertNotStored(backend.url, feed, await putPhoto(grant, picture.bytes.subarray(1)));
    assert.equal((await putPhoto(grant, picture.bytes)).status, 200, 'the grant is still valid');
  });

  test('a PUT with another type is refused by the store', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture);
    const headers = { ...grant.headers };
    for (const name of Object.keys(headers)) if (name.toLowerCase() === 'content-type') headers[name] = 'text/html';
    await assertNotStored(backend.url, feed, await putPhoto({ ...grant, headers }, picture.bytes));
  });

  test('a PUT without if-none-match is refused by the store', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture);
    const headers = Object.fromEntries(Object.entries(grant.headers).filter(([name]) => name.toLowerCase() !== 'if-none-match'));
    await assertNotStored(backend.url, feed, await putPhoto({ ...grant, headers }, picture.bytes));
  });

  test('a second PUT is refused with 412, and the photo is announced once', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const picture = makePhoto();
    const grant = await uploadPhoto(backend.url, feed, picture);
    const again = await putPhoto(grant, picture.bytes);
    assert.equal(again.status, 412, await again.text());
    const next = await uploadPhoto(backend.url, feed);
    // SQS does not keep the order of the two.
    for (const upload of [grant, next]) await client.inbox.waitFor('imageUploaded', ({ key }) => key === upload.key);
    assert.deepEqual(client.inbox.dataOf('imageUploaded').map(({ key }) => key).toSorted(), [grant.key, next.key].toSorted());
  });

  test('a tampered URL is refused by the store', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture);
    const tampered = [
      (url) => { url.pathname = url.pathname.replace(/-[0-9a-f]{20}/, `-${'0'.repeat(20)}`); },
      (url) => { url.pathname = url.pathname.replace(feed, 'other-feed'); },
      (url) => url.searchParams.set('X-Amz-Expires', String(WEEK_SECS)),
      (url) => url.searchParams.set('X-Amz-Signature', '0'.repeat(64)),
      (url) => url.searchParams.delete('X-Amz-Signature'),
      (url) => { url.search = ''; },
    ];
    for (const tamper of tampered) {
      const url = new URL(grant.url);
      tamper(url);
      await assertNotStored(backend.url, feed, await putPhoto({ ...grant, url }, picture.bytes));
    }
    assert.deepEqual((await listPhotos(backend.url, 'other-feed')).photos, []);
  });

  test('an expired URL is refused by the store', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture, { expiresIn: 1 });
    await waitUntil(() => Date.now() > Date.parse(grant.expiresAt) + 1_000, 'the end of the second');
    await assertNotStored(backend.url, feed, await putPhoto(grant, picture.bytes));
  });

  test('a PUT URL permits neither GET nor DELETE', async () => {
    const feed = makeFeedId();
    const { url } = await uploadPhoto(backend.url, feed);
    for (const method of ['GET', 'DELETE']) {
      const response = await fetch(url, { method });
      await response.text();
      assert.equal(response.status, 403, method);
    }
    assert.equal((await listPhotos(backend.url, feed)).photos.length, 1);
  });

  test('a grant for more than 7 days is refused', async () => {
    const detail = await assertBadField(
      await postGrantRequest(backend.url, makeFeedId(), { ...jpegOf(10), expiresIn: WEEK_SECS + 1 }), 'expiresIn');
    assert.match(detail, /604[, _]?800|7 days/);
  });

  test('a grant for 7 days is issued, with at most that expiry', async () => {
    const response = await postGrantRequest(backend.url, makeFeedId(), { ...jpegOf(10), expiresIn: WEEK_SECS });
    assert.equal(response.status, 201);
    const { expiresAt, url } = await response.json();
    assert.ok(Date.parse(expiresAt) <= Date.now() + (WEEK_SECS + 1) * 1000);
    assert.ok(Number(new URL(url).searchParams.get('X-Amz-Expires')) <= WEEK_SECS);
  });

  for (const expiresIn of [0, -1, 1.5, '3600', null]) {
    test(`expiresIn ${JSON.stringify(expiresIn)} is ${expiresIn === null ? 'the default or refused' : 'refused'}`, async () => {
      const response = await postGrantRequest(backend.url, makeFeedId(), { ...jpegOf(10), expiresIn });
      if (expiresIn === null && response.status === 201) return;
      await assertBadField(response, 'expiresIn');
    });
  }

  for (const size of [0, -1, -1e30, 1.5, '10', null]) {
    test(`size ${JSON.stringify(size)} is refused`, async () => {
      await assertBadField(await postGrantRequest(backend.url, makeFeedId(), jpegOf(size)), 'size');
    });
  }

  for (const size of ['1e12', '1000000000000', '18446744073709551616', '1e30', '52428801.0']) {
    test(`size ${size} is too large`, async () => {
      const response = await postGrantRequest(backend.url, makeFeedId(), `{"contentType":"image/jpeg","size":${size}}`);
      const { detail } = await assertRefused(response, 'too-large', 413);
      assert.match(detail, /size .*52428800/);
    });
  }

  test('a method in lower case is refused', async () => {
    await assertBadField(await postGrantRequest(backend.url, makeFeedId(), { ...jpegOf(10), method: 'put' }), 'method');
  });

  test('UPLOAD_MAX_BYTES is granted, one byte more is too large', async () => {
    assert.equal((await postGrantRequest(backend.url, makeFeedId(), jpegOf(MAX_BYTES))).status, 201);
    const { detail } = await assertRefused(await postGrantRequest(backend.url, makeFeedId(), jpegOf(MAX_BYTES + 1)), 'too-large', 413);
    assert.match(detail, /52[, _]?428[, _]?800|50 Mi?B/, 'the detail names the limit');
  });

  for (const contentType of ['image/svg+xml', 'image/svg+xml; charset=utf-8', 'IMAGE/SVG+XML', 'text/html', 'application/octet-stream', 'image/*', 'image', '']) {
    test(`content type ${JSON.stringify(contentType)} is unsupported`, async () => {
      await assertRefused(await postGrantRequest(backend.url, makeFeedId(), { contentType, size: 10 }), 'unsupported-content-type', 415);
    });
  }

  test('a grant needs a content type and a size', async () => {
    await assertBadField(await postGrantRequest(backend.url, makeFeedId(), { size: 10 }), 'contentType');
    await assertBadField(await postGrantRequest(backend.url, makeFeedId(), { contentType: 'image/jpeg' }), 'size');
  });

  for (const body of ['', '{', 'null', '[]', '"x"', '{"contentType":7,"size":10}', '{"contentType":"image/jpeg","size":10', '\u0000']) {
    test(`the body ${JSON.stringify(body)} is refused`, async () => {
      await assertRefused(await postGrantRequest(backend.url, makeFeedId(), body), 'invalid-body', 400);
    });
  }

  test('a body that is not UTF-8 is refused', async () => {
    const response = await fetch(buildFeedUrl(backend.url, makeFeedId(), '/uploads'), {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: Buffer.from('{"contentType":"image/jp\xffg","size":1}', 'latin1'),
    });
    await assertRefused(response, 'invalid-body', 400);
  });

  for (const filename of ['../x', '../../etc/passwd', '%2f..%2fx', 'a\u0000b', 'a/b\\c', 'x.svg', '.', '<script>', 'a\r\nx-amz-acl: public-read', '名前.jpg', 'x'.repeat(255)]) {
    test(`file name ${JSON.stringify(filename).slice(0, 32)} never reaches a key`, async () => {
      const feed = makeFeedId();
      const response = await postGrantRequest(backend.url, feed, { ...jpegOf(10), filename });
      if (response.status === 400) return void (await assertBadField(response, 'filename'));
      assert.equal(response.status, 201);
      const { key, url, headers } = await response.json();
      assertIssuedKey(key, feed);
      assert.ok(new URL(url).pathname.endsWith(key), url);
      for (const value of Object.values(headers)) assert.match(value, /^[\x20-\x7e]*$/, 'headers are ASCII');
    });
  }

  test('file names of more than 255 bytes and captions of more than 800 are refused', async () => {
    const requestGrant = (more) => postGrantRequest(backend.url, makeFeedId(), { ...jpegOf(10), ...more });
    assert.match(await assertBadField(await requestGrant({ filename: 'x'.repeat(256) }), 'filename'), /255/);
    await assertBadField(await requestGrant({ filename: 'x'.repeat(1024) }), 'filename');
    await assertBadField(await requestGrant({ filename: 'ä'.repeat(128) }), 'filename');
    assert.match(await assertBadField(await requestGrant({ caption: 'x'.repeat(801) }), 'caption'), /800/);
  });

  test('a batch of 100 files with the longest metadata is granted, even with every byte escaped', async () => {
    const file = { ...jpegOf(10), filename: '\u0001'.repeat(255), caption: '\u0001'.repeat(800) };
    const body = JSON.stringify({ files: Array(100).fill(file) });
    assert.ok(body.length > 600_000);
    const response = await postGrantRequest(backend.url, makeFeedId(), body);
    const { uploads } = await response.json();
    assert.equal(response.status, 200, JSON.stringify(uploads));
    assert.deepEqual([...new Set(uploads.map(({ method }) => method))], ['PUT']);
  });

  test('an empty file name or caption counts as absent', async () => {
    const { headers } = await createGrant(backend.url, makeFeedId(), makePhoto(), { filename: '', caption: '' });
    assert.deepEqual(Object.keys(headers).toSorted(), ['content-type', 'if-none-match']);
  });

  test('the longest file name and the longest caption fit together', async () => {
    const feed = makeFeedId();
    await uploadPhoto(backend.url, feed, makePhoto(), { filename: 'ä'.repeat(127), caption: '📷'.repeat(200) });
    assert.equal((await listPhotos(backend.url, feed)).photos.length, 1);
  });

  test('photos are listed newest first, in pages', async () => {
    const feed = makeFeedId();
    const keys = [];
    let last;
    for (let i = 0; i < 7; i += 1) {
      // Names are sorted by the millisecond of the grant: each grant needs one of its own.
      await waitUntil(() => Date.now() !== last, 'the next millisecond');
      last = Date.now();
      keys.unshift((await uploadPhoto(backend.url, feed)).key);
    }
    const all = await listPhotos(backend.url, feed);
    assert.deepEqual(all.photos.map(({ key }) => key), keys);
    assert.ok(!('before' in all), 'no more pages');

    const first = await listPhotos(backend.url, feed, { limit: 3 });
    assert.deepEqual(first.photos.map(({ key }) => key), keys.slice(0, 3));
    assert.equal(typeof first.before, 'string');
    const second = await listPhotos(backend.url, feed, { limit: 3, before: first.before });
    assert.deepEqual(second.photos.map(({ key }) => key), keys.slice(3, 6));
    for (const limit of [1, 2, 7, 200]) assert.deepEqual(await listAllKeys(backend.url, feed, limit), keys);
  });

  test('a list has the fields of the contract', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const picture = makePhoto();
    const grant = await uploadPhoto(backend.url, feed, picture);
    const event = await client.inbox.waitFor('imageUploaded');
    assertUploaded(event, grant, picture.bytes.length);

    const page = await listPhotos(backend.url, feed);
    assertNoNulls(page);
    assert.equal(page.feed, feed);
    assert.equal(page.cursor, event.cursor);
    const [stored] = page.photos;
    assert.equal(stored.key, grant.key);
    assert.equal(stored.size, picture.bytes.length);
    if ('eTag' in stored) assert.equal(stored.eTag, event.eTag);
    assertTime(stored.lastModified, 'lastModified');
    assertViewUrl(stored.url, stored.urlExpiresAt);
    if (stored.urlExpiresAt === event.urlExpiresAt) assert.equal(stored.url, event.url, 'a photo has the same URL within the rounding of the signing time');
    assert.deepEqual(await downloadPhoto(stored.url), picture.bytes);
  });

  test('the list of an unused feed is empty, with a cursor to join with', async (t) => {
    const feed = makeFeedId();
    const page = await listPhotos(backend.url, feed);
    assertCursor(page.cursor);
    assert.deepEqual(page, { feed, cursor: page.cursor, photos: [] });
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    const answer = await client.request('join', { feed, cursor: page.cursor });
    assert.equal(answer.feed, feed);
    assert.deepEqual(answer.events, []);
  });

  test('an invalid before, or one of another feed, is refused', async () => {
    const [feed, other] = [makeFeedId(), makeFeedId()];
    await uploadPhoto(backend.url, other);
    await uploadPhoto(backend.url, other);
    const { before } = await listPhotos(backend.url, other, { limit: 1 });
    assert.equal((await listPhotos(backend.url, other, { before })).photos.length, 1);
    const long = Buffer.from(`${feed}/${'x'.repeat(1024)}`).toString('base64url');
    for (const wrong of [before, 'garbage!', '', '_w', Buffer.from('..').toString('base64url'), long]) {
      const response = await fetch(buildFeedUrl(backend.url, feed, `/photos?${new URLSearchParams({ before: wrong })}`));
      const { detail } = await assertRefused(response, 'invalid-parameter', 400);
      assert.match(detail, /before/, wrong);
    }
  });

  for (const limit of ['0', '201', '-1', '%2B5', 'x', '1.5', '']) {
    test(`a list with limit=${limit} is refused`, async () => {
      const { detail } = await assertRefused(await fetch(buildFeedUrl(backend.url, 'summer', `/photos?limit=${limit}`)), 'invalid-parameter', 400);
      assert.match(detail, /limit/);
    });
  }

  test('a photo that is deleted is no longer listed nor downloaded; deleting it again is a 202', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const [gone, kept] = [await uploadPhoto(backend.url, feed), await uploadPhoto(backend.url, feed)];
    const { url } = await client.inbox.waitFor('imageUploaded', ({ key }) => key === gone.key);
    await removePhoto(backend.url, feed, gone.key);
    await client.inbox.waitFor('imageRemoved', ({ key }) => key === gone.key);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos.map(({ key }) => key), [kept.key]);
    const response = await fetch(url);
    await response.text();
    assert.equal(response.status, 404);
    await removePhoto(backend.url, feed, gone.key);
  });

  test('deleting a photo that does not exist is answered with 202', async () => {
    const feed = makeFeedId();
    await removePhoto(backend.url, feed, `${feed}/nothing.jpg`);
    await removePhoto(backend.url, feed, `${feed}/deep/down/nothing.jpg`);
    await removePhoto(backend.url, feed, `${feed}/${'x'.repeat(300)}.jpg`);
  });

  // Only the embedded S3 keeps objects in files.
  if (backend.name === 'dev') {
    test('a name that the file system can\'t store is not-found', async () => {
      const feed = makeFeedId();
      await removePhoto(backend.url, feed, `${feed}/a\0b.jpg`);
      for (const name of [`${'x'.repeat(500)}/y`, 'a\0']) {
        await assertRefused(await fetch(buildFeedUrl(backend.url, feed, `/uploads/${encodeURIComponent(name)}`)), 'not-found', 404);
      }
    });
  }

  test('the slashes of a name may be literal or encoded', async () => {
    const feed = makeFeedId();
    for (const name of ['a/b.jpg', 'a%2Fb.jpg', 'a%2fb.jpg', 'with%20space.jpg']) {
      const response = await fetch(buildFeedUrl(backend.url, feed, `/photos/${name}`), { method: 'DELETE' });
      await response.text();
      assert.equal(response.status, 202, name);
    }
  });
});

describeOnEachBackend('UPLOAD_URL_MAX_SECS', (backend) => {
  test('it caps the expiry of every grant, whatever expiresIn requests', async () => {
    for (const more of [{}, { expiresIn: 60 }, { expiresIn: WEEK_SECS }, { expiresIn: 5, method: 'POST' }, { method: 'POST' }]) {
      const before = Date.now();
      const { expiresAt } = await createGrant(backend.url, makeFeedId(), makePhoto(), more);
      const maxSecs = Math.min(more.expiresIn ?? 3_600, 10);
      assert.ok(Date.parse(expiresAt) <= Date.now() + maxSecs * 1_000, `${expiresAt} for ${JSON.stringify(more)}`);
      assert.ok(Date.parse(expiresAt) >= before + (maxSecs - 1) * 1_000, `${expiresAt} for ${JSON.stringify(more)}`);
    }
  });
}, { env: { UPLOAD_URL_MAX_SECS: '10' } });

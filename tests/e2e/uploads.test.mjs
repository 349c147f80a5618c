// What is granted, what the store refuses, and what the server refuses to grant.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import {
  askGrant, download, feedUrl, grantFor, jpeg, listAllKeys, listPhotos, newFeed, photo, png, put, remove, upload,
} from './lib/photos.mjs';
import { assertCursor, assertIssuedKey, assertNoNulls, assertRefused, assertTime, assertUploaded, assertViewUrl } from './lib/shapes.mjs';
import { until } from './lib/wait.mjs';

const MAX_BYTES = 52_428_800;
const WEEK_SECS = 604_800;
const jpegOf = (size) => ({ contentType: 'image/jpeg', size });

/** The store said no, and nothing of it is in the feed. */
async function assertNotStored(url, feed, response, statuses = [400, 403]) {
  const text = await response.text();
  assert.ok(statuses.includes(response.status), `${response.status} ${text}`);
  assert.deepEqual((await listPhotos(url, feed)).photos, []);
}

/** Refused with a detail that names the field. Gives the detail. */
async function assertBadField(response, field) {
  const text = await response.clone().text();
  const name = text.includes('invalid-parameter') ? 'invalid-parameter' : 'invalid-body';
  const { detail } = await assertRefused(response, name, 400);
  assert.match(detail, new RegExp(field));
  return detail;
}

onEachBackend('uploads', (backend) => {
  test('a grant is what the contract says', async () => {
    const feed = newFeed();
    const response = await askGrant(backend.url, feed, jpegOf(1234));
    assert.equal(response.status, 201);
    const grant = await response.json();
    assertNoNulls(grant);
    assertIssuedKey(grant.key, feed);
    assert.equal(grant.feed, feed);
    assert.equal(grant.method, 'PUT');
    assert.match(new URL(grant.url).search, /X-Amz-Signature=[0-9a-f]{64}/);
    assertTime(grant.expiresAt, 'expiresAt');
    const lifeMs = Date.parse(grant.expiresAt) - Date.now();
    assert.ok(lifeMs > 3_500_000 && lifeMs <= 3_601_000, `an hour by default, not ${lifeMs} ms`);

    const headers = new Headers(grant.headers);
    assert.equal(headers.get('content-type'), 'image/jpeg');
    assert.equal(headers.get('if-none-match'), '*');
    assert.equal(headers.get('host'), null);
    assert.equal(headers.get('content-length'), null);
    const signed = new URL(grant.url).searchParams.get('X-Amz-SignedHeaders').split(';');
    const given = [...headers.keys(), 'host', 'content-length'];
    assert.deepEqual(signed.toSorted(), given.toSorted(), 'every signed header but two is given');
  });

  test('trap 13: a PUT with exactly url and headers succeeds against a checking store', async () => {
    const feed = newFeed();
    const picture = photo();
    const { key } = await upload(backend.url, feed, picture, { filename: 'Größe.JPG', caption: 'Im Garten 🌻' });
    const { photos: [stored] } = await listPhotos(backend.url, feed);
    assert.equal(stored.key, key);
    assert.deepEqual(await download(stored.url), picture.bytes);
  });

  const EXTENSIONS = {
    'image/jpeg': 'jpg', 'image/png': 'png', 'image/webp': 'webp', 'image/gif': 'gif', 'image/heic': 'heic', 'image/heif': 'heif', 'image/avif': 'avif',
  };
  for (const [contentType, extension] of Object.entries(EXTENSIONS)) {
    test(`${contentType} may be uploaded, to a name with its extension`, async () => {
      const feed = newFeed();
      const grant = await grantFor(backend.url, feed, { contentType, bytes: png() });
      assertIssuedKey(grant.key, feed, extension);
      assert.equal(new Headers(grant.headers).get('content-type'), contentType);
    });
  }

  test('trap 14: another length is refused by the store', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture);
    await assertNotStored(backend.url, feed, await put(grant, jpeg({ width: 800, height: 800 })));
    await assertNotStored(backend.url, feed, await put(grant, picture.bytes.subarray(1)));
    assert.equal((await put(grant, picture.bytes)).status, 200, 'the grant is still good');
  });

  test('trap 14: another type is refused by the store', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture);
    const headers = { ...grant.headers };
    for (const name of Object.keys(headers)) if (name.toLowerCase() === 'content-type') headers[name] = 'text/html';
    await assertNotStored(backend.url, feed, await put({ ...grant, headers }, picture.bytes));
  });

  test('a PUT that leaves out if-none-match is refused by the store', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture);
    const headers = Object.fromEntries(Object.entries(grant.headers).filter(([name]) => name.toLowerCase() !== 'if-none-match'));
    await assertNotStored(backend.url, feed, await put({ ...grant, headers }, picture.bytes));
  });

  test('trap 17: a second PUT is a 412, and is told once', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const picture = photo();
    const grant = await upload(backend.url, feed, picture);
    const again = await put(grant, picture.bytes);
    assert.equal(again.status, 412, await again.text());
    const next = await upload(backend.url, feed);
    await client.inbox.find('imageUploaded', ({ key }) => key === next.key);
    assert.deepEqual(client.inbox.named('imageUploaded').map(({ key }) => key), [grant.key, next.key]);
  });

  test('a tampered URL is refused by the store', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture);
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
      await assertNotStored(backend.url, feed, await put({ ...grant, url }, picture.bytes));
    }
    assert.deepEqual((await listPhotos(backend.url, 'other-feed')).photos, []);
  });

  test('an expired URL is refused by the store', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture, { expiresIn: 1 });
    await until(() => Date.now() > Date.parse(grant.expiresAt) + 1_000, 'the end of the second');
    await assertNotStored(backend.url, feed, await put(grant, picture.bytes));
  });

  test('a PUT URL does not read, list or delete', async () => {
    const feed = newFeed();
    const { url } = await upload(backend.url, feed);
    for (const method of ['GET', 'DELETE']) {
      const response = await fetch(url, { method });
      await response.text();
      assert.equal(response.status, 403, method);
    }
    assert.equal((await listPhotos(backend.url, feed)).photos.length, 1);
  });

  test('trap 15: more than 7 days is a 400', async () => {
    const detail = await assertBadField(
      await askGrant(backend.url, newFeed(), { ...jpegOf(10), expiresIn: WEEK_SECS + 1 }), 'expiresIn');
    assert.match(detail, /604[, _]?800|7 days/);
  });

  test('7 days are granted, or less where the server says so', async () => {
    const response = await askGrant(backend.url, newFeed(), { ...jpegOf(10), expiresIn: WEEK_SECS });
    assert.equal(response.status, 201);
    const { expiresAt, url } = await response.json();
    assert.ok(Date.parse(expiresAt) <= Date.now() + (WEEK_SECS + 1) * 1000);
    assert.ok(Number(new URL(url).searchParams.get('X-Amz-Expires')) <= WEEK_SECS);
  });

  for (const expiresIn of [0, -1, 1.5, '3600', null]) {
    test(`expiresIn ${JSON.stringify(expiresIn)} is ${expiresIn === null ? 'the default or refused' : 'refused'}`, async () => {
      const response = await askGrant(backend.url, newFeed(), { ...jpegOf(10), expiresIn });
      if (expiresIn === null && response.status === 201) return;
      await assertBadField(response, 'expiresIn');
    });
  }

  for (const size of [0, -1, -1e30, 1.5, '10', null]) {
    test(`size ${JSON.stringify(size)} is refused`, async () => {
      await assertBadField(await askGrant(backend.url, newFeed(), jpegOf(size)), 'size');
    });
  }

  for (const size of ['1e12', '1000000000000', '18446744073709551616', '1e30', '52428801.0']) {
    test(`size ${size} is too large`, async () => {
      const response = await askGrant(backend.url, newFeed(), `{"contentType":"image/jpeg","size":${size}}`);
      const { detail } = await assertRefused(response, 'too-large', 413);
      assert.match(detail, /size .*52428800/);
    });
  }

  test('a method in lower case is refused', async () => {
    await assertBadField(await askGrant(backend.url, newFeed(), { ...jpegOf(10), method: 'put' }), 'method');
  });

  test('the largest size is granted, a byte more is too large', async () => {
    assert.equal((await askGrant(backend.url, newFeed(), jpegOf(MAX_BYTES))).status, 201);
    const { detail } = await assertRefused(await askGrant(backend.url, newFeed(), jpegOf(MAX_BYTES + 1)), 'too-large', 413);
    assert.match(detail, /52[, _]?428[, _]?800|50 Mi?B/, 'the detail tells the limit');
  });

  for (const contentType of ['image/svg+xml', 'image/svg+xml; charset=utf-8', 'IMAGE/SVG+XML', 'text/html', 'application/octet-stream', 'image/*', 'image', '']) {
    test(`content type ${JSON.stringify(contentType)} is unsupported`, async () => {
      await assertRefused(await askGrant(backend.url, newFeed(), { contentType, size: 10 }), 'unsupported-content-type', 415);
    });
  }

  test('a grant needs a content type and a size', async () => {
    await assertBadField(await askGrant(backend.url, newFeed(), { size: 10 }), 'contentType');
    await assertBadField(await askGrant(backend.url, newFeed(), { contentType: 'image/jpeg' }), 'size');
  });

  for (const body of ['', '{', 'null', '[]', '"x"', '{"contentType":7,"size":10}', '{"contentType":"image/jpeg","size":10', '\u0000']) {
    test(`the body ${JSON.stringify(body)} is refused`, async () => {
      await assertRefused(await askGrant(backend.url, newFeed(), body), 'invalid-body', 400);
    });
  }

  test('a body that is no UTF-8 is refused', async () => {
    const response = await fetch(feedUrl(backend.url, newFeed(), '/uploads'), {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: Buffer.from('{"contentType":"image/jp\xffg","size":1}', 'latin1'),
    });
    await assertRefused(response, 'invalid-body', 400);
  });

  for (const filename of ['../x', '../../etc/passwd', '%2f..%2fx', 'a\u0000b', 'a/b\\c', 'x.svg', '.', '<script>', 'a\r\nx-amz-acl: public-read', '名前.jpg', 'x'.repeat(255)]) {
    test(`trap 16: file name ${JSON.stringify(filename).slice(0, 32)} never reaches a key`, async () => {
      const feed = newFeed();
      const response = await askGrant(backend.url, feed, { ...jpegOf(10), filename });
      if (response.status === 400) return void (await assertBadField(response, 'filename'));
      assert.equal(response.status, 201);
      const { key, url, headers } = await response.json();
      assertIssuedKey(key, feed);
      assert.ok(new URL(url).pathname.endsWith(key), url);
      for (const value of Object.values(headers)) assert.match(value, /^[\x20-\x7e]*$/, 'headers are ASCII');
    });
  }

  test('trap 16: file names of 256 and 1,024 bytes and captions of 801 are refused', async () => {
    const ask = (more) => askGrant(backend.url, newFeed(), { ...jpegOf(10), ...more });
    assert.match(await assertBadField(await ask({ filename: 'x'.repeat(256) }), 'filename'), /255/);
    await assertBadField(await ask({ filename: 'x'.repeat(1024) }), 'filename');
    await assertBadField(await ask({ filename: 'ä'.repeat(128) }), 'filename');
    assert.match(await assertBadField(await ask({ caption: 'x'.repeat(801) }), 'caption'), /800/);
  });

  test('a hundred files may be described as long as the contract lets, every byte escaped', async () => {
    const file = { ...jpegOf(10), filename: '\u0001'.repeat(255), caption: '\u0001'.repeat(800) };
    const body = JSON.stringify({ files: Array(100).fill(file) });
    assert.ok(body.length > 600_000);
    const response = await askGrant(backend.url, newFeed(), body);
    const { uploads } = await response.json();
    assert.equal(response.status, 200, JSON.stringify(uploads));
    assert.deepEqual([...new Set(uploads.map(({ method }) => method))], ['PUT']);
  });

  test('an empty file name or caption is as good as none', async () => {
    const { headers } = await grantFor(backend.url, newFeed(), photo(), { filename: '', caption: '' });
    assert.deepEqual(Object.keys(headers).toSorted(), ['content-type', 'if-none-match']);
  });

  test('the longest file name and caption travel together', async () => {
    const feed = newFeed();
    await upload(backend.url, feed, photo(), { filename: 'ä'.repeat(127), caption: '📷'.repeat(200) });
    assert.equal((await listPhotos(backend.url, feed)).photos.length, 1);
  });

  test('photos are listed newest first, in pages', async () => {
    const feed = newFeed();
    const keys = [];
    let last;
    for (let i = 0; i < 7; i += 1) {
      // The name tells the millisecond of the grant: let each be in one of its own.
      await until(() => Date.now() !== last, 'the next millisecond');
      last = Date.now();
      keys.unshift((await upload(backend.url, feed)).key);
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

  test('a list is what the contract says', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const picture = photo();
    const grant = await upload(backend.url, feed, picture);
    const event = await client.inbox.find('imageUploaded');
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
    if (stored.urlExpiresAt === event.urlExpiresAt) assert.equal(stored.url, event.url, 'a photo keeps its URL for a while');
    assert.deepEqual(await download(stored.url), picture.bytes);
  });

  test('a feed that nobody ever used is an empty list with a cursor to join with', async (t) => {
    const feed = newFeed();
    const page = await listPhotos(backend.url, feed);
    assertCursor(page.cursor);
    assert.deepEqual(page, { feed, cursor: page.cursor, photos: [] });
    const client = closing(t, connect4(backend.url));
    const answer = await client.ask('join', { feed, cursor: page.cursor });
    assert.equal(answer.feed, feed);
    assert.deepEqual(answer.events, []);
  });

  test('a before that is none of this feed is refused', async () => {
    const [feed, other] = [newFeed(), newFeed()];
    await upload(backend.url, other);
    await upload(backend.url, other);
    const { before } = await listPhotos(backend.url, other, { limit: 1 });
    assert.equal((await listPhotos(backend.url, other, { before })).photos.length, 1);
    const long = Buffer.from(`${feed}/${'x'.repeat(1024)}`).toString('base64url');
    for (const wrong of [before, 'garbage!', '', '_w', Buffer.from('..').toString('base64url'), long]) {
      const response = await fetch(feedUrl(backend.url, feed, `/photos?${new URLSearchParams({ before: wrong })}`));
      const { detail } = await assertRefused(response, 'invalid-parameter', 400);
      assert.match(detail, /before/, wrong);
    }
  });

  for (const limit of ['0', '201', '-1', '%2B5', 'x', '1.5', '']) {
    test(`a list with limit=${limit} is refused`, async () => {
      const { detail } = await assertRefused(await fetch(feedUrl(backend.url, 'summer', `/photos?limit=${limit}`)), 'invalid-parameter', 400);
      assert.match(detail, /limit/);
    });
  }

  test('a photo that is deleted is no longer listed nor downloaded; deleting it again is a 202', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const [gone, kept] = [await upload(backend.url, feed), await upload(backend.url, feed)];
    const { url } = await client.inbox.find('imageUploaded', ({ key }) => key === gone.key);
    await remove(backend.url, feed, gone.key);
    await client.inbox.find('imageRemoved', ({ key }) => key === gone.key);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos.map(({ key }) => key), [kept.key]);
    const response = await fetch(url);
    await response.text();
    assert.equal(response.status, 404);
    await remove(backend.url, feed, gone.key);
  });

  test('deleting a photo that never was is a 202', async () => {
    const feed = newFeed();
    await remove(backend.url, feed, `${feed}/nothing.jpg`);
    await remove(backend.url, feed, `${feed}/deep/down/nothing.jpg`);
    await remove(backend.url, feed, `${feed}/${'x'.repeat(300)}.jpg`);
  });

  // Only the embedded S3 keeps objects in files.
  if (backend.name === 'dev') {
    test('a name that a file system can not hold is that of no photo', async () => {
      const feed = newFeed();
      await remove(backend.url, feed, `${feed}/a\0b.jpg`);
      for (const name of [`${'x'.repeat(500)}/y`, 'a\0']) {
        await assertRefused(await fetch(feedUrl(backend.url, feed, `/uploads/${encodeURIComponent(name)}`)), 'not-found', 404);
      }
    });
  }

  test('the slashes of a name may be literal or encoded', async () => {
    const feed = newFeed();
    for (const name of ['a/b.jpg', 'a%2Fb.jpg', 'a%2fb.jpg', 'with%20space.jpg']) {
      const response = await fetch(feedUrl(backend.url, feed, `/photos/${name}`), { method: 'DELETE' });
      await response.text();
      assert.equal(response.status, 202, name);
    }
  });
});

onEachBackend('UPLOAD_URL_MAX_SECS', (backend) => {
  test('it caps what is granted, whatever is asked for', async () => {
    for (const more of [{}, { expiresIn: 60 }, { expiresIn: WEEK_SECS }, { expiresIn: 5, method: 'POST' }, { method: 'POST' }]) {
      const before = Date.now();
      const { expiresAt } = await grantFor(backend.url, newFeed(), photo(), more);
      const most = Math.min(more.expiresIn ?? 3_600, 10);
      assert.ok(Date.parse(expiresAt) <= Date.now() + most * 1_000, `${expiresAt} for ${JSON.stringify(more)}`);
      assert.ok(Date.parse(expiresAt) >= before + (most - 1) * 1_000, `${expiresAt} for ${JSON.stringify(more)}`);
    }
  });
}, { env: { UPLOAD_URL_MAX_SECS: '10' } });

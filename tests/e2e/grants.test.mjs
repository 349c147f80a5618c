// What becomes of a grant: its state, a fresh one for the same key, and forms.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import { askGrant, download, feedUrl, grantFor, jpeg, listPhotos, nameOf, newFeed, photo, png, put, remove, upload } from './lib/photos.mjs';
import { assertNoNulls, assertRefused } from './lib/shapes.mjs';
import { SECRET, tokenFor } from './lib/tokens.mjs';
import { until } from './lib/wait.mjs';

const stateUrl = (url, feed, key) => feedUrl(url, feed, `/uploads/${encodeURIComponent(nameOf(feed, key))}`);

async function stateOf(url, feed, key) {
  const response = await fetch(stateUrl(url, feed, key));
  const state = await response.json();
  assert.equal(response.status, 200, JSON.stringify(state));
  assertNoNulls(state);
  return state;
}

const askRenewal = (url, feed, key, body) => fetch(`${stateUrl(url, feed, key)}/renew`, {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
});

/**
 * Sends the grant's form, its fields changed by `tamper`. In one piece: a store that refuses before it has
 * read all may close the connection, and what is still being written would fail in place of the answer.
 */
async function post({ url, fields }, bytes, tamper = () => {}) {
  const form = new FormData();
  const sent = new Map(Object.entries(fields));
  tamper(sent);
  for (const [name, value] of sent) form.append(name, value);
  form.append('file', new Blob([bytes]));
  const encoded = new Response(form);
  const body = Buffer.from(await encoded.arrayBuffer());
  return fetch(url, { method: 'POST', headers: { 'content-type': encoded.headers.get('content-type') }, body });
}

async function assertNotStored(url, feed, response) {
  const text = await response.text();
  assert.ok([400, 403].includes(response.status), `${response.status} ${text}`);
  assert.deepEqual((await listPhotos(url, feed)).photos, []);
}

onEachBackend('grants', (backend) => {
  test('an upload is issued, then announced, with the size, the eTag and the place of its announcement', async (t) => {
    const feed = newFeed('Größe 1');
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture);
    assert.deepEqual(await stateOf(backend.url, feed, grant.key), { key: grant.key, state: 'issued' });
    assert.equal((await put(grant, picture.bytes)).status, 200);
    const event = await client.inbox.find('imageUploaded');
    assert.deepEqual(await stateOf(backend.url, feed, grant.key), {
      key: grant.key, state: 'announced', size: picture.bytes.length, eTag: event.eTag, cursor: event.cursor,
    });
  });

  test('what is stored can not be renewed; what was removed is not known and can not either', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const picture = photo();
    const asked = { contentType: picture.contentType, size: picture.bytes.length };
    const { key } = await upload(backend.url, feed, picture);
    await assertRefused(await askRenewal(backend.url, feed, key, asked), 'already-stored', 409);
    await client.inbox.find('imageUploaded');
    await remove(backend.url, feed, key);
    await client.inbox.find('imageRemoved');
    await assertRefused(await fetch(stateUrl(backend.url, feed, key)), 'not-found', 404);
    await assertRefused(await askRenewal(backend.url, feed, key, asked), 'already-stored', 409);
  });

  test('what was deleted before it came may come yet, and is told', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture);
    await remove(backend.url, feed, grant.key);
    // S3 tells of a removal where nothing was, and so does dev; ministack does not.
    if (backend.name === 'dev') await client.inbox.find('imageRemoved');
    assert.equal((await stateOf(backend.url, feed, grant.key)).state, 'issued');
    const response = await askRenewal(backend.url, feed, grant.key);
    const fresh = await response.json();
    assert.equal(response.status, 201, JSON.stringify(fresh));
    assert.equal((await put(fresh, picture.bytes)).status, 200);
    assert.equal((await client.inbox.find('imageUploaded')).key, grant.key);
  });

  test('a renewed grant is for the same key, and good', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture, { expiresIn: 1 });
    await until(() => Date.now() > Date.parse(grant.expiresAt) + 1_000, 'the end of the second');
    assert.equal((await put(grant, picture.bytes)).status, 403);
    const response = await askRenewal(backend.url, feed, grant.key, { contentType: 'image/jpeg', size: picture.bytes.length });
    const fresh = await response.json();
    assert.equal(response.status, 201, JSON.stringify(fresh));
    assert.equal(fresh.key, grant.key);
    assert.equal((await put(fresh, picture.bytes)).status, 200);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos.map(({ key }) => key), [grant.key]);
  });

  for (const [what, body] of [['without a body', undefined], ['with an empty one', {}], ['with nulls', { contentType: null, size: null }], ['for a minute', { expiresIn: 60 }]]) {
    test(`a grant is renewed ${what}: type and size are those of the first`, async () => {
      const feed = newFeed();
      const picture = { contentType: 'image/png', bytes: png() };
      const grant = await grantFor(backend.url, feed, picture);
      const response = await askRenewal(backend.url, feed, grant.key, body);
      const fresh = await response.json();
      assert.equal(response.status, 201, JSON.stringify(fresh));
      assert.equal(fresh.headers['content-type'], 'image/png');
      const lifeMs = Date.parse(fresh.expiresAt) - Date.now();
      assert.ok(lifeMs <= (body?.expiresIn ?? 3_600) * 1_000, `${lifeMs} ms`);
      assert.equal((await put(fresh, Buffer.concat([picture.bytes, picture.bytes]))).status, 403);
      assert.equal((await put(fresh, picture.bytes)).status, 200);
    });
  }

  test('names that were not issued for the feed are not known', async () => {
    const feed = newFeed();
    const { key } = await grantFor(backend.url, feed, photo());
    const other = newFeed();
    for (const unknown of [key.replace(feed, other), `${other}/a.jpg`, `${other}/deep/down.jpg`]) {
      await assertRefused(await fetch(stateUrl(backend.url, other, unknown)), 'not-found', 404);
      await assertRefused(await askRenewal(backend.url, other, unknown, { contentType: 'image/jpeg', size: 1 }), 'not-found', 404);
    }
    await assertRefused(await askRenewal(backend.url, feed, key, { contentType: 'image/png', size: 1 }), 'invalid-body', 400);
  });

  test('an offline pack holds a grant or a problem for each file, in order', async () => {
    const feed = newFeed();
    const files = [{ contentType: 'image/jpeg', size: 10 }, { contentType: 'text/html', size: 10 }, 7, { contentType: 'image/png', size: 10, method: 'POST' }];
    const response = await askGrant(backend.url, feed, { files });
    assert.equal(response.status, 200);
    const { uploads } = await response.json();
    assert.deepEqual(uploads.map(({ method, type }) => method ?? type), [
      'PUT', 'urn:photoshare:problem:unsupported-content-type', 'urn:photoshare:problem:invalid-body', 'POST',
    ]);
    await assertRefused(await askGrant(backend.url, feed, { files: Array(101).fill(files[0]) }), 'invalid-body', 400);
    assert.equal((await askGrant(backend.url, feed, { ...files[0], files: null })).status, 201, 'null is nothing');
    assert.equal((await (await askGrant(backend.url, feed, { files: Array(100).fill(files[0]) })).json()).uploads.length, 100);
  });

  test('a form is taken as it was granted', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture, { method: 'POST', filename: 'IMG_1.JPG' });
    assert.equal(grant.method, 'POST');
    assert.equal(Object.keys(grant.fields)[0], 'key', 'fields are in the order of sending');
    assert.equal(Object.keys(grant.fields).at(-1), 'x-amz-signature');
    const response = await post(grant, picture.bytes);
    assert.ok(response.ok, `${response.status} ${await response.text()}`);
    const event = await client.inbox.find('imageUploaded');
    assert.equal(event.key, grant.key);
    assert.equal(event.filename, 'IMG_1.JPG');
    assert.equal(response.headers.get('etag'), `"${event.eTag}"`, 'some clients wait for it');
    assert.deepEqual(await download(event.url), picture.bytes);
  });

  const TAMPERED = {
    'a byte less': (bytes) => [bytes.subarray(1)],
    'a byte more': (bytes) => [Buffer.concat([bytes, Buffer.from([0])])],
    'another type': (bytes) => [bytes, (fields) => fields.set('content-type', 'text/html')],
    'another key': (bytes) => [bytes, (fields) => fields.set('key', fields.get('key').replace(/-[0-9a-f]{20}/, `-${'0'.repeat(20)}`))],
    'another caption': (bytes) => [bytes, (fields) => fields.set('x-amz-meta-caption', 'AAAA')],
    'another policy': (bytes) => [bytes, (fields) => fields.set('policy', btoa(atob(fields.get('policy')).replace('content-length-range', 'content-length-rangf')))],
    'another signature': (bytes) => [bytes, (fields) => fields.set('x-amz-signature', '0'.repeat(64))],
    'a field that nobody signed': (bytes) => [bytes, (fields) => fields.set('acl', 'public-read')],
  };
  for (const [what, tamper] of Object.entries(TAMPERED)) {
    test(`trap 18: a form with ${what} is refused by the store`, async () => {
      const feed = newFeed();
      const picture = photo();
      const grant = await grantFor(backend.url, feed, picture, { method: 'POST', caption: 'Seen' });
      await assertNotStored(backend.url, feed, await post(grant, ...tamper(picture.bytes)));
    });
  }

  test('a form that has expired is refused by the store', async () => {
    const feed = newFeed();
    const picture = photo();
    const grant = await grantFor(backend.url, feed, picture, { method: 'POST', expiresIn: 1 });
    await until(() => Date.now() > Date.parse(grant.expiresAt) + 1_000, 'the end of the second');
    await assertNotStored(backend.url, feed, await post(grant, picture.bytes));
  });

  test('a body of another checksum is refused by the store, the right one is taken', async () => {
    const feed = newFeed();
    const picture = photo();
    const checksumSha256 = createHash('sha256').update(picture.bytes).digest('base64');
    const grant = await grantFor(backend.url, feed, picture, { checksumSha256 });
    assert.equal(new Headers(grant.headers).get('x-amz-checksum-sha256'), checksumSha256);
    const other = Buffer.from(picture.bytes);
    other[30] ^= 1;
    await assertNotStored(backend.url, feed, await put(grant, other));
    assert.equal((await put(grant, picture.bytes)).status, 200);
  });

  test('the photo\'s story and what it really is are told', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    const told = { filename: 'Größe 📷.JPG', caption: 'Im Garten 🌻' };
    // A PNG that calls itself a JPEG: what is told is what it is.
    const { key } = await upload(backend.url, feed, { contentType: 'image/jpeg', bytes: png({ width: 40, height: 30 }) }, told);
    const event = await client.inbox.find('imageUploaded', (one) => one.key === key);
    const { contentType, width, height, filename, caption } = event;
    assert.deepEqual({ contentType, width, height, filename, caption }, { contentType: 'image/png', width: 40, height: 30, ...told });
    assert.ok(!('uploadedBy' in event));
  });

  const IMPOSTORS = {
    'a page': '<!DOCTYPE html><script>alert(1)</script>',
    'an SVG': '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    'a PDF': '%PDF-1.7\n',
    'an archive': 'PK\u0003\u0004\u0014\u0000\u0000\u0000',
  };
  for (const [what, text] of Object.entries(IMPOSTORS)) {
    test(`${what} that calls itself a photo is not announced, but counted`, async (t) => {
      const feed = newFeed();
      const client = closing(t, connect4(backend.url));
      await client.ask('join', feed);
      const counted = async () => {
        const metrics = await (await fetch(`${backend.url}/metrics`)).text();
        return Number(/^photoshare_events_dropped_total\{reason="not_allowed"\} (\d+)$/m.exec(metrics)?.[1] ?? 0);
      };
      const before = await counted();
      const { key } = await upload(backend.url, feed, { contentType: 'image/jpeg', bytes: Buffer.from(text) });
      await until(async () => (await counted()) > before, 'it to be counted');
      assert.equal((await stateOf(backend.url, feed, key)).state, 'stored');
      const real = await upload(backend.url, feed);
      await client.inbox.find('imageUploaded', (event) => event.key === real.key);
      assert.equal(client.inbox.named('imageUploaded').length, 1);
    });
  }

  test('bytes that nobody knows are announced as what they were said to be', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    await upload(backend.url, feed, { contentType: 'image/heic', bytes: Buffer.from('a photo of tomorrow') });
    const event = await client.inbox.find('imageUploaded');
    assert.equal(event.contentType, 'image/heic');
    assert.ok(!('width' in event));
  });
});

/** Where an upload that is no photo is in the end, and what became of the upload. */
const FATES = {
  keep: { where: (key) => [key], state: 'stored' },
  delete: { where: () => [] },
  quarantine: { where: (key) => [`.photoshare/quarantine/${key}`] },
};
for (const [inspect, { where, state }] of Object.entries(FATES)) {
  onEachBackend(`INSPECT=${inspect}`, (backend) => {
    test('what is no photo is told to nobody, and is where it shall be', async (t) => {
      const feed = newFeed();
      const client = closing(t, connect4(backend.url));
      await client.ask('join', feed);
      const { key } = await upload(backend.url, feed, { contentType: 'image/jpeg', bytes: Buffer.from('%PDF-1.7\n') });
      const counted = async () => /^photoshare_events_dropped_total\{reason="not_allowed"\} 1$/m.test(await (await fetch(`${backend.url}/metrics`)).text());
      await until(counted, 'it to be judged');
      await until(async () => String(await backend.server.bucketKeys()) === String(where(key)), `it to be at ${where(key)}`);
      assert.deepEqual((await listPhotos(backend.url, feed)).photos.map((stored) => stored.key), state ? [key] : []);
      if (state) assert.equal((await stateOf(backend.url, feed, key)).state, state);
      // Its removal is an event of the bucket like any other; the upload itself was never told.
      const real = await upload(backend.url, feed);
      await client.inbox.find('imageUploaded', (event) => event.key === real.key);
      assert.equal(client.inbox.named('imageUploaded').length, 1);
    });
  }, { env: { INSPECT: inspect } });
}

onEachBackend('INSPECT=off', (backend) => {
  test('everything is announced, and nothing is told that was not looked at', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    await upload(backend.url, feed, { contentType: 'image/jpeg', bytes: Buffer.from('%PDF-1.7\n') }, { caption: 'x' });
    const event = await client.inbox.find('imageUploaded');
    for (const field of ['contentType', 'width', 'caption']) assert.ok(!(field in event), field);
  });
}, { env: { INSPECT: 'off' } });

onEachBackend('SHOW_UPLOADER=true', (backend) => {
  const ask = (feed, sub, body) => fetch(feedUrl(backend.url, feed, '/uploads'), {
    method: 'POST', body: JSON.stringify(body), headers: { authorization: `Bearer ${tokenFor({ [feed]: ['view', 'upload'] }, { sub })}` },
  });
  const picture = photo();
  const described = { contentType: picture.contentType, size: picture.bytes.length };

  for (const method of ['PUT', 'POST']) {
    test(`who uploaded by ${method} is told`, async (t) => {
      const feed = newFeed();
      const client = closing(t, connect4(backend.url, { auth: { token: tokenFor({ [feed]: ['view'] }), feeds: [feed] } }));
      await client.inbox.find('joined');
      const grant = await (await ask(feed, 'ann 🌻', { ...described, method })).json();
      const response = await (method === 'PUT' ? put : post)(grant, picture.bytes);
      assert.ok(response.ok, await response.text());
      assert.equal((await client.inbox.find('imageUploaded')).uploadedBy, 'ann 🌻');
    });
  }

  test('what does not fit into the metadata that S3 takes is refused, with the fields that make it up', async () => {
    const feed = newFeed();
    const fits = await ask(feed, 'x'.repeat(400), { ...described, filename: 'x'.repeat(255), caption: 'x'.repeat(800) });
    assert.equal(fits.status, 201, await fits.text());
    for (const method of ['PUT', 'POST']) {
      const response = await ask(feed, 'x'.repeat(500), { ...described, method, filename: 'x'.repeat(255), caption: 'x'.repeat(800) });
      const { detail } = await assertRefused(response, 'invalid-body', 400);
      assert.match(detail, /filename, caption and uploader .*2048/);
    }
  });
}, { env: { AUTH: 'on', AUTH_JWT_SECRET: SECRET, SHOW_UPLOADER: 'true' } });

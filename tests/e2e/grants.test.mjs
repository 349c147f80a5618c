// Grants after they were issued: the state of the upload, renewals, batches, POST forms, inspection.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { postGrantRequest, downloadPhoto, buildFeedUrl, createGrant, makeJpeg, listPhotos, objectNameOf, makeFeedId, makePhoto, makePng, putPhoto, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { assertNoNulls, assertRefused } from './lib/assertions.mjs';
import { SECRET, createToken } from './lib/tokens.mjs';
import { waitUntil } from './lib/wait.mjs';

const stateUrl = (url, feed, key) => buildFeedUrl(url, feed, `/uploads/${encodeURIComponent(objectNameOf(feed, key))}`);

async function fetchState(url, feed, key) {
  const response = await fetch(stateUrl(url, feed, key));
  const state = await response.json();
  assert.equal(response.status, 200, JSON.stringify(state));
  assertNoNulls(state);
  return state;
}

const requestRenewal = (url, feed, key, body) => fetch(`${stateUrl(url, feed, key)}/renew`, {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
});

/**
 * Sends the grant's form, its fields changed by `tamper`. The body is sent from memory: a store that refuses
 * early may close the connection, and a streamed body would then fail before the response is read.
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

describeOnEachBackend('grants', (backend) => {
  test('an upload is issued, then announced, with its size, eTag and the cursor of its announcement', async (t) => {
    const feed = makeFeedId('Größe 1');
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture);
    assert.deepEqual(await fetchState(backend.url, feed, grant.key), { key: grant.key, state: 'issued' });
    assert.equal((await putPhoto(grant, picture.bytes)).status, 200);
    const event = await client.inbox.waitFor('imageUploaded');
    assert.deepEqual(await fetchState(backend.url, feed, grant.key), {
      key: grant.key, state: 'announced', size: picture.bytes.length, eTag: event.eTag, cursor: event.cursor,
    });
  });

  test('a grant whose photo is stored or removed can\'t be renewed; the state of a removed one is not-found', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const picture = makePhoto();
    const request = { contentType: picture.contentType, size: picture.bytes.length };
    const { key } = await uploadPhoto(backend.url, feed, picture);
    await assertRefused(await requestRenewal(backend.url, feed, key, request), 'already-stored', 409);
    await client.inbox.waitFor('imageUploaded');
    await removePhoto(backend.url, feed, key);
    await client.inbox.waitFor('imageRemoved');
    await assertRefused(await fetch(stateUrl(backend.url, feed, key)), 'not-found', 404);
    await assertRefused(await requestRenewal(backend.url, feed, key, request), 'already-stored', 409);
  });

  test('a photo that was deleted before its upload can still be uploaded, and is announced', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture);
    await removePhoto(backend.url, feed, grant.key);
    // S3 and dev emit an event for the removal of a key that does not exist; ministack does not.
    if (backend.name === 'dev') await client.inbox.waitFor('imageRemoved');
    assert.equal((await fetchState(backend.url, feed, grant.key)).state, 'issued');
    const response = await requestRenewal(backend.url, feed, grant.key);
    const fresh = await response.json();
    assert.equal(response.status, 201, JSON.stringify(fresh));
    assert.equal((await putPhoto(fresh, picture.bytes)).status, 200);
    assert.equal((await client.inbox.waitFor('imageUploaded')).key, grant.key);
  });

  test('a renewed grant is valid for the same key', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture, { expiresIn: 1 });
    await waitUntil(() => Date.now() > Date.parse(grant.expiresAt) + 1_000, 'the end of the second');
    assert.equal((await putPhoto(grant, picture.bytes)).status, 403);
    const response = await requestRenewal(backend.url, feed, grant.key, { contentType: 'image/jpeg', size: picture.bytes.length });
    const fresh = await response.json();
    assert.equal(response.status, 201, JSON.stringify(fresh));
    assert.equal(fresh.key, grant.key);
    assert.equal((await putPhoto(fresh, picture.bytes)).status, 200);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos.map(({ key }) => key), [grant.key]);
  });

  for (const [what, body] of [['without a body', undefined], ['with an empty body', {}], ['with nulls', { contentType: null, size: null }], ['for a minute', { expiresIn: 60 }]]) {
    test(`a grant is renewed ${what}: type and size are those of the first grant`, async () => {
      const feed = makeFeedId();
      const picture = { contentType: 'image/png', bytes: makePng() };
      const grant = await createGrant(backend.url, feed, picture);
      const response = await requestRenewal(backend.url, feed, grant.key, body);
      const fresh = await response.json();
      assert.equal(response.status, 201, JSON.stringify(fresh));
      assert.equal(fresh.headers['content-type'], 'image/png');
      const ttlMs = Date.parse(fresh.expiresAt) - Date.now();
      assert.ok(ttlMs <= (body?.expiresIn ?? 3_600) * 1_000, `${ttlMs} ms`);
      assert.equal((await putPhoto(fresh, Buffer.concat([picture.bytes, picture.bytes]))).status, 403);
      assert.equal((await putPhoto(fresh, picture.bytes)).status, 200);
    });
  }

  test('names that were not issued for the feed are not-found', async () => {
    const feed = makeFeedId();
    const { key } = await createGrant(backend.url, feed, makePhoto());
    const other = makeFeedId();
    for (const unknown of [key.replace(feed, other), `${other}/a.jpg`, `${other}/deep/down.jpg`]) {
      await assertRefused(await fetch(stateUrl(backend.url, other, unknown)), 'not-found', 404);
      await assertRefused(await requestRenewal(backend.url, other, unknown, { contentType: 'image/jpeg', size: 1 }), 'not-found', 404);
    }
    await assertRefused(await requestRenewal(backend.url, feed, key, { contentType: 'image/png', size: 1 }), 'invalid-body', 400);
  });

  test('a batch request returns a grant or a problem for each file, in order', async () => {
    const feed = makeFeedId();
    const files = [{ contentType: 'image/jpeg', size: 10 }, { contentType: 'text/html', size: 10 }, 7, { contentType: 'image/png', size: 10, method: 'POST' }];
    const response = await postGrantRequest(backend.url, feed, { files });
    assert.equal(response.status, 200);
    const { uploads } = await response.json();
    assert.deepEqual(uploads.map(({ method, type }) => method ?? type), [
      'PUT', 'urn:photoshare:problem:unsupported-content-type', 'urn:photoshare:problem:invalid-body', 'POST',
    ]);
    await assertRefused(await postGrantRequest(backend.url, feed, { files: Array(101).fill(files[0]) }), 'invalid-body', 400);
    assert.equal((await postGrantRequest(backend.url, feed, { ...files[0], files: null })).status, 201, 'null counts as absent');
    assert.equal((await (await postGrantRequest(backend.url, feed, { files: Array(100).fill(files[0]) })).json()).uploads.length, 100);
  });

  test('a photo is uploaded by the granted form', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture, { method: 'POST', filename: 'IMG_1.JPG' });
    assert.equal(grant.method, 'POST');
    assert.equal(Object.keys(grant.fields)[0], 'key', 'fields are in the order in which they are sent');
    assert.equal(Object.keys(grant.fields).at(-1), 'x-amz-signature');
    const response = await post(grant, picture.bytes);
    assert.ok(response.ok, `${response.status} ${await response.text()}`);
    const event = await client.inbox.waitFor('imageUploaded');
    assert.equal(event.key, grant.key);
    assert.equal(event.filename, 'IMG_1.JPG');
    assert.equal(response.headers.get('etag'), `"${event.eTag}"`, 'some clients read the ETag');
    assert.deepEqual(await downloadPhoto(event.url), picture.bytes);
  });

  const TAMPERED = {
    'one byte less': (bytes) => [bytes.subarray(1)],
    'one byte more': (bytes) => [Buffer.concat([bytes, Buffer.from([0])])],
    'another type': (bytes) => [bytes, (fields) => fields.set('content-type', 'text/html')],
    'another key': (bytes) => [bytes, (fields) => fields.set('key', fields.get('key').replace(/-[0-9a-f]{20}/, `-${'0'.repeat(20)}`))],
    'another caption': (bytes) => [bytes, (fields) => fields.set('x-amz-meta-caption', 'AAAA')],
    'another policy': (bytes) => [bytes, (fields) => fields.set('policy', btoa(atob(fields.get('policy')).replace('content-length-range', 'content-length-rangf')))],
    'another signature': (bytes) => [bytes, (fields) => fields.set('x-amz-signature', '0'.repeat(64))],
    'an unsigned field': (bytes) => [bytes, (fields) => fields.set('acl', 'public-read')],
  };
  for (const [what, tamper] of Object.entries(TAMPERED)) {
    test(`a form with ${what} is refused by the store`, async () => {
      const feed = makeFeedId();
      const picture = makePhoto();
      const grant = await createGrant(backend.url, feed, picture, { method: 'POST', caption: 'Seen' });
      await assertNotStored(backend.url, feed, await post(grant, ...tamper(picture.bytes)));
    });
  }

  test('an expired form is refused by the store', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const grant = await createGrant(backend.url, feed, picture, { method: 'POST', expiresIn: 1 });
    await waitUntil(() => Date.now() > Date.parse(grant.expiresAt) + 1_000, 'the end of the second');
    await assertNotStored(backend.url, feed, await post(grant, picture.bytes));
  });

  test('a body with another checksum is refused by the store, the matching one is accepted', async () => {
    const feed = makeFeedId();
    const picture = makePhoto();
    const checksumSha256 = createHash('sha256').update(picture.bytes).digest('base64');
    const grant = await createGrant(backend.url, feed, picture, { checksumSha256 });
    assert.equal(new Headers(grant.headers).get('x-amz-checksum-sha256'), checksumSha256);
    const other = Buffer.from(picture.bytes);
    other[30] ^= 1;
    await assertNotStored(backend.url, feed, await putPhoto(grant, other));
    assert.equal((await putPhoto(grant, picture.bytes)).status, 200);
  });

  test('imageUploaded carries the metadata of the uploader and the detected type and size', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    const metadata = { filename: 'Größe 📷.JPG', caption: 'Im Garten 🌻' };
    // A PNG that is declared as a JPEG is announced as what it is.
    const { key } = await uploadPhoto(backend.url, feed, { contentType: 'image/jpeg', bytes: makePng({ width: 40, height: 30 }) }, metadata);
    const event = await client.inbox.waitFor('imageUploaded', (candidate) => candidate.key === key);
    const { contentType, width, height, filename, caption } = event;
    assert.deepEqual({ contentType, width, height, filename, caption }, { contentType: 'image/png', width: 40, height: 30, ...metadata });
    assert.ok(!('uploadedBy' in event));
  });

  const NOT_PHOTOS = {
    'an HTML page': '<!DOCTYPE html><script>alert(1)</script>',
    'an SVG': '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    'a PDF': '%PDF-1.7\n',
    'a ZIP archive': 'PK\u0003\u0004\u0014\u0000\u0000\u0000',
  };
  for (const [what, text] of Object.entries(NOT_PHOTOS)) {
    test(`${what} that is declared as a photo is dropped and counted`, async (t) => {
      const feed = makeFeedId();
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      await client.request('join', feed);
      const countDropped = async () => {
        const metrics = await (await fetch(`${backend.url}/metrics`)).text();
        return Number(/^photoshare_events_dropped_total\{reason="not_allowed"\} (\d+)$/m.exec(metrics)?.[1] ?? 0);
      };
      const before = await countDropped();
      const { key } = await uploadPhoto(backend.url, feed, { contentType: 'image/jpeg', bytes: Buffer.from(text) });
      await waitUntil(async () => (await countDropped()) > before, 'the drop to be counted');
      assert.equal((await fetchState(backend.url, feed, key)).state, 'stored');
      const real = await uploadPhoto(backend.url, feed);
      await client.inbox.waitFor('imageUploaded', (event) => event.key === real.key);
      assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
    });
  }

  test('bytes of unknown type are announced with the declared type', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    await uploadPhoto(backend.url, feed, { contentType: 'image/heic', bytes: Buffer.from('a format to come') });
    const event = await client.inbox.waitFor('imageUploaded');
    assert.equal(event.contentType, 'image/heic');
    assert.ok(!('width' in event));
  });
});

/** By INSPECT: the keys in the bucket after a rejected upload, and the upload's state where it is still known. */
const REJECT_ACTIONS = {
  keep: { keysAfter: (key) => [key], state: 'stored' },
  delete: { keysAfter: () => [] },
  quarantine: { keysAfter: (key) => [`.photoshare/quarantine/${key}`] },
};
for (const [inspect, { keysAfter, state }] of Object.entries(REJECT_ACTIONS)) {
  describeOnEachBackend(`INSPECT=${inspect}`, (backend) => {
    test('an upload that is not a photo is not announced, and is kept, deleted or moved as configured', async (t) => {
      const feed = makeFeedId();
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      await client.request('join', feed);
      const { key } = await uploadPhoto(backend.url, feed, { contentType: 'image/jpeg', bytes: Buffer.from('%PDF-1.7\n') });
      const isCounted = async () => /^photoshare_events_dropped_total\{reason="not_allowed"\} 1$/m.test(await (await fetch(`${backend.url}/metrics`)).text());
      await waitUntil(isCounted, 'the drop to be counted');
      await waitUntil(async () => String(await backend.server.listBucketKeys()) === String(keysAfter(key)), `the bucket to hold ${keysAfter(key)}`);
      assert.deepEqual((await listPhotos(backend.url, feed)).photos.map((stored) => stored.key), state ? [key] : []);
      if (state) assert.equal((await fetchState(backend.url, feed, key)).state, state);
      // Its removal is an event of the bucket like any other; the upload itself was never announced.
      const real = await uploadPhoto(backend.url, feed);
      await client.inbox.waitFor('imageUploaded', (event) => event.key === real.key);
      assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
    });
  }, { env: { INSPECT: inspect } });
}

describeOnEachBackend('INSPECT=off', (backend) => {
  test('every upload is announced, without the fields that come from inspection', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    await uploadPhoto(backend.url, feed, { contentType: 'image/jpeg', bytes: Buffer.from('%PDF-1.7\n') }, { caption: 'x' });
    const event = await client.inbox.waitFor('imageUploaded');
    for (const field of ['contentType', 'width', 'caption']) assert.ok(!(field in event), field);
  });
}, { env: { INSPECT: 'off' } });

describeOnEachBackend('SHOW_UPLOADER=true', (backend) => {
  const requestGrant = (feed, sub, body) => fetch(buildFeedUrl(backend.url, feed, '/uploads'), {
    method: 'POST', body: JSON.stringify(body), headers: { authorization: `Bearer ${createToken({ [feed]: ['view', 'upload'] }, { sub })}` },
  });
  const picture = makePhoto();
  const described = { contentType: picture.contentType, size: picture.bytes.length };

  for (const method of ['PUT', 'POST']) {
    test(`imageUploaded names the uploader of a ${method}`, async (t) => {
      const feed = makeFeedId();
      const client = closeAfterTest(t, connectSocketIo4(backend.url, { auth: { token: createToken({ [feed]: ['view'] }), feeds: [feed] } }));
      await client.inbox.waitFor('joined');
      const grant = await (await requestGrant(feed, 'ann 🌻', { ...described, method })).json();
      const response = await (method === 'PUT' ? putPhoto : post)(grant, picture.bytes);
      assert.ok(response.ok, await response.text());
      assert.equal((await client.inbox.waitFor('imageUploaded')).uploadedBy, 'ann 🌻');
    });
  }

  test('metadata beyond the limit of S3 is refused, with a detail that names its fields', async () => {
    const feed = makeFeedId();
    const fits = await requestGrant(feed, 'x'.repeat(400), { ...described, filename: 'x'.repeat(255), caption: 'x'.repeat(800) });
    assert.equal(fits.status, 201, await fits.text());
    for (const method of ['PUT', 'POST']) {
      const response = await requestGrant(feed, 'x'.repeat(500), { ...described, method, filename: 'x'.repeat(255), caption: 'x'.repeat(800) });
      const { detail } = await assertRefused(response, 'invalid-body', 400);
      assert.match(detail, /filename, caption and uploader .*2048/);
    }
  });
}, { env: { AUTH: 'on', AUTH_JWT_SECRET: SECRET, SHOW_UPLOADER: 'true' } });

// `photoshare dev`: everything in one process, with its data in one folder.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { downloadPhoto, buildFeedUrl, createGrant, listAllKeys, listPhotos, makeFeedId, makePhoto, putPhoto, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { assertFreshJoin, assertRefused } from './lib/assertions.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { sendRawRequest } from './lib/raw-request.mjs';
import { startDev, createTemporaryFolder } from './lib/server.mjs';

/** Stops the server at the end of the test. */
const stopAfter = (t, server) => {
  t.after(() => server.stop());
  return server;
};

test('photos of an earlier run can be listed, downloaded and deleted; its cursors are not recovered', async (t) => {
  const dataDir = await createTemporaryFolder(t);
  const feed = makeFeedId('Größe 2026');
  const pictures = [makePhoto(), makePhoto()];

  const earlier = await startDev({ dataDir });
  const watcher = connectSocketIo4(earlier.url, { reconnection: false });
  const { cursor } = await watcher.request('join', feed);
  const first = await uploadPhoto(earlier.url, feed, pictures[0]);
  const { cursor: later } = await watcher.inbox.waitFor('imageUploaded');
  const second = await uploadPhoto(earlier.url, feed, pictures[1]);
  const keys = await listAllKeys(earlier.url, feed, 50);
  assert.deepEqual(keys.toSorted(), [first.key, second.key].toSorted());
  watcher.close();
  await earlier.stop();

  const server = stopAfter(t, await startDev({ dataDir }));
  assert.deepEqual(await listAllKeys(server.url, feed, 50), keys);
  const { photos } = await listPhotos(server.url, feed);
  assert.deepEqual(await downloadPhoto(photos.find(({ key }) => key === first.key).url), pictures[0].bytes);

  const client = closeAfterTest(t, connectSocketIo4(server.url));
  for (const old of [cursor, later]) assertFreshJoin(await client.request('join', { feed, cursor: old }), feed);
  await removePhoto(server.url, feed, first.key);
  assert.equal((await client.inbox.waitFor('imageRemoved')).key, first.key);
  const third = await uploadPhoto(server.url, feed);
  assert.equal((await client.inbox.waitFor('imageUploaded')).key, third.key);
});

test('data is written to DATA_DIR and nowhere else', async (t) => {
  const [dataDir, cwd] = [await createTemporaryFolder(t), await createTemporaryFolder(t)];
  const server = stopAfter(t, await startDev({ dataDir, cwd }));
  await uploadPhoto(server.url, makeFeedId());
  assert.notDeepEqual(await readdir(dataDir), []);
  assert.deepEqual(await readdir(cwd), []);
});

test('URLs have the host that the client used', async (t) => {
  const server = stopAfter(t, await startDev());
  const feed = makeFeedId();
  const byName = `http://localhost:${server.port}`;
  const [ip, name] = [closeAfterTest(t, connectSocketIo4(server.url)), closeAfterTest(t, connectSocketIo4(byName))];
  const streams = [closeAfterTest(t, await openEventStream(server.url, feed)), closeAfterTest(t, await openEventStream(byName, feed))];
  await Promise.all([ip, name].map((client) => client.request('join', feed)));

  const picture = makePhoto();
  const grant = await uploadPhoto(byName, feed, picture);
  assert.equal(new URL(grant.url).host, `localhost:${server.port}`);
  for (const [client, host] of [[ip, '127.0.0.1'], [name, 'localhost'], [streams[0], '127.0.0.1'], [streams[1], 'localhost']]) {
    const { url } = await client.inbox.waitFor('imageUploaded');
    assert.equal(new URL(url).host, `${host}:${server.port}`);
    assert.deepEqual(await downloadPhoto(url), picture.bytes);
  }
  const { photos: [listed] } = await listPhotos(byName, feed);
  assert.equal(new URL(listed.url).host, `localhost:${server.port}`);
});

test('URLs have the origin of PUBLIC_URL where it is set', async (t) => {
  const server = stopAfter(t, await startDev({ env: { PUBLIC_URL: 'https://photos.example' } }));
  const grant = await createGrant(server.url, makeFeedId(), makePhoto());
  assert.equal(new URL(grant.url).origin, 'https://photos.example');
});

test('the embedded S3 refuses unsigned requests, and serves uploads with nosniff and a sandboxing policy', async (t) => {
  const server = stopAfter(t, await startDev());
  const feed = makeFeedId();
  const { key } = await uploadPhoto(server.url, feed);
  for (const [method, path] of [['GET', ''], ['GET', '/'], ['GET', `/${key}`], ['DELETE', `/${key}`], ['PUT', `/${feed}/x.jpg`], ['GET', '?list-type=2']]) {
    const response = await fetch(`${server.url}/photoshare${path}`, { method, ...(method === 'PUT' && { body: 'x' }) });
    await response.text();
    assert.equal(response.status, 403, `${method} ${path}`);
  }
  const { photos: [{ url }] } = await listPhotos(server.url, feed);
  const response = await fetch(url);
  await response.arrayBuffer();
  assert.equal(response.headers.get('content-type'), 'image/jpeg');
  assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
  assert.match(response.headers.get('content-security-policy'), /sandbox/);
});

test('a view URL permits only GET', async (t) => {
  const server = stopAfter(t, await startDev());
  const feed = makeFeedId();
  await uploadPhoto(server.url, feed);
  const { photos: [{ url }] } = await listPhotos(server.url, feed);
  for (const method of ['PUT', 'DELETE']) {
    const response = await fetch(url, { method, ...(method === 'PUT' && { body: 'x' }) });
    await response.text();
    assert.equal(response.status, 403, method);
  }
});

test('a PUT with headers beyond those of the grant is refused', async (t) => {
  const server = stopAfter(t, await startDev());
  const [feed, other] = [makeFeedId(), makeFeedId()];
  const { key: otherKey } = await uploadPhoto(server.url, other);
  for (const [name, value] of [['x-amz-copy-source', `/photoshare/${otherKey}`], ['x-amz-meta-caption', 'Zm9yZ2Vk'], ['x-amz-acl', 'public-read']]) {
    const picture = makePhoto();
    const grant = await createGrant(server.url, feed, picture);
    const forged = await putPhoto({ ...grant, headers: { ...grant.headers, [name]: value } }, picture.bytes);
    assert.equal(forged.status, 403, name);
    assert.match(await forged.text(), /AccessDenied/);
    assert.deepEqual((await listPhotos(server.url, feed)).photos, []);
  }
});

test('a multipart upload can be completed after a refused completion', async (t) => {
  const server = stopAfter(t, await startDev());
  const feed = makeFeedId();
  const base = buildFeedUrl(server.url, feed, '/s3/multipart');
  const { uploadId, key } = await (await fetch(base, { method: 'POST', body: JSON.stringify({ filename: 'x.jpg', type: 'image/jpeg' }) })).json();
  const uploadUrl = (rest) => `${base}/${uploadId}${rest}?${new URLSearchParams({ key })}`;
  const parts = [];
  for (const PartNumber of [1, 2]) {
    const { url } = await (await fetch(uploadUrl(`/${PartNumber}`))).json();
    parts.push({ PartNumber, ETag: (await fetch(url, { method: 'PUT', body: 'small' })).headers.get('etag') });
  }
  const complete = (chosen) => fetch(uploadUrl('/complete'), { method: 'POST', body: JSON.stringify({ parts: chosen }) });
  for (const [chosen, why] of [[parts, /EntityTooSmall/], [parts.toReversed(), /ascending order/]]) {
    const { detail } = await assertRefused(await complete(chosen), 'invalid-body', 400);
    assert.match(detail, why);
  }
  const done = await complete(parts.slice(1));
  assert.equal(done.status, 200, await done.text());
});

test('the server\'s own prefix .photoshare is not a feed', async (t) => {
  const server = stopAfter(t, await startDev());
  await assertRefused(await fetch(`${server.url}/v1/feeds/.photoshare/photos`), 'invalid-feed', 400);
});

test('startup prints the address of the page and a curl command', async (t) => {
  const server = stopAfter(t, await startDev());
  assert.match(server.log, new RegExp(`http://(127\\.0\\.0\\.1|localhost):${server.port}`));
  assert.match(server.log, /\bcurl\b/);
});

test('a request to the name of another site is refused, so that its pages cannot use this server (DNS rebinding)', async (t) => {
  const server = stopAfter(t, await startDev({ env: { PUBLIC_URL: 'https://photos.example' } }));
  const send = (host, path, headers = {}) => sendRawRequest(server.url, 'GET', path, { headers: { host, ...headers } });
  for (const path of ['/healthz', '/v1/feeds/summer', '/socket.io/?EIO=4&transport=polling']) {
    for (const host of [`localhost:${server.port}`, 'app.localhost', '127.0.0.1', '192.168.1.20:3000', '[::1]:3000', 'photos.example']) {
      assert.equal((await send(host, path)).status, 200, `${host}${path}`);
    }
    for (const host of ['evil.example', `evil.example:${server.port}`, 'localhost.evil.example', 'a.photos.example']) {
      await assertRefused(await send(host, path, { origin: `http://${host}` }), 'forbidden', 403);
    }
  }
});

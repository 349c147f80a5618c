// What only `photoshare dev` does: everything in one process, on one folder.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { closing, connect4 } from './lib/clients.mjs';
import { download, feedUrl, grantFor, listAllKeys, listPhotos, newFeed, photo, put, remove, upload } from './lib/photos.mjs';
import { assertFreshJoin, assertRefused } from './lib/shapes.mjs';
import { openStream } from './lib/sse.mjs';
import { startDev, temporaryFolder } from './lib/server.mjs';

const stopping = (t, server) => {
  t.after(() => server.stop());
  return server;
};

test('photos of an earlier run are still listed, shown and deleted; its cursors are not recovered from', async (t) => {
  const dataDir = await temporaryFolder(t);
  const feed = newFeed('Größe 2026');
  const pictures = [photo(), photo()];

  const earlier = await startDev({ dataDir });
  const watcher = connect4(earlier.url, { reconnection: false });
  const { cursor } = await watcher.ask('join', feed);
  const first = await upload(earlier.url, feed, pictures[0]);
  const { cursor: later } = await watcher.inbox.find('imageUploaded');
  const second = await upload(earlier.url, feed, pictures[1]);
  const keys = await listAllKeys(earlier.url, feed, 50);
  assert.deepEqual(keys.toSorted(), [first.key, second.key].toSorted());
  watcher.close();
  await earlier.stop();

  const server = stopping(t, await startDev({ dataDir }));
  assert.deepEqual(await listAllKeys(server.url, feed, 50), keys);
  const { photos } = await listPhotos(server.url, feed);
  assert.deepEqual(await download(photos.find(({ key }) => key === first.key).url), pictures[0].bytes);

  const client = closing(t, connect4(server.url));
  for (const old of [cursor, later]) assertFreshJoin(await client.ask('join', { feed, cursor: old }), feed);
  await remove(server.url, feed, first.key);
  assert.equal((await client.inbox.find('imageRemoved')).key, first.key);
  const third = await upload(server.url, feed);
  assert.equal((await client.inbox.find('imageUploaded')).key, third.key);
});

test('data lies under DATA_DIR and nowhere else', async (t) => {
  const [dataDir, cwd] = [await temporaryFolder(t), await temporaryFolder(t)];
  const server = stopping(t, await startDev({ dataDir, cwd }));
  await upload(server.url, newFeed());
  assert.notDeepEqual(await readdir(dataDir), []);
  assert.deepEqual(await readdir(cwd), []);
});

test('URLs name the host that the client used', async (t) => {
  const server = stopping(t, await startDev());
  const feed = newFeed();
  const byName = `http://localhost:${server.port}`;
  const [ip, name] = [closing(t, connect4(server.url)), closing(t, connect4(byName))];
  const streams = [closing(t, await openStream(server.url, feed)), closing(t, await openStream(byName, feed))];
  await Promise.all([ip, name].map((client) => client.ask('join', feed)));

  const picture = photo();
  const grant = await upload(byName, feed, picture);
  assert.equal(new URL(grant.url).host, `localhost:${server.port}`);
  for (const [client, host] of [[ip, '127.0.0.1'], [name, 'localhost'], [streams[0], '127.0.0.1'], [streams[1], 'localhost']]) {
    const { url } = await client.inbox.find('imageUploaded');
    assert.equal(new URL(url).host, `${host}:${server.port}`);
    assert.deepEqual(await download(url), picture.bytes);
  }
  const { photos: [listed] } = await listPhotos(byName, feed);
  assert.equal(new URL(listed.url).host, `localhost:${server.port}`);
});

test('URLs name PUBLIC_URL where it is set', async (t) => {
  const server = stopping(t, await startDev({ env: { PUBLIC_URL: 'https://photos.example' } }));
  const grant = await grantFor(server.url, newFeed(), photo());
  assert.equal(new URL(grant.url).origin, 'https://photos.example');
});

test('the bucket lets nobody in without a signature, and shows uploads as nothing but uploads', async (t) => {
  const server = stopping(t, await startDev());
  const feed = newFeed();
  const { key } = await upload(server.url, feed);
  for (const [method, path] of [['GET', ''], ['GET', '/'], ['GET', `/${key}`], ['DELETE', `/${key}`], ['PUT', `/${feed}/x.jpg`], ['GET', '?list-type=2']]) {
    const response = await fetch(`${server.url}/photoshare${path}`, { method, ...(method === 'PUT' && { body: 'x' }) });
    await response.text();
    assert.equal(response.status, 403, `${method} ${path}`);
  }
  const { photos: [{ url }] } = await listPhotos(server.url, feed);
  const shown = await fetch(url);
  await shown.arrayBuffer();
  assert.equal(shown.headers.get('content-type'), 'image/jpeg');
  assert.equal(shown.headers.get('x-content-type-options'), 'nosniff');
  assert.match(shown.headers.get('content-security-policy'), /sandbox/);
});

test('a view URL reads its photo and does nothing else', async (t) => {
  const server = stopping(t, await startDev());
  const feed = newFeed();
  await upload(server.url, feed);
  const { photos: [{ url }] } = await listPhotos(server.url, feed);
  for (const method of ['PUT', 'DELETE']) {
    const response = await fetch(url, { method, ...(method === 'PUT' && { body: 'x' }) });
    await response.text();
    assert.equal(response.status, 403, method);
  }
});

test('a grant is good for what was granted, whatever headers are sent with it', async (t) => {
  const server = stopping(t, await startDev());
  const [feed, other] = [newFeed(), newFeed()];
  const { key: theirs } = await upload(server.url, other);
  for (const [name, value] of [['x-amz-copy-source', `/photoshare/${theirs}`], ['x-amz-meta-caption', 'Zm9yZ2Vk'], ['x-amz-acl', 'public-read']]) {
    const picture = photo();
    const grant = await grantFor(server.url, feed, picture);
    const forged = await put({ ...grant, headers: { ...grant.headers, [name]: value } }, picture.bytes);
    assert.equal(forged.status, 403, name);
    assert.match(await forged.text(), /AccessDenied/);
    assert.deepEqual((await listPhotos(server.url, feed)).photos, []);
  }
});

test('an upload in parts outlives a completion that was refused', async (t) => {
  const server = stopping(t, await startDev());
  const feed = newFeed();
  const base = feedUrl(server.url, feed, '/s3/multipart');
  const { uploadId, key } = await (await fetch(base, { method: 'POST', body: JSON.stringify({ filename: 'x.jpg', type: 'image/jpeg' }) })).json();
  const of = (rest) => `${base}/${uploadId}${rest}?${new URLSearchParams({ key })}`;
  const parts = [];
  for (const PartNumber of [1, 2]) {
    const { url } = await (await fetch(of(`/${PartNumber}`))).json();
    parts.push({ PartNumber, ETag: (await fetch(url, { method: 'PUT', body: 'small' })).headers.get('etag') });
  }
  const complete = (chosen) => fetch(of('/complete'), { method: 'POST', body: JSON.stringify({ parts: chosen }) });
  for (const [chosen, why] of [[parts, /EntityTooSmall/], [parts.toReversed(), /ascending order/]]) {
    const { detail } = await assertRefused(await complete(chosen), 'invalid-body', 400);
    assert.match(detail, why);
  }
  const done = await complete(parts.slice(1));
  assert.equal(done.status, 200, await done.text());
});

test('the server\'s own part of the bucket is no feed', async (t) => {
  const server = stopping(t, await startDev());
  await assertRefused(await fetch(`${server.url}/v1/feeds/.photoshare/photos`), 'invalid-feed', 400);
});

test('the start prints the page\'s address and a curl line to try', async (t) => {
  const server = stopping(t, await startDev());
  assert.match(server.log, new RegExp(`http://(127\\.0\\.0\\.1|localhost):${server.port}`));
  assert.match(server.log, /\bcurl\b/);
});

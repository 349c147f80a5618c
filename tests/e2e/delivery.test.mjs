// A photo travels: grant, PUT, the bucket's own event, every kind of client, and back out again.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { WATCHERS, closing, connect4 } from './lib/clients.mjs';
import { download, newFeed, photo, remove, upload } from './lib/photos.mjs';
import { assertIssuedKey, assertRemoved, assertUploaded } from './lib/shapes.mjs';

onEachBackend('a photo travels', (backend) => {
  for (const [kind, watch] of Object.entries(WATCHERS)) {
    test(`trap 33: ${kind} is told of a photo, downloads its very bytes and is told of its removal`, async (t) => {
      const feed = newFeed();
      const client = closing(t, await watch(backend.url, feed));
      const picture = photo();

      const grant = await upload(backend.url, feed, picture);
      const uploaded = await client.inbox.find('imageUploaded');
      assertIssuedKey(uploaded.key, feed);
      assertUploaded(uploaded, grant, picture.bytes.length);
      assert.deepEqual(await download(uploaded.url), picture.bytes);

      await remove(backend.url, feed, grant.key);
      const removed = await client.inbox.find('imageRemoved');
      assertRemoved(removed, grant);
      assert.notEqual(removed.cursor, uploaded.cursor);
      assert.equal(client.inbox.named('imageUploaded').length, 1);
    });
  }

  test('every kind of client in one feed is told the same, in the same order', async (t) => {
    const feed = newFeed();
    const clients = await Promise.all(Object.values(WATCHERS).map(async (watch) => closing(t, await watch(backend.url, feed))));
    await Promise.all(Array.from({ length: 5 }, () => upload(backend.url, feed)));

    const tellings = await Promise.all(clients.map(({ inbox }) => inbox.first(5, 'imageUploaded')));
    const sayings = tellings.map((events) => events.map(({ url, urlExpiresAt, ...event }) => event));
    for (const saying of sayings) assert.deepEqual(saying, sayings[0]);
  });

  test('photos sent one after another are told in that order, each with a cursor of its own', async (t) => {
    const feed = newFeed();
    const client = closing(t, await WATCHERS['socket.io-client 4, WebSocket'](backend.url, feed));
    const keys = [];
    for (let i = 0; i < 3; i += 1) {
      const { key } = await upload(backend.url, feed);
      await client.inbox.find('imageUploaded', (event) => event.key === key);
      keys.push(key);
    }
    const told = client.inbox.named('imageUploaded');
    assert.deepEqual(told.map(({ key }) => key), keys);
    assert.equal(new Set(told.map(({ cursor }) => cursor)).size, 3);
  });

  test('two feeds do not leak into each other', async (t) => {
    const [one, other] = [newFeed('one'), newFeed('other')];
    const client = closing(t, connect4(backend.url));
    const outsider = closing(t, connect4(backend.url));
    await client.ask('join', one);
    await outsider.ask('join', other);

    const first = await upload(backend.url, one);
    const second = await upload(backend.url, other);
    await client.inbox.find('imageUploaded', ({ key }) => key === first.key);
    await outsider.inbox.find('imageUploaded', ({ key }) => key === second.key);
    // An answer stands behind everything that was told before it.
    await Promise.all([client.ask('leave', one), outsider.ask('leave', other)]);
    assert.deepEqual(client.inbox.named('imageUploaded').map(({ feed }) => feed), [one]);
    assert.deepEqual(outsider.inbox.named('imageUploaded').map(({ feed }) => feed), [other]);
  });

  test('feed ids are compared byte by byte', async (t) => {
    const id = newFeed('x').slice(2);
    const feeds = [`Caf\u00e9${id}`, `Cafe\u0301${id}`, `caf\u00e9${id}`, `Caf\u00e9${id} `, `Caf\u00e9${id}%20`];
    const clients = feeds.map(() => closing(t, connect4(backend.url)));
    await Promise.all(clients.map((client, i) => client.ask('join', feeds[i])));

    const grants = await Promise.all(feeds.map((feed) => upload(backend.url, feed)));
    for (const [i, client] of clients.entries()) {
      await client.inbox.find('imageUploaded', ({ key }) => key === grants[i].key);
      await client.ask('leave', feeds[i]);
      assert.deepEqual(client.inbox.named('imageUploaded').map(({ feed }) => feed), [feeds[i]]);
    }
  });

  for (const feed of ['Sommer 2026', 'Größe', '📷🌅', 'a+b', '100%', 'a?b#c&d=e', `it's "so" <b>`, 'back\\slash', '~-_.!*()', 'x'.repeat(64)]) {
    test(`a feed may be called ${feed}`, async (t) => {
      const client = closing(t, connect4(backend.url));
      await client.ask('join', feed);
      const picture = photo();
      const grant = await upload(backend.url, feed, picture);
      assertIssuedKey(grant.key, feed);

      const uploaded = await client.inbox.find('imageUploaded', ({ key }) => key === grant.key);
      assertUploaded(uploaded, grant, picture.bytes.length);
      assert.deepEqual(await download(uploaded.url), picture.bytes);
      await remove(backend.url, feed, grant.key);
      assertRemoved(await client.inbox.find('imageRemoved'), grant);
    });
  }
});

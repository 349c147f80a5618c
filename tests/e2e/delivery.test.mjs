// Delivery end to end: grant, PUT, the bucket's own event, every kind of client, removal.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { JOINED_CLIENTS, closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { downloadPhoto, makeFeedId, makePhoto, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { assertIssuedKey, assertRemoved, assertUploaded } from './lib/assertions.mjs';

describeOnEachBackend('delivery', (backend) => {
  for (const [kind, watch] of Object.entries(JOINED_CLIENTS)) {
    test(`${kind} receives imageUploaded, downloads the same bytes, and receives imageRemoved`, async (t) => {
      const feed = makeFeedId();
      const client = closeAfterTest(t, await watch(backend.url, feed));
      const picture = makePhoto();

      const grant = await uploadPhoto(backend.url, feed, picture);
      const uploaded = await client.inbox.waitFor('imageUploaded');
      assertIssuedKey(uploaded.key, feed);
      assertUploaded(uploaded, grant, picture.bytes.length);
      assert.deepEqual(await downloadPhoto(uploaded.url), picture.bytes);

      await removePhoto(backend.url, feed, grant.key);
      const removed = await client.inbox.waitFor('imageRemoved');
      assertRemoved(removed, grant);
      assert.notEqual(removed.cursor, uploaded.cursor);
      assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
    });
  }

  test('all kinds of clients in one feed receive the same events in the same order', async (t) => {
    const feed = makeFeedId();
    const clients = await Promise.all(Object.values(JOINED_CLIENTS).map(async (watch) => closeAfterTest(t, await watch(backend.url, feed))));
    await Promise.all(Array.from({ length: 5 }, () => uploadPhoto(backend.url, feed)));

    const eventsByClient = await Promise.all(clients.map(({ inbox }) => inbox.waitForCount(5, 'imageUploaded')));
    const unsigned = eventsByClient.map((events) => events.map(({ url, urlExpiresAt, ...event }) => event));
    for (const events of unsigned) assert.deepEqual(events, unsigned[0]);
  });

  test('photos uploaded one after another are announced in that order, each with its own cursor', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, await JOINED_CLIENTS['socket.io-client 4, WebSocket'](backend.url, feed));
    const keys = [];
    for (let i = 0; i < 3; i += 1) {
      const { key } = await uploadPhoto(backend.url, feed);
      await client.inbox.waitFor('imageUploaded', (event) => event.key === key);
      keys.push(key);
    }
    const events = client.inbox.dataOf('imageUploaded');
    assert.deepEqual(events.map(({ key }) => key), keys);
    assert.equal(new Set(events.map(({ cursor }) => cursor)).size, 3);
  });

  test('a client receives no events of another feed', async (t) => {
    const [one, other] = [makeFeedId('one'), makeFeedId('other')];
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    const outsider = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', one);
    await outsider.request('join', other);

    const first = await uploadPhoto(backend.url, one);
    const second = await uploadPhoto(backend.url, other);
    await client.inbox.waitFor('imageUploaded', ({ key }) => key === first.key);
    await outsider.inbox.waitFor('imageUploaded', ({ key }) => key === second.key);
    // Answers keep the order of events: all events before this answer have arrived with it.
    await Promise.all([client.request('leave', one), outsider.request('leave', other)]);
    assert.deepEqual(client.inbox.dataOf('imageUploaded').map(({ feed }) => feed), [one]);
    assert.deepEqual(outsider.inbox.dataOf('imageUploaded').map(({ feed }) => feed), [other]);
  });

  test('feed ids are compared byte by byte', async (t) => {
    const id = makeFeedId('x').slice(2);
    const feeds = [`Caf\u00e9${id}`, `Cafe\u0301${id}`, `caf\u00e9${id}`, `Caf\u00e9${id} `, `Caf\u00e9${id}%20`];
    const clients = feeds.map(() => closeAfterTest(t, connectSocketIo4(backend.url)));
    await Promise.all(clients.map((client, i) => client.request('join', feeds[i])));

    const grants = await Promise.all(feeds.map((feed) => uploadPhoto(backend.url, feed)));
    for (const [i, client] of clients.entries()) {
      await client.inbox.waitFor('imageUploaded', ({ key }) => key === grants[i].key);
      await client.request('leave', feeds[i]);
      assert.deepEqual(client.inbox.dataOf('imageUploaded').map(({ feed }) => feed), [feeds[i]]);
    }
  });

  for (const feed of ['Sommer 2026', 'Größe', '📷🌅', 'a+b', '100%', 'a?b#c&d=e', `it's "so" <b>`, 'back\\slash', '~-_.!*()', 'x'.repeat(64)]) {
    test(`${feed} is a valid feed id`, async (t) => {
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      await client.request('join', feed);
      const picture = makePhoto();
      const grant = await uploadPhoto(backend.url, feed, picture);
      assertIssuedKey(grant.key, feed);

      const uploaded = await client.inbox.waitFor('imageUploaded', ({ key }) => key === grant.key);
      assertUploaded(uploaded, grant, picture.bytes.length);
      assert.deepEqual(await downloadPhoto(uploaded.url), picture.bytes);
      await removePhoto(backend.url, feed, grant.key);
      assertRemoved(await client.inbox.waitFor('imageRemoved'), grant);
    });
  }
});

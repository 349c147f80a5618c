// The shortest path through the server: one photo, from the grant to the event, and back by cursor.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertFreshJoin, assertUploaded } from './lib/assertions.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { createGrant, downloadPhoto, listPhotos, makeFeedId, makePhoto, putPhoto } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';

test('a photo is granted, uploaded, announced, listed, downloaded, and recovered by cursor', async (t) => {
  const server = await startDev();
  const feed = makeFeedId();
  const client = closeAfterTest(t, connectSocketIo4(server.url));
  const answer = await client.request('join', feed);
  assertFreshJoin(answer, feed);

  const photo = makePhoto();
  const grant = await createGrant(server.url, feed, photo);
  assert.equal((await putPhoto(grant, photo.bytes)).status, 200);
  const event = await client.inbox.waitFor('imageUploaded');
  assertUploaded(event, grant, photo.bytes.length);

  const { photos } = await listPhotos(server.url, feed);
  assert.deepEqual(photos.map(({ key }) => key), [grant.key]);
  assert.deepEqual(await downloadPhoto(photos[0].url), photo.bytes);

  const returned = closeAfterTest(t, connectSocketIo4(server.url));
  const recovery = await returned.request('join', { feed, cursor: answer.cursor });
  assert.equal(recovery.recovered, true);
  assert.deepEqual(recovery.events.map(({ event: name, data }) => [name, data.key]), [['imageUploaded', grant.key]]);
  assert.equal(recovery.cursor, event.cursor);

  await server.stop();
});

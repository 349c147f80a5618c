// The logs hold nothing secret, whatever clients send and whatever the log level.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BACKENDS, startBackend } from './lib/backends.mjs';
import { connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { postGrantRequest, downloadPhoto, buildFeedUrl, createGrant, listPhotos, makeFeedId, makePhoto, putPhoto, removePhoto } from './lib/photos.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { parseLogLines } from './lib/server.mjs';

/** Values that clients send and that must not appear in the log. */
const MARKERS = {
  token: 'tokenMarker1234567890',
  caption: 'captionMarker1234567890',
  filename: 'filenameMarker1234567890.jpg',
  body: 'bodyMarker1234567890',
};

/** Sends every kind of request with markers in it. Returns the signatures of all URLs that it was given. */
async function generateTraffic({ url }) {
  const feed = makeFeedId();
  const withToken = { authorization: `Bearer ${MARKERS.token}` };
  const clients = [
    connectSocketIo4(url, { auth: { token: MARKERS.token } }),
    connectSocketIo4(url, { query: { token: MARKERS.token }, transports: ['polling'] }),
    connectSocketIo2(url, { query: { token: MARKERS.token } }),
  ];
  await Promise.all(clients.map((client) => client.request('join', feed)));
  const stream = await openEventStream(url, feed);
  await fetch(buildFeedUrl(url, feed, `/photos?token=${MARKERS.token}`), { headers: withToken }).then((r) => r.text());
  await postGrantRequest(url, feed, `{"contentType": "${MARKERS.body}"`).then((r) => r.text());
  for (const client of clients) client.emit('authenticate', { token: MARKERS.token });
  for (const client of clients) client.emit(MARKERS.body, { [MARKERS.body]: MARKERS.body });

  const picture = makePhoto();
  const grant = await createGrant(url, feed, picture, { caption: MARKERS.caption, filename: MARKERS.filename });
  const signatures = [new URL(grant.url).searchParams.get('X-Amz-Signature')];
  await putPhoto(grant, picture.bytes);
  await putPhoto(grant, picture.bytes);
  await putPhoto({ ...grant, url: `${grant.url}0` }, picture.bytes);
  for (const client of [...clients, stream]) {
    const event = await client.inbox.waitFor('imageUploaded');
    await downloadPhoto(event.url);
    signatures.push(new URL(event.url).searchParams.get('X-Amz-Signature'));
  }
  const { photos: [listed] } = await listPhotos(url, feed);
  await downloadPhoto(listed.url);
  await removePhoto(url, feed, grant.key);
  for (const client of [...clients, stream]) await client.inbox.waitFor('imageRemoved');
  for (const client of clients) client.close();
  stream.close();
  return signatures;
}

for (const backend of BACKENDS) {
  for (const level of ['info', 'trace']) {
    test(`${backend} logs no signature, token or body at level ${level}`, async () => {
      const server = await startBackend(backend, { env: { RUST_LOG: level } });
      let signatures;
      try {
        signatures = await generateTraffic(server);
      } finally {
        await server.stop();
      }
      for (const secret of ['X-Amz-', ...signatures, ...Object.values(MARKERS)]) {
        const line = server.log.split('\n').find((text) => text.includes(secret));
        assert.equal(line, undefined, `the log contains ${secret}`);
      }
    });
  }

  test(`${backend} logs JSON lines with time, level and target`, async () => {
    const server = await startBackend(backend);
    await server.stop();
    const lines = parseLogLines(server.log);
    assert.ok(lines.length > 0);
    for (const line of lines) {
      assert.ok(!Number.isNaN(Date.parse(line.timestamp)), JSON.stringify(line));
      assert.match(line.level, /^(ERROR|WARN|INFO|DEBUG|TRACE)$/);
      assert.equal(typeof line.target, 'string');
      assert.notEqual(line.level, 'ERROR', JSON.stringify(line));
    }
  });
}

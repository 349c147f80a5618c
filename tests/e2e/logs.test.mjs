// Trap 32: nothing secret in the logs, whatever clients send and however much is logged.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BACKENDS, startBackend } from './lib/backends.mjs';
import { connect2, connect4 } from './lib/clients.mjs';
import { askGrant, download, feedUrl, grantFor, listPhotos, newFeed, photo, put, remove } from './lib/photos.mjs';
import { openStream } from './lib/sse.mjs';
import { logLines } from './lib/server.mjs';

const MARKS = {
  token: 'tokenMark1234567890',
  caption: 'captionMark1234567890',
  filename: 'filenameMark1234567890.jpg',
  body: 'bodyMark1234567890',
};

async function traffic({ url }) {
  const feed = newFeed();
  const withToken = { authorization: `Bearer ${MARKS.token}` };
  const clients = [
    connect4(url, { auth: { token: MARKS.token } }),
    connect4(url, { query: { token: MARKS.token }, transports: ['polling'] }),
    connect2(url, { query: { token: MARKS.token } }),
  ];
  await Promise.all(clients.map((client) => client.ask('join', feed)));
  const stream = await openStream(url, feed);
  await fetch(feedUrl(url, feed, `/photos?token=${MARKS.token}`), { headers: withToken }).then((r) => r.text());
  await askGrant(url, feed, `{"contentType": "${MARKS.body}"`).then((r) => r.text());
  for (const client of clients) client.tell('authenticate', { token: MARKS.token });
  for (const client of clients) client.tell(MARKS.body, { [MARKS.body]: MARKS.body });

  const picture = photo();
  const grant = await grantFor(url, feed, picture, { caption: MARKS.caption, filename: MARKS.filename });
  const secrets = [new URL(grant.url).searchParams.get('X-Amz-Signature')];
  await put(grant, picture.bytes);
  await put(grant, picture.bytes);
  await put({ ...grant, url: `${grant.url}0` }, picture.bytes);
  for (const client of [...clients, stream]) {
    const event = await client.inbox.find('imageUploaded');
    await download(event.url);
    secrets.push(new URL(event.url).searchParams.get('X-Amz-Signature'));
  }
  const { photos: [listed] } = await listPhotos(url, feed);
  await download(listed.url);
  await remove(url, feed, grant.key);
  for (const client of [...clients, stream]) await client.inbox.find('imageRemoved');
  for (const client of clients) client.close();
  stream.close();
  return secrets;
}

for (const backend of BACKENDS) {
  for (const level of ['info', 'trace']) {
    test(`trap 32: ${backend} logs no signature, token or body at ${level}`, async () => {
      const server = await startBackend(backend, { env: { RUST_LOG: level } });
      let secrets;
      try {
        secrets = await traffic(server);
      } finally {
        await server.stop();
      }
      for (const secret of ['X-Amz-', ...secrets, ...Object.values(MARKS)]) {
        const line = server.log.split('\n').find((text) => text.includes(secret));
        assert.equal(line, undefined, `the log holds ${secret}`);
      }
    });
  }

  test(`${backend} logs JSON lines with time, level and target`, async () => {
    const server = await startBackend(backend);
    await server.stop();
    const lines = logLines(server.log);
    assert.ok(lines.length > 0);
    for (const line of lines) {
      assert.ok(!Number.isNaN(Date.parse(line.timestamp)), JSON.stringify(line));
      assert.match(line.level, /^(ERROR|WARN|INFO|DEBUG|TRACE)$/);
      assert.equal(typeof line.target, 'string');
      assert.notEqual(line.level, 'ERROR', JSON.stringify(line));
    }
  });
}

// Released apps that were made for the previous server: they must work unchanged.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { makeFeedId, makePhoto, uploadPhoto } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';
import { assertProblem, assertUploaded } from './lib/assertions.mjs';
import { waitUntil } from './lib/wait.mjs';

const RAW_CLIENTS = { polling: RawPolling, WebSocket: RawWebSocket };

describeOnEachBackend('old apps', (backend) => {
  for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
    test(`the sequence of the old app over ${transports}: uploadNotification announces nothing, the event of the bucket does`, async (t) => {
      const feed = makeFeedId();
      const [sender, watcher] = [0, 1].map(() => closeAfterTest(t, connectSocketIo2(backend.url, { transports })));
      // Emitted before the connection is open: socket.io-client buffers them and sends them on connect.
      for (const app of [sender, watcher]) app.emit('join', feed);
      await Promise.all([sender, watcher].map((app) => app.inbox.waitFor('joined')));

      sender.emit('uploadNotification', feed);
      assert.deepEqual(await sender.request('uploadNotification', feed), {});
      assert.deepEqual(watcher.inbox.dataOf('imageUploaded'), []);

      const picture = makePhoto();
      const grant = await uploadPhoto(backend.url, feed, picture);
      for (const app of [sender, watcher]) {
        assertUploaded(await app.inbox.waitFor('imageUploaded'), grant, picture.bytes.length);
        await app.request('leave', feed);
        assert.equal(app.inbox.dataOf('imageUploaded').length, 1);
        assert.deepEqual(app.inbox.dataOf('problem'), []);
      }
    });
  }

  test('uploadNotification from a new client announces nothing either', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    client.emit('uploadNotification', feed);
    assert.deepEqual(await client.request('uploadNotification', feed), {});
    const { key } = await uploadPhoto(backend.url, feed);
    await client.inbox.waitFor('imageUploaded');
    await client.request('leave', feed);
    assert.deepEqual(client.inbox.dataOf('imageUploaded').map((event) => event.key), [key]);
    assert.deepEqual(client.inbox.dataOf('problem'), []);
  });

  for (const [transport, Client] of Object.entries(RAW_CLIENTS)) {
    for (const eio of [undefined, 3, 4]) {
      const version = eio ? `EIO=${eio}` : 'no EIO';

      test(`a client with ${version} over ${transport} gets a session of its protocol version`, async (t) => {
        const client = closeAfterTest(t, new Client(backend.url, { eio }));
        const session = await client.inbox.waitFor('open');
        assert.equal(typeof session.sid, 'string');
        assert.ok(Array.isArray(session.upgrades));
        assert.ok(session.pingInterval + session.pingTimeout < 55_000, 'pings come more often than the idle timeout of a router');
        await client.waitForConnect();
        // Only Engine.IO 4 answers the connection with an id.
        const { sid } = JSON.parse((await client.inbox.waitFor('connected')) || '{}');
        assert.equal(typeof sid, eio === 4 ? 'string' : 'undefined');
      });

      test(`a client with ${version} over ${transport} joins as soon as it is connected`, async (t) => {
        const feed = makeFeedId();
        const client = closeAfterTest(t, new Client(backend.url, { eio }));
        await client.waitForConnect();
        client.send(`42${JSON.stringify(['join', feed])}`, `421${JSON.stringify(['uploadNotification', feed])}`);
        assert.equal((await client.inbox.waitFor('joined')).feed, feed);
        assert.deepEqual(await client.inbox.waitFor('ack'), { id: 1, answer: {} });
        const picture = makePhoto();
        const grant = await uploadPhoto(backend.url, feed, picture);
        assertUploaded(await client.inbox.waitFor('imageUploaded'), grant, picture.bytes.length);
      });

      test(`a client with ${version} over ${transport} receives a problem for an invalid join`, async (t) => {
        const client = closeAfterTest(t, new Client(backend.url, { eio }));
        await client.waitForConnect();
        client.send('42["join","a/b"]');
        assertProblem(await client.inbox.waitFor('problem'), 'invalid-feed', 400);
      });
    }
  }
});

/** Records the arguments of every aUserHasConnected and aUserHasDisconnected that the client receives. */
function recordAnnouncements(client) {
  const announcements = [];
  for (const name of ['aUserHasConnected', 'aUserHasDisconnected']) client.socket.on(name, (...args) => announcements.push(args));
  return announcements;
}

test('with ANNOUNCE_CONNECTIONS all clients receive connects and disconnects, without arguments', async (t) => {
  const server = await startDev({ env: { ANNOUNCE_CONNECTIONS: 'true' } });
  t.after(() => server.stop());
  const [old, current] = [connectSocketIo2, connectSocketIo4].map((connect) => closeAfterTest(t, connect(server.url)));
  const announcements = [old, current].map(recordAnnouncements);
  await Promise.all([old, current].map((client) => client.waitForConnect()));
  await waitUntil(() => [old, current].every(({ inbox }) => inbox.dataOf('aUserHasConnected').length > 0), 'the announcements of their own connections');
  const before = [old, current].map(({ inbox }) => inbox.dataOf('aUserHasConnected').length);

  const newcomer = connectSocketIo2(server.url);
  await newcomer.inbox.waitFor('aUserHasConnected');
  for (const [i, { inbox }] of [old, current].entries()) await inbox.waitForCount(before[i] + 1, 'aUserHasConnected');
  newcomer.close();
  for (const { inbox } of [old, current]) await inbox.waitFor('aUserHasDisconnected');
  for (const received of announcements) {
    assert.ok(received.length > 0);
    for (const args of received) assert.deepEqual(args, []);
  }
});

test('by default connects and disconnects are not announced', async (t) => {
  const server = await startDev();
  t.after(() => server.stop());
  const feed = makeFeedId();
  const client = closeAfterTest(t, connectSocketIo2(server.url));
  await client.request('join', feed);
  const newcomer = connectSocketIo2(server.url);
  await newcomer.waitForConnect();
  newcomer.close();
  await uploadPhoto(server.url, feed);
  await client.inbox.waitFor('imageUploaded');
  assert.deepEqual(client.inbox.events.filter(({ name }) => name.startsWith('aUserHas')), []);
});

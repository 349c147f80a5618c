// The app as it stands in people's pockets: it must work without a change.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { newFeed, photo, upload } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';
import { assertProblem, assertUploaded } from './lib/shapes.mjs';
import { until } from './lib/wait.mjs';

const RAW_CLIENTS = { polling: RawPolling, WebSocket: RawWebSocket };

onEachBackend('old apps', (backend) => {
  for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
    test(`the old app's sequence over ${transports}: only the bucket announces`, async (t) => {
      const feed = newFeed();
      const [sender, watcher] = [0, 1].map(() => closing(t, connect2(backend.url, { transports })));
      // Sent before the connection stands: they leave the moment that it does.
      for (const app of [sender, watcher]) app.tell('join', feed);
      await Promise.all([sender, watcher].map((app) => app.inbox.find('joined')));

      sender.tell('uploadNotification', feed);
      assert.deepEqual(await sender.ask('uploadNotification', feed), {});
      assert.deepEqual(watcher.inbox.named('imageUploaded'), []);

      const picture = photo();
      const grant = await upload(backend.url, feed, picture);
      for (const app of [sender, watcher]) {
        assertUploaded(await app.inbox.find('imageUploaded'), grant, picture.bytes.length);
        await app.ask('leave', feed);
        assert.equal(app.inbox.named('imageUploaded').length, 1);
        assert.deepEqual(app.inbox.named('problem'), []);
      }
    });
  }

  test('uploadNotification from a new client announces nothing either', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    client.tell('uploadNotification', feed);
    assert.deepEqual(await client.ask('uploadNotification', feed), {});
    const { key } = await upload(backend.url, feed);
    await client.inbox.find('imageUploaded');
    await client.ask('leave', feed);
    assert.deepEqual(client.inbox.named('imageUploaded').map((event) => event.key), [key]);
    assert.deepEqual(client.inbox.named('problem'), []);
  });

  for (const [transport, Client] of Object.entries(RAW_CLIENTS)) {
    for (const eio of [undefined, 3, 4]) {
      const asked = eio ? `EIO=${eio}` : 'no EIO';

      test(`trap 33: ${asked} over ${transport} is given a session of its protocol`, async (t) => {
        const client = closing(t, new Client(backend.url, { eio }));
        const session = await client.inbox.find('open');
        assert.equal(typeof session.sid, 'string');
        assert.ok(Array.isArray(session.upgrades));
        assert.ok(session.pingInterval + session.pingTimeout < 55_000, 'pings keep a router from hanging up');
        await client.opened();
        // Only version 4 answers the connection with an id.
        const { sid } = JSON.parse((await client.inbox.find('connected')) || '{}');
        assert.equal(typeof sid, eio === 4 ? 'string' : 'undefined');
      });

      test(`trap 33: ${asked} over ${transport} joins the moment it is connected`, async (t) => {
        const feed = newFeed();
        const client = closing(t, new Client(backend.url, { eio }));
        await client.opened();
        client.send(`42${JSON.stringify(['join', feed])}`, `421${JSON.stringify(['uploadNotification', feed])}`);
        assert.equal((await client.inbox.find('joined')).feed, feed);
        assert.deepEqual(await client.inbox.find('ack'), { id: 1, answer: {} });
        const picture = photo();
        const grant = await upload(backend.url, feed, picture);
        assertUploaded(await client.inbox.find('imageUploaded'), grant, picture.bytes.length);
      });

      test(`trap 33: ${asked} over ${transport} is refused aloud`, async (t) => {
        const client = closing(t, new Client(backend.url, { eio }));
        await client.opened();
        client.send('42["join","a/b"]');
        assertProblem(await client.inbox.find('problem'), 'invalid-feed', 400);
      });
    }
  }
});

/** Keeps the arguments of each word on those who come and go. */
function argumentsHeardBy(client) {
  const heard = [];
  for (const name of ['aUserHasConnected', 'aUserHasDisconnected']) client.socket.on(name, (...args) => heard.push(args));
  return heard;
}

test('with ANNOUNCE_CONNECTIONS everybody hears who comes and goes, without arguments', async (t) => {
  const server = await startDev({ env: { ANNOUNCE_CONNECTIONS: 'true' } });
  t.after(() => server.stop());
  const [old, current] = [connect2, connect4].map((connect) => closing(t, connect(server.url)));
  const heard = [old, current].map(argumentsHeardBy);
  await Promise.all([old, current].map((client) => client.connected()));
  await until(() => [old, current].every(({ inbox }) => inbox.named('aUserHasConnected').length > 0), 'their own coming');
  const before = [old, current].map(({ inbox }) => inbox.named('aUserHasConnected').length);

  const newcomer = connect2(server.url);
  await newcomer.inbox.find('aUserHasConnected');
  for (const [i, { inbox }] of [old, current].entries()) await inbox.first(before[i] + 1, 'aUserHasConnected');
  newcomer.close();
  for (const { inbox } of [old, current]) await inbox.find('aUserHasDisconnected');
  for (const all of heard) {
    assert.ok(all.length > 0);
    for (const args of all) assert.deepEqual(args, []);
  }
});

test('by default nobody hears who comes and goes', async (t) => {
  const server = await startDev();
  t.after(() => server.stop());
  const feed = newFeed();
  const client = closing(t, connect2(server.url));
  await client.ask('join', feed);
  const newcomer = connect2(server.url);
  await newcomer.connected();
  newcomer.close();
  await upload(server.url, feed);
  await client.inbox.find('imageUploaded');
  assert.deepEqual(client.inbox.told.filter(({ name }) => name.startsWith('aUserHas')), []);
});

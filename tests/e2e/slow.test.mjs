// Clients that stop taking what they are told: they hold up nobody, and miss nothing.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { Account } from './lib/ministack.mjs';
import { newFeed } from './lib/photos.mjs';
import { temporaryFolder } from './lib/server.mjs';
import { inParallel, until } from './lib/wait.mjs';

const chosen = process.env.BACKENDS?.split(',') ?? ['serve'];
/** Some 4 MB: more than the kernel and every queue on the way take for somebody who reads nothing. */
const EVENTS = 4_000;
/** An SQS message holds 256 KiB. */
const RECORDS = 400;
const KINDS = { WebSocket: RawWebSocket, 'long-polling': RawPolling };

describe('slow clients', { skip: !chosen.includes('serve') }, () => {
  /**
   * `photoshare serve` that announces thousands of uploads without asking the bucket for each. In an account of
   * its own: the polls of a server before it would take messages with them, and a stall that lasts until the
   * next ping ends a session.
   */
  async function serve(t, patience) {
    const account = await Account.open();
    let server;
    t.after(async () => {
      await server?.stop();
      await account.close();
    });
    server = await account.serve({ env: { INSPECT: 'off', FEED_LOG_LENGTH: '10000', SLOW_CLIENT_SECS: String(patience) } });
    return { account, server };
  }

  /** S3's word on thousands of uploads, by as few messages as hold them. `inFolder` makes their events longer. */
  async function burst(t, account, feed, inFolder = '') {
    const folder = await temporaryFolder(t);
    await inParallel(2, Array.from({ length: EVENTS / RECORDS }), async (_, i) => {
      const Records = Array.from({ length: RECORDS }, (_, n) => record(account.env.S3_BUCKET, `${feed}/${inFolder}${i}-${n}.jpg`));
      const body = join(folder, `${i}.json`);
      await writeFile(body, JSON.stringify({ Records }));
      await account.aws(['sqs', 'send-message', '--queue-url', account.env.SQS_QUEUE_URL, '--message-body', `file://${body}`]);
    });
  }

  /** A client that has joined, by hand; what it is told from then on. */
  async function joined(t, Kind, server, eio, request) {
    const client = closing(t, new Kind(server.url, { eio }));
    await client.opened();
    client.send(`420${JSON.stringify(['join', request])}`);
    const { answer } = await client.inbox.find('ack');
    return { client, answer };
  }

  for (const [kind, Kind] of Object.entries(KINDS)) {
    for (const eio of [3, 4]) {
      test(`trap 35: ${kind}, Engine.IO ${eio}: told everything once it reads again`, async (t) => {
        const feed = newFeed();
        const { account, server } = await serve(t, 120);
        const witness = await witnessOf(t, server, feed);
        const { client } = await joined(t, Kind, server, eio, feed);
        client.pause();
        await burst(t, account, feed);
        await witness.inbox.first(EVENTS, 'imageUploaded');
        const before = client.inbox.named('imageUploaded').length;
        assert.ok(before < EVENTS / 2, `it did not stall: ${before} told`);
        client.resume();
        await client.inbox.first(EVENTS, 'imageUploaded');
        assert.deepEqual(storiesOf(client), storiesOf(witness));
      });

      test(`trap 35: ${kind}, Engine.IO ${eio}: cut when it reads nothing for too long, and recovers by its cursor`, async (t) => {
        const feed = newFeed();
        const { account, server } = await serve(t, 1);
        const witness = await witnessOf(t, server, feed);
        const { client, answer } = await joined(t, Kind, server, eio, feed);
        client.pause();
        await burst(t, account, feed);
        await witness.inbox.first(EVENTS, 'imageUploaded');
        await watchers(server, feed, 1);
        client.resume();
        await client.inbox.find('ended');
        const told = storiesOf(client);
        assert.ok(told.length < EVENTS, 'it was cut');

        const cursor = told.at(-1)?.cursor ?? answer.cursor;
        const { client: again, answer: recovery } = await joined(t, Kind, server, eio, { feed, cursor });
        assert.equal(recovery.recovered, true);
        const missed = recovery.events.map(({ data }) => story(data));
        await again.inbox.first(EVENTS - told.length - missed.length, 'imageUploaded');
        assert.deepEqual([...told, ...missed, ...storiesOf(again)], storiesOf(witness));
      });
    }
  }

  for (const eio of [3, 4]) {
    test(`long-polling, Engine.IO ${eio}: goes on as a WebSocket with much on its way, and misses nothing`, async (t) => {
      const feed = newFeed();
      const { account, server } = await serve(t, 120);
      const witness = await witnessOf(t, server, feed);
      const { client } = await joined(t, RawPolling, server, eio, feed);
      client.pause();
      await burst(t, account, feed, `${'long'.repeat(40)}/`);
      await witness.inbox.first(EVENTS, 'imageUploaded');
      await client.poll();
      await client.upgrade();
      await client.inbox.first(EVENTS, 'imageUploaded');
      assert.deepEqual(storiesOf(client), storiesOf(witness));
    });
  }

  for (const [version, connect] of Object.entries({ 'socket.io-client 4': connect4, 'socket.io-client 2': connect2 })) {
    test(`${version} that begins by polling recovers thousands of events`, async (t) => {
      const feed = newFeed();
      const { account, server } = await serve(t, 120);
      const witness = await witnessOf(t, server, feed);
      const { cursor } = await witness.ask('join', feed);
      await burst(t, account, feed);
      await witness.inbox.first(EVENTS, 'imageUploaded');
      const feeds = JSON.stringify([{ feed, cursor }]);
      const client = closing(t, connect(server.url, { transports: ['polling', 'websocket'], query: { feeds } }));
      const { recovered, events } = await client.inbox.find('joined');
      assert.equal(recovered, true);
      await client.inbox.first(EVENTS - events.length, 'imageUploaded');
      assert.deepEqual([...events.map(({ data }) => story(data)), ...storiesOf(client)], storiesOf(witness));
      assert.equal(client.inbox.named('connect').length, 1);
      assert.equal(client.socket.io.engine.transport.name, 'websocket');
    });
  }

  test('a stop with a client that reads nothing ends in order', async (t) => {
    const feed = newFeed();
    const { account, server } = await serve(t, 120);
    const witness = await witnessOf(t, server, feed);
    const { client } = await joined(t, RawWebSocket, server, 4, feed);
    client.pause();
    await burst(t, account, feed);
    await witness.inbox.first(EVENTS, 'imageUploaded');
    await server.stop();
    await witness.inbox.find('reconnect');
    client.resume();
    await client.inbox.find('ended');
  });
});

/** A client of the same feed that reads all the time: nobody else holds it up. */
async function witnessOf(t, { url }, feed) {
  const witness = closing(t, connect4(url));
  await witness.ask('join', feed);
  return witness;
}

/** Resolves when the feed has so many watchers. */
async function watchers({ url }, feed, count) {
  const asked = async () => (await (await fetch(`${url}/v1/feeds/${feed}`)).json()).watchers;
  await until(async () => (await asked()) === count, `${count} watchers`);
}

const story = ({ key, cursor }) => ({ key, cursor });
const storiesOf = (client) => client.inbox.named('imageUploaded').map(story);

let sequence = 0x18ea9f1a38d53fe6n;

/** S3's record of an upload that happened now. */
function record(bucket, key) {
  sequence += 1n;
  return {
    eventVersion: '2.1', eventTime: new Date().toISOString(), eventName: 'ObjectCreated:Put',
    s3: { bucket: { name: bucket }, object: { key, size: 5, eTag: '5d41402abc4b2a76b9719d911017c592', sequencer: sequence.toString(16).toUpperCase() } },
  };
}

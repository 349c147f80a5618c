// Clients that stop reading: they delay no other client, and miss no event.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AwsAccount } from './lib/aws-account.mjs';
import { isBackendChosen } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawPolling, RawWebSocket } from './lib/engineio.mjs';
import { makeFeedId } from './lib/photos.mjs';
import { mapConcurrently, waitUntil } from './lib/wait.mjs';

/** Some 4 MB: more than the kernel and all buffers hold for a client that reads nothing. */
const EVENTS = 4_000;
/** An SQS message holds 256 KiB. */
const RECORDS_PER_MESSAGE = 400;
const LONG_STALL_SECS = 120;
/** Longer than the witness, in a busy test process, may stop reading. */
const SHORT_STALL_SECS = 5;
const CLIENTS = { WebSocket: RawWebSocket, 'long polling': RawPolling };

describe('slow clients', { skip: !isBackendChosen('serve'), concurrency: 2 }, () => {
  /**
   * `photoshare serve` that announces thousands of uploads without a call to the bucket for each. In an account of
   * its own, whose queue no earlier server's poll reads.
   */
  async function startServer(t, slowClientSecs) {
    const account = await AwsAccount.open();
    let server;
    t.after(async () => {
      await server?.stop();
      await account.close();
    });
    server = await account.startServer({ env: { INSPECT: 'off', FEED_LOG_LENGTH: '10000', SLOW_CLIENT_SECS: String(slowClientSecs) } });
    return { account, server };
  }

  /** Sends S3's records of `EVENTS` uploads, in as few messages as hold them. `folder` makes their events longer. */
  async function sendRecords(account, feed, folder = '') {
    await mapConcurrently(2, Array.from({ length: EVENTS / RECORDS_PER_MESSAGE }), async (_, i) => {
      const Records = Array.from({ length: RECORDS_PER_MESSAGE }, (_, n) => buildRecord(account.env.S3_BUCKET, `${feed}/${folder}${i}-${n}.jpg`));
      await account.sendMessage(JSON.stringify({ Records }));
    });
  }

  /** A client without a library that has joined, and the answer. */
  async function joinRaw(t, Client, server, eio, request) {
    const client = closeAfterTest(t, new Client(server.url, { eio }));
    await client.waitForConnect();
    client.send(`420${JSON.stringify(['join', request])}`);
    const { answer } = await client.inbox.waitFor('ack');
    return { client, answer };
  }

  for (const [transport, Client] of Object.entries(CLIENTS)) {
    for (const eio of [3, 4]) {
      test(`${transport}, Engine.IO ${eio}: a client that reads again receives every event`, async (t) => {
        const feed = makeFeedId();
        const { account, server } = await startServer(t, LONG_STALL_SECS);
        const witness = await joinWitness(t, server, feed);
        const { client } = await joinRaw(t, Client, server, eio, feed);
        client.pause();
        await sendRecords(account, feed);
        await witness.inbox.waitForCount(EVENTS, 'imageUploaded');
        const received = client.inbox.dataOf('imageUploaded').length;
        assert.ok(received < EVENTS / 2, `it did not stall: ${received} received`);
        client.resume();
        await client.inbox.waitForCount(EVENTS, 'imageUploaded');
        assert.deepEqual(positionsOf(client), positionsOf(witness));
      });

      test(`${transport}, Engine.IO ${eio}: a client that reads nothing for too long is disconnected, and recovers by its cursor`, async (t) => {
        const feed = makeFeedId();
        const { account, server } = await startServer(t, SHORT_STALL_SECS);
        const witness = await joinWitness(t, server, feed);
        const { client, answer } = await joinRaw(t, Client, server, eio, feed);
        client.pause();
        await sendRecords(account, feed);
        await witness.inbox.waitForCount(EVENTS, 'imageUploaded');
        await waitForWatchers(server, feed, 1);
        client.resume();
        await client.inbox.waitFor('ended');
        const received = positionsOf(client);
        assert.ok(received.length < EVENTS, 'it was disconnected before the last event');

        const cursor = received.at(-1)?.cursor ?? answer.cursor;
        const { client: returned, answer: recovery } = await joinRaw(t, Client, server, eio, { feed, cursor });
        assert.equal(recovery.recovered, true);
        const missed = recovery.events.map(({ data }) => positionOf(data));
        await returned.inbox.waitForCount(EVENTS - received.length - missed.length, 'imageUploaded');
        assert.deepEqual([...received, ...missed, ...positionsOf(returned)], positionsOf(witness));
      });
    }
  }

  for (const eio of [3, 4]) {
    test(`long polling, Engine.IO ${eio}: a client that upgrades to a WebSocket with many events pending misses none`, async (t) => {
      const feed = makeFeedId();
      const { account, server } = await startServer(t, LONG_STALL_SECS);
      const witness = await joinWitness(t, server, feed);
      const { client } = await joinRaw(t, RawPolling, server, eio, feed);
      client.pause();
      await sendRecords(account, feed, `${'long'.repeat(40)}/`);
      await witness.inbox.waitForCount(EVENTS, 'imageUploaded');
      await client.poll();
      await client.upgrade();
      await client.inbox.waitForCount(EVENTS, 'imageUploaded');
      assert.deepEqual(positionsOf(client), positionsOf(witness));
    });
  }

  for (const [version, connect] of Object.entries({ 'socket.io-client 4': connectSocketIo4, 'socket.io-client 2': connectSocketIo2 })) {
    test(`${version} that begins with polling recovers thousands of events`, async (t) => {
      const feed = makeFeedId();
      const { account, server } = await startServer(t, LONG_STALL_SECS);
      const witness = await joinWitness(t, server, feed);
      const { cursor } = await witness.request('join', feed);
      await sendRecords(account, feed);
      await witness.inbox.waitForCount(EVENTS, 'imageUploaded');
      const feeds = JSON.stringify([{ feed, cursor }]);
      const client = closeAfterTest(t, connect(server.url, { transports: ['polling', 'websocket'], query: { feeds } }));
      const { recovered, events } = await client.inbox.waitFor('joined');
      assert.equal(recovered, true);
      await client.inbox.waitForCount(EVENTS - events.length, 'imageUploaded');
      assert.deepEqual([...events.map(({ data }) => positionOf(data)), ...positionsOf(client)], positionsOf(witness));
      assert.equal(client.inbox.dataOf('connect').length, 1);
      assert.equal(client.socket.io.engine.transport.name, 'websocket');
    });
  }

  test('SIGTERM with a client that reads nothing: the server exits with 0 and closes its connection', async (t) => {
    const feed = makeFeedId();
    const { account, server } = await startServer(t, LONG_STALL_SECS);
    const witness = await joinWitness(t, server, feed);
    const { client } = await joinRaw(t, RawWebSocket, server, 4, feed);
    client.pause();
    await sendRecords(account, feed);
    await witness.inbox.waitForCount(EVENTS, 'imageUploaded');
    await server.stop();
    await witness.inbox.waitFor('reconnect');
    client.resume();
    await client.inbox.waitFor('ended');
  });
});

/** A client of the same feed that always reads. */
async function joinWitness(t, { url }, feed) {
  const witness = closeAfterTest(t, connectSocketIo4(url));
  await witness.request('join', feed);
  return witness;
}

/** Resolves when the feed has so many watchers. */
async function waitForWatchers({ url }, feed, count) {
  const countWatchers = async () => (await (await fetch(`${url}/v1/feeds/${feed}`)).json()).watchers;
  await waitUntil(async () => (await countWatchers()) === count, `${count} watchers`);
}

const positionOf = ({ key, cursor }) => ({ key, cursor });
const positionsOf = (client) => client.inbox.dataOf('imageUploaded').map(positionOf);

let sequence = 0x18ea9f1a38d53fe6n;

/** S3's record of an upload that happened now. */
function buildRecord(bucket, key) {
  sequence += 1n;
  // An event from before the log began is announced only if the bucket has its object, and these have none. The log
  // began with the join, at a time in microseconds, so the same millisecond could be before it.
  const eventTime = new Date(Date.now() + 1).toISOString();
  return {
    eventVersion: '2.1', eventTime, eventName: 'ObjectCreated:Put',
    s3: { bucket: { name: bucket }, object: { key, size: 5, eTag: '5d41402abc4b2a76b9719d911017c592', sequencer: sequence.toString(16).toUpperCase() } },
  };
}

// The server is killed or stopped at the worst moment, and SQS fails: no photo is lost, no message stays behind.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AwsAccount } from './lib/aws-account.mjs';
import { FaultyProxy } from './lib/aws-proxy.mjs';
import { isBackendChosen } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { buildFeedUrl, createGrant, listAllKeys, makeFeedId, makePhoto, objectNameOf, putPhoto, uploadPhoto } from './lib/photos.mjs';
import { waitUntil, withDeadline } from './lib/wait.mjs';

/** Messages that a killed process had received become visible again after 20 seconds. */
const REDELIVERY_DEADLINE_MS = 120_000;

describe('faults of the queue', { skip: !isBackendChosen('serve'), concurrency: true }, () => {
  /**
   * An account whose queue is empty, with a proxy in front of it. Each test has its own, since the emulator keeps
   * a long poll for up to 20 seconds after its client disconnected, and gives it the next visible message.
   */
  async function openAccount(t) {
    const account = await AwsAccount.open();
    t.after(() => account.close());
    // The notification's test events.
    await account.purgeQueue();
    const proxy = await FaultyProxy.open(account.ministack.endpoint);
    t.after(() => proxy.close());
    return { account, proxy };
  }

  /** A server behind the proxy. It does not inspect photos, so that HEAD is its only call between receive and append. */
  async function startBehindProxy(t, { account, proxy }) {
    const server = await account.startServer({ env: { AWS_ENDPOINT_URL: proxy.url, INSPECT: 'off' } });
    t.after(() => server.child.process.kill('SIGKILL'));
    return server;
  }

  async function startDirectly(t, { account }) {
    const server = await account.startServer();
    t.after(() => server.stop());
    return server;
  }

  const waitForEmptyQueue = ({ account }) => waitUntil(async () => {
    const { visible, invisible } = await account.countMessages();
    return visible + invisible === 0;
  }, 'the queue to be empty', REDELIVERY_DEADLINE_MS);

  async function joinFeed(t, url, feed) {
    const client = closeAfterTest(t, connectSocketIo4(url));
    await client.request('join', feed);
    return client;
  }

  const waitForEvent = (client, key) => waitUntil(
    () => client.inbox.dataOf('imageUploaded').some((event) => event.key === key), `imageUploaded of ${key}`, REDELIVERY_DEADLINE_MS,
  );

  test('after SIGKILL between append and delete, the next process delivers the photo again', async (t) => {
    const aws = await openAccount(t);
    const feed = makeFeedId();
    const killed = await startBehindProxy(t, aws);
    const first = await joinFeed(t, killed.url, feed);
    const deletes = aws.proxy.holdCalls('DeleteMessageBatch');
    const { key } = await uploadPhoto(killed.url, feed);
    await waitForEvent(first, key);
    await deletes.held;
    await killed.child.stop('SIGKILL');
    assert.ok((await aws.account.countMessages()).invisible >= 1, 'the message was not deleted');
    deletes.release();

    const next = await startDirectly(t, aws);
    const client = await joinFeed(t, next.url, feed);
    await waitForEvent(client, key);
    assert.deepEqual(await listAllKeys(next.url, feed, 50), [key]);
    await waitForEmptyQueue(aws);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
  });

  test('after SIGKILL before the append, the next process delivers the photo', async (t) => {
    const aws = await openAccount(t);
    const feed = makeFeedId();
    const killed = await startBehindProxy(t, aws);
    // The feed had no subscriber, so that the server asks the bucket whether the photo still exists.
    const heads = aws.proxy.holdCalls('HEAD');
    const { key } = await uploadPhoto(killed.url, feed);
    await heads.held;
    await killed.child.stop('SIGKILL');
    heads.release();

    const next = await startDirectly(t, aws);
    const client = await joinFeed(t, next.url, feed);
    await waitForEvent(client, key);
    await waitForEmptyQueue(aws);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
  });

  test('after SIGTERM during a delete, the delete is finished and the exit code is 0', async (t) => {
    const aws = await openAccount(t);
    const feed = makeFeedId();
    const server = await startBehindProxy(t, aws);
    const client = await joinFeed(t, server.url, feed);
    const deletes = aws.proxy.holdCalls('DeleteMessageBatch');
    const { key } = await uploadPhoto(server.url, feed);
    await waitForEvent(client, key);
    await deletes.held;
    const stopped = server.stop();
    deletes.release();
    await stopped;
    assert.deepEqual(await aws.account.countMessages(), { visible: 0, invisible: 0 });
  });

  test('after SIGTERM while the bucket does not answer, the message is released and the exit code is 0', async (t) => {
    const aws = await openAccount(t);
    const feed = makeFeedId();
    // Only the receive that brings the message reaches the emulator. While the message is handled the server opens
    // another long poll; the emulator would return the released message to it after the server has exited.
    const receives = aws.proxy.holdCalls('ReceiveMessage');
    const heads = aws.proxy.holdCalls('HEAD');
    const server = await startBehindProxy(t, aws);
    await receives.held;
    await uploadPhoto(server.url, feed);
    await waitUntil(async () => (await aws.account.countMessages()).visible === 1, 'the message');
    receives.releaseOne();
    await heads.held;
    await server.stop();
    assert.deepEqual(await aws.account.countMessages(), { visible: 1, invisible: 0 });
    heads.release();
    receives.release();
    await startDirectly(t, aws);
    await waitForEmptyQueue(aws);
  });

  test('a message that SQS returned to a disconnected poll is received by the next process', async (t) => {
    const aws = await openAccount(t);
    const feed = makeFeedId();
    const server = await startDirectly(t, aws);
    const picture = makePhoto();
    const grant = await createGrant(server.url, feed, picture);
    await server.child.stop();
    // Whether the emulator still holds the poll of the stopped server depends on when that began.
    assert.equal((await putPhoto(grant, picture.bytes)).status, 200);
    const next = await startDirectly(t, aws);
    const address = buildFeedUrl(next.url, feed, `/uploads/${objectNameOf(feed, grant.key)}`);
    await waitUntil(async () => (await (await fetch(address)).json()).state === 'announced', 'the photo to be announced', REDELIVERY_DEADLINE_MS);
  });

  test('failing receives are retried without a hot loop, and each is counted', async (t) => {
    const aws = await openAccount(t);
    const refusals = aws.proxy.answerCalls('ReceiveMessage', 503, '{"__type":"ServiceUnavailable"}');
    const server = await startBehindProxy(t, aws);
    const feed = makeFeedId();
    const client = await joinFeed(t, server.url, feed);
    const { key } = await uploadPhoto(server.url, feed);
    await waitUntil(() => refusals.count >= 4, 'four refused receives');
    refusals.stop();
    await waitForEvent(client, key);
    const [, failed] = /photoshare_queue_errors_total (\d+)/.exec(await (await fetch(`${server.url}/metrics`)).text());
    assert.equal(Number(failed), refusals.count, 'every refusal is counted, and the SDK retries none by itself');
    await server.stop();
  });

  test('SIGTERM stops the server in time while SQS accepts calls and never answers', async (t) => {
    const aws = await openAccount(t);
    const receives = aws.proxy.holdCalls('ReceiveMessage');
    const server = await startBehindProxy(t, aws);
    await receives.held;
    await withDeadline(server.stop(), 'the stop');
    receives.release();
  });

  test('clients receive reconnect at SIGTERM even if SQS never answers the deletes', async (t) => {
    const aws = await openAccount(t);
    const feed = makeFeedId();
    const server = await startBehindProxy(t, aws);
    const client = await joinFeed(t, server.url, feed);
    const deletes = aws.proxy.holdCalls('DeleteMessageBatch');
    await waitForEvent(client, (await uploadPhoto(server.url, feed)).key);
    await deletes.held;
    await server.stop();
    await client.inbox.waitFor('reconnect');
    assert.equal(await client.inbox.waitFor('disconnect'), 'transport close');
    deletes.release();
  });

  test('/readyz reports an SQS that refuses from the start, and when SQS last answered', async (t) => {
    const aws = await openAccount(t);
    const refusals = aws.proxy.answerCalls('ReceiveMessage', 403, '{"__type":"AccessDenied"}');
    const server = await startBehindProxy(t, aws);
    const readiness = async () => {
      const response = await fetch(`${server.url}/readyz`);
      return { status: response.status, queue: (await response.json()).parts.queue };
    };
    await waitUntil(async () => (await readiness()).status === 503, 'not to be ready');
    assert.match((await readiness()).queue, /SQS_QUEUE_URL/);
    refusals.stop();
    await waitUntil(async () => (await readiness()).status === 200, 'to be ready');
    assert.match((await readiness()).queue, /^ok, last response \d+ s ago$/);
  });
});

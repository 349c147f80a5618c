// The process is killed or stopped at the worst moment, and SQS fails: nothing is lost, nothing stays behind.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closing, connect4 } from './lib/clients.mjs';
import { Account } from './lib/ministack.mjs';
import { feedUrl, grantFor, listAllKeys, nameOf, newFeed, photo, upload } from './lib/photos.mjs';
import { FaultyProxy } from './lib/proxy.mjs';
import { until, within } from './lib/wait.mjs';

const chosen = process.env.BACKENDS?.split(',') ?? ['serve'];
/** What a killed process had received comes again after its visibility of 20 seconds. */
const COMES_AGAIN_MS = 120_000;

describe('faults', { skip: !chosen.includes('serve') }, () => {
  let account;
  let proxy;
  before(async () => {
    account = await Account.open();
    proxy = await FaultyProxy.open(account.ministack.endpoint);
  });
  after(async () => {
    proxy?.close();
    await account?.close();
  });

  /**
   * A server whose calls the proxy sees; it ends with its test, however that ends. It looks at nothing, so
   * that HEAD is the one call between receiving and appending.
   */
  async function behindProxy(t) {
    const server = await account.serve({ env: { AWS_ENDPOINT_URL: proxy.url, INSPECT: 'off' } });
    t.after(() => {
      server.child.process.kill('SIGKILL');
      proxy.behave();
    });
    return server;
  }
  const drained = () => until(async () => {
    const { visible, invisible } = await account.queued();
    return visible + invisible === 0;
  }, 'the queue to be empty', COMES_AGAIN_MS);

  /** A client that watches the feed before anything else is told of it. */
  async function watching(t, url, feed) {
    const client = closing(t, connect4(url));
    await client.ask('join', feed);
    return client;
  }

  const told = (client, key) => until(() => client.inbox.named('imageUploaded').some((event) => event.key === key), `${key} to be told`, COMES_AGAIN_MS);

  test('trap 21, invariant 1: killed between append and delete, the photo is told again by the next process', async (t) => {
    const feed = newFeed();
    const killed = await behindProxy(t);
    const first = await watching(t, killed.url, feed);
    const deleting = proxy.hold('DeleteMessageBatch');
    const { key } = await upload(killed.url, feed);
    await told(first, key);
    await deleting.held;
    await killed.child.end('SIGKILL');
    assert.ok((await account.queued()).invisible >= 1, 'it was not deleted');
    deleting.release();

    const next = await account.serve();
    t.after(() => next.stop());
    const client = await watching(t, next.url, feed);
    await told(client, key);
    assert.deepEqual(await listAllKeys(next.url, feed, 50), [key]);
    await drained();
    assert.equal(client.inbox.named('imageUploaded').length, 1);
  });

  test('trap 21, invariant 1: killed before the append, the photo is told by the next process', async (t) => {
    const feed = newFeed();
    const killed = await behindProxy(t);
    // Nobody has watched the feed, so that the bucket is asked whether the photo is still there.
    const asking = proxy.hold('HEAD');
    const { key } = await upload(killed.url, feed);
    await asking.held;
    await killed.child.end('SIGKILL');
    asking.release();

    const next = await account.serve();
    t.after(() => next.stop());
    const client = await watching(t, next.url, feed);
    await told(client, key);
    await drained();
    assert.equal(client.inbox.named('imageUploaded').length, 1);
  });

  test('trap 25: SIGTERM while a batch is being deleted: what is done is deleted, and the exit is 0', async (t) => {
    const feed = newFeed();
    const server = await behindProxy(t);
    const client = await watching(t, server.url, feed);
    const deleting = proxy.hold('DeleteMessageBatch');
    const { key } = await upload(server.url, feed);
    await told(client, key);
    await deleting.held;
    const stopped = server.stop();
    deleting.release();
    await stopped;
    assert.deepEqual(await account.queued(), { visible: 0, invisible: 0 });
  });

  test('trap 25: SIGTERM while the bucket does not answer: the message is released, and the exit is 0', async (t) => {
    const feed = newFeed();
    const server = await behindProxy(t);
    const asking = proxy.hold('HEAD');
    await upload(server.url, feed);
    await asking.held;
    await server.stop();
    assert.deepEqual(await account.queued(), { visible: 1, invisible: 0 });
    asking.release();
    const next = await account.serve();
    t.after(() => next.stop());
    await drained();
  });

  test('trap 25: what SQS hands to a poll that is gone comes to the next process', async (t) => {
    const feed = newFeed();
    const server = await account.serve();
    const { url, headers, key, bytes } = await grantedBy(server, feed);
    await server.stop();
    // The emulator's long poll may live on and take the message to nobody, or may not.
    assert.equal((await fetch(url, { method: 'PUT', headers, body: bytes })).status, 200);
    const next = await account.serve();
    t.after(() => next.stop());
    const address = feedUrl(next.url, feed, `/uploads/${nameOf(feed, key)}`);
    await until(async () => (await (await fetch(address)).json()).state === 'announced', 'the photo to be announced', COMES_AGAIN_MS);
  });

  test('trap 24: throttled and failing calls are survived, without a hot loop', async (t) => {
    await drained();
    const refusing = proxy.answer('ReceiveMessage', 503, '{"__type":"ServiceUnavailable"}');
    const server = await behindProxy(t);
    const feed = newFeed();
    const client = await watching(t, server.url, feed);
    const { key } = await upload(server.url, feed);
    await until(() => refusing.count >= 4, 'four refused receives');
    refusing.stop();
    await told(client, key);
    const [, failed] = /photoshare_queue_errors_total (\d+)/.exec(await (await fetch(`${server.url}/metrics`)).text());
    assert.equal(Number(failed), refusing.count, 'every refusal is counted, and no retry is hidden below');
    await server.stop();
  });

  test('trap 20: a server that accepts and never answers: stopping takes no longer than it may', async (t) => {
    const dead = proxy.hold('ReceiveMessage');
    const server = await behindProxy(t);
    await dead.held;
    await within(server.stop(), 'the stop');
    dead.release();
  });

  test('trap 25: an SQS that never answers the deletes costs the clients no farewell', async (t) => {
    const feed = newFeed();
    const server = await behindProxy(t);
    const client = await watching(t, server.url, feed);
    const deleting = proxy.hold('DeleteMessageBatch');
    await told(client, (await upload(server.url, feed)).key);
    await deleting.held;
    await server.stop();
    await client.inbox.find('reconnect');
    assert.equal(await client.inbox.find('disconnect'), 'transport close');
    deleting.release();
  });

  test('trap 20: readiness says when SQS refuses from the start, and when it was heard from', async (t) => {
    const refusing = proxy.answer('ReceiveMessage', 403, '{"__type":"AccessDenied"}');
    const server = await behindProxy(t);
    const ready = async () => {
      const response = await fetch(`${server.url}/readyz`);
      return { status: response.status, queue: (await response.json()).parts.queue };
    };
    await until(async () => (await ready()).status === 503, 'not to be ready');
    assert.match((await ready()).queue, /SQS_QUEUE_URL/);
    refusing.stop();
    await until(async () => (await ready()).status === 200, 'to be ready', 60_000);
    assert.match((await ready()).queue, /^ok, heard from \d+ s ago$/);
  });
});

async function grantedBy(server, feed) {
  const picture = photo();
  return { ...(await grantFor(server.url, feed, picture)), bytes: picture.bytes };
}

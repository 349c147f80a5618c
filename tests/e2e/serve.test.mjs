// `photoshare serve`: a real queue, an IAM user's key, objects that others put into the bucket.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BACKENDS } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { AwsAccount } from './lib/aws-account.mjs';
import { downloadPhoto, makeJpeg, listAllKeys, makeFeedId, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { createTemporaryFolder } from './lib/server.mjs';
import { assertRefused, assertUploaded } from './lib/assertions.mjs';
import { waitUntil } from './lib/wait.mjs';

const skip = !BACKENDS.includes('serve');

/** Puts an object as another identity of the account, without a grant. */
async function putObject(t, account, key, bytes = makeJpeg()) {
  const file = join(await createTemporaryFolder(t), 'body');
  await writeFile(file, bytes);
  await account.runAwsCli(['s3api', 'put-object', '--bucket', account.env.S3_BUCKET, '--key', key, '--body', file, '--content-type', 'image/jpeg']);
  return bytes;
}

const sendMessage = (account, body) => account.sendMessage(body);

const waitForEmptyQueue = (account) => waitUntil(async () => {
  const { visible, invisible } = await account.countMessages();
  return visible + invisible === 0;
}, 'the queue to be empty');

describe('serve', { skip }, () => {
  let account;
  let server;
  before(async () => {
    account = await AwsAccount.open();
    server = await account.startServer();
  });
  after(async () => {
    await server?.stop();
    await account?.close();
  });

  test('s3:TestEvent is consumed and deleted, and nothing is announced', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', feed);
    await sendMessage(account, JSON.stringify({ Service: 'Amazon S3', Event: 's3:TestEvent', Time: '2026-11-22T18:40:02.531Z', Bucket: account.env.S3_BUCKET, RequestId: 'x', HostId: 'y' }));
    const grant = await uploadPhoto(server.url, feed);
    await client.inbox.waitFor('imageUploaded', ({ key }) => key === grant.key);
    await waitForEmptyQueue(account);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
  });

  for (const name of ['a b+c@dé.jpg', 'a%2Fb.jpg', 'deep/down/c.jpg', '100%.jpg', '日本.jpg', '%C3%A9.jpg', 'a&b=c?d#e.jpg']) {
    test(`an object named ${name} is announced, listed, downloaded and deleted under that name`, async (t) => {
      const feed = makeFeedId('Größe 1');
      const key = `${feed}/${name}`;
      const client = closeAfterTest(t, connectSocketIo4(server.url));
      await client.request('join', feed);
      const bytes = await putObject(t, account, key);
      const event = await client.inbox.waitFor('imageUploaded');
      assertUploaded(event, { feed, key }, bytes.length);
      assert.deepEqual(await downloadPhoto(event.url), bytes);
      assert.deepEqual(await listAllKeys(server.url, feed, 50), [key]);
      await removePhoto(server.url, feed, key);
      assert.equal((await client.inbox.waitFor('imageRemoved')).key, key);
    });
  }

  test('objects whose key is not that of a photo are neither announced nor listed', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', feed);
    for (const key of ['loose.jpg', '.photoshare/kept.jpg', `${feed}/folder/`, `${feed}//empty.jpg`]) await putObject(t, account, key);
    const { key } = await uploadPhoto(server.url, feed);
    await client.inbox.waitFor('imageUploaded', (event) => event.key === key);
    await waitForEmptyQueue(account);
    await client.request('leave', feed);
    assert.deepEqual(client.inbox.dataOf('imageUploaded').map((event) => event.key), [key]);
    assert.deepEqual(await listAllKeys(server.url, feed, 50), [key]);
  });

  test('objects with foreign names are listed in key order after the issued ones, over several pages', async (t) => {
    const feed = makeFeedId();
    const foreign = ['IMG_1.jpg', 'IMG_2.jpg', 'x/1.jpg'].map((name) => `${feed}/${name}`);
    for (const key of foreign) await putObject(t, account, key);
    const { key } = await uploadPhoto(server.url, feed);
    for (const limit of [1, 3, 50]) assert.deepEqual(await listAllKeys(server.url, feed, limit), [key, ...foreign]);
  });

  test('an object that is overwritten is announced again under its key', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', feed);
    for (const size of [64, 640]) {
      const bytes = await putObject(t, account, `${feed}/IMG_1.jpg`, makeJpeg({ width: size, height: size }));
      const event = await client.inbox.waitFor('imageUploaded', (candidate) => candidate.size === bytes.length);
      assert.deepEqual(await downloadPhoto(event.url), bytes);
    }
    assert.equal(client.inbox.dataOf('imageUploaded').length, 2);
  });

  test('the demo page is served only with DEMO_PAGE', async () => {
    await assertRefused(await fetch(server.url), 'not-found', 404);
  });

  test('the access key of the IAM user permits no more than the server needs', async () => {
    const { S3_BUCKET, SQS_QUEUE_URL } = account.env;
    for (const forbidden of [
      ['sqs', 'send-message', '--queue-url', SQS_QUEUE_URL, '--message-body', 'x'],
      ['sqs', 'purge-queue', '--queue-url', SQS_QUEUE_URL],
      ['s3api', 'delete-bucket', '--bucket', S3_BUCKET],
      ['s3api', 'list-buckets'],
      ['iam', 'list-users'],
    ]) {
      await assert.rejects(account.runAwsCli(forbidden, account.key), /AccessDenied|not authorized/i, forbidden.join(' '));
    }
  });

  // The last test of this group: its message stays in the queue.
  test('a message that is not an event is kept for the dead-letter queue and delays no photo', async (t) => {
    await waitForEmptyQueue(account);
    await sendMessage(account, 'garbage');
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', feed);
    const { key } = await uploadPhoto(server.url, feed);
    assert.equal((await client.inbox.waitFor('imageUploaded')).key, key);
    await waitUntil(async () => {
      const [queue, dead] = [await account.countMessages(), await account.countMessages(account.deadLetterQueueUrl)];
      return queue.visible + queue.invisible + dead.visible === 1;
    }, 'exactly one message to remain');
    assert.doesNotMatch(server.log, /garbage/, 'the body of the message is not logged');
  });
});

describe('serve, by delivery', { skip }, () => {
  let account;
  let server;
  before(async () => {
    account = await AwsAccount.open();
    server = await account.startServer();
  });
  after(async () => {
    await server?.stop();
    await account?.close();
  });

  const deliveries = [
    { Delivery: 'topic', RawMessageDelivery: 'true' },
    { Delivery: 'topic', RawMessageDelivery: 'false' },
    { Delivery: 'eventbridge' },
    { Delivery: 'direct' },
  ];
  for (const delivery of deliveries) {
    test(`Delivery=${Object.values(delivery)}: a photo is announced and removed, each once`, async (t) => {
      await account.setDelivery(delivery);
      const feed = makeFeedId('by delivery');
      const client = closeAfterTest(t, connectSocketIo4(server.url));
      await client.request('join', feed);
      const grant = await uploadPhoto(server.url, feed);
      assert.equal((await client.inbox.waitFor('imageUploaded')).key, grant.key);
      await removePhoto(server.url, feed, grant.key);
      assert.equal((await client.inbox.waitFor('imageRemoved')).key, grant.key);
      await waitForEmptyQueue(account);
      assert.equal(client.inbox.events.filter(({ name }) => name.startsWith('image')).length, 2);
    });
  }
});

describe('serve with a prefix', { skip }, () => {
  test('with S3_KEY_PREFIX every key has the prefix, and objects outside of it are ignored', async (t) => {
    const account = await AwsAccount.open();
    const server = await account.startServer({ env: { S3_KEY_PREFIX: 'app/' }, cleanUp: () => account.close() });
    t.after(() => server.stop());
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', feed);
    await putObject(t, account, `${feed}/outside.jpg`);
    const { key } = await uploadPhoto(server.url, feed);
    assert.ok(key.startsWith(`app/${feed}/`), key);
    assert.equal((await client.inbox.waitFor('imageUploaded')).key, key);
    await waitForEmptyQueue(account);
    await client.request('leave', feed);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
    assert.deepEqual(await listAllKeys(server.url, feed, 50), [key]);
  });
});

describe('serve stops', { skip }, () => {
  let account;
  before(async () => {
    account = await AwsAccount.open();
  });
  after(() => account?.close());

  test('in the middle of a batch: no message stays invisible, and the next process handles the rest', async () => {
    const feed = makeFeedId();
    const server = await account.startServer();
    const uploads = await Promise.all(Array.from({ length: 40 }, () => uploadPhoto(server.url, feed)));
    await server.stop();
    assert.equal((await account.countMessages()).invisible, 0);

    const next = await account.startServer();
    try {
      await waitForEmptyQueue(account);
      assert.deepEqual((await listAllKeys(next.url, feed, 200)).toSorted(), uploads.map(({ key }) => key).toSorted());
    } finally {
      await next.stop();
    }
  });
});

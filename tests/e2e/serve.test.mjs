// What only `photoshare serve` does: a real queue, an IAM user's key, objects that others put.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BACKENDS } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import { Account } from './lib/ministack.mjs';
import { download, jpeg, listAllKeys, newFeed, remove, upload } from './lib/photos.mjs';
import { temporaryFolder } from './lib/server.mjs';
import { assertRefused, assertUploaded } from './lib/shapes.mjs';
import { until } from './lib/wait.mjs';

const skip = !BACKENDS.includes('serve');

/** Puts an object as somebody else with rights in the account would. */
async function putObject(t, account, key, bytes = jpeg()) {
  const file = join(await temporaryFolder(t), 'body');
  await writeFile(file, bytes);
  await account.aws(['s3api', 'put-object', '--bucket', account.env.S3_BUCKET, '--key', key, '--body', file, '--content-type', 'image/jpeg']);
  return bytes;
}

const send = (account, body) => account.aws(['sqs', 'send-message', '--queue-url', account.env.SQS_QUEUE_URL, '--message-body', body]);

const drained = (account) => until(async () => {
  const { visible, invisible } = await account.queued();
  return visible + invisible === 0;
}, 'the queue to be empty');

describe('serve', { skip }, () => {
  let account;
  let server;
  before(async () => {
    account = await Account.open();
    server = await account.serve();
  });
  after(async () => {
    await server?.stop();
    await account?.close();
  });

  test('trap 1: s3:TestEvent is consumed and deleted, nothing is announced', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(server.url));
    await client.ask('join', feed);
    await send(account, JSON.stringify({ Service: 'Amazon S3', Event: 's3:TestEvent', Time: '2026-11-22T18:40:02.531Z', Bucket: account.env.S3_BUCKET, RequestId: 'x', HostId: 'y' }));
    const grant = await upload(server.url, feed);
    await client.inbox.find('imageUploaded', ({ key }) => key === grant.key);
    await drained(account);
    assert.equal(client.inbox.named('imageUploaded').length, 1);
  });

  for (const name of ['a b+c@dé.jpg', 'a%2Fb.jpg', 'deep/down/c.jpg', '100%.jpg', '日本.jpg', '%C3%A9.jpg', 'a&b=c?d#e.jpg']) {
    test(`traps 2 and 3: an object called ${name} is announced, listed, downloaded and deleted under that name`, async (t) => {
      const feed = newFeed('Größe 1');
      const key = `${feed}/${name}`;
      const client = closing(t, connect4(server.url));
      await client.ask('join', feed);
      const bytes = await putObject(t, account, key);
      const event = await client.inbox.find('imageUploaded');
      assertUploaded(event, { feed, key }, bytes.length);
      assert.deepEqual(await download(event.url), bytes);
      assert.deepEqual(await listAllKeys(server.url, feed, 50), [key]);
      await remove(server.url, feed, key);
      assert.equal((await client.inbox.find('imageRemoved')).key, key);
    });
  }

  test('keys that are no photo of a feed are neither announced nor listed', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(server.url));
    await client.ask('join', feed);
    for (const key of ['loose.jpg', '.photoshare/kept.jpg', `${feed}/folder/`, `${feed}//empty.jpg`]) await putObject(t, account, key);
    const { key } = await upload(server.url, feed);
    await client.inbox.find('imageUploaded', (event) => event.key === key);
    await drained(account);
    await client.ask('leave', feed);
    assert.deepEqual(client.inbox.named('imageUploaded').map((event) => event.key), [key]);
    assert.deepEqual(await listAllKeys(server.url, feed, 50), [key]);
  });

  test('foreign names are listed in key order after the issued ones, over pages', async (t) => {
    const feed = newFeed();
    const foreign = ['IMG_1.jpg', 'IMG_2.jpg', 'x/1.jpg'].map((name) => `${feed}/${name}`);
    for (const key of foreign) await putObject(t, account, key);
    const { key } = await upload(server.url, feed);
    for (const limit of [1, 3, 50]) assert.deepEqual(await listAllKeys(server.url, feed, limit), [key, ...foreign]);
  });

  test('an object that is written anew is announced anew under its key', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(server.url));
    await client.ask('join', feed);
    for (const size of [64, 640]) {
      const bytes = await putObject(t, account, `${feed}/IMG_1.jpg`, jpeg({ width: size, height: size }));
      const event = await client.inbox.find('imageUploaded', (told) => told.size === bytes.length);
      assert.deepEqual(await download(event.url), bytes);
    }
    assert.equal(client.inbox.named('imageUploaded').length, 2);
  });

  test('there is no page unless DEMO_PAGE says so', async () => {
    await assertRefused(await fetch(server.url), 'not-found', 404);
  });

  test('the user\'s key may do no more than the server needs', async () => {
    const { S3_BUCKET, SQS_QUEUE_URL } = account.env;
    for (const forbidden of [
      ['sqs', 'send-message', '--queue-url', SQS_QUEUE_URL, '--message-body', 'x'],
      ['sqs', 'purge-queue', '--queue-url', SQS_QUEUE_URL],
      ['s3api', 'delete-bucket', '--bucket', S3_BUCKET],
      ['s3api', 'list-buckets'],
      ['iam', 'list-users'],
    ]) {
      await assert.rejects(account.aws(forbidden, account.key), /AccessDenied|not authorized/i, forbidden.join(' '));
    }
  });

  // Last of these: its message stays.
  test('a message that is no event is kept for the dead-letter queue and holds up nobody', async (t) => {
    await drained(account);
    await send(account, 'garbage');
    const feed = newFeed();
    const client = closing(t, connect4(server.url));
    await client.ask('join', feed);
    const { key } = await upload(server.url, feed);
    assert.equal((await client.inbox.find('imageUploaded')).key, key);
    await until(async () => {
      const [queue, dead] = [await account.queued(), await account.queued(account.deadLetterQueueUrl)];
      return queue.visible + queue.invisible + dead.visible === 1;
    }, 'one message to be left');
    assert.doesNotMatch(server.log, /garbage/, 'its body is not logged');
  });
});

describe('serve, whatever way events take', { skip }, () => {
  let account;
  let server;
  before(async () => {
    account = await Account.open();
    server = await account.serve();
  });
  after(async () => {
    await server?.stop();
    await account?.close();
  });

  const ways = [
    { Delivery: 'topic', RawMessageDelivery: 'true' },
    { Delivery: 'topic', RawMessageDelivery: 'false' },
    { Delivery: 'eventbridge' },
    { Delivery: 'direct' },
  ];
  for (const way of ways) {
    test(`trap 11: ${Object.values(way)}: a photo is announced and removed, each once`, async (t) => {
      await account.deliver(way);
      const feed = newFeed('by way');
      const client = closing(t, connect4(server.url));
      await client.ask('join', feed);
      const grant = await upload(server.url, feed);
      assert.equal((await client.inbox.find('imageUploaded')).key, grant.key);
      await remove(server.url, feed, grant.key);
      assert.equal((await client.inbox.find('imageRemoved')).key, grant.key);
      await drained(account);
      assert.equal(client.inbox.told.filter(({ name }) => name.startsWith('image')).length, 2);
    });
  }
});

describe('serve with a prefix', { skip }, () => {
  test('S3_KEY_PREFIX stands before every key, and what lies beside it is not seen', async (t) => {
    const account = await Account.open();
    const server = await account.serve({ env: { S3_KEY_PREFIX: 'app/' }, cleanUp: () => account.close() });
    t.after(() => server.stop());
    const feed = newFeed();
    const client = closing(t, connect4(server.url));
    await client.ask('join', feed);
    await putObject(t, account, `${feed}/outside.jpg`);
    const { key } = await upload(server.url, feed);
    assert.ok(key.startsWith(`app/${feed}/`), key);
    assert.equal((await client.inbox.find('imageUploaded')).key, key);
    await drained(account);
    await client.ask('leave', feed);
    assert.equal(client.inbox.named('imageUploaded').length, 1);
    assert.deepEqual(await listAllKeys(server.url, feed, 50), [key]);
  });
});

describe('serve stops', { skip }, () => {
  let account;
  before(async () => {
    account = await Account.open();
  });
  after(() => account?.close());

  test('in the middle of a batch: nothing stays invisible, and the next start finishes the rest', async () => {
    const feed = newFeed();
    const server = await account.serve();
    const uploads = await Promise.all(Array.from({ length: 40 }, () => upload(server.url, feed)));
    await server.stop();
    assert.equal((await account.queued()).invisible, 0);

    const next = await account.serve();
    try {
      await drained(account);
      assert.deepEqual((await listAllKeys(next.url, feed, 200)).toSorted(), uploads.map(({ key }) => key).toSorted());
    } finally {
      await next.stop();
    }
  });
});

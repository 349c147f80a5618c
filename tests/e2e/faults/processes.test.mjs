// Processes of a deployment meet, die and are replaced: no client misses anything, none is told twice.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Deployment, SETTLE_MS, printFaultTable } from '../lib/deployment.mjs';
import { Account } from '../lib/ministack.mjs';
import { upload } from '../lib/photos.mjs';
import { until } from '../lib/wait.mjs';

describe('many processes', () => {
  let account;
  before(async () => {
    account = await Account.open();
  });
  after(async () => {
    printFaultTable();
    await account?.close();
  });

  test('trap 28: what one process consumes is delivered by all', async (t) => {
    const deployment = await Deployment.open(t, account, { webs: 0, pollers: 0 });
    await deployment.addWeb([]);
    for (let i = 0; i < 2; i += 1) await deployment.addWeb();
    for (const { url } of deployment.webs) await deployment.follow(1, url);
    await deployment.begin().more(40);
    await deployment.settle('none: consumed by A, delivered by A, B and C');
  });

  test('watchers are counted over all processes', async (t) => {
    const deployment = await Deployment.open(t, account, { webs: 3, pollers: 0 });
    const [a, b, c] = deployment.webs;
    await deployment.follow(2, a.url);
    await deployment.follow(1, b.url);
    const count = async ({ url }) => (await (await fetch(`${url}/v1/feeds/${deployment.feed}`)).json()).watchers;
    for (const web of [a, b, c]) await until(async () => (await count(web)) === 3, 'three watchers');
    await deployment.endWeb(a, 'SIGTERM');
    deployment.followers.splice(0, 2).forEach((follower) => follower.close());
    await until(async () => (await count(c)) === 1, 'those of the stopped process to count no more');
  });

  test('trap 9: the same messages in two pollers are announced once', async (t) => {
    const deployment = await Deployment.open(t, account, { pollers: 2 });
    await deployment.follow(2);
    const grants = await Promise.all(Array.from({ length: 20 }, () => upload(deployment.url, deployment.feed)));
    await until(() => deployment.followers.every(({ told }) => told.length === grants.length), 'all to be told', SETTLE_MS);
    const body = JSON.stringify({ Records: deployment.followers[0].told.map(({ data }) => recordOf(account, data)) });
    for (let i = 0; i < 6; i += 1) {
      await account.aws(['sqs', 'send-message', '--queue-url', account.env.SQS_QUEUE_URL, '--message-body', body]);
    }
    const last = await upload(deployment.url, deployment.feed);
    await until(() => deployment.followers.every(({ shown }) => shown.has(last.key)), 'the last one', SETTLE_MS);
    deployment.sent = grants.length + 1;
    await deployment.settle('20 messages given to two pollers 6 times more');
  });

  test('a web process is killed: its clients go on with another', async (t) => {
    const deployment = await Deployment.open(t, account, { webs: 3 });
    await deployment.follow(6);
    const traffic = deployment.begin();
    for (let i = 0; i < 2; i += 1) {
      await traffic.more(30);
      await deployment.endWeb(deployment.webs[0], 'SIGKILL');
    }
    await traffic.more(30);
    await deployment.settle('web processes killed (-9), two of three');
    const recoveries = deployment.followers.reduce((sum, follower) => sum + follower.recoveries, 0);
    assert.ok(recoveries >= 4, `${recoveries} recoveries`);
  });

  test('trap 21: pollers are killed with messages in hand', async (t) => {
    const deployment = await Deployment.open(t, account, { pollers: 2 });
    await deployment.follow(3);
    const traffic = deployment.begin();
    for (let i = 0; i < 3; i += 1) {
      await traffic.more(25);
      await deployment.endPoller(deployment.pollers[0], 'SIGKILL');
      await deployment.addPoller();
    }
    await deployment.settle('pollers killed (-9) 3 times');
  });

  test('all web processes are replaced one by one under constant uploads', async (t) => {
    const deployment = await Deployment.open(t, account, { webs: 3 });
    await deployment.follow(9);
    const traffic = deployment.begin();
    for (const web of [...deployment.webs]) {
      await traffic.more(20);
      await deployment.addWeb();
      const { code } = await deployment.endWeb(web, 'SIGTERM');
      assert.equal(code, 0, web.child.log);
    }
    await traffic.more(20);
    await deployment.settle('rolling restart of 3 web processes');
    assert.ok(deployment.followers.every((follower) => follower.reconnectHints >= 1), 'everybody was told to come back');
  });
});

/** The message's record that told of this event, as S3 writes it. */
function recordOf(account, { key, eTag, size, sequencer, eventName, eventTime }) {
  return {
    eventVersion: '2.6', eventSource: 'aws:s3', awsRegion: account.env.AWS_REGION, eventTime, eventName,
    userIdentity: { principalId: 'x' }, requestParameters: { sourceIPAddress: '127.0.0.1' }, responseElements: {},
    s3: {
      s3SchemaVersion: '1.0', configurationId: 'x',
      bucket: { name: account.env.S3_BUCKET, ownerIdentity: { principalId: 'x' }, arn: `arn:aws:s3:::${account.env.S3_BUCKET}` },
      object: { key: encodeURIComponent(key).replaceAll('%2F', '/'), size, eTag, sequencer },
    },
  };
}

// The processes of a deployment share the work, are killed and replaced: no client misses an event or receives
// one twice.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Deployment, REDELIVERY_DEADLINE_MS, printFaultTable } from './lib/deployment.mjs';
import { uploadPhoto } from './lib/photos.mjs';
import { waitUntil } from './lib/wait.mjs';

describe('several processes', { concurrency: 2 }, () => {
  after(printFaultTable);

  test('all processes deliver what one process consumes', async (t) => {
    const deployment = await Deployment.open(t, { webs: 0, pollers: 0 });
    await deployment.addWeb([]);
    for (let i = 0; i < 2; i += 1) await deployment.addWeb();
    for (const { url } of deployment.webs) await deployment.addFollowers(1, url);
    await deployment.startTraffic().waitForMore(40);
    await deployment.assertConsistent('none: consumed by A, delivered by A, B and C');
  });

  test('watchers are counted over all processes', async (t) => {
    const deployment = await Deployment.open(t, { webs: 3, pollers: 0 });
    const [a, b, c] = deployment.webs;
    await deployment.addFollowers(2, a.url);
    await deployment.addFollowers(1, b.url);
    const countWatchers = async ({ url }) => (await (await fetch(`${url}/v1/feeds/${deployment.feed}`)).json()).watchers;
    for (const web of [a, b, c]) await waitUntil(async () => (await countWatchers(web)) === 3, 'three watchers');
    await deployment.stopWeb(a, 'SIGTERM');
    deployment.followers.splice(0, 2).forEach((follower) => follower.close());
    await waitUntil(async () => (await countWatchers(c)) === 1, 'the watchers of the stopped process to be removed');
  });

  test('a message that two pollers receive is announced once', async (t) => {
    const deployment = await Deployment.open(t, { pollers: 2 });
    const { account } = deployment;
    await deployment.addFollowers(2);
    const grants = await Promise.all(Array.from({ length: 20 }, () => uploadPhoto(deployment.url, deployment.feed)));
    await deployment.waitForFollowers(({ events }) => events.length === grants.length, 'all events', REDELIVERY_DEADLINE_MS);
    const body = JSON.stringify({ Records: deployment.followers[0].events.map(({ data }) => buildRecord(account, data)) });
    for (let i = 0; i < 6; i += 1) await account.sendMessage(body);
    const last = await uploadPhoto(deployment.url, deployment.feed);
    await deployment.waitForFollowers(({ keys }) => keys.has(last.key), 'the last event', REDELIVERY_DEADLINE_MS);
    deployment.sent = grants.length + 1;
    await deployment.assertConsistent('20 messages given to two pollers 6 times more');
  });

  test('after SIGKILL of a web process, its clients resume with another one', async (t) => {
    const deployment = await Deployment.open(t, { webs: 3 });
    await deployment.addFollowers(6);
    const traffic = deployment.startTraffic();
    for (let i = 0; i < 2; i += 1) {
      await traffic.waitForMore(30);
      await deployment.stopWeb(deployment.webs[0], 'SIGKILL');
    }
    await traffic.waitForMore(30);
    await deployment.assertConsistent('web processes killed (-9), two of three');
    const recoveries = deployment.followers.reduce((sum, follower) => sum + follower.recoveries, 0);
    assert.ok(recoveries >= 4, `${recoveries} recoveries`);
  });

  test('pollers are killed while they handle messages', async (t) => {
    const deployment = await Deployment.open(t, { pollers: 2 });
    await deployment.addFollowers(3);
    const traffic = deployment.startTraffic();
    for (let i = 0; i < 3; i += 1) {
      await traffic.waitForMore(25);
      await deployment.stopPoller(deployment.pollers[0], 'SIGKILL');
      await deployment.addPoller();
    }
    await deployment.assertConsistent('pollers killed (-9) 3 times');
  });

  test('a rolling restart of all web processes under constant uploads', async (t) => {
    const deployment = await Deployment.open(t, { webs: 3 });
    await deployment.addFollowers(9);
    const traffic = deployment.startTraffic();
    for (const web of [...deployment.webs]) {
      await traffic.waitForMore(20);
      await deployment.addWeb();
      const { code } = await deployment.stopWeb(web, 'SIGTERM');
      assert.equal(code, 0, web.child.log);
    }
    await traffic.waitForMore(20);
    await deployment.assertConsistent('rolling restart of 3 web processes');
    assert.ok(deployment.followers.every((follower) => follower.reconnectHints >= 1), 'every client received reconnect');
  });
});

/** S3's record of the upload or removal that this event announced. */
function buildRecord(account, { key, eTag, size, sequencer, eventName, eventTime }) {
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

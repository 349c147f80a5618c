// Redis hangs, disappears, comes back empty or with older data: no client misses events for long.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { assertProblem } from './lib/assertions.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { Deployment, REDELIVERY_DEADLINE_MS, printFaultTable } from './lib/deployment.mjs';
import { waitUntil } from './lib/wait.mjs';

/** How long Redis is unavailable: longer than any time-out on the way to it. */
const OUTAGE_MS = 10_000;

describe('faults of Redis', { concurrency: 2 }, () => {
  after(printFaultTable);

  /** A deployment with three followers that have received the first events of its traffic. */
  async function openUnderTraffic(t, options) {
    const deployment = await Deployment.open(t, options);
    await deployment.addFollowers(3);
    const traffic = deployment.startTraffic();
    await traffic.waitForMore(20);
    await deployment.waitForFollowers(({ events }) => events.length > 0, 'the first events', REDELIVERY_DEADLINE_MS);
    return { deployment, traffic, redis: deployment.redis };
  }

  /** Traffic for the duration of an outage that began at `since`: the duration itself is under test. */
  async function waitForOutage(traffic, since) {
    await traffic.waitForMore(60);
    await waitUntil(() => Date.now() - since >= OUTAGE_MS, 'the end of the outage');
  }

  async function assertJoinUnavailable(t, { url, feed }) {
    const client = closeAfterTest(t, connectSocketIo4(url));
    assertProblem(await client.request('join', feed), 'unavailable', 503);
  }

  test('Redis hangs for 10 s', async (t) => {
    const { deployment, traffic, redis } = await openUnderTraffic(t);
    redis.pause();
    await waitForOutage(traffic, Date.now());
    await assertJoinUnavailable(t, deployment);
    const readiness = await fetch(`${deployment.webs[0].url}/readyz`);
    assert.equal(readiness.status, 503, 'readiness includes the log');
    redis.resume();
    await traffic.waitForMore(40);
    await deployment.assertConsistent('Redis hangs (SIGSTOP) for 10 s');
    assert.equal((await fetch(`${deployment.webs[0].url}/readyz`)).status, 200);
  });

  test('Redis is shut down for 10 s and restarts with its data', async (t) => {
    const { deployment, traffic, redis } = await openUnderTraffic(t, { pollers: 2 });
    await redis.shutDown();
    await waitForOutage(traffic, Date.now());
    await assertJoinUnavailable(t, deployment);
    await redis.restart();
    await traffic.waitForMore(40);
    await deployment.assertConsistent('Redis shut down for 10 s and back');
  });

  for (const [server, valkey] of [['Redis', false], ['Valkey', true]]) {
    test(`${server} restarts empty`, async (t) => {
      const { deployment, traffic, redis } = await openUnderTraffic(t, { valkey });
      await redis.kill();
      await traffic.waitForMore(40);
      await redis.restart();
      await traffic.waitForMore(40);
      await deployment.assertConsistent(`${server} back empty`, { mayLoseLog: true });
      for (const { resets } of deployment.followers) assert.ok(resets.length >= 1, 'the client learned that the log was lost');
    });

    test(`${server} restarts with an older snapshot: offsets are used twice, and the entries' tags reveal it`, async (t) => {
      const { deployment, traffic, redis } = await openUnderTraffic(t, { valkey });
      await redis.snapshot();
      const received = deployment.followers.map(({ events }) => events.length);
      await traffic.waitForMore(40);
      await waitUntil(() => deployment.followers.every(({ events }, i) => events.length > received[i] + 20), 'events after the snapshot', REDELIVERY_DEADLINE_MS);
      await redis.kill();
      await redis.restart();
      await traffic.waitForMore(80);
      await deployment.assertConsistent(`${server} back with an older snapshot`, { mayLoseLog: true });
      for (const { resets } of deployment.followers) assert.ok(resets.length >= 1, 'the client learned that the log was lost');
    });
  }

  test('the connections to Redis are closed repeatedly', async (t) => {
    const { deployment, traffic } = await openUnderTraffic(t, { proxied: true, pollers: 2 });
    for (let i = 0; i < 6; i += 1) {
      deployment.redisProxy.abortConnections();
      await traffic.waitForMore(15);
    }
    await deployment.assertConsistent('connections to Redis cut 6 times');
  });

  test('the connections to Redis stay open and carry nothing', async (t) => {
    const { deployment, traffic } = await openUnderTraffic(t, { proxied: true });
    const received = deployment.followers.map(({ events }) => events.length);
    deployment.redisProxy.stallConnections();
    await traffic.waitForMore(40);
    // The traffic goes on meanwhile: time-outs detect the half-open connections, not the end of the traffic.
    await waitUntil(() => deployment.followers.every(({ events }, i) => events.length > received[i] + 20), 'delivery to resume');
    await deployment.assertConsistent('connections to Redis half-open');
  });
});

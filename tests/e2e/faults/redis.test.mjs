// Redis goes away, comes back, forgets: no client misses anything for long.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { closing, connect4 } from '../lib/clients.mjs';
import { Deployment, SETTLE_MS, printFaultTable } from '../lib/deployment.mjs';
import { Account } from '../lib/ministack.mjs';
import { assertProblem } from '../lib/shapes.mjs';
import { until } from '../lib/wait.mjs';

/** How long Redis is away: longer than any time-out on the way to it. */
const AWAY_MS = 10_000;

describe('faults of Redis', () => {
  let account;
  before(async () => {
    account = await Account.open();
  });
  after(async () => {
    printFaultTable();
    await account?.close();
  });

  /** Three followers, and traffic that has begun to arrive. */
  async function underTraffic(t, options) {
    const deployment = await Deployment.open(t, account, options);
    await deployment.follow(3);
    const traffic = deployment.begin();
    await traffic.more(20);
    await until(() => deployment.followers.every(({ told }) => told.length > 0), 'the first events', SETTLE_MS);
    return { deployment, traffic, redis: deployment.redis };
  }

  /** Traffic for as long as a fault is to last that began at `since`: here, time is the fault. */
  async function trafficWhileAway(traffic, since) {
    await traffic.more(60);
    await until(() => Date.now() - since >= AWAY_MS, 'the fault to have lasted');
  }

  test('Redis hangs for 10 s', async (t) => {
    const { deployment, traffic, redis } = await underTraffic(t);
    redis.pause();
    await trafficWhileAway(traffic, Date.now());
    const newcomer = closing(t, connect4(deployment.url));
    assertProblem(await newcomer.ask('join', deployment.feed), 'unavailable', 503);
    const ready = await fetch(`${deployment.webs[0].url}/readyz`);
    assert.equal(ready.status, 503, 'readiness includes the log');
    redis.resume();
    await traffic.more(40);
    await deployment.settle('Redis hangs (SIGSTOP) for 10 s');
    assert.equal((await fetch(`${deployment.webs[0].url}/readyz`)).status, 200);
  });

  test('Redis is shut down for 10 s and comes back with what it held', async (t) => {
    const { deployment, traffic, redis } = await underTraffic(t, { pollers: 2 });
    await redis.shutDown();
    await trafficWhileAway(traffic, Date.now());
    const newcomer = closing(t, connect4(deployment.url));
    assertProblem(await newcomer.ask('join', deployment.feed), 'unavailable', 503);
    await redis.restart();
    await traffic.more(40);
    await deployment.settle('Redis shut down for 10 s and back');
  });

  for (const [server, valkey] of [['Redis', false], ['Valkey', true]]) {
    test(`${server} comes back empty`, async (t) => {
      const { deployment, traffic, redis } = await underTraffic(t, { valkey });
      await redis.kill();
      await traffic.more(40);
      await redis.restart();
      await traffic.more(40);
      await deployment.settle(`${server} back empty`, { mayLoseTheLog: true });
      for (const { restarts } of deployment.followers) assert.ok(restarts.length >= 1, 'told that the log was lost');
    });

    test(`${server} comes back with an older snapshot: offsets are used twice, and the tags tell`, async (t) => {
      const { deployment, traffic, redis } = await underTraffic(t, { valkey });
      await redis.snapshot();
      const seen = deployment.followers[0].told.length;
      await traffic.more(40);
      await until(() => deployment.followers.every(({ told }) => told.length > seen + 20), 'events after the snapshot');
      await redis.kill();
      await redis.restart();
      await traffic.more(80);
      await deployment.settle(`${server} back with an older snapshot`, { mayLoseTheLog: true });
      for (const { restarts } of deployment.followers) assert.ok(restarts.length >= 1, 'told that the log was lost');
    });
  }

  test('the connections to Redis are cut, again and again', async (t) => {
    const { deployment, traffic } = await underTraffic(t, { proxied: true, pollers: 2 });
    for (let i = 0; i < 6; i += 1) {
      deployment.toRedis.cut();
      await traffic.more(15);
    }
    await deployment.settle('connections to Redis cut 6 times');
  });

  test('the connections to Redis stay open and carry nothing', async (t) => {
    const { deployment, traffic } = await underTraffic(t, { proxied: true });
    const told = deployment.followers[0].told.length;
    deployment.toRedis.hang();
    await traffic.more(40);
    // While they are half-open: it is the time-outs that find out, before the traffic ends.
    await until(() => deployment.followers.every((follower) => follower.told.length > told + 20), 'delivery to go on');
    await deployment.settle('connections to Redis half-open');
  });
});

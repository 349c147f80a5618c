// Several processes on one Redis, under constant uploads, watched by followers; and what must hold in
// the end, whatever happened meanwhile.

import assert from 'node:assert/strict';
import { Follower } from './follower.mjs';
import { newFeed, photo, remove, upload, listAllKeys } from './photos.mjs';
import { Redis } from './redis.mjs';
import { launch } from './server.mjs';
import { connect4 } from './clients.mjs';
import { until } from './wait.mjs';
import { Wire } from './wire.mjs';

/**
 * Long enough for a message of a killed poller to become visible again. What a poller of an earlier test
 * had asked for when it ended may be among them: the queue answered to nobody.
 */
export const SETTLE_MS = 150_000;
/**
 * What one receive brings. A log that dies may have taken and told so many without having answered the
 * poller; they come again, and the log that comes back without them can't know.
 */
const IN_HAND = 10;
const row = (cells) => `| ${cells.join(' | ')} |`;
const rows = [];

/**
 * Prints what every fault did so far. Fewer are received than sent where the log was lost (the rest was
 * listed), and where a photo's removal was told before its upload, which then is told no more.
 */
export function printFaultTable() {
  const head = ['fault', 'events sent', 'received per client', 'lists anew', 'lost', 'duplicated'];
  console.log([row(head), row(head.map(() => '---')), ...rows].join('\n'));
}

export class Deployment {
  webs = [];
  pollers = [];
  followers = [];

  static async open(t, account, { webs = 2, pollers = 1, proxied = false, valkey = false, env = {} } = {}) {
    const deployment = new Deployment();
    deployment.account = account;
    deployment.feed = newFeed('faults');
    t.after(() => deployment.close());
    deployment.redis = await Redis.start({ valkey });
    if (proxied) deployment.toRedis = await Wire.open(() => [deployment.redis.port]);
    const redisPort = deployment.toRedis?.port ?? deployment.redis.port;
    deployment.env = { ...account.env, AUTH: 'off', REDIS_URL: `redis://127.0.0.1:${redisPort}`, FEED_LOG_LENGTH: '10000', ...env };
    deployment.front = await Wire.open(() => deployment.webs.map(({ port }) => port));
    for (let i = 0; i < webs; i += 1) await deployment.addWeb();
    for (let i = 0; i < pollers; i += 1) await deployment.addPoller();
    return deployment;
  }

  get url() {
    return this.front.url;
  }

  async addWeb(args = ['--no-poller']) {
    const child = launch(['serve', ...args], { PORT: '0', BIND_ADDR: '127.0.0.1', ...this.env });
    const address = await child.line((line) => /"listening".*?"address":"([^"]+)"|"address":"([^"]+)".*"listening"/.exec(line), 'listening');
    const found = address[1] ?? address[2];
    const web = { child, url: `http://${found}`, port: Number(found.split(':').at(-1)) };
    this.webs.push(web);
    return web;
  }

  async addPoller() {
    const child = launch(['poll'], this.env);
    await child.line((line) => line.includes('"polling"'), 'polling');
    this.pollers.push(child);
    return child;
  }

  /** Takes a web process out, by a signal. Gives how it ended. */
  async endWeb(web, signal) {
    const ended = web.child.end(signal);
    await ended;
    this.webs = this.webs.filter((other) => other !== web);
    return ended;
  }

  async endPoller(poller, signal) {
    this.pollers = this.pollers.filter((other) => other !== poller);
    return poller.end(signal);
  }

  async follow(count, url = this.url) {
    for (let i = 0; i < count; i += 1) this.followers.push(await Follower.open(url, this.feed));
  }

  /** Uploads and now and then removes, until `traffic.stop()`. */
  begin() {
    const traffic = { sent: 0, stored: new Set(), running: true };
    const lane = async () => {
      const mine = [];
      let uploads = 0;
      while (traffic.running) {
        try {
          const { key } = await upload(this.url, this.feed, photo());
          traffic.stored.add(key);
          traffic.sent += 1;
          mine.push(key);
          uploads += 1;
          if (uploads % 5 === 0) {
            const gone = mine.shift();
            // Before it is asked for: an answer that gets lost does not say whether it was done.
            traffic.stored.delete(gone);
            await remove(this.url, this.feed, gone);
            traffic.sent += 1;
          }
        } catch (error) {
          // The process that was asked died: whether the photo is there only the bucket knows.
          traffic.failed = error;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    const lanes = [lane(), lane(), lane()];
    traffic.stop = async () => {
      traffic.running = false;
      await Promise.all(lanes);
    };
    /** Resolves when so many more have been sent. */
    traffic.more = (count) => {
      const goal = traffic.sent + count;
      return until(() => traffic.sent >= goal, () => `${count} more events to be sent; ${traffic.failed}`, 60_000);
    };
    this.traffic = traffic;
    return traffic;
  }

  /** The log from `cursor` on, as a newcomer gets it. */
  async logFrom(cursor) {
    const [reader, other] = [connect4(this.url), connect4(this.url)];
    try {
      const { recovered, events, cursor: reached } = await reader.ask('join', { feed: this.feed, cursor });
      assert.equal(recovered, true, 'the log reaches back');
      const told = () => reader.inbox.told.filter(({ name }) => name === 'imageUploaded' || name === 'imageRemoved');
      const atTheEnd = async () => {
        const { cursor: end } = await other.ask('join', this.feed);
        return (told().at(-1)?.data.cursor ?? reached) === end;
      };
      await until(atTheEnd, 'the reader to reach the end');
      return [...events, ...told().map(({ name, data }) => ({ event: name, data }))];
    } finally {
      reader.close();
      other.close();
    }
  }

  /** Stops the traffic, waits until all is told, and compares: followers, log, bucket. */
  async settle(fault, { mayLoseTheLog = false } = {}) {
    await this.traffic?.stop();
    // A message that is neither counted as visible nor as invisible may be on its way between the two.
    let empty = 0;
    await until(async () => {
      const { visible, invisible } = await this.account.queued();
      empty = visible + invisible === 0 ? empty + 1 : 0;
      return empty === 3;
    }, 'the queue to be empty', SETTLE_MS);
    for (const { url } of this.webs) {
      await until(() => fetch(`${url}/readyz`).then((response) => response.ok, () => false), 'every process to be ready');
    }

    const bucket = (await listAllKeys(this.url, this.feed, 200)).toSorted();
    const summary = () => this.followers.map((follower) =>
      `${follower.told.length} told, ${follower.shown.size} shown, ${follower.restarts.length} lists anew, ${JSON.stringify(follower.refused)}`).join('; ');
    const same = (follower) => JSON.stringify([...follower.shown].toSorted()) === JSON.stringify(bucket);
    const stories = (events) => events.map((event) => `${Follower.storyOf(event)} ${event.data.cursor}`);
    const problems = [];
    for (const [i, follower] of this.followers.entries()) {
      await until(() => same(follower), `follower ${i} to show the bucket`, 20_000).catch(() => {
        const missing = bucket.filter((key) => !follower.shown.has(key)).length;
        const extra = [...follower.shown].filter((key) => !bucket.includes(key)).length;
        problems.push(`follower ${i} lacks ${missing} and has ${extra} too many; ${summary()}`);
      });
      const log = await this.logFrom(follower.restarts.at(-1)?.cursor ?? follower.first);
      await until(() => follower.sinceRestart.length >= log.length, `follower ${i} to be told all`, 10_000).catch(() => {});
      const [told, wanted] = [stories(follower.sinceRestart), stories(log)];
      if (told.join() !== wanted.join()) {
        problems.push(`follower ${i} was told ${told.length} of ${wanted.length} in the log, first difference at ${told.findIndex((story, n) => story !== wanted[n])}`);
      }
      if (!mayLoseTheLog && follower.restarts.length > 0) problems.push(`follower ${i} was told ${follower.restarts.length} times that the log was lost`);
      const duplicates = follower.duplicatesBeyond(mayLoseTheLog ? IN_HAND : 0);
      if (duplicates > 0) problems.push(`follower ${i} was told ${duplicates} twice`);
    }
    const lost = this.followers.map((follower) => bucket.filter((key) => !follower.shown.has(key)).length);
    const each = (values) => (new Set(values).size === 1 ? `${values.length} × ${values[0]}` : values.join(', '));
    rows.push(row([
      fault, this.traffic?.sent ?? this.sent, each(this.followers.map(({ told }) => told.length)),
      each(this.followers.map(({ restarts }) => restarts.length)), each(lost), each(this.followers.map(({ duplicates }) => duplicates)),
    ]));
    assert.deepEqual(problems, []);
    if (this.traffic) {
      for (const key of this.traffic.stored) assert.ok(bucket.includes(key), `the bucket has ${key}`);
    }
  }

  async close() {
    await this.traffic?.stop();
    for (const follower of this.followers) follower.close();
    await Promise.all([...this.webs.map(({ child }) => child), ...this.pollers].map((child) => child.end('SIGKILL')));
    this.front?.close();
    this.toRedis?.close();
    await this.redis?.stop();
  }
}

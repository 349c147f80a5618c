// Several processes on one Redis and one AWS account, under constant uploads, watched by followers; and what
// must hold in the end, whatever failed meanwhile.

import assert from 'node:assert/strict';
import { AwsAccount } from './aws-account.mjs';
import { connectSocketIo4 } from './clients.mjs';
import { Follower } from './follower.mjs';
import { makeFeedId, makePhoto, removePhoto, uploadPhoto, listAllKeys } from './photos.mjs';
import { RedisServer } from './redis-server.mjs';
import { spawnServer } from './server.mjs';
import { TcpProxy } from './tcp-proxy.mjs';
import { waitUntil } from './wait.mjs';

/** Long enough for a message that a killed poller had received to become visible again, and be received again. */
export const REDELIVERY_DEADLINE_MS = 150_000;
/**
 * How often in a row the queue must be empty. The emulator enqueues an S3 event some time after it answered the
 * PUT, in a thread that runs between two of these readings.
 */
const EMPTY_READINGS = 20;
/**
 * How many messages one receive returns. A log that is lost may have appended and delivered so many events
 * without having answered the poller; they are appended again, and the new log can't know them.
 */
const RECEIVE_BATCH = 10;
const UPLOADERS = 3;
/** Each uploader removes a photo after so many uploads. */
const UPLOADS_PER_REMOVAL = 5;
const RETRY_DELAY_MS = 20;

const formatRow = (cells) => `| ${cells.join(' | ')} |`;
const rows = [];

/**
 * Prints a table of the faults so far. Clients receive fewer events than were sent where the log was lost (the
 * rest was listed), and where a photo's removal was delivered before its upload, which then is dropped.
 */
export function printFaultTable() {
  const head = ['fault', 'events sent', 'received per client', 'resets', 'lost', 'duplicated'];
  console.log([formatRow(head), formatRow(head.map(() => '---')), ...rows].join('\n'));
}

export class Deployment {
  webs = [];
  pollers = [];
  followers = [];

  /** `proxied` puts a TCP proxy in front of Redis. */
  static async open(t, { webs = 2, pollers = 1, proxied = false, valkey = false, env = {} } = {}) {
    const deployment = new Deployment();
    deployment.feed = makeFeedId('faults');
    t.after(() => deployment.close());
    deployment.account = await AwsAccount.open();
    deployment.redis = await RedisServer.start({ valkey });
    if (proxied) deployment.redisProxy = await TcpProxy.open(() => [deployment.redis.port]);
    const redisPort = deployment.redisProxy?.port ?? deployment.redis.port;
    deployment.env = {
      ...deployment.account.env, AUTH: 'off', REDIS_URL: `redis://127.0.0.1:${redisPort}`, FEED_LOG_LENGTH: '10000', ...env,
    };
    deployment.loadBalancer = await TcpProxy.open(() => deployment.webs.map(({ port }) => port));
    for (let i = 0; i < webs; i += 1) await deployment.addWeb();
    for (let i = 0; i < pollers; i += 1) await deployment.addPoller();
    return deployment;
  }

  get url() {
    return this.loadBalancer.url;
  }

  async addWeb(args = ['--no-poller']) {
    const child = spawnServer(['serve', ...args], { PORT: '0', BIND_ADDR: '127.0.0.1', ...this.env });
    const address = await child.waitForLine((line) => /"listening".*?"address":"([^"]+)"|"address":"([^"]+)".*"listening"/.exec(line), 'listening');
    const hostAndPort = address[1] ?? address[2];
    const web = { child, url: `http://${hostAndPort}`, port: Number(hostAndPort.split(':').at(-1)) };
    this.webs.push(web);
    return web;
  }

  async addPoller() {
    const child = spawnServer(['poll'], this.env);
    await child.waitForLine((line) => line.includes('"polling"'), 'polling');
    this.pollers.push(child);
    return child;
  }

  /** Ends a web process with a signal. Returns how it exited. */
  async stopWeb(web, signal) {
    const exit = await web.child.stop(signal);
    this.webs = this.webs.filter((other) => other !== web);
    return exit;
  }

  async stopPoller(poller, signal) {
    this.pollers = this.pollers.filter((other) => other !== poller);
    return poller.stop(signal);
  }

  async addFollowers(count, url = this.url) {
    for (let i = 0; i < count; i += 1) this.followers.push(await Follower.open(url, this.feed));
  }

  /** Waits until every follower meets the condition. */
  async waitForFollowers(condition, what, ms) {
    await waitUntil(() => this.followers.every(condition), what, ms);
  }

  /** Uploads photos and removes some of them, until `traffic.stop()`. */
  startTraffic() {
    const traffic = { sent: 0, stored: new Set(), running: true };
    const runUploader = async () => {
      const uploaded = [];
      let uploads = 0;
      while (traffic.running) {
        try {
          const { key } = await uploadPhoto(this.url, this.feed, makePhoto());
          traffic.stored.add(key);
          traffic.sent += 1;
          uploaded.push(key);
          uploads += 1;
          if (uploads % UPLOADS_PER_REMOVAL === 0) {
            const removed = uploaded.shift();
            // Before the request: if its answer is lost, the photo may be removed or not.
            traffic.stored.delete(removed);
            await removePhoto(this.url, this.feed, removed);
            traffic.sent += 1;
          }
        } catch (error) {
          // The web process died: only the bucket knows whether the photo is stored.
          traffic.lastError = error;
          await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS));
        }
      }
    };
    const uploaders = Array.from({ length: UPLOADERS }, runUploader);
    traffic.stop = async () => {
      traffic.running = false;
      await Promise.all(uploaders);
    };
    /** Resolves when `count` more events have been sent. */
    traffic.waitForMore = (count) => {
      const goal = traffic.sent + count;
      return waitUntil(() => traffic.sent >= goal, () => `${count} more events to be sent; ${traffic.lastError}`, REDELIVERY_DEADLINE_MS);
    };
    this.traffic = traffic;
    return traffic;
  }

  /** The log from `cursor` on, as a client receives it that joins now. */
  async readLogFrom(cursor) {
    const [reader, other] = [connectSocketIo4(this.url), connectSocketIo4(this.url)];
    try {
      const { recovered, events, cursor: position } = await reader.request('join', { feed: this.feed, cursor });
      assert.equal(recovered, true, 'the log reaches back to the cursor');
      const received = () => reader.inbox.events.filter(({ name }) => name === 'imageUploaded' || name === 'imageRemoved');
      const isAtEnd = async () => {
        const { cursor: end } = await other.request('join', this.feed);
        return (received().at(-1)?.data.cursor ?? position) === end;
      };
      await waitUntil(isAtEnd, 'the reader to reach the end of the log');
      return [...events, ...received().map(({ name, data }) => ({ event: name, data }))];
    } finally {
      reader.close();
      other.close();
    }
  }

  /** Stops the traffic, waits until every event is delivered, and compares followers, log and bucket. */
  async assertConsistent(fault, { mayLoseLog = false } = {}) {
    await this.traffic?.stop();
    let readings = 0;
    await waitUntil(async () => {
      const { visible, invisible } = await this.account.countMessages();
      readings = visible + invisible === 0 ? readings + 1 : 0;
      return readings === EMPTY_READINGS;
    }, 'the queue to be empty', REDELIVERY_DEADLINE_MS);
    for (const { url } of this.webs) {
      await waitUntil(() => fetch(`${url}/readyz`).then((response) => response.ok, () => false), 'every process to be ready');
    }

    const bucket = (await listAllKeys(this.url, this.feed, 200)).toSorted();
    const problems = [];
    for (const [i, follower] of this.followers.entries()) {
      problems.push(...await this.#compareFollower(`follower ${i}`, follower, bucket, mayLoseLog));
    }
    this.#addRow(fault, bucket);
    assert.deepEqual(problems, []);
    for (const key of this.traffic?.stored ?? []) assert.ok(bucket.includes(key), `the bucket has ${key}`);
  }

  async #compareFollower(name, follower, bucket, mayLoseLog) {
    const problems = [];
    const matchesBucket = () => JSON.stringify([...follower.keys].toSorted()) === JSON.stringify(bucket);
    await waitUntil(matchesBucket, `${name} to show the bucket`).catch(() => {
      const missing = bucket.filter((key) => !follower.keys.has(key)).length;
      const extra = [...follower.keys].filter((key) => !bucket.includes(key)).length;
      problems.push(`${name} lacks ${missing} photos and has ${extra} too many; ${this.#summarizeFollowers()}`);
    });
    const log = await this.readLogFrom(follower.resets.at(-1)?.cursor ?? follower.firstCursor);
    await waitUntil(() => follower.eventsSinceReset.length >= log.length, `${name} to receive the whole log`).catch(() => {});
    const identify = (event) => `${Follower.identify(event)} ${event.data.cursor}`;
    const [received, expected] = [follower.eventsSinceReset.map(identify), log.map(identify)];
    if (received.join() !== expected.join()) {
      const difference = received.findIndex((event, n) => event !== expected[n]);
      problems.push(`${name} received ${received.length} of ${expected.length} events of the log, first difference at ${difference}`);
    }
    if (!mayLoseLog && follower.resets.length > 0) problems.push(`${name} lost the log ${follower.resets.length} times`);
    const duplicates = follower.countDuplicatesExcept(mayLoseLog ? RECEIVE_BATCH : 0);
    if (duplicates > 0) problems.push(`${name} received ${duplicates} events twice`);
    return problems;
  }

  #summarizeFollowers() {
    return this.followers.map(({ events, keys, resets, refusal }) =>
      `${events.length} events, ${keys.size} photos, ${resets.length} resets, ${JSON.stringify(refusal)}`).join('; ');
  }

  #addRow(fault, bucket) {
    const lost = this.followers.map(({ keys }) => bucket.filter((key) => !keys.has(key)).length);
    const summarize = (values) => (new Set(values).size === 1 ? `${values.length} × ${values[0]}` : values.join(', '));
    rows.push(formatRow([
      fault, this.traffic?.sent ?? this.sent, summarize(this.followers.map(({ events }) => events.length)),
      summarize(this.followers.map(({ resets }) => resets.length)), summarize(lost), summarize(this.followers.map(({ duplicates }) => duplicates)),
    ]));
  }

  async close() {
    await this.traffic?.stop();
    for (const follower of this.followers) follower.close();
    await Promise.all([...this.webs.map(({ child }) => child), ...this.pollers].map((child) => child.stop('SIGKILL')));
    this.loadBalancer?.close();
    this.redisProxy?.close();
    await this.redis?.stop();
    await this.account?.close();
  }
}

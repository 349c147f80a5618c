// Thousands of joins during constant uploads, each from the client's last cursor: every client receives each
// event once, in the log's order, however leaving and joining fall between the events.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { RedisServer } from './lib/redis-server.mjs';
import { makeFeedId, uploadPhoto } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';
import { mapConcurrently } from './lib/wait.mjs';

const CONNECTIONS = 60;
const EVENTS = 250;
const JOINS = 2000;

const isUpload = ({ name }) => name === 'imageUploaded';
const cursorOf = ({ data }) => data.cursor;

for (const [where, redis] of [['in memory', false], ['in Redis', true]]) {
  test(`no event is missed or repeated in ${JOINS} joins during a burst, with the log ${where}`, async (t) => {
    const shared = redis ? await RedisServer.start() : undefined;
    if (shared) t.after(() => shared.stop());
    const server = await startDev({ env: { JOINS_PER_SECOND: '100000', JOINS_BURST: '100000', ...(shared && { REDIS_URL: shared.url }) } });
    t.after(() => server.stop());
    const feed = makeFeedId();
    const witness = closeAfterTest(t, connectSocketIo4(server.url));
    const { cursor: start } = await witness.request('join', feed);

    const joiners = await mapConcurrently(10, Array.from({ length: CONNECTIONS }), async () => {
      const client = closeAfterTest(t, connectSocketIo4(server.url));
      await client.waitForConnect();
      return { client, received: [], cursor: start };
    });
    let joins = 0;
    const uploading = mapConcurrently(6, Array.from({ length: EVENTS }), () => uploadPhoto(server.url, feed));
    let uploaded = false;
    const joining = joiners.map(async (joiner) => {
      while (!uploaded || joins < JOINS) {
        await joinAndLeave(joiner, feed);
        joins += 1;
      }
    });
    await uploading;
    uploaded = true;
    await Promise.all(joining);
    await witness.inbox.waitForCount(EVENTS, 'imageUploaded');
    const log = witness.inbox.events.filter(isUpload).map(cursorOf);
    assert.equal(log.length, EVENTS);
    assert.ok(joins >= JOINS, `${joins} joins`);

    // One more stay, until the last event.
    for (const joiner of joiners) {
      await joinAndLeave(joiner, feed, () => joiner.cursor !== log.at(-1));
      assert.deepEqual(joiner.received, log);
    }
  });
}

/** One stay in the feed, as long as `stay()`; keeps the events that it brought. */
async function joinAndLeave(joiner, feed, stay = () => false) {
  const { client } = joiner;
  const before = client.inbox.events.length;
  const answer = await client.request('join', { feed, cursor: joiner.cursor });
  assert.equal(answer.recovered, true);
  const live = () => client.inbox.events.slice(before).filter(isUpload).map(cursorOf);
  const stayEvents = () => [...answer.events.map(cursorOf), ...live()];
  await client.inbox.waitUntil(() => {
    joiner.cursor = stayEvents().at(-1) ?? joiner.cursor;
    return !stay();
  }, 'the following events');
  await client.request('leave', feed);
  joiner.received.push(...stayEvents());
  joiner.cursor = joiner.received.at(-1) ?? joiner.cursor;
}
